//! Two deployments on one Redis, each with its own Kafka and PostgreSQL. Their voucher ids are the same.

use anyhow::{Result, ensure};
use seckill_testkit::TestStack;
use seckill_tests::{Answer, SaleTerms, World, check_consistency, eventually, until_unready};

/// Prefixes separate them, although all their ids are the same.
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
    let reserved = |answers: &[Answer]| answers.iter().filter(|a| a.is_reserved()).count();
    assert_eq!((reserved(&of_one), reserved(&of_two)), (5, 3));
    one.quiet(first).await?;
    two.quiet(second).await?;
    assert_eq!(check_consistency(&one, first, &of_one).await?.unpaid, 5);
    assert_eq!(check_consistency(&two, second, &of_two).await?.unpaid, 3);
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

/// A configuration that was copied: the same Redis and the same prefix, but another Kafka cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_sale_that_a_deployment_of_another_log_has_loaded_is_neither_served_nor_touched()
-> Result<()> {
    let one = World::start()?;
    let copied = TestStack::builder()
        .private_kafka()
        .setting("REDIS_URL", one.stack.setting("REDIS_URL"))
        .setting("TOPIC_PREFIX", one.stack.setting("TOPIC_PREFIX"));
    let two = World::over(copied, &[])?;
    let voucher = one.sale(SaleTerms::of(5)).await?;
    let same = two.schedule(SaleTerms::of(3)).await?;
    ensure!(
        same == voucher,
        "{voucher} and {same}: the test needs the same number twice"
    );
    until_unready(&two.projector, "loaded by another deployment").await?;
    let (of_one, of_two) = tokio::join!(
        one.client.orders(voucher, 1..4),
        two.client.orders(voucher, 1..4)
    );
    assert!(of_one.iter().all(Answer::is_reserved), "{of_one:?}");
    for refused in &of_two {
        assert_eq!(refused.problem(), "unavailable", "{refused:?}");
    }
    let close = format!("/admin/v1/vouchers/{voucher}/close");
    two.client
        .admin_post(&close, &serde_json::json!({}))
        .await?;
    two.until_carried_out().await?;
    let still_open = one.client.order(voucher, 4, None, 1).await?;
    assert!(still_open.is_reserved(), "{still_open:?}");
    one.quiet(voucher).await?;
    let answers: Vec<Answer> = of_one.into_iter().chain([still_open]).collect();
    assert_eq!(check_consistency(&one, voucher, &answers).await?.unpaid, 4);
    Ok(())
}
