//! Two deployments on one Redis: each with its own Kafka and PostgreSQL, and with voucher ids that are the
//! same.

use anyhow::{Result, ensure};
use seckill_testkit::TestStack;
use seckill_tests::{SaleTerms, World, audit, eventually};

/// Prefixes keep them apart, although every number is the same.
#[tokio::test(flavor = "multi_thread")]
async fn each_sells_its_own_units_at_its_own_price() -> Result<()> {
    let one = World::start()?;
    let shared = TestStack::builder().setting("REDIS_URL", one.stack.setting("REDIS_URL"));
    let two = World::over(shared, &[])?;
    let (first, second) = (
        one.sale(SaleTerms::of(5)).await?,
        two.sale(SaleTerms::of(3)).await?,
    );
    ensure!(
        first == second,
        "{first} and {second}: the test needs the same number twice"
    );
    let (of_one, of_two) = tokio::join!(
        one.client.orders(first, 1..21),
        two.client.orders(second, 1..21)
    );
    let reserved =
        |answers: &[seckill_tests::Answer]| answers.iter().filter(|a| a.is_reserved()).count();
    assert_eq!((reserved(&of_one), reserved(&of_two)), (5, 3));
    one.quiet(first).await?;
    two.quiet(second).await?;
    assert_eq!(audit(&one, first, &of_one).await?.unpaid, 5);
    assert_eq!(audit(&two, second, &of_two).await?.unpaid, 3);
    let close = format!("/admin/v1/vouchers/{first}/close");
    one.client
        .admin_post(&close, &serde_json::json!({}))
        .await?;
    eventually("the first one's is closed", || async {
        let late = one.client.order(first, 90, None, 1).await?;
        Ok(late.problem() == "ended")
    })
    .await?;
    let sold_out = two.client.order(second, 90, None, 1).await?;
    assert_eq!(sold_out.problem(), "sold-out", "{sold_out:?}");
    Ok(())
}
