//! The viewer of the API's documents, under its own Content-Security-Policy.

use anyhow::Result;

use crate::browser::Browser;
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn both_apis_can_be_read_and_tried_in_a_browser() -> Result<()> {
    let shop = Shop::open()?;
    let world = &shop.world;
    let browser = Browser::start(1280, 900).await?;
    let page = format!("{}/docs/", world.ingress.url());
    browser.driver.goto(page).await?;
    browser.says("#swagger-ui", "Flash-sale orders").await?;
    browser.shown("#operations-Orders-placeOrder").await?;
    let list = "#operations-Vouchers-listVouchers";
    browser.click(&format!("{list} button")).await?;
    browser.click(&format!("{list} .try-out__btn")).await?;
    browser.click(&format!("{list} .execute")).await?;
    let answer = format!("{list} .live-responses-table");
    browser.says(&answer, "\"vouchers\"").await?;

    let page = format!("{}/docs/", world.ingress.admin_url());
    browser.driver.goto(page).await?;
    browser.shown("#operations-Sales-scheduleSale").await?;
    Ok(())
}
