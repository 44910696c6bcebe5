//! The operators' page on the admin listener.

use anyhow::{Context, Result};
use seckill_domain::{OrderId, VoucherId};
use seckill_tests::{SaleTerms, World, eventually};

use crate::browser::Browser;
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_the_law_hold_and_break_and_an_orders_timeline() -> Result<()> {
    let shop = Shop::open()?;
    let world = &shop.world;
    let voucher = world.sale(SaleTerms::of(5)).await?;
    let answer = world.client.order(voucher, 7, None, 2).await?;
    assert_eq!(answer.problem(), "quantity-limit");
    let answer = world.client.order(voucher, 7, None, 1).await?;
    let order_id = answer.body["order_id"].as_str().unwrap().to_owned();
    world.until_status(7, &order_id, "unpaid").await?;

    let browser = Browser::start(1280, 900).await?;
    let page = format!("{}/ops", world.ingress.admin_url());
    browser.driver.goto(page).await?;
    browser.enter("#token", "not the admin token").await?;
    browser.says("#message", "admin token").await?;
    browser
        .enter("#token", world.stack.setting("ADMIN_TOKEN"))
        .await?;
    browser.says("#sales", "holds").await?;
    browser.says("#answers", "quantity-limit").await?;
    browser.says("#fold-lag", "0 events").await?;
    browser.says("#dead-letters", "0").await?;

    browser.enter("#search-text", &order_id).await?;
    browser.says("#timeline", "SeckillReserved").await?;
    browser.says("#timeline", "1 free units taken").await?;

    let sale = world.sale_key(voucher, "sale");
    world.stack.redis.cli(&["HINCRBY", &sale, "stock", "1"])?;
    browser.says("#findings", "redis-stock").await?;
    browser.says("#sales", "BROKEN").await?;
    Ok(())
}

/// An instance's part of what is plotted stays when it dies.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_ten_minutes_of_all_instances_are_plotted_also_of_one_that_died() -> Result<()> {
    let shop = Shop::open()?;
    let world = &shop.world;
    let voucher = world.sale(SaleTerms::of(5)).await?;
    let mut other = world.stack.start_ingress(&[])?;
    let client = world.client_of(&other);
    assert!(client.order(voucher, 7, None, 1).await?.is_reserved());
    let answer = client.order(voucher, 8, None, 2).await?;
    assert_eq!(answer.problem(), "quantity-limit");
    eventually("the other instance has reported", || async {
        Ok(
            answered(world, "reserved").await? == 1
                && answered(world, "quantity-limit").await? == 1,
        )
    })
    .await?;
    other.kill()?;
    assert!(world.client.order(voucher, 9, None, 1).await?.is_reserved());
    eventually("both instances are in it", || async {
        Ok(answered(world, "reserved").await? == 2)
    })
    .await?;

    let browser = shop
        .operators_page("/ops", world.stack.setting("ADMIN_TOKEN"))
        .await?;
    for (plot, line) in [
        ("accepted", "reserved".to_owned()),
        ("refused", "quantity-limit".to_owned()),
        ("latency", "p99".to_owned()),
        ("lag", "Fold behind".to_owned()),
        ("stock", format!("Sale {voucher}")),
    ] {
        browser.says(&format!("#plot-{plot}"), &line).await?;
        browser.shown(&format!("#plot-{plot} canvas")).await?;
    }
    Ok(())
}

/// Two payments: one was honoured, one is to be given back. Another names an order that the log does not have.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_found_by_its_user_and_by_any_payment_for_it() -> Result<()> {
    let shop = Shop::open()?;
    let world = &shop.world;
    let other = world.sale(SaleTerms::of(5)).await?;
    let voucher = world.sale(SaleTerms::of(5)).await?;
    let client = &world.client;
    let answer = client.order(voucher, 7, None, 1).await?;
    let order_id = answer.order_id().context("no order")?.to_owned();
    client.pay(&order_id, "honoured", 1_000).await?;
    world.until_status(7, &order_id, "paid").await?;
    client.pay(&order_id, "too-much", 1_000).await?;
    let answer = client.order(other, 7, None, 1).await?;
    let another = answer.order_id().context("no order")?.to_owned();
    world.until_status(7, &another, "unpaid").await?;
    world.quiet(voucher).await?;

    for (payment, refund_due) in [("honoured", true), ("too-much", true)] {
        let path = format!("/admin/v1/orders?payment_id={payment}");
        let found = client.admin_get(&path).await?.body;
        let orders = found["orders"].as_array().context("no list")?;
        assert_eq!(orders.len(), 1, "{payment}: {found}");
        assert_eq!(orders[0]["order_id"], order_id.as_str(), "{found}");
        assert_eq!(orders[0]["refund_due"], refund_due, "{found}");
    }
    // Of a sale that nobody put up.
    let unknown = OrderId::from_parts(VoucherId::new(voucher.get() + 1_000)?, 9, 9).to_string();
    client.pay(&unknown, "for-nothing", 1_000).await?;
    eventually("the payment is decided", || async {
        let found = client
            .admin_get("/admin/v1/orders?payment_id=for-nothing")
            .await?
            .body;
        let order = &found["orders"][0];
        Ok(order["order_id"] == unknown.as_str()
            && order["status"].is_null()
            && order["refund_due"] == true)
    })
    .await?;
    for asked in ["", "?user_id=7&payment_id=honoured", "?user_id=x"] {
        let refused = client
            .admin_get(&format!("/admin/v1/orders{asked}"))
            .await?;
        assert_eq!(refused.problem(), "invalid-request", "{asked}");
    }

    let browser = shop
        .operators_page("/ops", world.stack.setting("ADMIN_TOKEN"))
        .await?;
    browser.choose("#search-by", "user_id").await?;
    browser.enter("#search-text", "7").await?;
    browser.says("#found", &order_id).await?;
    browser.says("#found", &another).await?;
    browser.choose("#search-by", "payment_id").await?;
    browser.enter("#search-text", "too-much").await?;
    browser
        .says("#timeline", "refund due: another payment came first")
        .await?;
    browser.enter("#search-text", "nobody's").await?;
    browser.says("#search-message", "Nothing was found").await?;
    Ok(())
}

/// How many orders of the last ten minutes got this answer, of any instance.
async fn answered(world: &World, answer: &str) -> Result<u64> {
    let pulse = world.client.admin_get("/admin/v1/pulse").await?.body;
    let slots = pulse["slots"].as_array().context("no slots")?;
    let counts = slots
        .iter()
        .filter_map(|slot| slot["answers"][answer].as_u64());
    Ok(counts.sum())
}
