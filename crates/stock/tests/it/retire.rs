//! Taking a sale out of Redis that nobody can order from any more.

use seckill_domain::{Epoch, Offset, StockOp, Timestamp};
use seckill_stock::{Probe, SettleReply};

use crate::harness::{Server, confirm, granted, load, release, request, sale, settle_one, voucher};

#[tokio::test]
async fn a_closed_sale_is_retired_when_it_is_at_rest() {
    let server = Server::with_sale().await;
    let stock = &server.stock;
    let reservation = granted(stock, &request(1, 11)).await;
    let settle = async |at: i64, op| {
        let (from, to) = (Offset::new(at), Offset::new(at + 1));
        let reply = stock
            .settle(voucher(), Epoch::FIRST, from, to, &[(from, op)])
            .await;
        assert_eq!(reply.unwrap(), SettleReply::Settled { position: to });
    };
    let retire = async |at| {
        let retired = stock.retire(voucher(), Offset::new(at)).await.unwrap();
        retired.map(Offset::get)
    };
    settle(1, StockOp::Close).await;
    assert_eq!(retire(2).await, None, "unsettled and pending");
    assert!(stock.clear(voucher(), &[reservation.ack()]).await.unwrap());
    assert_eq!(retire(2).await, None, "unsettled");
    settle(2, confirm(&reservation)).await;
    settle(3, release(&reservation)).await;
    assert_eq!(retire(5).await, None, "behind");
    assert_eq!(retire(3).await, Some(4), "the position that it had");
    let gone = Probe::NotServed { epoch: None };
    assert_eq!(stock.probe(voucher()).await.unwrap(), gone);
    let mut raw = server.raw().await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut raw)
        .await
        .unwrap();
    assert!(keys.is_empty());

    load(stock, &sale(10), Offset::new(1)).await;
    assert_eq!(retire(1).await, None, "not closed");
}

/// Nobody closed it. Redis' own clock says that nobody can order any more.
#[tokio::test]
async fn a_sale_whose_window_is_over_is_retired_too() {
    let server = Server::start();
    let stock = &server.stock;
    let mut over = sale(10);
    over.terms.closes_at = Timestamp::from_micros(stock.now().await.unwrap().as_micros() + 300_000);
    load(stock, &over, Offset::new(1)).await;
    let reservation = granted(stock, &request(1, 11)).await;
    while stock.now().await.unwrap() < over.terms.closes_at {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let retire = async || stock.retire(voucher(), Offset::new(1)).await.unwrap();
    assert_eq!(retire().await, None, "what was granted is still on its way");
    settle_one(&server, 1, confirm(&reservation)).await;
    assert_eq!(retire().await, Some(Offset::new(2)));
}
