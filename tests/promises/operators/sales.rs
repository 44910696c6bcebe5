//! Operators put up sales, change their stock, close them, and see where every unit is.

use anyhow::Result;
use seckill_tests::{SaleTerms, World, check_consistency, eventually};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn restock_and_shrink_move_units_once() -> Result<()> {
    let world = World::start()?;
    let voucher = world
        .sale(SaleTerms {
            stock: 2,
            ..SaleTerms::default()
        })
        .await?;
    let mut answers = vec![world.client.order(voucher, 1, None, 1).await?];
    let stock = format!("/admin/v1/vouchers/{voucher}/stock");
    let adjust = |delta: i64| {
        let body = json!({ "delta": delta, "reason": "count" });
        let (client, stock) = (world.client.clone(), stock.clone());
        async move { client.admin_post(&stock, &body).await }
    };

    let too_much = adjust(-2).await?;
    assert_eq!(
        (too_much.status, too_much.problem()),
        (409, "stock-committed")
    );
    assert_eq!(adjust(-1).await?.status, 202);
    let sold_out = world.client.order(voucher, 2, None, 1).await?;
    assert_eq!(sold_out.problem(), "sold-out");
    assert_eq!(adjust(3).await?.status, 202);
    eventually("the restock can be bought", || async {
        Ok(world.client.order(voucher, 2, Some("k"), 1).await?.status == 202)
    })
    .await?;
    answers.push(world.client.order(voucher, 2, Some("k"), 1).await?);

    let ledger = world.quiet(voucher).await?;
    assert_eq!(
        (&ledger["initial"], &ledger["adjusted"]),
        (&2.into(), &2.into()),
        "{ledger}"
    );
    assert_eq!(
        (&ledger["available"], &ledger["unpaid"]),
        (&2.into(), &2.into()),
        "{ledger}"
    );
    check_consistency(&world, voucher, &answers).await?;
    for (delta, reason) in [(0, "none"), (1, "")] {
        let body = json!({ "delta": delta, "reason": reason });
        let refused = world.client.admin_post(&stock, &body).await?;
        assert_eq!(refused.problem(), "invalid-request");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_sale_takes_no_orders_but_its_order_can_be_paid() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().expect("an order id");
    let close = format!("/admin/v1/vouchers/{voucher}/close");
    assert_eq!(
        world.client.admin_post(&close, &json!({})).await?.status,
        202
    );
    eventually("the sale is closed", || async {
        let page = format!("/api/v1/vouchers/{voucher}");
        Ok(world.client.get(2, &page).await?.body["status"] == "closed")
    })
    .await?;
    let late = world.client.order(voucher, 2, None, 1).await?;
    assert_eq!((late.status, late.problem()), (403, "ended"), "by Redis");

    world.client.pay(order_id, "p", 1_000).await?;
    world.until_status(1, order_id, "paid").await?;
    eventually("the sale has left Redis", || async {
        Ok(world.keys_of_sale(voucher).await? == 0)
    })
    .await?;
    // The answer is 503 while a retirement is between its two stores.
    eventually("PostgreSQL says that it has ended", || async {
        let late = world.client.order(voucher, 3, None, 1).await?;
        Ok((late.status, late.problem()) == (403, "ended"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_that_has_not_opened_says_when() -> Result<()> {
    let world = World::start()?;
    let terms = SaleTerms {
        opens_in_seconds: 600,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let early = world.client.order(voucher, 1, None, 1).await?;
    assert_eq!((early.status, early.problem()), (403, "not-started"));
    assert!(early.body["opens_at"].is_string(), "{early:?}");
    let page = world
        .client
        .get(1, &format!("/api/v1/vouchers/{voucher}"))
        .await?;
    assert_eq!(page.body["status"], "scheduled");
    let ledger = world.quiet(voucher).await?;
    assert_eq!(ledger["redis_available"], 10, "no stock moved");
    Ok(())
}
