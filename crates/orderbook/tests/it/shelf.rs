//! The shelf has an index of its own: a page looks at nothing that is gone, and orders do not touch it.

use std::time::{Duration, Instant};

use crate::harness::{Stand, voucher};

/// One sale in a thousand is on the shelf, the last unit of all others is paid.
const SALES: &str =
    "INSERT INTO vouchers (voucher_id, price_cents, initial_stock, adjusted, stock_left,
        unpaid_units, paid_units, max_quantity, hold_seconds, epoch, opens_at, closes_at,
        scheduled_offset, partition, currency, title)
    SELECT n, 100, 9, 0, 9 * (n % 1000 = 0)::int, 0, 9 * (n % 1000 <> 0)::int, 1, 60, 1, now(),
           now() + interval '1 hour', n, 3, 'EUR', 'Lamp'
      FROM generate_series(1, 20000) AS n";

/// Scans, the rows they read, and updates that left every index alone.
async fn counted(stand: &Stand) -> (i64, i64, i64) {
    let sql = "SELECT seq_scan + idx_scan, seq_tup_read + idx_tup_fetch, n_tup_hot_upd
                 FROM pg_stat_user_tables WHERE relname = 'vouchers'";
    sqlx::query_as(sql).fetch_one(&stand.sql).await.unwrap()
}

#[tokio::test]
async fn a_page_of_the_shelf_looks_at_no_sale_that_is_gone() {
    let stand = Stand::new().await;
    for sql in [SALES, "VACUUM ANALYZE vouchers", "SELECT pg_stat_reset()"] {
        stand.execute(sql).await.unwrap();
    }
    let ids = async |before| {
        let rows = stand.book.sales_on_shelf(3, before).await.unwrap();
        let ids = rows.iter().map(|row| row.sale.voucher_id.get());
        ids.collect::<Vec<_>>()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    // A server's process tells of its scans once a second.
    let (scans, rows) = loop {
        assert_eq!(ids(None).await, [20_000, 19_000, 18_000]);
        assert_eq!(ids(Some(voucher(2_500))).await, [2_000, 1_000]);
        assert!(ids(Some(voucher(999))).await.is_empty());
        let (scans, rows, _) = counted(&stand).await;
        if scans >= 30 {
            break (scans, rows);
        }
        assert!(Instant::now() < deadline, "{scans} scans");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(rows <= scans * 5, "{rows} rows in {scans} scans");
}

#[tokio::test]
async fn an_order_touches_no_index_of_its_sale() {
    let stand = Stand::new().await;
    for sql in [SALES, "VACUUM ANALYZE vouchers", "SELECT pg_stat_reset()"] {
        stand.execute(sql).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut updates = 0;
    while counted(&stand).await.2 < 20 {
        let units = [
            "stock_left - 1, paid_units = paid_units + 1",
            "stock_left + 1, paid_units = paid_units - 1",
        ];
        let sql = format!(
            "UPDATE vouchers SET stock_left = {} WHERE voucher_id = 5000",
            units[updates % 2]
        );
        assert_eq!(stand.execute(&sql).await.unwrap(), 1);
        updates += 1;
        assert!(Instant::now() < deadline, "not one of {updates} updates");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
