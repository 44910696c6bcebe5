//! A sale, or a load, of which one hash is deleted or evicted alone.

use seckill_domain::{Epoch, Offset};
use seckill_stock::{HoldPlace, LoadReply, OpenReply};

use crate::harness::{
    CLAIMED, PROMISE, Server, granted, load, nonce, request, sale, units, view, voucher,
};
use crate::load::{assert_not_served, load_hold};

/// The fence does not see it: the server is the same.
#[tokio::test]
async fn a_sale_of_which_a_part_was_deleted_is_not_served_until_it_is_loaded() {
    let server = Server::with_sale().await;
    let stock = &server.stock;
    let mut raw = server.raw().await;
    for (number, part) in (1_u64..).zip(["holds", "outbox"]) {
        let before = view(stock).await.epoch;
        // Something granted, so that the deleted hash comes back if a script writes into it.
        granted(stock, &request(number, 11)).await;
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(format!("seckill:{{7}}:{part}"));
        unlink.exec_async(&mut raw).await.unwrap();
        assert_not_served(stock, Some(before)).await;
        let epoch = before.next();
        let sale = seckill_domain::Sale { epoch, ..sale(10) };
        load(stock, &sale, Offset::new(1)).await;
        assert_eq!(units(stock).await, (10, 0, 0));
    }
}

#[tokio::test]
async fn a_load_of_which_a_part_was_deleted_does_not_open() {
    let server = Server::start();
    let connection = server.stock.connection_for(voucher()).await.unwrap();
    let mut raw = server.raw().await;
    for part in ["sale", "holds", "outbox"] {
        let epoch = Epoch::FIRST;
        let claim = connection.claim(voucher(), nonce(5), epoch).await;
        assert_eq!(claim.unwrap(), CLAIMED);
        let ten = sale(10);
        let begun = connection.load_begin(nonce(5), &ten, Offset::new(1), PROMISE);
        assert_eq!(begun.await.unwrap(), LoadReply::Loaded);
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(format!("seckill:{{7}}:load:{}:{part}", nonce(5)));
        unlink.exec_async(&mut raw).await.unwrap();
        // Comes back without the name of its load.
        let holds = [load_hold(1, 1, HoldPlace::Live)];
        let _ = connection.load_holds(voucher(), nonce(5), &holds).await;
        let opened = connection.open(voucher(), nonce(5)).await;
        assert_eq!(opened.unwrap(), OpenReply::Lost, "{part}");
    }
}
