//! What a consistency check found wrong is repaired while the sale goes on selling.

use seckill_domain::{Epoch, Offset, UserId};
use seckill_stock::{CorrectReply, Correction, ExpectedSale, Repair, compare};

use crate::harness::{Server, confirm, granted, hold_state, request, sale, units, user, voucher};

/// The repair for what is wrong in a sale of which the log has nothing but its schedule.
async fn repair(server: &Server) -> Correction {
    let pages = server.stock.scan(voucher()).await;
    let pages = pages.unwrap().expect("the sale is open");
    let expected = ExpectedSale::new(sale(10), Offset::new(1), [], Vec::new());
    let report = compare(&pages, &expected, &|_| false).expect("comparable");
    match report.repair {
        Repair::Correct(correction) => correction,
        other => panic!("{other:?}"),
    }
}

/// Buyer 21 gets a unit, and the log confirms it: the sale stands at 5 after that.
async fn go_on_selling(server: &Server) {
    let pending = granted(&server.stock, &request(1, 21)).await;
    let (from, to) = (Offset::new(1), Offset::new(5));
    let ops = [(Offset::new(4), confirm(&pending))];
    let settled = server.stock.settle(voucher(), Epoch::FIRST, from, to, &ops);
    settled.await.unwrap();
}

async fn correct(server: &Server, correction: &Correction) -> CorrectReply {
    server.stock.correct(voucher(), correction).await.unwrap()
}

#[tokio::test]
async fn a_number_is_repaired_once_wherever_the_sale_has_come_to() {
    let server = Server::with_sale().await;
    let mut raw = server.raw().await;
    let _: i64 = redis::cmd("HINCRBY")
        .arg(&["seckill:{7}:sale", "stock", "1"])
        .query_async(&mut raw)
        .await
        .unwrap();
    let correction = repair(&server).await;
    go_on_selling(&server).await;
    assert_eq!(units(&server.stock).await, (10, 1, 0), "one too many");

    assert_eq!(correct(&server, &correction).await, CorrectReply::Done);
    assert_eq!(units(&server.stock).await, (9, 1, 0));
    assert_eq!(correct(&server, &correction).await, CorrectReply::Moved);
    assert_eq!(units(&server.stock).await, (9, 1, 0));
}

#[tokio::test]
async fn a_hold_is_repaired_only_where_the_log_is_known_to_have_nothing_of_its_buyer() {
    let server = Server::with_sale().await;
    let mut raw = server.raw().await;
    let _: i64 = redis::cmd("HSET")
        .arg(&["seckill:{7}:holds", "11", "nonsense"])
        .query_async(&mut raw)
        .await
        .unwrap();
    let mut correction = repair(&server).await;
    assert_eq!(correction.buyers(), [user(11)] as [UserId; 1]);
    go_on_selling(&server).await;

    assert_eq!(correct(&server, &correction).await, CorrectReply::Moved);
    correction.to = Offset::new(5);
    assert_eq!(correct(&server, &correction).await, CorrectReply::Done);
    assert_eq!(hold_state(&server.stock, 11).await, None);
    assert_eq!(units(&server.stock).await, (9, 1, 0));
}
