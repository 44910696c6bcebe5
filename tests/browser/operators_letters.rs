//! Dead letters and skipped records on the operators' page.

use anyhow::{Context, Result};
use seckill_tests::{ForeignProducer, SaleTerms, World, eventually};
use serde_json::Value;

use crate::browser::Browser;
use crate::shop::{OPERATOR, Shop, VIEWER};

/// One that no version can read, longer than what is shown of it, and one that decodes: under a wrong key.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_passed_over_is_shown_with_what_is_in_it_and_what_to_do() -> Result<()> {
    let shop = Shop::open()?;
    let world = &shop.world;
    let voucher = world.sale(SaleTerms::of(5)).await?;
    let foreign = ForeignProducer::of(world)?;
    foreign.write_as(voucher, &[7; 5_000]).await?;
    foreign.misfile_restock(voucher).await?;
    let listed = || async {
        let answer = world.client.admin_get("/admin/v1/skipped-records").await?;
        Ok::<_, anyhow::Error>(
            answer.body["records"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        )
    };
    eventually("both are passed over", || async {
        Ok(listed().await?.len() == 2)
    })
    .await?;
    eventually("they are counted", || async {
        let overview = world.client.admin_get("/admin/v1/overview").await?.body;
        Ok(overview["dead_letters"] == 2)
    })
    .await?;

    let browser = shop
        .operators_page("/ops", world.stack.setting("ADMIN_TOKEN"))
        .await?;
    for letter in listed().await? {
        let name = format!("{}/{}", letter["partition"], letter["offset"]);
        let path = format!("/admin/v1/skipped-records/{name}");
        let opened = world.client.admin_get(&path).await?.body;
        let record = &opened["record"];
        let is_long = record["payload_bytes"] == 5_000;
        let shown = record["payload_hex"].as_str().context("no payload")?;
        assert_eq!(shown.len() == 2 * 2_048, is_long, "{record}");
        assert_eq!(record["event"].is_null(), is_long, "{record}");
        let content = if is_long { "07070707" } else { "StockAdjusted" };
        open(&browser, &name, content).await?;
        let (redrivable, why) = (!is_long, opened["not_redrivable"].as_str());
        assert_eq!(why.is_none(), redrivable, "{opened}");
        let first = why.map_or("redrive it", |_| "cannot be redriven: ");
        for next in [first, &format!("dlq discard {name} ")] {
            browser.says("#letter-message", next).await?;
        }
        assert_eq!(browser.focused().await?.as_deref(), Some("letter"));
    }
    let nothing = world
        .client
        .admin_get("/admin/v1/skipped-records/0/999999")
        .await?;
    assert_eq!(nothing.problem(), "not-found");
    Ok(())
}

/// Opens a record, and waits until its content shows.
async fn open(browser: &Browser, name: &str, content: &str) -> Result<()> {
    let button = format!("//tbody[@id='letters']//button[text()='{name}']");
    browser.press(&button).await?;
    browser.says("#letter", content).await
}

async fn redrive(world: &World, name: &str, token: &str) -> Result<(u16, Value)> {
    let path = format!("/admin/v1/skipped-records/{name}/redrive");
    let request = reqwest::Client::new().post(format!("{}{path}", world.client.admin_url));
    let answer = request.bearer_auth(token).send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

/// A restock of one unit that stands under the key of no sale.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_can_be_read_is_redriven_once_by_whom_may_with_who_and_why() -> Result<()> {
    let shop = Shop::with_operators()?;
    let world = &shop.world;
    let voucher = world.sale(SaleTerms::of(5)).await?;
    let foreign = ForeignProducer::of(world)?;
    let name_of = |offset| format!("{}/{offset}", foreign.home_of(voucher));
    let name = name_of(foreign.misfile_restock(voucher).await?);
    let last = foreign.write_as(voucher, b"garbage").await?;
    let garbage = name_of(last);
    world.until_carried_out().await?;

    let browser = shop.operators_page("/ops", VIEWER).await?;
    browser.says("#who", "lee, viewer").await?;
    open(&browser, &name, "StockAdjusted").await?;
    browser.gone("#redrive-open").await?;
    let (status, refused) = redrive(world, &name, VIEWER).await?;
    assert_eq!(status, 403, "{refused}");
    let (status, refused) = redrive(world, &garbage, OPERATOR).await?;
    assert_eq!(status, 409, "{refused}");

    let browser = shop.operators_page("/ops", OPERATOR).await?;
    browser.says("#who", "kim, operator").await?;
    open(&browser, &name, "StockAdjusted").await?;
    browser.click("#redrive-open").await?;
    browser.says("#redrive-title", &name).await?;
    browser
        .fill("#redrive-reason", "its key is known, 一箱")
        .await?;
    browser.confirm_with("redrive", [&garbage, &name]).await?;
    browser.repeat_after_a_lost_answer("redrive").await?;
    browser.says("#letter-message", "in the log again").await?;
    browser.gone("#redrive-open").await?;
    browser.says("#letters", "redriven").await?;
    eventually("it is folded", || async {
        Ok(world.client.ledger(voucher).await?["adjusted"] == 1)
    })
    .await?;

    let (status, again) = redrive(world, &name, OPERATOR).await?;
    assert_eq!(status, 202, "{again}");
    let next = foreign.write_as(voucher, b"garbage").await?;
    assert_eq!(
        next,
        last + 2,
        "one record between them: it was written once"
    );
    let kim = ("kim".to_owned(), "its key is known, 一箱".to_owned());
    assert_eq!(shop.audit("%/redrive %").await?, [kim]);
    Ok(())
}
