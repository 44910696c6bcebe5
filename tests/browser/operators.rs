//! The operators' page on the admin listener.

use anyhow::Result;
use seckill_tests::SaleTerms;
use thirtyfour::prelude::*;

use crate::browser::Browser;
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_the_law_hold_and_an_orders_timeline() -> Result<()> {
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
    type_into(&browser, "#token", "not the admin token").await?;
    browser.says("#message", "admin token").await?;
    type_into(&browser, "#token", world.stack.setting("ADMIN_TOKEN")).await?;
    browser.says("#sales", "holds").await?;
    browser.says("#answers", "quantity-limit").await?;
    browser.says("#fold-lag", "0 events").await?;
    browser.says("#dead-letters", "0").await?;

    type_into(&browser, "#order-id", &order_id).await?;
    browser.says("#timeline", "SeckillReserved").await?;
    browser.says("#timeline", "1 free units taken").await?;
    Ok(())
}

async fn type_into(browser: &Browser, css: &str, text: &str) -> Result<()> {
    let input = browser.shown(css).await?;
    input.clear().await?;
    input.send_keys(text).await?;
    input.send_keys(Key::Enter.value()).await?;
    Ok(())
}
