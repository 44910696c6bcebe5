//! Sends valid and invalid requests to every endpoint, generated from its document. Each answer has to be a documented
//! one, and none may be a server error.

use std::fs;
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use seckill_domain::VoucherId;
use seckill_testkit::scratch::scratch_dir;
use seckill_testkit::{MailSink, Service, TestStack, python, workspace_root};
use seckill_tests::{SaleTerms, World};
use serde_json::json;
use uuid::Uuid;

/// The buyer who sends the requests.
const BUYER: u64 = 1;
/// The buyer who ends all their sessions.
const LEAVER: u64 = 3;

/// Files of the pages and of the viewer.
const FILES: [&str; 3] = ["app.css", "operators.en.js", "swagger-ui.css"];

struct Ids {
    vouchers: Vec<VoucherId>,
    orders: Vec<String>,
}

impl Ids {
    /// The ids as settings of schemathesis.
    fn dictionaries(&self) -> String {
        let vouchers: Vec<i64> = self.vouchers.iter().map(|id| id.get()).collect();
        let orders = &self.orders;
        format!(
            "[dictionaries]\nvouchers.values = {vouchers:?}\norders.values = {orders:?}\nfiles.values = {FILES:?}\n"
        )
    }
}

/// Makes sales and orders of every kind.
async fn fill(world: &World) -> Result<Ids> {
    let brief = SaleTerms {
        hold_seconds: 1,
        max_quantity: 2,
        ..SaleTerms::of(1_000_000)
    };
    let later = SaleTerms {
        opens_in_seconds: 3_000,
        ..brief
    };
    let (nine, one) = (SaleTerms::of(9), SaleTerms::of(1));
    let sales = [brief, brief, later, nine, nine, one, nine, brief].map(|terms| world.sale(terms));
    let mut vouchers = try_join_all(sales).await?;
    let expired = vouchers.pop().context("a sale")?;
    let [.., paid, cancelled, sold_out, closed] = vouchers[..] else {
        bail!("{vouchers:?}");
    };
    let mut orders = Vec::new();
    for (voucher, user) in [
        (paid, BUYER),
        (cancelled, BUYER),
        (expired, BUYER),
        (sold_out, 2),
    ] {
        let answer = world.client.order(voucher, user, None, 1).await?;
        let order_id = answer.order_id().with_context(|| format!("{answer:?}"))?;
        orders.push(order_id.to_owned());
        world.until_status(user, order_id, "unpaid").await?;
    }
    let client = &world.client;
    client.pay(&orders[0], "fuzz", 1_000).await?;
    client.cancel(BUYER, &orders[1]).await?;
    let path = format!("/admin/v1/vouchers/{closed}/close");
    client.admin_post(&path, &json!({})).await?;
    for (order_id, status) in orders.iter().zip(["paid", "cancelled", "expired"]) {
        world.until_status(BUYER, order_id, status).await?;
    }
    Ok(Ids { vouchers, orders })
}

/// A token of a session of its own, that is renewed.
fn session(world: &World, user: u64) -> Result<String> {
    let now = UNIX_EPOCH.elapsed()?.as_secs();
    world.client.sign(&json!({
        "sub": user.to_string(), "iat": now, "exp": now + 3_600, "iss": "seckill", "aud": "seckill",
        "sid": Uuid::new_v4(), "lvl": 0, "rnw": 0,
    }))
}

/// Runs schemathesis with the document of a listener. Returns what it printed.
fn fuzz(world: &World, ids: &Ids, url: &str, how: &[&str]) -> Result<String> {
    let directory = scratch_dir("fuzz")?;
    let committed = workspace_root().join("tests/fuzz");
    let (hooks, settings) = ("hooks.py", "schemathesis.toml");
    fs::copy(committed.join(hooks), directory.path().join(hooks))?;
    let shared = fs::read_to_string(committed.join(settings))?;
    fs::write(
        directory.path().join(settings),
        shared + &ids.dictionaries(),
    )?;
    let secret = |name| (name, world.stack.setting(name).to_owned());
    let output = Command::new(python::program()?)
        .args(["-m", "schemathesis.cli", "run", "--no-color"])
        .args(how)
        .arg(format!("{url}/openapi.json"))
        .current_dir(directory.path())
        .env("PYTHONPATH", directory.path())
        .env("BUYER_TOKEN", session(world, BUYER)?)
        .env("LEAVING_TOKEN", session(world, BUYER)?)
        .env("EVERYWHERE_TOKEN", session(world, LEAVER)?)
        .envs([secret("ADMIN_TOKEN"), secret("PAYMENT_WEBHOOK_SECRET")])
        .output()
        .context("cannot run schemathesis")?;
    let (report, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{url}\n{report}{errors}");
    Ok(report.into_owned())
}

/// Tests one of the listeners, on stores of its own, so that its requests do not change the other one's answers. `how`
/// limits the number of requests.
async fn fuzz_one(listener: fn(&Service) -> String, how: &[&str]) -> Result<()> {
    let mail = MailSink::start()?;
    let settings = [
        ("SMTP_URL", mail.url()),
        // Enough for all requests; a limit has to be set, so that answers have the headers of rate limits.
        ("RATE_LIMIT_USER_PER_SECOND", "10000".to_owned()),
    ];
    let settings = settings
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let world = tokio::task::block_in_place(|| World::over(TestStack::builder(), &settings))?;
    let ids = fill(&world).await?;
    let url = listener(&world.ingress);
    let report = tokio::task::block_in_place(|| fuzz(&world, &ids, &url, how))?;
    println!("{report}");
    ensure!(
        report.contains("No issues found"),
        "nothing was asked: {report}"
    );
    Ok(())
}

/// Both listeners; `how` bounds each.
async fn fuzz_both(how: &'static [&'static str]) -> Result<()> {
    let public = tokio::spawn(fuzz_one(Service::url, how));
    fuzz_one(Service::admin_url, how).await?;
    public.await?
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_answers_as_its_document_says() -> Result<()> {
    fuzz_both(&["--seed", "1", "--max-examples", "10"]).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; a new seed each time, which the report names"]
async fn every_endpoint_answers_so_for_minutes() -> Result<()> {
    fuzz_both(&["--max-time", "180"]).await
}
