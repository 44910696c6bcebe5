//! From the Buy button to the end of an order.

use anyhow::{Context, Result};
use seckill_tests::{SaleTerms, arm, await_stop, check_consistency, eventually, metrics};
use thirtyfour::prelude::*;

use crate::browser::Browser;
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_signs_in_with_the_mailed_code_and_is_back_at_the_sale() -> Result<()> {
    let shop = Shop::open()?;
    let voucher = shop.world.sale(SaleTerms::of(3)).await?;
    let browser = Browser::start(1280, 900).await?;
    shop.go(&browser, &format!("/sales/{voucher}")).await?;
    browser.click("#buy").await?;

    let address = "someone@example.com";
    let code = shop.mailed_code(&browser, address).await?;
    browser.shown("#code").await?.send_keys("000000").await?;
    browser.click("#code-form button[type=submit]").await?;
    browser.says("#message", "code").await?;
    let input = browser.shown("#code").await?;
    input.clear().await?;
    input.send_keys(code).await?;
    browser.click("#code-form button[type=submit]").await?;

    browser.click("#buy").await?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    browser.click("#sign-out").await?;
    browser.shown("#sign-in-link").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_signs_out_on_all_devices() -> Result<()> {
    let shop = Shop::open()?;
    let (here, there) = (
        Browser::start(1280, 900).await?,
        Browser::start(360, 800).await?,
    );
    for browser in [&here, &there] {
        shop.remember(browser, 7).await?;
        shop.go(browser, "/orders").await?;
        browser.says("#message", "no orders yet").await?;
    }
    here.click("#sign-out-everywhere").await?;
    here.shown("#sign-in-link").await?;
    shop.go(&there, "/orders").await?;
    there.shown("#email").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_buys_and_pays() -> Result<()> {
    let shop = Shop::open()?;
    let voucher = shop.world.sale(SaleTerms::of(3)).await?;
    let browser = Browser::start(1280, 900).await?;
    shop.visit(&browser, 7, voucher).await?;

    browser.says("#stock-left", "3").await?;
    browser.click("#buy").await?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    browser.says("#time-to-pay", "Time left to pay").await?;
    browser.click("#pay").await?;
    browser.click("button#pay").await?;
    browser.says("#order-status", "paid").await?;

    shop.go(&browser, "/orders").await?;
    browser.says("#orders [data-slot=status]", "paid").await?;
    shop.world.quiet(voucher).await?;
    let found = check_consistency(&shop.world, voucher, &[]).await?;
    assert_eq!((found.paid, found.unpaid, found.available), (1, 0, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn amounts_have_the_decimals_of_their_currency_on_every_page() -> Result<()> {
    let shop = Shop::open()?;
    let browser = Browser::start(1280, 900).await?;
    for (user, currency, amount, to_pay) in [
        (7, "JPY", "¥1,000", "¥1000"),
        (8, "KWD", "KWD 1.000", "KWD 1.000"),
        (9, "EUR", "€10.00", "€10.00"),
    ] {
        let terms = SaleTerms {
            currency,
            ..SaleTerms::of(3)
        };
        let voucher = shop.world.sale(terms).await?;
        shop.visit(&browser, user, voucher).await?;
        browser.says(".price", amount).await?;
        browser.click("#buy").await?;
        browser.click("#pay").await?;
        browser.says("button#pay", &format!("Pay {to_pay}")).await?;
        browser.click("button#pay").await?;
        browser.says("#order-status", "paid").await?;
        shop.go(&browser, "/orders").await?;
        browser.says("#orders [data-slot=amount]", amount).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_shows_its_token_where_the_sale_asks_for_one() -> Result<()> {
    let shop = Shop::open()?;
    let terms = SaleTerms {
        requires_sale_token: true,
        ..SaleTerms::of(3)
    };
    let voucher = shop.world.sale(terms).await?;
    let past_the_page = shop.world.client.order(voucher, 8, None, 1).await?;
    assert_eq!(past_the_page.problem(), "sale-token-required");
    let browser = Browser::start(1280, 900).await?;
    shop.visit(&browser, 7, voucher).await?;

    browser.click("#buy").await?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    browser.click("#cancel").await?;
    browser.says("#order-status", "cancelled").await?;
    // Another order is another token.
    browser.click("#buy").await?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    shop.world.quiet(voucher).await?;
    let found = check_consistency(&shop.world, voucher, &[]).await?;
    assert_eq!((found.unpaid, found.available), (1, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_buys_again_as_soon_as_an_order_is_cancelled_gets_the_new_order() -> Result<()> {
    let mut shop = Shop::open()?;
    let voucher = shop.world.sale(SaleTerms::of(2)).await?;
    // The database will know that the order is cancelled, and its unit is not free.
    let point = "projector.after-commit";
    let browser = Browser::start(1280, 900).await?;
    shop.visit(&browser, 7, voucher).await?;
    browser.click("#buy").await?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    shop.world.until_carried_out().await?;
    arm(&mut shop.world.projector, point, "stop")?;
    browser.click("#cancel").await?;
    await_stop(&shop.world.projector, point).await?;
    browser.says("#order-status", "cancelled").await?;
    browser.click("#buy").await?;
    eventually("the cancelled order bars another one", || async {
        let barred = "seckill_orders_total{answer=\"already-ordered\"} ";
        let metrics = metrics(&shop.world.ingress)?;
        Ok(metrics.lines().any(|line| line.starts_with(barred)))
    })
    .await?;
    shop.world.projector.resume()?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_lapses_gives_its_unit_back_on_the_page() -> Result<()> {
    let shop = Shop::open()?;
    let terms = SaleTerms {
        hold_seconds: 3,
        ..SaleTerms::of(1)
    };
    let voucher = shop.world.sale(terms).await?;
    let browser = Browser::start(1280, 900).await?;
    shop.visit(&browser, 7, voucher).await?;

    browser.click("#buy").await?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    browser.says("#status-text", "Sold out").await?;
    browser.says("#order-status", "expired").await?;
    browser.says("#status-text", "On sale").await?;
    browser.says("#stock-left", "1").await?;
    browser.click("#buy").await?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_whose_payment_came_too_late_is_told_of_the_refund() -> Result<()> {
    let shop = Shop::open()?;
    let terms = SaleTerms {
        hold_seconds: 1,
        ..SaleTerms::of(1)
    };
    let voucher = shop.world.sale(terms).await?;
    let browser = Browser::start(1280, 900).await?;
    shop.visit(&browser, 7, voucher).await?;
    browser.click("#buy").await?;
    browser.says("#order-status", "expired").await?;
    let orders = shop.world.client.get(7, "/api/v1/orders").await?;
    let order = orders.body["orders"][0]["order_id"].as_str();
    let paid = shop
        .world
        .client
        .pay(order.context("an order")?, "late", 1_000);
    assert_eq!(paid.await?.status, 202);
    browser
        .says("#order-status", "your payment will be refunded")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_whose_stock_is_being_loaded_is_not_over() -> Result<()> {
    let mut shop = Shop::open()?;
    let voucher = shop.world.sale(SaleTerms::of(1)).await?;
    let browser = Browser::start(1280, 900).await?;
    shop.visit(&browser, 7, voucher).await?;
    browser.says("#status-text", "On sale").await?;
    // Nobody loads what is lost while the projector stands still.
    shop.world.projector.pause()?;
    let mut redis = shop.world.redis().await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    browser.says("#status-text", "Back in a moment").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_unit_is_somebody_elses() -> Result<()> {
    let shop = Shop::open()?;
    let voucher = shop.world.sale(SaleTerms::of(1)).await?;
    let browser = Browser::start(1280, 900).await?;
    shop.visit(&browser, 7, voucher).await?;
    browser.says("#stock-left", "1").await?;
    assert_eq!(
        shop.world.client.order(voucher, 8, None, 1).await?.status,
        202
    );
    browser.says("#status-text", "Sold out").await?;
    browser.says("#status-text", "may return").await?;
    assert!(!browser.shown("#buy").await?.is_enabled().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_of_one_buyer_make_one_order() -> Result<()> {
    let shop = Shop::open()?;
    let voucher = shop.world.sale(SaleTerms::of(5)).await?;
    let browser = Browser::start(1280, 900).await?;
    shop.visit(&browser, 7, voucher).await?;
    let first = browser.driver.window().await?;
    let second = browser.driver.new_tab().await?;
    browser.driver.switch_to_window(second.clone()).await?;
    shop.go(&browser, &format!("/sales/{voucher}")).await?;
    browser.shown("#buy").await?;

    browser.driver.switch_to_window(first).await?;
    browser.click("#buy").await?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    browser.driver.switch_to_window(second).await?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    browser.click("#cancel").await?;
    browser.says("#order-status", "cancelled").await?;

    shop.world.quiet(voucher).await?;
    let found = check_consistency(&shop.world, voucher, &[]).await?;
    assert_eq!((found.unpaid, found.available), (0, 5));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_is_enough() -> Result<()> {
    let shop = Shop::open()?;
    let voucher = shop.world.sale(SaleTerms::of(1)).await?;
    let browser = Browser::start(1280, 900).await?;
    shop.visit(&browser, 7, voucher).await?;
    browser.says("#stock-left", "1").await?;

    tab_to(&browser, "buy").await?;
    press(&browser, Key::Enter).await?;
    browser
        .says("#order-status", "reserved, not paid yet")
        .await?;
    assert_eq!(browser.focused().await?.as_deref(), Some("order-title"));
    tab_to(&browser, "cancel").await?;
    press(&browser, Key::Space).await?;
    browser.says("#order-status", "cancelled").await?;
    browser.says("[role=status]", "cancelled").await?;
    Ok(())
}

async fn tab_to(browser: &Browser, id: &str) -> Result<()> {
    for _ in 0..20 {
        if browser.focused().await?.as_deref() == Some(id) {
            return Ok(());
        }
        press(browser, Key::Tab).await?;
    }
    anyhow::bail!("the Tab key does not get to #{id}")
}

async fn press(browser: &Browser, key: Key) -> Result<()> {
    let keys = browser.driver.action_chain().send_keys(key.value());
    Ok(keys.perform().await?)
}
