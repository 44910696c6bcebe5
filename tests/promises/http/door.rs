//! The ingress accepts only values that the log can store. Everything that the decoder would refuse is refused before
//! an event is published or units are taken, and the answer names the member.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use seckill_domain::{EventBody, OrderId, VoucherId};
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_tests::{Answer, SaleTerms, World, check_consistency, eventually};
use serde_json::{Value, json};

const LATEST: &str = "9999-12-31T23:59:59.999999Z";

/// A text of two-byte characters, because the limit counts characters and not bytes.
fn longest_text() -> String {
    "é".repeat(200)
}

fn sale() -> Value {
    json!({
        "title": "Lamp", "price_cents": 999, "currency": "EUR", "stock": 100, "max_quantity": 2,
        "opens_at": "2026-05-01T10:00:00Z", "closes_at": LATEST, "hold_seconds": 60,
    })
}

fn payment(order_id: &str) -> Value {
    json!({
        "payment_id": "p-1", "order_id": order_id, "amount_cents": 1_000, "currency": "EUR",
        "paid_at": "2026-05-01T10:00:00Z",
    })
}

fn with(mut body: Value, member: &str, value: Value) -> Value {
    body[member] = value;
    body
}

/// Times outside the range of the stores, written with different offsets.
const NO_MOMENTS: [&str; 5] = [
    "0001-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999999Z",
    "1970-01-01T00:30:00+01:00",
    "9999-12-31T23:59:59-01:00",
    "9999-12-31T23:00:00-23:00",
];

fn no_texts() -> Vec<Value> {
    let mut texts: Vec<Value> = [
        "\0",
        "a\0b",
        "two\nlines",
        "\u{1b}[2J",
        "\u{9b}",
        "two\u{2028}lines",
        "Lamp \u{202e}gnp.exe",
        "",
        " \t ",
    ]
    .map(Value::from)
    .into();
    texts.push((longest_text() + "é").into());
    texts
}

/// For each member, values that are invalid.
fn bad_sales() -> Vec<(&'static str, Vec<Value>)> {
    let moments = || NO_MOMENTS.map(Value::from).to_vec();
    vec![
        ("title", no_texts()),
        ("opens_at", moments()),
        ("closes_at", moments()),
        ("price_cents", vec![json!(-1), json!(i64::MIN)]),
        (
            "currency",
            ["EU\0", "eur", "", "XAU", "QQQ"].map(Value::from).to_vec(),
        ),
        ("stock", vec![json!(-1), json!(0), json!(i64::MAX)]),
        (
            "max_quantity",
            vec![json!(0), json!(-1), json!(1_u64 << 31)],
        ),
        (
            "hold_seconds",
            vec![json!(0), json!(-1), json!(1_u64 << 31)],
        ),
    ]
}

fn bad_payments() -> Vec<(&'static str, Vec<Value>)> {
    let of_voucher_0 = "00000000-0000-8000-8000-000000000001";
    let version_4 = "7b0e8f2e-33a1-4c55-9c4d-1f6f4f3a2b10";
    vec![
        ("paid_at", NO_MOMENTS.map(Value::from).to_vec()),
        (
            "payment_id",
            vec![json!(""), json!("a\0b"), json!("x".repeat(65))],
        ),
        ("amount_cents", vec![json!(-1), json!(i64::MIN)]),
        ("currency", vec![json!("eur"), json!("EU\0")]),
        ("order_id", vec![json!(of_voucher_0), json!(version_4)]),
    ]
}

fn bad_changes() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("reason", no_texts()),
        ("delta", vec![json!(0), json!(i64::MIN), json!(i64::MAX)]),
    ]
}

async fn pay(world: &World, body: &Value) -> Result<Answer> {
    let now = std::time::UNIX_EPOCH.elapsed()?.as_secs();
    let body = body.to_string();
    let signature = world.client.signature(now, &body)?;
    let request = world
        .client
        .request(Method::POST, "/api/v1/payments/webhook")
        .header("X-Signature", signature)
        .header("Content-Type", "application/json");
    world.client.send(request.body(body)).await
}

/// Answers that are not a 400 with the name of the member, although they should be.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn check(&mut self, what: &str, member: &str, value: &Value, answer: &Answer) {
        let errors = answer.body["errors"].as_array();
        let named = errors.is_some_and(|errors| errors.iter().any(|e| e["field"] == member));
        if answer.status != 400 || answer.problem() != "invalid-request" || !named {
            let (status, body) = (answer.status, &answer.body);
            self.0
                .push(format!("{what}, {member} = {value}: {status} {body}"));
        }
    }
}

async fn records(world: &World, topic: impl Fn(&Topics) -> String) -> Result<usize> {
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "test");
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let records = read_all(&settings, &topic(&topics), Duration::from_secs(30)).await?;
    Ok(records.len())
}

async fn unpaid_order(world: &World, voucher: VoucherId) -> Result<String> {
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().with_context(|| format!("{answer:?}"))?;
    world.until_status(1, order_id, "unpaid").await?;
    Ok(order_id.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_cannot_hold_is_a_400_that_names_the_member() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let order_id = unpaid_order(&world, voucher).await?;
    world.quiet(voucher).await?;
    let before = records(&world, |topics| topics.events.clone()).await?;

    let (client, mut wrong) = (&world.client, Wrong::default());
    for (member, value) in each(bad_sales()) {
        let body = with(sale(), member, value.clone());
        let answer = client.admin_post("/admin/v1/vouchers", &body).await?;
        wrong.check("sale", member, &value, &answer);
    }
    for (member, value) in each(bad_payments()) {
        let answer = pay(&world, &with(payment(&order_id), member, value.clone())).await?;
        wrong.check("payment", member, &value, &answer);
    }
    let path = format!("/admin/v1/vouchers/{voucher}/stock");
    for delta in [-3, 3] {
        for (member, value) in each(bad_changes()) {
            let change = json!({ "delta": delta, "reason": "counted" });
            let body = with(change, member, value.clone());
            let answer = client.admin_post(&path, &body).await?;
            wrong.check("stock", member, &value, &answer);
        }
    }
    assert!(wrong.0.is_empty(), "{:#?}", wrong.0);

    let ledger = world.quiet(voucher).await?;
    assert_eq!(
        (&ledger["redis_available"], &ledger["unpaid"]),
        (&9.into(), &1.into()),
        "{ledger}"
    );
    let after = records(&world, |topics| topics.events.clone()).await?;
    assert_eq!(after, before, "something was published");
    Ok(())
}

fn each(members: Vec<(&'static str, Vec<Value>)>) -> impl Iterator<Item = (&'static str, Value)> {
    members
        .into_iter()
        .flat_map(|(member, values)| values.into_iter().map(move |value| (member, value)))
}

/// Sales with the least and the greatest value of every range.
fn extreme_sales() -> [Value; 2] {
    let most = json!({
        "title": longest_text(), "price_cents": 100_000_000_000_i64, "currency": "EUR",
        "stock": 1_000_000_000, "max_quantity": 1_000, "opens_at": "1970-01-01T00:00:00Z",
        "closes_at": LATEST, "hold_seconds": 86_400, "requires_sale_token": true,
    });
    let least = json!({
        "title": "é", "price_cents": 0, "currency": "UYW", "stock": 1, "max_quantity": 1,
        "opens_at": "9999-12-31T23:59:59.999998Z", "closes_at": LATEST, "hold_seconds": 1,
    });
    [most, least]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_door_takes_is_folded_at_the_ends_of_every_range() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let order_id = unpaid_order(&world, voucher).await?;
    let client = &world.client;
    let taken = |answer: Answer| {
        ensure!(answer.status == 202, "{answer:?}");
        Ok(answer)
    };
    let mut sales = Vec::new();
    for body in extreme_sales() {
        let answer = taken(client.admin_post("/admin/v1/vouchers", &body).await?)?;
        let id = answer.body["voucher_id"].as_i64().context("no id")?;
        sales.push(VoucherId::new(id)?);
    }
    for sale in &sales {
        world.until_served(*sale).await?;
    }
    for (sale, delta) in [(sales[1], 1_000_000_000), (sales[0], -1_000_000_000)] {
        let body = json!({ "delta": delta, "reason": longest_text() });
        let path = format!("/admin/v1/vouchers/{sale}/stock");
        taken(client.admin_post(&path, &body).await?)?;
    }
    for (n, (paid_at, cents)) in [("1970-01-01T00:00:00Z", 0), (LATEST, i64::MAX)]
        .into_iter()
        .enumerate()
    {
        let id = format!("{n}").repeat(64);
        let body = with(payment(&order_id), "paid_at", json!(paid_at));
        let body = with(
            with(body, "amount_cents", json!(cents)),
            "payment_id",
            json!(id),
        );
        taken(pay(&world, &body).await?)?;
    }
    let nobodys = OrderId::from_parts(VoucherId::new(VoucherId::MAX.cast_signed())?, 1, 1);
    taken(pay(&world, &payment(&nobodys.to_string())).await?)?;

    let pool = world.database().await?;
    eventually("the payments are folded", || async {
        let refunds: i64 = sqlx::query_scalar("SELECT count(*) FROM refunds")
            .fetch_one(&pool)
            .await?;
        Ok(refunds == 3)
    })
    .await?;
    for sale in sales.iter().chain([&voucher]) {
        world.quiet(*sale).await?;
    }
    check_consistency(&world, voucher, &[]).await?;
    let skipped = records(&world, |topics| topics.dead_letters.clone()).await?;
    assert_eq!(skipped, 0, "dead letters");
    everything_decodes(&world).await
}

async fn everything_decodes(world: &World) -> Result<()> {
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "test");
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let partitions = world.stack.setting("EVENT_PARTITIONS").parse()?;
    let log = read_all(&settings, &topics.events, Duration::from_secs(30)).await?;
    let mut scheduled = 0;
    for record in &log {
        if let EventBody::SaleScheduled(_) = record.event(partitions)?.body {
            scheduled += 1;
        }
    }
    assert_eq!(scheduled, 3);
    Ok(())
}
