//! The shop in Chinese, from the switch to the refund.

use anyhow::{Context, Result, ensure};
use seckill_tests::SaleTerms;

use crate::browser::Browser;
use crate::shop::Shop;

/// What is read in Latin letters, without what is nobody's text: titles, numbers of orders, the switch.
const LATIN_WORDS: &str = "const body = document.body.cloneNode(true);
    const apart = '#language, template, script, noscript, [data-slot=number], [data-slot=sale], .sale h1, #shelf h2';
    for (const part of body.querySelectorAll(apart)) part.remove();
    return body.textContent.match(/[A-Za-z]{2,}/g) ?? []";

async fn is_all_in_chinese(browser: &Browser, page: &str) -> Result<()> {
    let script = "return document.documentElement.lang";
    let lang = browser.driver.execute(script, Vec::new()).await?;
    ensure!(lang.convert::<String>()? == "zh-CN", "{page}");
    let words = browser.driver.execute(LATIN_WORDS, Vec::new()).await?;
    let words: Vec<String> = words.convert()?;
    ensure!(words.is_empty(), "{page} says {words:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_signs_in_buys_pays_lapses_and_is_refunded_in_chinese() -> Result<()> {
    let shop = Shop::open()?;
    let kept = shop.world.sale(SaleTerms::of(3)).await?;
    let browser = Browser::start(1280, 900).await?;
    shop.go(&browser, "/").await?;
    browser.click("#language").await?;
    browser.says("h1", "抢购").await?;
    browser
        .says("#shelf [data-slot=countdown]", "距结束")
        .await?;
    is_all_in_chinese(&browser, "the shelf").await?;

    // Chosen once, it stays.
    shop.go(&browser, &format!("/sales/{kept}")).await?;
    browser.says("#window", "结束时间").await?;
    browser.click("#buy").await?;
    browser.says("h1", "登录").await?;
    is_all_in_chinese(&browser, "the sign-in").await?;
    let code = shop.mailed_code(&browser, "buyer@example.com").await?;
    browser.shown("#code").await?.send_keys("000000").await?;
    browser.click("#code-form button[type=submit]").await?;
    browser.says("#message", "验证码不正确").await?;
    is_all_in_chinese(&browser, "a wrong code").await?;
    let input = browser.shown("#code").await?;
    input.clear().await?;
    input.send_keys(code).await?;
    browser.click("#code-form button[type=submit]").await?;

    browser.click("#buy").await?;
    browser.says("#order-status", "已预留，待付款").await?;
    browser.says("#time-to-pay", "剩余付款时间").await?;
    is_all_in_chinese(&browser, "a reserved order").await?;
    browser.click("#pay").await?;
    browser.click("button#pay").await?;
    browser.says("#order-status", "已付款").await?;

    lapses_and_is_refunded(&shop, &browser).await?;
    browser.click("#language").await?;
    browser.says("h1", "My orders").await
}

/// Ends on the page of the buyer's orders.
async fn lapses_and_is_refunded(shop: &Shop, browser: &Browser) -> Result<()> {
    let terms = SaleTerms {
        hold_seconds: 1,
        ..SaleTerms::of(1)
    };
    let lapsing = shop.world.sale(terms).await?;
    shop.go(browser, &format!("/sales/{lapsing}")).await?;
    browser.click("#buy").await?;
    browser.says("#order-status", "已过期，库存已退回").await?;
    shop.go(browser, "/orders").await?;
    browser.says("#orders [data-slot=status]", "已过期").await?;
    browser.says("#orders [data-slot=amount]", "€10.00").await?;
    browser.says("#orders [data-slot=ordered-at]", "年").await?;
    let number = browser.shown("#orders [data-slot=number]").await?;
    let number = number.text().await?;
    let number = Some(number.as_str()).filter(|number| number.len() == 36);
    let paid = shop
        .world
        .client
        .pay(number.context("an order's number")?, "late", 1_000);
    assert_eq!(paid.await?.status, 202);
    browser
        .says("#orders [data-slot=status]", "您的付款将退回")
        .await?;
    is_all_in_chinese(browser, "the orders").await
}
