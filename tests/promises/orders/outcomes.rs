//! Decisions reach the buyer's open stream and the outcome topic.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Method;
use seckill_domain::{OrderStatus, Outcome};
use seckill_eventlog::{KafkaSettings, Topics, decode_outcome, read_all};
use seckill_tests::{SaleTerms, World};

/// Reads a stream of server-sent events to its end: (id, status) of each.
async fn statuses(response: reqwest::Response) -> Result<Vec<(String, String)>> {
    let text = response.text().await?;
    let mut seen = Vec::new();
    for event in text
        .split("\n\n")
        .filter(|event| event.contains("event: status"))
    {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let id = field("id:").context("no id")?.trim().to_owned();
        let data: serde_json::Value = serde_json::from_str(field("data:").context("no data")?)?;
        seen.push((id, data["status"].as_str().unwrap_or_default().to_owned()));
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_ends_with_the_final_status() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().expect("an order id");
    world.until_status(1, order_id, "unpaid").await?;

    let path = format!("/api/v1/orders/{order_id}/events");
    let open = |user| -> Result<_> {
        let request = world.client.request(Method::GET, &path);
        Ok(request.bearer_auth(world.client.token(user)?))
    };
    let others = world.client.send(open(2)?).await?;
    assert_eq!((others.status, others.problem()), (404, "not-found"));
    let stream = open(1)?.send().await?;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    world.client.pay(order_id, "p", 1_000).await?;
    let seen = tokio::time::timeout(Duration::from_secs(30), statuses(stream)).await??;
    let expected = [("1", "unpaid"), ("2", "paid")].map(|(v, s)| (v.to_owned(), s.to_owned()));
    assert_eq!(seen, expected);

    let resumed = open(1)?.header("Last-Event-ID", "1").send().await?;
    let seen = tokio::time::timeout(Duration::from_secs(30), statuses(resumed)).await??;
    assert_eq!(seen, expected[1..]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_resumes_after_a_late_payment_tells_of_the_refund_once() -> Result<()> {
    let world = World::start()?;
    let terms = SaleTerms {
        hold_seconds: 1,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().context("an order id")?;
    world.until_status(1, order_id, "expired").await?;
    world.client.pay(order_id, "late", 1_000).await?;
    let order = format!("/api/v1/orders/{order_id}");
    seckill_tests::eventually("a refund is due", || async {
        Ok(world.client.get(1, &order).await?.body["refund_due"] == true)
    })
    .await?;

    let path = format!("{order}/events");
    let resume = |id: &'static str| -> Result<_> {
        let request = world.client.request(Method::GET, &path);
        let request = request.bearer_auth(world.client.token(1)?);
        Ok(request.header("Last-Event-ID", id).send())
    };
    let resumed = resume("2")?.await?;
    assert_eq!(resumed.status(), 200);
    let seen = tokio::time::timeout(Duration::from_secs(30), statuses(resumed)).await??;
    assert_eq!(seen, [("2r".to_owned(), "expired".to_owned())]);
    assert_eq!(resume("2r")?.await?.status(), 204);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_told_every_status_with_its_version() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().expect("an order id");
    world.client.pay(order_id, "p", 1_000).await?;
    world.until_status(1, order_id, "paid").await?;
    world.quiet(voucher).await?;

    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "test");
    let mut versions = Vec::new();
    seckill_tests::eventually("both outcomes are published", || async {
        let records = read_all(&settings, &topics.outcomes, Duration::from_secs(30)).await?;
        let outcomes = records
            .iter()
            .filter(|r| r.key.as_deref() == Some(order_id.as_bytes()));
        let decoded: Result<Vec<_>, _> = outcomes
            .map(|record| decode_outcome(record.payload.as_deref().unwrap_or_default()))
            .collect();
        Ok(decoded?.len() == 2)
    })
    .await?;
    for record in read_all(&settings, &topics.outcomes, Duration::from_secs(30)).await? {
        let outcome = decode_outcome(record.payload.as_deref().unwrap_or_default())?;
        if let Outcome::Order(order) = outcome.outcome {
            assert_eq!(record.key.as_deref(), Some(order_id.as_bytes()));
            versions.push((order.version, order.status));
        }
    }
    assert_eq!(versions, [(1, OrderStatus::Unpaid), (2, OrderStatus::Paid)]);
    Ok(())
}
