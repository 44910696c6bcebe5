//! On a phone and on a desk. With `SECKILL_SCREENSHOTS` set to a directory, pictures are left there.

use std::path::PathBuf;

use anyhow::Result;
use seckill_tests::SaleTerms;

use crate::browser::Browser;
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_cut_off_on_a_phone_or_on_a_desk() -> Result<()> {
    let shop = Shop::open()?;
    let voucher = shop.world.sale(SaleTerms::of(20)).await?;
    for (width, height) in [(360, 740), (1280, 800)] {
        let browser = Browser::start(width, height).await?;
        browser.as_wide_as(width, height).await?;
        shop.remember(&browser, 7).await?;
        for (name, path) in [
            ("shelf", "/".to_owned()),
            ("sale", format!("/sales/{voucher}")),
            ("orders", "/orders".to_owned()),
            ("sign-in", "/sign-in".to_owned()),
        ] {
            shop.go(&browser, &path).await?;
            if name == "sale" {
                browser.says("#countdown", "Ends in").await?;
                // The second browser knows of no order, and is shown the one there is.
                browser.click("#buy").await?;
                browser
                    .says("#order-status", "reserved, not paid yet")
                    .await?;
            }
            assert!(!browser.scrolls_sideways().await?, "{name} at {width} px");
            if let Some(directory) = std::env::var_os("SECKILL_SCREENSHOTS") {
                let file = PathBuf::from(directory).join(format!("{name}-{width}.png"));
                browser.driver.screenshot(&file).await?;
            }
        }
    }
    Ok(())
}
