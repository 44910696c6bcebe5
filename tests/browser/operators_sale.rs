//! A sale's page for operators: what it shows, and what it lets whom do.

use anyhow::Result;
use seckill_domain::VoucherId;
use seckill_tests::SaleTerms;
use thirtyfour::prelude::*;

use crate::browser::Browser;
use crate::shop::{OPERATOR, Shop, VIEWER};

/// The sale's page as somebody with this token sees it.
async fn visit(shop: &Shop, voucher: VoucherId, token: &str) -> Result<Browser> {
    let page = format!("/ops/sales/{voucher}");
    let browser = shop.operators_page(&page, token).await?;
    browser.says("#ledger-law", "holds").await?;
    Ok(browser)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_is_lost_is_repeated_and_done_once_with_who_and_why() -> Result<()> {
    let shop = Shop::with_operators()?;
    let voucher = shop.world.sale(SaleTerms::of(10)).await?;
    let browser = visit(&shop, voucher, OPERATOR).await?;
    browser.says("#who", "kim, operator").await?;

    browser.click("#restock-open").await?;
    browser.fill("#restock-units", "5").await?;
    browser.fill("#restock-reason", "found a box, 一箱").await?;
    browser
        .confirm_with("restock", [&format!("{voucher}1"), &voucher.to_string()])
        .await?;
    browser.repeat_after_a_lost_answer("restock").await?;
    browser.says("#action-message", "noted in the log").await?;
    browser.says("#ledger-adjusted", "5").await?;
    browser.says("#changes", "found a box, 一箱").await?;
    browser.says("#audit", "found a box, 一箱").await?;

    browser.click("#close-open").await?;
    browser.fill("#close-reason", "recalled, 召回").await?;
    browser.fill("#close-typed", voucher.to_string()).await?;
    let button = browser.shown("#close-dialog [type=submit]").await?;
    let twice = browser.driver.action_chain();
    twice.double_click_element(&button).perform().await?;
    browser.says("#action-message", "end of the sale").await?;
    browser.gone("#restock-open").await?;
    // Above what was done before.
    let newest = "#audit tr:first-child";
    browser.says(newest, "kim").await?;
    browser.says(newest, "/close").await?;
    browser.says(newest, "recalled, 召回").await?;

    let kim = |reason: &str| vec![("kim".to_owned(), reason.to_owned())];
    assert_eq!(shop.audit("%/stock %").await?, kim("found a box, 一箱"));
    assert_eq!(shop.audit("%/close %").await?, kim("recalled, 召回"));
    let ledger = shop.world.client.ledger(voucher).await?;
    assert_eq!(ledger["adjusted"], 5, "{ledger}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_is_shown_no_actions_and_the_server_refuses_them_all_the_same()
-> Result<()> {
    let shop = Shop::with_operators()?;
    let voucher = shop.world.sale(SaleTerms::of(10)).await?;
    let browser = visit(&shop, voucher, VIEWER).await?;
    browser.says("#who", "lee, viewer").await?;
    // All that it shows is there.
    browser.says("#funnel", "Admitted").await?;
    browser.gone("#restock-open").await?;

    // Somebody who shows it to himself.
    let show = "document.querySelector('[data-acts]').hidden = false";
    browser.driver.execute(show, Vec::new()).await?;
    browser.click("#restock-open").await?;
    browser.fill("#restock-units", "5").await?;
    browser.fill("#restock-reason", "found a box").await?;
    browser.fill("#restock-typed", voucher.to_string()).await?;
    browser.click("#restock-dialog [type=submit]").await?;
    browser.says("#restock-message", "Your role").await?;
    assert!(shop.audit("%/stock %").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialog_is_opened_filled_and_left_by_keyboard_and_a_reader_sees_what_became_of_the_sale()
-> Result<()> {
    let shop = Shop::with_operators()?;
    let world = &shop.world;
    let voucher = world.sale(SaleTerms::of(1)).await?;
    let answer = world.client.order(voucher, 7, None, 1).await?;
    let order_id = answer.body["order_id"].as_str().unwrap().to_owned();
    world.client.pay(&order_id, "p1", 1_000).await?;
    world.until_status(7, &order_id, "paid").await?;
    world.client.pay(&order_id, "p2", 1_000).await?;

    let browser = visit(&shop, voucher, OPERATOR).await?;
    browser.says("#funnel", "Paid 1 100%").await?;
    browser.says("#sell-through", "100%").await?;
    browser.says("#refunds", "paid already 1 1,000 EUR").await?;
    browser.says("#ledger-paid", "1").await?;

    let open = browser.shown("#restock-open").await?;
    open.focus().await?;
    open.send_keys(Key::Enter.value()).await?;
    browser.shown("#restock-dialog").await?;
    assert_eq!(browser.focused().await?.as_deref(), Some("restock-units"));
    let field = browser.driver.active_element().await?;
    field.send_keys(Key::Escape.value()).await?;
    browser.gone("#restock-dialog").await?;
    assert_eq!(browser.focused().await?.as_deref(), Some("restock-open"));
    Ok(())
}
