//! The operators' page on the admin listener.

use anyhow::{Context, Result};
use seckill_tests::{SaleTerms, World, eventually};
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

    let browser = Browser::start(1280, 900).await?;
    let page = format!("{}/ops", world.ingress.admin_url());
    browser.driver.goto(page).await?;
    type_into(&browser, "#token", world.stack.setting("ADMIN_TOKEN")).await?;
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

/// How many orders of the last ten minutes got this answer, of any instance.
async fn answered(world: &World, answer: &str) -> Result<u64> {
    let pulse = world.client.admin_get("/admin/v1/pulse").await?.body;
    let slots = pulse["slots"].as_array().context("no slots")?;
    let counts = slots
        .iter()
        .filter_map(|slot| slot["answers"][answer].as_u64());
    Ok(counts.sum())
}

async fn type_into(browser: &Browser, css: &str, text: &str) -> Result<()> {
    let input = browser.shown(css).await?;
    input.clear().await?;
    input.send_keys(text).await?;
    input.send_keys(Key::Enter.value()).await?;
    Ok(())
}
