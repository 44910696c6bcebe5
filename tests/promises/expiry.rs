//! Units that are not paid for go back on sale, once each, and can be bought again.

use anyhow::Result;
use seckill_tests::{SaleTerms, World, audit};

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_order_expires_and_its_unit_is_sold_again() -> Result<()> {
    let world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
    let terms = SaleTerms {
        stock: 1,
        hold_seconds: 1,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    // A second timeout service, as an operator may run: units must not go back twice.
    let _second = world
        .stack
        .start_timeout(&[("EXPIRY_GRACE_SECONDS", "1")])?;

    let first = world.client.order(voucher, 1, Some("a"), 1).await?;
    assert_eq!(first.status, 202, "{first:?}");
    let refused = world.client.order(voucher, 2, None, 1).await?;
    assert_eq!((refused.status, refused.problem()), (409, "sold-out"));

    let order_id = first.order_id().expect("an order id");
    let order = world.until_status(1, order_id, "expired").await?;
    assert!(order["closed_at"].is_string(), "{order}");
    let ledger = world.quiet(voucher).await?;
    assert_eq!(
        (&ledger["available"], &ledger["redis_available"]),
        (&1.into(), &1.into())
    );

    let same_key = world.client.order(voucher, 1, Some("a"), 1).await?;
    assert_eq!(same_key.status, 202);
    assert_eq!(
        same_key.order_id(),
        Some(order_id),
        "a key names its order for good"
    );
    let second = world.client.order(voucher, 2, None, 1).await?;
    assert_eq!(second.status, 202, "{second:?}");
    world.quiet(voucher).await?;
    audit(&world, voucher, &[first, second]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_frees_its_unit_and_its_buyer() -> Result<()> {
    let world = World::start()?;
    let voucher = world
        .sale(SaleTerms {
            stock: 1,
            ..SaleTerms::default()
        })
        .await?;
    let first = world.client.order(voucher, 1, None, 1).await?;
    let order_id = first.order_id().expect("an order id");
    world.until_status(1, order_id, "unpaid").await?;

    let others = world.client.cancel(2, order_id).await?;
    assert_eq!((others.status, others.problem()), (404, "not-found"));
    assert_eq!(world.client.cancel(1, order_id).await?.status, 202);
    world.until_status(1, order_id, "cancelled").await?;
    let again = world.client.cancel(1, order_id).await?;
    assert_eq!((again.status, again.problem()), (409, "not-cancellable"));

    world.quiet(voucher).await?;
    let second = world.client.order(voucher, 1, None, 1).await?;
    assert_eq!(second.status, 202, "{second:?}");
    world.quiet(voucher).await?;
    audit(&world, voucher, &[first, second]).await?;
    Ok(())
}
