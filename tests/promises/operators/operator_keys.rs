//! A change by an operator is made once for each idempotency key, whatever process dies, and is recorded in the audit.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_eventlog::{
    KafkaSettings, Record, Topics, decode_event, event_offset_ranges, read_all,
};
use seckill_tests::{Answer, Client, SaleTerms, World, await_death, eventually};
use serde_json::{Value, json};

async fn stock(client: &Client, voucher: VoucherId, delta: i64, key: &str) -> Result<Answer> {
    let path = format!("/admin/v1/vouchers/{voucher}/stock");
    let body = json!({ "delta": delta, "reason": "count" });
    client
        .admin_post_with(&path, &body, &[("idempotency-key", key)])
        .await
}

async fn close(world: &World, voucher: VoucherId, key: &str) -> Result<Answer> {
    let path = format!("/admin/v1/vouchers/{voucher}/close");
    let key = [("idempotency-key", key)];
    world.client.admin_post_with(&path, &json!({}), &key).await
}

fn event_id(answer: &Answer) -> Result<&str> {
    ensure!(answer.status == 202, "{answer:?}");
    answer.body["event_id"].as_str().context("no event id")
}

fn log(world: &World) -> (KafkaSettings, Topics) {
    let setting = |name| world.stack.setting(name);
    let settings = KafkaSettings::new(setting("KAFKA_BROKERS"), "test");
    (settings, Topics::new(setting("TOPIC_PREFIX")))
}

/// The adjusted units, after everything in the log is folded and carried out.
async fn adjusted(world: &World, voucher: VoucherId) -> Result<Value> {
    let (settings, topics) = log(world);
    let partitions = world.stack.setting("EVENT_PARTITIONS").parse()?;
    let ends = event_offset_ranges(&settings, &topics.events, partitions).await?;
    let pool = world.database().await?;
    for end in ends.iter().filter(|end| !end.is_empty()) {
        eventually("the log is carried out", || async {
            let at =
                "SELECT coalesce(min(next_offset), 0) FROM view_positions WHERE partition = $1";
            let at = sqlx::query_scalar::<_, i64>(at).bind(end.partition);
            Ok(at.fetch_one(&pool).await? >= end.to.get())
        })
        .await?;
    }
    let ledger = world.quiet(voucher).await?;
    assert_eq!(ledger["drift"], 0, "{ledger}");
    Ok(ledger["adjusted"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_changes_a_sale_once_and_stands_for_one_request() -> Result<()> {
    let world = World::start()?;
    let [voucher, other] = [
        world.sale(SaleTerms::of(10)).await?,
        world.sale(SaleTerms::of(10)).await?,
    ];
    let client = &world.client;
    for (delta, key) in [(5, "more"), (-3, "less")] {
        let first = stock(client, voucher, delta, key).await?;
        // Repeat it immediately, and again when it is decided.
        let second = stock(client, voucher, delta, key).await?;
        assert_eq!(event_id(&first)?, event_id(&second)?);
        adjusted(&world, voucher).await?;
        let third = stock(client, voucher, delta, key).await?;
        assert_eq!(event_id(&first)?, event_id(&third)?);
    }
    assert_eq!(adjusted(&world, voucher).await?, 2);

    for reused in [
        stock(client, voucher, 6, "more").await?,
        stock(client, other, 5, "more").await?,
        close(&world, voucher, "more").await?,
    ] {
        assert_eq!(
            (reused.status, reused.problem()),
            (422, "idempotency-key-reused")
        );
    }
    for _ in 0..2 {
        assert_eq!(close(&world, voucher, "end").await?.status, 202);
    }
    assert_eq!(close(&world, other, "end").await?.status, 422);
    eventually("the sale is closed", || async {
        let page = client
            .get(2, &format!("/api/v1/vouchers/{voucher}"))
            .await?;
        Ok(page.body["status"] == "closed")
    })
    .await?;
    // A change that was made is still answered with its event when the sale accepts no changes any more.
    event_id(&stock(client, voucher, -3, "less").await?)?;
    assert_eq!(close(&world, voucher, "end").await?.status, 202);
    assert_eq!(adjusted(&world, other).await?, 0);
    Ok(())
}

/// The ingress dies at `point` during a change by `delta`. The request is repeated at another ingress, as an operator
/// would do.
async fn dies_and_is_repeated(point: &str, delta: i64) -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let points = format!("{point}=kill");
    let mut dying = world
        .stack
        .start_ingress(&[("SECKILL_FAILPOINTS", &points)])?;
    let told = stock(&world.client_of(&dying), voucher, delta, "k").await;
    assert!(told.is_err(), "{told:?}");
    await_death(&mut dying, point)?;
    let first = stock(&world.client, voucher, delta, "k").await?;
    assert_eq!(adjusted(&world, voucher).await?, delta);
    let second = stock(&world.client, voucher, delta, "k").await?;
    assert_eq!(event_id(&first)?, event_id(&second)?);
    assert_eq!(adjusted(&world, voucher).await?, delta);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ingress_between_noting_a_restock_and_its_event() -> Result<()> {
    dies_and_is_repeated("ingress.operator.after-note", 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ingress_between_a_restock_and_its_ack() -> Result<()> {
    dies_and_is_repeated("ingress.event.after-produce", 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ingress_between_the_ack_of_a_restock_and_its_answer() -> Result<()> {
    dies_and_is_repeated("ingress.event.after-ack", 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ingress_between_noting_a_shrink_and_taking_its_units() -> Result<()> {
    dies_and_is_repeated("ingress.operator.after-note", -5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ingress_between_taking_the_units_of_a_shrink_and_its_event() -> Result<()> {
    dies_and_is_repeated("ingress.shrink.after-lua", -5).await
}

/// The id of the event is computed from the key, so PostgreSQL may lose the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_postgresql_has_lost_is_still_the_same_event() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let pool = world.database().await?;
    for (delta, key) in [(5, "more"), (-3, "less")] {
        let first = stock(&world.client, voucher, delta, key).await?;
        sqlx::query("TRUNCATE sale_requests").execute(&pool).await?;
        let second = stock(&world.client, voucher, delta, key).await?;
        assert_eq!(event_id(&first)?, event_id(&second)?);
    }
    assert_eq!(adjusted(&world, voucher).await?, 2);
    Ok(())
}

/// Who did what to a sale, and why, as operators are shown it: the newest first.
async fn shown(client: &Client, path: &str) -> Result<Vec<(String, String, String)>> {
    let shown = client.admin_get(&format!("{path}/audit")).await?.body;
    assert_eq!(shown["more"], false, "{shown}");
    let deeds = shown["deeds"].as_array().context("no list")?.iter();
    let deeds = deeds.map(|deed| {
        ensure!(deed["at"].is_string(), "{deed}");
        let text = |name| deed[name].as_str().unwrap_or_default().to_owned();
        Ok((text("actor"), text("command"), text("reason")))
    });
    deeds.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changed_a_sale_and_why_is_on_record_with_its_trace() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let path = format!("/admin/v1/vouchers/{voucher}");
    let trace = format!("{:032x}", 0xfeed);
    let traceparent = format!("00-{trace}-0000000000000001-01");
    let headers = [
        ("x-operator", "kim"),
        ("x-reason", "recalled"),
        ("traceparent", traceparent.as_str()),
    ];
    let body = json!({ "delta": 4, "reason": "found a box" });
    let client = &world.client;
    let stock = format!("{path}/stock");
    client.admin_post_with(&stock, &body, &headers).await?;
    let body = json!({ "delta": -4, "reason": "lost it" });
    client.admin_post(&stock, &body).await?;
    client
        .admin_post_with(&format!("{path}/close"), &json!({}), &headers)
        .await?;

    let rows: Vec<(String, String, String, i64, i64, Option<String>)> = sqlx::query_as(
        "SELECT actor, command, reason, affected, voucher_id, trace_id FROM ops_audit ORDER BY id",
    )
    .fetch_all(&world.database().await?)
    .await?;
    let [scheduled, restock, shrink, close] = &rows[..] else {
        panic!("{rows:?}")
    };
    let id = voucher.get();
    let row = |command: &str, reason: &str| {
        let [actor, command, reason] = ["kim", command, reason].map(str::to_owned);
        (actor, command, reason, 1, id, Some(trace.clone()))
    };
    assert!(scheduled.1.contains(r#""stock":10"#), "{scheduled:?}");
    assert_eq!((scheduled.0.as_str(), scheduled.4), ("127.0.0.1", id));
    assert_eq!(
        *restock,
        row(
            &format!(r#"POST {path}/stock {{"delta":4}}"#),
            "found a box"
        )
    );
    assert_eq!(
        (shrink.0.as_str(), shrink.2.as_str()),
        ("127.0.0.1", "lost it")
    );
    assert_eq!(*close, row(&format!("POST {path}/close {{}}"), "recalled"));
    let noted = rows.iter().rev();
    let noted = noted.map(|row| (row.0.clone(), row.1.clone(), row.2.clone()));
    assert_eq!(shown(client, &path).await?, noted.collect::<Vec<_>>());

    let (settings, topics) = log(&world);
    let records = read_all(&settings, &topics.events, Duration::from_secs(30)).await?;
    let of_trace = |record: &&Record| record.trace().is_some_and(|t| t.trace_id() == trace);
    let names = records.iter().filter(of_trace).map(|record| {
        let event = decode_event(record.payload.as_deref().unwrap_or_default());
        event.map(|event| event.body.name())
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(names, ["StockAdjusted", "SaleClosed"]);
    let refused = client
        .admin_post_with(&stock, &body, &[("x-operator", " ")])
        .await?;
    assert_eq!(refused.problem(), "invalid-request");
    Ok(())
}
