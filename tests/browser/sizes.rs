//! On a phone and on a desk, in both languages, in light and dark. With `SECKILL_SCREENSHOTS` set to a directory,
//! pictures are left there; those in Chinese need a font such as Debian's fonts-noto-cjk.

use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::{Result, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::python;
use seckill_tests::{ForeignProducer, SaleTerms};

use crate::browser::Browser;
use crate::shop::Shop;

/// What has to be in a page that is looked at.
static AXE: LazyLock<String> = LazyLock::new(|| {
    let file = python::file("axe_core_python/axe.min.js").unwrap();
    std::fs::read_to_string(file).unwrap()
});

/// Of 200 characters, none of which a line ends at.
const LONG_TITLE: &str = match std::str::from_utf8(&[b'M'; 200]) {
    Ok(title) => title,
    Err(_) => panic!(),
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_cut_off_on_a_phone_or_on_a_desk_and_axe_finds_nothing() -> Result<()> {
    let shop = Shop::open()?;
    let terms = SaleTerms {
        max_quantity: 2,
        ..SaleTerms::of(20)
    };
    let voucher = shop.world.sale(terms).await?;
    look_at_every_page(&shop, voucher, true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_title_without_a_space_makes_no_page_wider_than_its_window() -> Result<()> {
    let shop = Shop::open()?;
    let terms = SaleTerms {
        title: LONG_TITLE,
        ..SaleTerms::of(20)
    };
    let voucher = shop.world.sale(terms).await?;
    look_at_every_page(&shop, voucher, false).await
}

async fn look_at_every_page(shop: &Shop, voucher: VoucherId, is_for_show: bool) -> Result<()> {
    let foreign = ForeignProducer::of(&shop.world)?;
    foreign.misfile_restock(voucher).await?;
    for (width, height) in [(360, 740), (768, 1024), (1280, 800), (1920, 1080)] {
        let is_for_show = is_for_show && [360, 1280].contains(&width);
        let browser = Browser::start(width, height).await?;
        browser.as_wide_as(width, height).await?;
        shop.remember(&browser, 7).await?;
        for (language, reserved) in [("en", "reserved, not paid yet"), ("zh", "已预留，待付款")]
        {
            for (name, path) in [
                ("shelf", "/".to_owned()),
                ("sale", format!("/sales/{voucher}")),
                ("orders", "/orders".to_owned()),
                ("sign-in", "/sign-in".to_owned()),
                ("nothing", "/sales/999999".to_owned()),
            ] {
                shop.go(&browser, &format!("{path}?lang={language}"))
                    .await?;
                if name == "sale" {
                    // The second browser knows of no order, and is shown the one there is.
                    if language == "en" {
                        browser.click("#buy").await?;
                    }
                    browser.says("#order-status", reserved).await?;
                }
                if name == "orders" {
                    browser.says("#orders [data-slot=status]", reserved).await?;
                }
                look(&browser, &format!("{name}-{width}-{language}"), is_for_show).await?;
            }
        }
        for (language, holds) in [("en", "holds"), ("zh", "成立")] {
            let page = format!("{}/ops?lang={language}", shop.world.ingress.admin_url());
            browser.driver.goto(page).await?;
            // It is remembered as long as the window is open.
            if language == "en" {
                let known = shop.world.stack.setting("ADMIN_TOKEN");
                browser.enter("#token", known).await?;
            }
            browser.says("#sales", holds).await?;
            let name = format!("operators-{width}-{language}");
            look(&browser, &name, is_for_show).await?;
            browser.click("#letters button").await?;
            let redrive = format!("operators-redrive-{width}-{language}");
            look_at_the_dialog(&browser, "redrive", &redrive, is_for_show).await?;
            look_at_the_operators_sale(shop, &browser, voucher, (width, language), is_for_show)
                .await?;
        }
    }
    Ok(())
}

/// Its page, and both dialogs. These open over the page, which is as wide as before.
async fn look_at_the_operators_sale(
    shop: &Shop,
    browser: &Browser,
    voucher: VoucherId,
    (width, language): (i64, &str),
    is_for_show: bool,
) -> Result<()> {
    let admin = shop.world.ingress.admin_url();
    let page = format!("{admin}/ops/sales/{voucher}?lang={language}");
    browser.driver.goto(page).await?;
    browser.shown("#restock-open").await?;
    browser.says("#funnel", "0").await?;
    let name = format!("operators-sale-{width}-{language}");
    look(browser, &name, is_for_show).await?;
    for deed in ["restock", "close"] {
        let name = format!("operators-{deed}-{width}-{language}");
        look_at_the_dialog(browser, deed, &name, is_for_show).await?;
    }
    Ok(())
}

async fn look_at_the_dialog(
    browser: &Browser,
    deed: &str,
    name: &str,
    is_for_show: bool,
) -> Result<()> {
    browser.click(&format!("#{deed}-open")).await?;
    look(browser, name, is_for_show).await?;
    let dismiss = format!("#{deed}-dialog [type=button]");
    browser.click(&dismiss).await
}

async fn look(browser: &Browser, page: &str, is_for_show: bool) -> Result<()> {
    ensure!(!browser.scrolls_sideways().await?, "{page}");
    let cut_off = browser.cut_off().await?;
    ensure!(cut_off.is_empty(), "{page}: {cut_off:?}");
    if is_for_show {
        picture(browser, page).await?;
        axe(browser, page).await?;
    }
    Ok(())
}

async fn picture(browser: &Browser, page: &str) -> Result<()> {
    if let Some(directory) = std::env::var_os("SECKILL_SCREENSHOTS") {
        let file = PathBuf::from(directory).join(format!("{page}.png"));
        browser.driver.screenshot(&file).await?;
    }
    Ok(())
}

async fn axe(browser: &Browser, page: &str) -> Result<()> {
    const RUN: &str = "const done = arguments[arguments.length - 1];
        const named = (found) => found.violations.map((v) => v.id + ' ' + v.nodes.map((n) => n.html).join(' '));
        axe.run().then((found) => done(named(found)))";
    for scheme in ["dark", "light"] {
        let media = serde_json::json!({
            "features": [{ "name": "prefers-color-scheme", "value": scheme }],
        });
        let cdp = browser.driver.cdp();
        cdp.send_raw("Emulation.setEmulatedMedia", media).await?;
        let script = format!("{};\n{RUN}", *AXE);
        let found = browser.driver.execute_async(script, Vec::new()).await?;
        let found: Vec<String> = found.convert()?;
        ensure!(found.is_empty(), "{page} in {scheme}: {found:?}");
    }
    Ok(())
}
