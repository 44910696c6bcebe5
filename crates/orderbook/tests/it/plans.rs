//! What a batch reads is in proportion to the batch, and never to the tables: by the plans that the server
//! itself has noted down for each statement, in every state that the tables' statistics can be in.

use crate::harness::{
    PARTITION, PRICE_CENTS, Stand, TOPIC, cancelled, expired, log_from, order_id, paid,
};
use crate::harness::{adjusted, reloaded, reserved, scheduled, user, voucher};
use seckill_domain::{EventBody, Offset, OrderId, VoucherId};
use seckill_orderbook::Through;
use seckill_testkit::postgres::{Postgres, PostgresOptions};
use serde_json::Value;
use std::time::Duration;

/// Rows that a statement may touch for each record of the batch: its index entries, the row, and what it is
/// joined with.
const ROWS_A_RECORD: u64 = 8;
/// And for the batch itself: a table of that many rows may be read whole.
const ROWS_A_BATCH: u64 = 1_000;

/// A server that notes down how it has carried out each statement.
fn server() -> Postgres {
    let settings = [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_timing", "off"),
        ("auto_explain.log_format", "json"),
        ("autovacuum", "off"),
    ];
    Postgres::with(PostgresOptions {
        settings: settings
            .map(|(name, value)| (name, value.to_owned()))
            .into(),
        ..PostgresOptions::default()
    })
    .unwrap()
}

/// The plans in a part of the server's log.
fn plans(log: &str) -> Vec<Value> {
    let parts = log.split("  plan:\n").skip(1);
    let json = |part: &str| -> String {
        let lines = part.lines().take_while(|line| line.starts_with('\t'));
        lines.collect()
    };
    parts
        .map(|part| serde_json::from_str(&json(part)).unwrap())
        .collect()
}

/// The most rows that one node of a plan has touched, and whether processes were started for it.
fn look(node: &Value, touched: &mut u64, is_parallel: &mut bool) {
    let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
    let rows: f64 = [
        "Actual Rows",
        "Rows Removed by Filter",
        "Rows Removed by Join Filter",
        "Rows Removed by Index Recheck",
    ]
    .map(number)
    .iter()
    .sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of rows"
    )]
    {
        *touched = (*touched).max((rows * number("Actual Loops")) as u64);
    }
    let kind = node["Node Type"].as_str().unwrap_or_default();
    *is_parallel |= kind.starts_with("Gather");
    for child in node["Plans"].as_array().into_iter().flatten() {
        look(child, touched, is_parallel);
    }
}

struct Sale {
    stand: Stand,
    server: Postgres,
    voucher: VoucherId,
    next: i64,
    orders: u64,
}

impl Sale {
    async fn begin() -> Self {
        let server = server();
        let stand = Stand::over(server.fresh_database().unwrap()).await;
        let mut sale = Self {
            stand,
            server,
            voucher: voucher(1),
            next: 0,
            orders: 0,
        };
        sale.fold(vec![scheduled(2_000_000)]).await;
        sale
    }

    /// The next sale of the same tables.
    async fn next(mut self) -> Self {
        self.voucher = voucher(self.voucher.get() + 1);
        self.orders = 0;
        self.fold(vec![scheduled(2_000_000)]).await;
        self
    }

    async fn sell(&mut self, orders: u64) {
        while self.orders < orders {
            let bodies = self.reserves(1_000);
            self.fold(bodies).await;
        }
    }

    async fn fold(&mut self, bodies: Vec<EventBody>) {
        let log = log_from(
            self.next,
            bodies.into_iter().map(|body| (self.voucher, body)),
        );
        self.stand.apply(self.next, &log).await.unwrap();
        self.next += i64::try_from(log.len()).unwrap();
    }

    fn reserves(&mut self, count: u64) -> Vec<EventBody> {
        let (voucher, first) = (self.voucher, self.orders);
        self.orders += count;
        let order = |n: u64| {
            let buyer = user(i64::try_from(n + 1).unwrap());
            reserved(order_id(voucher, n), buyer, 1)
        };
        (first..self.orders).map(order).collect()
    }

    /// A batch of everything that orders meet: half of the records new orders, the others end older ones.
    fn batch(&mut self, size: u64) -> Vec<EventBody> {
        let (voucher, oldest) = (self.voucher, self.orders);
        let mut bodies = self.reserves(size.div_ceil(2));
        let ends = |n: u64| {
            let id = order_id(voucher, oldest - 1 - n);
            let buyer = user(i64::try_from(oldest - n).unwrap());
            match n % 4 {
                0 => paid(id, &format!("p{}", oldest - n), PRICE_CENTS),
                1 => cancelled(id, buyer),
                2 => expired(id),
                _ => paid(id, &format!("late{}", oldest - n), 1),
            }
        };
        let more = size - u64::try_from(bodies.len()).unwrap();
        bodies.extend((0..more.min(oldest)).map(ends));
        if size > 10 {
            bodies.push(adjusted(1, None));
            bodies.push(reloaded(9, u128::from(oldest) + 1));
        }
        bodies
    }

    /// Folds a batch, reads its effects, checks the units that it moved and looks as many orders up; no statement of these may touch more
    /// than the batch is worth.
    async fn costs_what_it_is(&mut self, state: &str, size: u64) {
        let noted = self.server.output().unwrap().len();
        let (from, bodies) = (self.next, self.batch(size));
        self.fold(bodies).await;
        let page = self
            .stand
            .book
            .effects_page(TOPIC, PARTITION, Offset::new(from), 1_000)
            .await;
        assert!(!page.unwrap().effects.is_empty());
        let since = [(self.voucher, Offset::new(from))];
        let units = self
            .stand
            .book
            .units_since(TOPIC, PARTITION, &since, Through::Offsets)
            .await
            .unwrap();
        let asked: Vec<OrderId> = (0..size).map(|n| order_id(self.voucher, n)).collect();
        let there = self.stand.book.orders(&asked).await.unwrap().len() as u64;
        assert_eq!(there, size.min(self.orders));
        let reserved = i64::try_from(size.div_ceil(2)).unwrap();
        assert!((0..=reserved).contains(&units[0].taken_since), "{units:?}");

        let statements = self.touch(noted, size * ROWS_A_RECORD + ROWS_A_BATCH, state);
        assert!(statements >= 8, "{state} {size}: {statements} plans");
    }

    /// No statement since `noted` has touched more than `rows_max`, nor started a process. Gives their number.
    fn touch(&self, noted: usize, rows_max: u64, state: &str) -> usize {
        let log = self.server.output().unwrap();
        let plans = plans(&log[noted..]);
        for plan in &plans {
            let (mut touched, mut is_parallel) = (0, false);
            look(&plan["Plan"], &mut touched, &mut is_parallel);
            assert!(
                touched <= rows_max && !is_parallel,
                "{state}: {touched} rows are touched in place of {rows_max}, parallel: {is_parallel}: {:.300}",
                plan["Query Text"].to_string()
            );
        }
        plans.len()
    }
}

#[tokio::test]
async fn a_batch_touches_what_it_names_whatever_is_known_of_the_tables() {
    let mut sale = Sale::begin().await;
    for size in [2, 50, 1_000] {
        sale.costs_what_it_is("nearly empty", size).await;
    }
    sale.sell(100_000).await;
    for size in [2, 50, 1_000] {
        sale.costs_what_it_is("never analysed", size).await;
    }
    sale.stand.execute("ANALYZE").await.unwrap();
    for size in [2, 50, 1_000] {
        sale.costs_what_it_is("analysed", size).await;
    }
    let mut sale = sale.next().await;
    sale.sell(20_000).await;
    for size in [2, 50, 1_000] {
        sale.costs_what_it_is("newer than the statistics", size)
            .await;
    }
}

/// Claims come and go by the ten thousand between two looks that the server takes at their table.
#[tokio::test]
async fn a_page_of_claims_passes_over_those_before_once_and_not_for_each_order() {
    const ORDERS: u64 = 20_000;
    const PAGE: u32 = 500;
    const CANCEL: &str = "UPDATE orders SET status = 'cancelled', closed_at = now(),
                                 closed_offset = 1000000 + reserved_offset WHERE status = 'unpaid'";
    let mut sale = Sale::begin().await;
    for state in ["never analysed", "analysed while there were none"] {
        sale.sell(ORDERS).await;
        for pages in 1..=ORDERS / u64::from(PAGE) {
            let noted = sale.server.output().unwrap().len();
            let book = &sale.stand.book;
            let due = book.claim_due(Duration::ZERO, PAGE, Duration::from_secs(600));
            assert_eq!(due.await.unwrap().len(), PAGE as usize);
            let claimed = pages * u64::from(PAGE);
            assert_eq!(sale.touch(noted, claimed + ROWS_A_BATCH, state), 1);
        }
        sale.stand.execute(CANCEL).await.unwrap();
        let noted = sale.server.output().unwrap().len();
        assert_eq!(sale.stand.book.forget_claims().await.unwrap(), ORDERS);
        assert_eq!(sale.touch(noted, ORDERS + ROWS_A_BATCH, state), 2);
        sale.stand.execute("VACUUM ANALYZE").await.unwrap();
        sale = sale.next().await;
    }
}
