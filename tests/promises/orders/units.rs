//! There are never more orders than units, and all units are sold if there is enough demand.

use anyhow::Result;
use futures_util::future::try_join_all;
use seckill_tests::{SaleTerms, World, check_consistency};

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_buyers_of_a_hundred_units_get_exactly_a_hundred() -> Result<()> {
    let world = World::start()?;
    let voucher = world
        .sale(SaleTerms {
            stock: 100,
            ..SaleTerms::default()
        })
        .await?;
    let orders = (1..=2_000).map(|user| world.client.order(voucher, user, None, 1));
    let answers = try_join_all(orders).await?;

    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    let sold_out = answers
        .iter()
        .filter(|answer| answer.problem() == "sold-out")
        .count();
    assert_eq!((accepted, sold_out), (100, 1_900));
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.unpaid, found.available, found.rejected), (100, 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn quantities_never_add_up_to_more_than_there_is() -> Result<()> {
    let world = World::start()?;
    let terms = SaleTerms {
        stock: 50,
        max_quantity: 3,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let quantity = |user: u64| u32::try_from(user % 3).unwrap_or(0) + 1;
    let orders = (1..=200).map(|user| world.client.order(voucher, user, None, quantity(user)));
    let answers = try_join_all(orders).await?;

    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(
        found.unpaid, 50,
        "orders of one unit fill what larger ones leave"
    );
    Ok(())
}
