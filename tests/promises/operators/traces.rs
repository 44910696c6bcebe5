//! One trace contains a request and its results. Later events of the order have links to it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use seckill_domain::TraceParent;
use seckill_eventlog::{KafkaSettings, Record, TRACEPARENT, Topics, read_all};
use seckill_tests::{Collector, SaleTerms, Span, World, eventually, until_unready};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The `traceparent` of a caller that records its trace, or does not.
fn caller(trace: &str, flags: &str) -> String {
    format!("00-{trace}-00f067aa0ba902b7-{flags}")
}

fn traced_world(share: &str) -> Result<(World, Collector)> {
    let collector = Collector::start()?;
    let endpoint = collector.endpoint();
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_TRACES_SAMPLER_ARG", share),
    ];
    Ok((World::with(&settings)?, collector))
}

/// Places an order with a caller's trace. Returns its id.
async fn order(
    world: &World,
    voucher: impl std::fmt::Display,
    user: u64,
    traceparent: &str,
) -> Result<String> {
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let request = world.client.request(Method::POST, &path);
    let request = request
        .bearer_auth(world.client.token(user)?)
        .header("traceparent", traceparent);
    let answer = world.client.send(request).await?;
    ensure!(answer.is_reserved(), "{answer:?}");
    Ok(answer.order_id().context("an id")?.to_owned())
}

/// The trace contexts of the records in the event topic, or in that of the outcomes.
async fn contexts(world: &World, topic: fn(&Topics) -> &str) -> Result<Vec<TraceParent>> {
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "reader");
    let records = read_all(&settings, topic(&topics), Duration::from_secs(60)).await?;
    let traces = records.iter().map(Record::trace);
    traces.map(|trace| trace.context(TRACEPARENT)).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_request_through_redis_kafka_fold_and_settle_to_the_outcome()
-> Result<()> {
    let (world, collector) = traced_world("0")?;
    let voucher = world.sale(SaleTerms::default()).await?;
    order(&world, voucher, 1, &caller(TRACE, "01")).await?;
    let expected = [
        "seckill-ingress: POST /api/v1/vouchers/{voucher_id}/orders < 00f067aa0ba902b7",
        "seckill-ingress: publish SeckillReserved < POST /api/v1/vouchers/{voucher_id}/orders",
        "seckill-ingress: reserve < POST /api/v1/vouchers/{voucher_id}/orders",
        "seckill-projector: fold < publish SeckillReserved",
        "seckill-projector: publish OrderOutcome < fold",
        "seckill-projector: settle < fold",
    ];
    eventually("the whole tree is there", || async {
        let tree = collector.tree(TRACE);
        println!("{}", tree.join("\n"));
        ensure!(tree == expected, "{tree:#?}");
        Ok(true)
    })
    .await?;
    // The request that put up the sale was not sampled.
    ensure!(
        collector
            .spans()
            .iter()
            .all(|span| span.trace == TRACE || span.name == "order"),
        "{:#?}",
        collector.spans()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn payment_cancellation_and_expiry_link_to_the_order() -> Result<()> {
    let (world, collector) = traced_world("1")?;
    let voucher = world
        .sale(SaleTerms {
            hold_seconds: 5,
            ..SaleTerms::default()
        })
        .await?;
    let traceparent = caller(TRACE, "01");
    let placed = |user| order(&world, voucher, user, &traceparent);
    let (paid, cancelled, lapsed) = (placed(1).await?, placed(2).await?, placed(3).await?);
    world.until_status(2, &cancelled, "unpaid").await?;
    ensure!(world.client.pay(&paid, "p-1", 1_000).await?.status == 202);
    ensure!(world.client.cancel(2, &cancelled).await?.status == 202);
    world.until_status(3, &lapsed, "expired").await?;
    let later = [
        (paid, "publish OrderPaid", "seckill-ingress"),
        (cancelled, "publish OrderCancelled", "seckill-ingress"),
        (lapsed, "publish OrderExpired", "seckill-timeout"),
    ];
    eventually("all of them are linked", || async {
        let spans = collector.spans();
        for (order, name, service) in &later {
            let of_this = |span: &&&Span| span.attributes.get("seckill.order_id") == Some(order);
            let stands_for = named(&spans, "order");
            let stands_for = stands_for
                .iter()
                .find(of_this)
                .context("no span of the order")?;
            let reserved = named(&spans, "publish SeckillReserved");
            let reserved = reserved.iter().find(of_this).context("no reservation")?;
            ensure!(reserved.trace == TRACE, "{reserved:?}");
            ensure!(
                stands_for.links == [(reserved.trace.clone(), reserved.id.clone())],
                "{stands_for:?}"
            );
            let span = named(&spans, name);
            let span = span
                .iter()
                .find(of_this)
                .with_context(|| format!("no {name}"))?;
            ensure!(span.service == *service, "{span:?}");
            ensure!(
                span.links == [(stands_for.trace.clone(), stands_for.id.clone())],
                "{span:?}"
            );
            // Its own trace continues to the result of the fold.
            let tree = collector.tree(&span.trace);
            ensure!(
                tree.iter()
                    .any(|line| line.contains("publish OrderOutcome < fold")),
                "{tree:#?}"
            );
        }
        Ok(true)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_carries_the_trace_of_its_order_also_where_nobody_records_it() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let traceparent = caller(TRACE, "01");
    let order = order(&world, voucher, 1, &traceparent).await?;
    world.until_status(1, &order, "unpaid").await?;
    world.until_carried_out().await?;
    let events = contexts(&world, |topics| &topics.events).await?;
    let outcomes = contexts(&world, |topics| &topics.outcomes).await?;
    for contexts in [events, outcomes] {
        let texts: Vec<_> = contexts.iter().map(TraceParent::as_str).collect();
        ensure!(texts.contains(&traceparent.as_str()), "{texts:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_failed_is_recorded_whatever_its_caller_decided() -> Result<()> {
    let (mut world, collector) = traced_world("0")?;
    let voucher = world.sale(SaleTerms::default()).await?;
    order(&world, voucher, 1, &caller(TRACE, "00")).await?;
    world.stack.redis.kill()?;
    until_unready(&world.ingress, "redis").await?;
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let request = world.client.request(Method::POST, &path);
    let request = request
        .bearer_auth(world.client.token(2)?)
        .header("traceparent", caller(TRACE, "00"));
    let answer = request.send().await?;
    ensure!(answer.status() == 503, "{answer:?}");
    let said = answer.headers().get("traceresponse").context("no trace")?;
    ensure!(said.to_str()?.contains(TRACE), "{said:?}");
    eventually("the failure is there, and nothing else", || async {
        let spans = collector.spans();
        let of_trace: Vec<_> = spans.iter().filter(|span| span.trace == TRACE).collect();
        ensure!(of_trace.len() == 1, "{of_trace:#?}");
        ensure!(
            !of_trace[0].error.is_empty() && of_trace[0].parent == "00f067aa0ba902b7",
            "{of_trace:#?}"
        );
        Ok(true)
    })
    .await
}
