//! Whoever signs in stays in the shop, wherever the address of the page says to go on to.

use anyhow::{Result, ensure};
use seckill_tests::eventually;

use crate::browser::Browser;
use crate::shop::Shop;

/// As they stand behind `next=`, and where they lead to.
const NEXT: [(&str, &str); 20] = [
    ("%2Forders", "/orders"),
    ("/sales/7", "/sales/7"),
    ("/.//evil.example", "/"),
    ("%2F.%2F%2Fevil.example", "/"),
    ("/..//evil.example/", "/"),
    ("//evil.example", "/"),
    ("%2F%2Fevil.example", "/"),
    ("/%5Cevil.example", "/"),
    ("%5C%5Cevil.example", "/"),
    ("/%09/evil.example", "/"),
    ("%09//evil.example", "/"),
    ("/%0A/evil.example", "/"),
    ("https:evil.example", "/"),
    ("http://evil.example", "/"),
    ("http://127.0.0.1@evil.example/orders", "/"),
    ("javascript:document.title=1", "/"),
    ("/orders%3Fnext=//evil.example", "/"),
    ("/sales/7/..//..//evil.example", "/"),
    ("http://[", "/"),
    ("orders", "/"),
];

async fn sign_in(shop: &Shop, browser: &Browser, address: &str) -> Result<()> {
    let code = shop.mailed_code(browser, address).await?;
    browser.shown("#code").await?.send_keys(code).await?;
    browser.click("#code-form button[type=submit]").await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_of_the_sign_in_page_leads_out_of_the_shop() -> Result<()> {
    let shop = Shop::open()?;
    let browser = Browser::start(1280, 900).await?;
    let home = shop.world.ingress.url();
    for (n, (next, path)) in NEXT.into_iter().enumerate() {
        shop.go(&browser, &format!("/sign-in?next={next}")).await?;
        sign_in(&shop, &browser, &format!("buyer{n}@example.com")).await?;
        let at =
            || async { Ok::<_, anyhow::Error>(browser.driver.current_url().await?.to_string()) };
        eventually("the page is left", || async {
            Ok(!at().await?.contains("/sign-in"))
        })
        .await?;
        let at = at().await?;
        ensure!(at == format!("{home}{path}"), "{next} leads to {at}");
    }
    Ok(())
}
