//! Who expires what: by the database's clock, and each order by one instance at a time.

use std::collections::HashSet;
use std::time::Duration;

use crate::harness::{
    PRICE_CENTS, Stand, log_from, order_id, paid, reserved, scheduled, user, voucher,
};
use seckill_domain::{EventBody, OrderId, SeckillReserved, Timestamp};
use seckill_orderbook::{DueOrder, Orderbook};

const MINUTE: Duration = Duration::from_secs(60);

fn due_at(body: EventBody, pay_by: Timestamp) -> EventBody {
    let EventBody::SeckillReserved(e) = body else {
        panic!("only reservations are to be paid");
    };
    EventBody::SeckillReserved(SeckillReserved { pay_by, ..e })
}

/// Puts up a sale with one order a buyer; order n is to be paid `ago(n)` seconds before now.
async fn with_orders(stand: &Stand, orders: u64, ago: impl Fn(u64) -> i64) {
    let (v, now) = (voucher(1), stand.book.now().await.unwrap());
    let mut log = vec![(v, scheduled(10_000))];
    log.extend((1..=orders).map(|n| {
        let pay_by = Timestamp::from_micros(now.as_micros() - ago(n) * 1_000_000);
        let body = reserved(order_id(v, n), user(n.cast_signed()), 1);
        (v, due_at(body, pay_by))
    }));
    stand.apply(0, &log_from(0, log)).await.unwrap();
}

fn ids(due: &[DueOrder]) -> Vec<OrderId> {
    due.iter().map(|d| d.order_id).collect()
}

#[tokio::test]
async fn only_unpaid_orders_past_the_grace_are_due_the_oldest_first() {
    let stand = Stand::new().await;
    let v = voucher(1);
    // 1 was paid in time, 2 is within the grace, 3 has time left.
    let ago = [0, 500, 30, -500, 200, 300];
    with_orders(&stand, 5, |n| ago[usize::try_from(n).unwrap()]).await;
    let payment = log_from(6, [(v, paid(order_id(v, 1), "p1", PRICE_CENTS))]);
    stand.apply(6, &payment).await.unwrap();

    let due = stand.book.claim_due(2 * MINUTE, 100, MINUTE).await.unwrap();
    assert_eq!(ids(&due), [order_id(v, 5), order_id(v, 4)]);
    let order = stand.book.order(order_id(v, 5)).await.unwrap().unwrap();
    assert_eq!(due[0].pay_by, order.pay_by);
}

async fn claim_all(book: &Orderbook) -> Vec<OrderId> {
    let mut claimed = Vec::new();
    let mut empty = 0;
    // A call that met only claims of others gives nothing, and more may be due behind them.
    while empty < 3 {
        let due = book.claim_due(Duration::ZERO, 7, MINUTE).await.unwrap();
        empty = if due.is_empty() { empty + 1 } else { 0 };
        claimed.extend(ids(&due));
    }
    claimed
}

#[tokio::test]
async fn instances_at_once_share_the_work_and_none_does_it_twice() {
    let stand = Stand::new().await;
    // Many are due at the same instant, so that their order is the ids' alone.
    with_orders(&stand, 400, |n| 10 + (n % 3).cast_signed()).await;
    let book = &stand.book;
    let (a, b, c, d) = tokio::join!(
        claim_all(book),
        claim_all(book),
        claim_all(book),
        claim_all(book)
    );
    let all: Vec<OrderId> = [a, b, c, d].concat();
    let distinct: HashSet<_> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len(), "claimed twice");
    assert_eq!(distinct.len(), 400, "left over");
}

/// Seconds until the claims run out, of each order the same.
async fn claimed_for_s(stand: &Stand) -> i64 {
    let (shortest, longest): (i64, i64) = sqlx::query_as(
        "SELECT min(s), max(s) FROM (SELECT round(extract(epoch FROM until - now()))::bigint AS s
                                       FROM expiry_claims) AS claims",
    )
    .fetch_one(&stand.sql)
    .await
    .unwrap();
    // The test itself may take a moment between claim and look.
    assert!(longest - shortest <= 1, "{shortest} to {longest}");
    longest
}

/// As if the claims had run out a moment ago.
async fn end_claims(stand: &Stand) {
    let end = "UPDATE expiry_claims SET until = now() - interval '1 millisecond'";
    stand.execute(end).await.unwrap();
}

#[tokio::test]
async fn each_claim_of_an_order_is_for_longer_up_to_ten_minutes() {
    let stand = Stand::new().await;
    with_orders(&stand, 3, |_| 10).await;
    let ten_s = Duration::from_secs(10);
    for expected_s in [10, 30, 90, 270, 600, 600] {
        let due = stand.book.claim_due(Duration::ZERO, 10, ten_s).await;
        assert_eq!(due.unwrap().len(), 3);
        let again = stand.book.claim_due(Duration::ZERO, 10, ten_s).await;
        assert_eq!(again.unwrap(), []);
        let claimed_for_s = claimed_for_s(&stand).await;
        assert!(
            (expected_s - 5..=expected_s).contains(&claimed_for_s),
            "{claimed_for_s} s instead of {expected_s} s"
        );
        end_claims(&stand).await;
    }
}

#[tokio::test]
async fn a_claim_that_came_to_nothing_makes_the_next_no_longer() {
    let stand = Stand::new().await;
    with_orders(&stand, 3, |_| 10).await;
    let ten_s = Duration::from_secs(10);
    for (expected_s, fails) in [(10, true), (10, true), (10, false), (30, true), (30, false)] {
        let due = stand.book.claim_due(Duration::ZERO, 10, ten_s).await;
        let due = ids(&due.unwrap());
        assert_eq!(due.len(), 3);
        let claimed_for_s = claimed_for_s(&stand).await;
        assert!(
            (expected_s - 5..=expected_s).contains(&claimed_for_s),
            "{claimed_for_s} s instead of {expected_s} s"
        );
        if fails {
            stand.book.shorten_claims(&due, ten_s).await.unwrap();
            let claimed_for_s = self::claimed_for_s(&stand).await;
            assert!((5..=10).contains(&claimed_for_s), "{claimed_for_s} s");
        }
        end_claims(&stand).await;
    }
}

#[tokio::test]
async fn claims_are_kept_as_long_as_their_orders_are_unpaid() {
    let stand = Stand::new().await;
    let v = voucher(1);
    with_orders(&stand, 3, |_| 10).await;
    let claim = async || {
        let due = stand.book.claim_due(Duration::ZERO, 10, MINUTE).await;
        ids(&due.unwrap())
    };
    assert_eq!(claim().await.len(), 3);
    end_claims(&stand).await;
    assert_eq!(stand.book.forget_claims().await.unwrap(), 0);

    let payment = log_from(4, [(v, paid(order_id(v, 1), "p1", PRICE_CENTS))]);
    stand.apply(4, &payment).await.unwrap();
    assert_eq!(stand.book.forget_claims().await.unwrap(), 1);
    assert_eq!(claim().await, [order_id(v, 2), order_id(v, 3)]);

    // The same order unpaid again, as after a repair: its old claims do not hold it up.
    let unpaid = "UPDATE orders SET status = 'unpaid', payment_id = NULL, closed_at = NULL,
                         closed_offset = NULL WHERE status = 'paid'";
    assert_eq!(stand.execute(unpaid).await.unwrap(), 1);
    assert_eq!(claim().await, [order_id(v, 1)]);
}

#[tokio::test]
async fn the_oldest_due_order_is_known_also_when_it_is_claimed() {
    let stand = Stand::new().await;
    with_orders(&stand, 0, |_| 0).await;
    assert_eq!(stand.book.oldest_due(Duration::ZERO).await.unwrap(), None);
    let stand = Stand::new().await;
    with_orders(&stand, 3, |n| 10 * n.cast_signed()).await;
    let oldest = stand.book.claim_due(Duration::ZERO, 1, MINUTE).await;
    let oldest = Some(oldest.unwrap()[0].pay_by);
    assert_eq!(stand.book.oldest_due(Duration::ZERO).await.unwrap(), oldest);
    assert_eq!(stand.book.oldest_due(MINUTE).await.unwrap(), None);
}
