//! TLS and logins for all three stores: a sale works with them, and a service that is not let in says why.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use seckill_domain::VoucherId;
use seckill_eventlog::Topics;
use seckill_testkit::postgres::query;
use seckill_testkit::service::run_binary;
use seckill_testkit::tls::Authority;
use seckill_testkit::{Env, Service, ServiceSpec, TestStack};
use seckill_tests::secured::borrowed;
use seckill_tests::{EXECUTE, Secured, Settings, Trade, World, eventually, readiness};
use serde_json::json;

use crate::kafka::consumers::{Example, LANGUAGES, Language, OTHERS};

/// The time until `/readyz` names the store that does not let a service in, and the reason.
const SOON: Duration = Duration::from_secs(5);

/// Checks that no log contains a secret.
fn nothing_secret_is_in(logs: &[String], stack: &TestStack, more: &[&str]) -> Result<()> {
    let secrets = ["ADMIN_TOKEN", "TOKEN_SECRET", "PAYMENT_WEBHOOK_SECRET"];
    let secrets = secrets.map(|name| stack.setting(name));
    ensure!(logs.iter().all(|log| !log.is_empty()), "an empty log");
    for secret in secrets.iter().chain(more) {
        let mut lines = logs.iter().flat_map(|log| log.lines());
        let line = lines.find(|line| line.contains(secret));
        ensure!(line.is_none(), "a secret in a log: {line:?}");
    }
    Ok(())
}

fn stores_logs(stack: &TestStack) -> Result<[String; 2]> {
    let kafka = stack.kafka.as_ref().context("a broker")?.output()?;
    Ok([
        kafka,
        stack.postgres.as_ref().context("a server")?.output()?,
    ])
}

fn seckillctl(stack: &TestStack, settings: &Settings, command: &[&str]) -> Result<String> {
    let mut env: Env = stack.env().clone();
    for (name, value) in settings {
        env.insert((*name).to_owned(), value.clone());
    }
    tokio::task::block_in_place(|| run_binary("seckillctl", command, &env))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_and_a_rebuild_go_over_tls_with_logins_and_no_log_has_a_secret() -> Result<()> {
    let (stack, secured) = Secured::start(Authority::issue)?;
    let settings = secured.settings();
    let each = ["ingress", "projector", "timeout"].map(|service| secured.settings_of(service));
    let each = each.each_ref().map(borrowed);
    let world = World::on_each(stack, each.each_ref().map(Vec::as_slice))?;
    let mut logs = Vec::new();
    let mut command = |command: &[&str]| {
        logs.push(seckillctl(&world.stack, &settings, command)?);
        Ok::<_, anyhow::Error>(())
    };
    command(&["topics", "check"])?;
    let trade = Trade::begin(&world).await?;
    for step in ["start", "promote"] {
        command(&[&["rebuild", "orders", step], &EXECUTE[..]].concat())?;
    }
    command(&["reconcile"])?;
    keep_them_busy(&world, trade.voucher).await?;
    trade.end(&world).await?;
    let [_, postgres] = stores_logs(&world.stack)?;
    let denied = postgres.lines().find(|line| line.contains("denied"));
    ensure!(denied.is_none(), "{denied:?}");
    nobody_may_more_than_it_has_to(&secured)?;
    outcomes_are_read_by_others(&world, &settings, &LANGUAGES).await?;
    for service in [&world.ingress, &world.projector, &world.timeout] {
        logs.push(service.output()?);
    }
    logs.extend(stores_logs(&world.stack)?);
    nothing_secret_is_in(&logs, &world.stack, &[&secured.password])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: builds the examples in three more languages"]
async fn the_examples_in_other_languages_sign_in_over_tls() -> Result<()> {
    let (stack, secured) = Secured::start(Authority::issue)?;
    let settings = secured.settings();
    let each = ["ingress", "projector", "timeout"].map(|service| secured.settings_of(service));
    let each = each.each_ref().map(borrowed);
    let world = World::on_each(stack, each.each_ref().map(Vec::as_slice))?;
    Trade::begin(&world).await?.end(&world).await?;
    outcomes_are_read_by_others(&world, &settings, &OTHERS).await
}

/// Does what a normal sale does not need: a sign-out, a restock, and a load after Redis has lost everything.
async fn keep_them_busy(world: &World, voucher: VoucherId) -> Result<()> {
    let client = &world.client;
    for (user, path) in [(3, "/api/v1/sign-out"), (4, "/api/v1/sign-out/everywhere")] {
        let out = client
            .request(Method::POST, path)
            .bearer_auth(client.token(user)?);
        let out = client.send(out).await?;
        ensure!(out.status < 300, "{path}: {out:?}");
    }
    let restock = json!({ "delta": 1, "reason": "found one" });
    let path = format!("/admin/v1/vouchers/{voucher}/stock");
    let done = client.admin_post(&path, &restock).await?;
    ensure!(done.status == 202, "{done:?}");
    let audit = format!("/admin/v1/vouchers/{voucher}/audit");
    let noted = client.admin_get(&audit).await?;
    ensure!(noted.body["deeds"][0]["reason"] == "found one", "{noted:?}");
    let findings = client.admin_get("/admin/v1/findings").await?;
    ensure!(findings.status == 200, "{findings:?}");
    world.stack.redis.cli(&["FLUSHALL"])?;
    eventually("the sale was loaded again", || async {
        let loaded = world
            .stack
            .redis
            .cli(&["EXISTS", &world.sale_key(voucher, "sale")])?;
        Ok(loaded == "1")
    })
    .await
}

/// The examples sign in as the services do.
async fn outcomes_are_read_by_others(
    world: &World,
    settings: &Settings,
    languages: &[Language],
) -> Result<()> {
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let settings = borrowed(settings);
    let brokers = settings.iter().find(|(name, _)| *name == "KAFKA_BROKERS");
    let (_, brokers) = brokers.context("brokers")?;
    for &language in languages {
        Example::start_with(language, brokers, &topics.outcomes, &[], &settings)?
            .finish(3, 0)
            .await?;
    }
    Ok(())
}

/// Checks that a service has no rights that it does not need, also after a rebuild.
fn nobody_may_more_than_it_has_to(secured: &Secured) -> Result<()> {
    let orders = "UPDATE orders SET status = 'paid'";
    // No sale here has a record to be redriven.
    let redriven = "UPDATE skipped_records SET fate = 'redriven' WHERE topic = '' AND fate IS NULL";
    let url_of = |service| {
        let mut settings = secured.settings_of(service).into_iter();
        let url = settings.find(|(name, _)| *name == "DATABASE_URL");
        Ok::<_, anyhow::Error>(url.context("a database")?.1)
    };
    query(&url_of("ingress")?, redriven)?;
    for (service, forbidden) in [
        ("ingress", orders),
        ("ingress", "UPDATE vouchers SET stock_left = 1000000"),
        ("ingress", "DELETE FROM ops_audit"),
        ("ingress", "UPDATE skipped_records SET cause = ''"),
        ("ingress", "SELECT origin, login FROM ops_audit"),
        ("projector", "SELECT FROM users"),
        ("projector", "DELETE FROM orders"),
        ("timeout", orders),
        ("timeout", "SELECT FROM users"),
    ] {
        let url = url_of(service)?;
        query(&url, "SELECT FROM orders").with_context(|| service)?;
        let refused = query(&url, forbidden).expect_err(forbidden).to_string();
        ensure!(
            refused.contains("permission denied"),
            "{service}: {refused}"
        );
    }
    Ok(())
}

/// Waits until a service that is not let in says all of `wanted`, in `/readyz` or when it ends. Returns that, and
/// everything that it has written.
async fn complaint(spec: ServiceSpec, wanted: &[&str]) -> Result<String> {
    let mut service = Service::launch(spec)?;
    let deadline = Instant::now() + SOON;
    loop {
        let said = match service.exit_status()? {
            Some(_) => service.output()?,
            None => readiness(&service).map_or_else(|error| error.to_string(), |(_, body)| body),
        };
        if wanted.iter().all(|text| said.contains(text)) {
            return service.output();
        }
        ensure!(
            Instant::now() < deadline,
            "{wanted:?}: {said}\n{}",
            service.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Checks every service with these settings.
async fn all_complain(stack: &TestStack, settings: &Settings, wanted: &[&str]) -> Result<()> {
    let settings = borrowed(settings);
    let mut logs = Vec::new();
    for spec in [
        stack.ingress(&settings)?,
        stack.projector(&settings)?,
        stack.timeout(&settings)?,
    ] {
        let name = spec.binary.clone();
        let log = complaint(spec, wanted).await.with_context(|| name);
        logs.push(log?);
    }
    let passwords: Vec<&str> = settings
        .iter()
        .filter(|(name, _)| *name == "KAFKA_SASL_PASSWORD")
        .map(|(_, value)| *value)
        .collect();
    nothing_secret_is_in(&logs, stack, &passwords)
}

/// `settings`, but with the settings of one store from `others`.
fn only(store: &str, others: Settings, settings: Settings) -> Settings {
    let of_store = |name: &str| name.starts_with(store);
    let good = settings.into_iter().filter(|(name, _)| !of_store(name));
    let bad = others.into_iter().filter(|(name, _)| of_store(name));
    good.chain(bad).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_the_store_and_the_cause_of_whoever_is_not_let_in() -> Result<()> {
    let (stack, secured) = Secured::start(Authority::issue)?;
    let other = Authority::new()?;
    let untrusted = secured.settings_with(&other, &secured.password);
    let wanted = [
        "postgresql",
        "redis",
        "kafka",
        "UnknownIssuer",
        "certificate verify failed",
    ];
    all_complain(&stack, &untrusted, &wanted).await?;

    let wrong = secured.settings_with(&secured.authority, "a-wrong-password");
    for (store, wanted) in [
        ("KAFKA", &["kafka", "invalid credentials"][..]),
        ("REDIS", &["redis", "Password authentication failed"]),
        (
            "DATABASE",
            &["postgresql", "password authentication failed"],
        ),
    ] {
        let settings = only(store, wrong.clone(), secured.settings());
        all_complain(&stack, &settings, wanted).await?;
    }
    nothing_secret_is_in(&stores_logs(&stack)?, &stack, &["a-wrong-password"])
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_the_stores_whose_certificates_are_out_of_date() -> Result<()> {
    let (stack, secured) = Secured::start(Authority::issue_expired)?;
    let wanted = ["postgresql", "redis", "kafka", "Expired", "out of date"];
    all_complain(&stack, &secured.settings(), &wanted).await
}
