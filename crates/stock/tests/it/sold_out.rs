//! Leases on sold-out: until one is over, nobody gets units, so that its owner may refuse buyers without asking.

use std::time::Duration;

use seckill_domain::{Epoch, Offset, Refusal, Sale, Timestamp};
use seckill_stock::{
    Attempt, PendingReservation, ReserveOutcome, ReserveReply, ReserveRequest, SoldOutLease,
};

use crate::harness::{
    LONGEST_LEASE, Server, granted, load, release, request, reserve, reserve_one, sale, settle_one,
    user, voucher,
};

const SOLD_OUT: ReserveOutcome = ReserveOutcome::Refused(Refusal::SoldOut);

async fn call(
    server: &Server,
    requests: &[ReserveRequest],
) -> (Timestamp, Option<SoldOutLease>, Vec<ReserveOutcome>) {
    let stock = &server.stock;
    let reply = stock.reserve(voucher(), requests, &[], Attempt::First);
    let Ok(ReserveReply::Decided {
        outcomes,
        at,
        sold_out,
        ..
    }) = reply.await
    else {
        panic!("not served");
    };
    (at, sold_out, outcomes)
}

/// Two requests of buyers who have not ordered.
fn crowd(number: u64) -> [ReserveRequest; 2] {
    [request(number, 101), request(number + 1, 102)]
}

/// A sale of one unit, and the order of user 1 who has it until the decision at position 1.
async fn sold_out() -> (Server, PendingReservation) {
    let server = Server::start();
    load(&server.stock, &sale(1), Offset::new(1)).await;
    let first = granted(&server.stock, &request(1, 1)).await;
    (server, first)
}

/// Overwrites a field of the sale.
async fn set(server: &Server, field: &str, value: i64) {
    let mut raw = server.raw().await;
    let mut cmd = redis::cmd("HSET");
    cmd.arg("seckill:{7}:sale").arg(field).arg(value);
    cmd.exec_async(&mut raw).await.unwrap();
}

#[tokio::test]
async fn a_lease_is_short_and_nobody_gets_units_that_come_back_before_it_is_over() {
    let (server, mut holder) = sold_out().await;
    let mut refused = 0;
    for round in 1..=20 {
        let number = u64::try_from(round * 1_000).unwrap();
        let (at, lease, answers) = call(&server, &crowd(number)).await;
        assert_eq!(answers, [SOLD_OUT, SOLD_OUT]);
        let lasts = lease.expect("a lease").lasts;
        assert!(
            lasts > LONGEST_LEASE / 2 && lasts <= LONGEST_LEASE,
            "{lasts:?}"
        );
        settle_one(&server, round, release(&holder)).await;

        // Each round another buyer, who asks until there is the unit.
        let asks = |n| request(number + n, 1 + round);
        for n in 2.. {
            match reserve_one(&server.stock, &asks(n)).await {
                ReserveOutcome::Granted(next) => {
                    let lasted = next.reserved_at.as_micros() - at.as_micros();
                    assert!(u128::try_from(lasted).unwrap() >= lasts.as_micros());
                    holder = next;
                    break;
                }
                answer => {
                    assert_eq!(answer, SOLD_OUT);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 0, "no request came while a lease lasted");
}

#[tokio::test]
async fn a_lease_is_given_to_a_crowd_and_only_while_no_unit_is_left() {
    let server = Server::start();
    load(&server.stock, &sale(2), Offset::new(1)).await;
    let of_three = [request(1, 1), request(2, 2), request(3, 3)];
    let (_, lease, _) = call(&server, &of_three[..1]).await;
    assert_eq!(lease, None, "a unit is left");
    let (_, lease, _) = call(&server, &[request(4, 1), request(5, 1)]).await;
    assert_eq!(lease, None, "a unit is left, whoever asks");
    let (_, lease, answers) = call(&server, &of_three[1..]).await;
    assert!(matches!(
        answers[..],
        [ReserveOutcome::Granted(_), SOLD_OUT]
    ));
    assert!(lease.is_some(), "the call took the last one");
    let (_, lease, _) = call(&server, &[request(6, 4)]).await;
    assert!(lease.is_some(), "many asked a moment ago");
    tokio::time::sleep(LONGEST_LEASE).await;
    let (_, lease, _) = call(&server, &[request(7, 5)]).await;
    assert_eq!(lease, None, "a lone buyer");
}

#[tokio::test]
async fn a_lease_does_not_outlast_the_sale() {
    let (server, _) = sold_out().await;
    let (at, _, _) = call(&server, &crowd(10)).await;
    let soon = Timestamp::from_micros(at.as_micros() + 1_000_000);
    set(&server, "closes_us", soon.as_micros()).await;
    loop {
        let (at, lease, answers) = call(&server, &crowd(20)).await;
        if let Some(lease) = lease {
            let over = at.as_micros() + i64::try_from(lease.lasts.as_micros()).unwrap();
            assert!(over <= soon.as_micros());
        } else {
            assert_eq!(answers[0], ReserveOutcome::Refused(Refusal::Ended));
            break;
        }
    }
}

#[tokio::test]
async fn a_lease_is_over_before_the_next_load_of_the_sale_opens() {
    let (server, _) = sold_out().await;
    for (promise_ms, longest) in [(30, 30), (1, 1), (3_000, 40)] {
        set(&server, "promise_ms", promise_ms).await;
        tokio::time::sleep(LONGEST_LEASE).await;
        let lasts = lease(&server, 10).await.lasts;
        assert_eq!(lasts, Duration::from_millis(longest), "{promise_ms} ms");
    }
    set(&server, "promise_ms", 0).await;
    let (_, lease, _) = call(&server, &crowd(20)).await;
    assert_eq!(lease, None, "nobody knows how long a load waits");
}

#[tokio::test]
async fn a_clock_that_was_set_back_keeps_nobody_from_the_units() {
    let server = Server::with_sale().await;
    let far = Timestamp::from_micros(4_000_000_000_000_000);
    set(&server, "sold_out_until_us", far.as_micros()).await;
    granted(&server.stock, &request(1, 1)).await;
}

#[tokio::test]
async fn a_server_that_takes_no_writes_gives_no_lease_and_refuses_all_the_same() {
    let (server, _) = sold_out().await;
    server.cut_off().await;
    let (_, lease, answers) = call(&server, &crowd(10)).await;
    assert_eq!((lease, answers), (None, vec![SOLD_OUT, SOLD_OUT]));
}

/// What the next lease says of the holders.
async fn lease(server: &Server, number: u64) -> SoldOutLease {
    let (_, lease, _) = call(server, &crowd(number)).await;
    lease.expect("a lease")
}

#[tokio::test]
async fn the_holders_of_a_version_are_all_who_have_ordered_also_those_whose_order_has_ended() {
    let (server, first) = sold_out().await;
    let before = lease(&server, 10).await.holders;
    let read = server.stock.holders(voucher(), &before).await;
    assert_eq!(read.unwrap(), Some(vec![user(1)]));
    assert_eq!(
        lease(&server, 12).await.holders,
        before,
        "nobody has ordered since"
    );

    settle_one(&server, 1, release(&first)).await;
    let mut number = 100;
    while reserve_one(&server.stock, &request(number, 2)).await == SOLD_OUT {
        number += 1;
    }
    let after = lease(&server, 14).await.holders;
    assert_ne!(after, before);
    let read = server.stock.holders(voucher(), &after).await;
    assert_eq!(read.unwrap(), Some(vec![user(1), user(2)]));
}

#[tokio::test]
async fn no_holders_are_read_of_another_load_of_the_sale() {
    let (server, _) = sold_out().await;
    let before = lease(&server, 10).await.holders;
    let again = Sale {
        epoch: Epoch::new(2),
        ..sale(0)
    };
    load(&server.stock, &again, Offset::new(1)).await;
    let read = server.stock.holders(voucher(), &before).await;
    assert_eq!(read.unwrap(), None);
    let after = lease(&server, 20).await.holders;
    let read = server.stock.holders(voucher(), &after).await;
    assert_eq!(read.unwrap(), Some(vec![]));
}

#[tokio::test]
async fn a_lease_says_what_else_an_order_would_be_refused_for() {
    let server = Server::start();
    let mut with_tokens = sale(0);
    with_tokens.terms.requires_sale_token = true;
    load(&server.stock, &with_tokens, Offset::new(1)).await;
    let lease = lease(&server, 1).await;
    assert!(lease.requires_sale_token);
    assert_eq!(lease.max_quantity, 3);
    let refused = ReserveOutcome::Refused(Refusal::TokenRequired);
    let answers = reserve(&server.stock, &crowd(3)).await;
    assert_eq!(answers, [refused.clone(), refused]);
}
