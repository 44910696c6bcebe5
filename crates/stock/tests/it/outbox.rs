//! Events that are pending: in which order they come, and what clears them.

use std::time::Duration;

use seckill_domain::{Epoch, Offset, OrderId};
use seckill_stock::{
    Ack, Attempt, HoldState, OrderEvent, OutboxCursor, PendingEvent, ReserveReply,
};

use crate::grant::other_voucher;
use crate::harness::{
    Server, granted, hold_state, load, order, outbox, request, reserve, sale, voucher,
};

#[tokio::test]
async fn an_ack_clears_only_in_the_epoch_it_was_granted_in() {
    let server = Server::with_sale().await;
    let reservation = granted(&server.stock, &request(1, 11)).await;
    let other_epoch = Ack {
        epoch: Epoch::new(2),
        ..reservation.ack()
    };
    assert!(server.stock.clear(voucher(), &[other_epoch]).await.unwrap());
    assert_eq!(outbox(&server.stock).await.len(), 1);
    // Cleared by the next call for the sale, in passing.
    let next = request(2, 12);
    let reply = server
        .stock
        .reserve(
            voucher(),
            &[next],
            &[other_epoch, reservation.ack()],
            Attempt::First,
        )
        .await;
    assert!(matches!(reply.unwrap(), ReserveReply::Decided { .. }));
    let left = outbox(&server.stock).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].ack().id, order(2).as_uuid());
    assert_eq!(hold_state(&server.stock, 11).await, Some(HoldState::Held));
    assert!(!server.stock.clear(other_voucher(), &[]).await.unwrap());
}

#[tokio::test]
async fn the_event_of_an_order_is_pending_until_it_is_acknowledged() {
    let server = Server::with_sale().await;
    let reservation = granted(&server.stock, &request(1, 11)).await;
    let event_of = async |n| server.stock.order_event(order(n)).await.unwrap();
    let pending = PendingEvent::Reservation(reservation.clone());
    assert_eq!(event_of(1).await, OrderEvent::Pending(pending));
    assert_eq!(event_of(2).await, OrderEvent::NotPending);
    let acks = [reservation.ack()];
    assert!(server.stock.clear(voucher(), &acks).await.unwrap());
    assert_eq!(event_of(1).await, OrderEvent::NotPending);

    let elsewhere = OrderId::from_parts(other_voucher(), 1, 1);
    let told = server.stock.order_event(elsewhere).await.unwrap();
    assert_eq!(told, OrderEvent::NotServed);
}

#[tokio::test]
async fn the_outbox_comes_in_pages_and_by_age() {
    let server = Server::start();
    load(&server.stock, &sale(2_000), Offset::new(1)).await;
    for batch in 0..20_u64 {
        let requests: Vec<_> = (0..60)
            .map(|n| batch * 60 + n)
            .map(|n| request(n, i64::try_from(n).unwrap() + 1))
            .collect();
        reserve(&server.stock, &requests).await;
    }
    let mut ids: Vec<_> = outbox(&server.stock)
        .await
        .iter()
        .map(|e| e.ack().id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_200);

    let start = OutboxCursor::START;
    let page = server.stock.outbox(voucher(), Duration::ZERO, start).await;
    let page = page.unwrap().unwrap();
    assert!(page.next.is_some() && page.entries.len() <= 500);
    let hour = Duration::from_secs(3600);
    let young = server.stock.outbox(voucher(), hour, start).await.unwrap();
    assert!(young.unwrap().entries.is_empty());
    let reply = server.stock.outbox(other_voucher(), hour, start).await;
    assert_eq!(reply.unwrap(), None);
}
