//! A new sale has to have a currency of ISO 4217. Sales with other currencies that are already in a log keep them.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Method;
use seckill_domain::{
    Event, EventBody, EventId, Money, SaleScheduled, Terms, Timestamp, Title, VoucherId,
};
use seckill_eventlog::{EventProducer, KafkaSettings, Topics};

use seckill_tests::{SaleTerms, World, check_consistency, eventually};
use uuid::Uuid;

/// The event of an earlier ingress, which accepted any three letters.
fn scheduled(voucher_id: VoucherId) -> Result<Event> {
    let terms = Terms {
        title: Title::new("From before")?,
        price: Money::new(1_000, "QQQ".parse()?)?,
        stock: 10,
        max_quantity: 1,
        opens_at: Timestamp::from_micros(0),
        closes_at: Timestamp::MAX,
        hold_seconds: 600,
        requires_sale_token: false,
    };
    Ok(Event {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id,
        occurred_at: Timestamp::from_micros(1),
        body: EventBody::SaleScheduled(SaleScheduled { terms }),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_sale_in_an_unknown_currency_is_sold_and_paid() -> Result<()> {
    let world = World::start()?;
    let setting = |name| world.stack.setting(name);
    let settings = KafkaSettings {
        delivery_timeout: Duration::from_secs(30),
        ..KafkaSettings::new(setting("KAFKA_BROKERS"), "test")
    };
    let topics = Topics::new(setting("TOPIC_PREFIX"));
    let partitions = setting("EVENT_PARTITIONS").parse()?;
    let producer = EventProducer::new(&settings, &topics, partitions)?;
    let voucher = VoucherId::new(7)?;
    producer.send_event(&scheduled(voucher)?, None)?.await?;
    eventually("the sale is served", || async {
        Ok(world
            .client
            .ledger(voucher)
            .await
            .is_ok_and(|ledger| ledger["redis_available"].is_i64()))
    })
    .await?;

    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().context("no order")?;
    let paid = world.client.pay_in(order_id, "p", (1_000, "QQQ")).await?;
    assert_eq!(paid.status, 202, "{paid:?}");
    world.until_status(1, order_id, "paid").await?;
    let page = world
        .client
        .request(Method::GET, &format!("/sales/{voucher}"));
    let page = page.send().await?.text().await?;
    assert!(page.contains("QQQ 1000"), "{page}");

    let new = SaleTerms {
        currency: "QQQ",
        ..SaleTerms::default()
    };
    let refused = world
        .client
        .admin_post("/admin/v1/vouchers", &new.body()?)
        .await?;
    assert_eq!(refused.problem(), "invalid-request");
    assert_eq!(refused.body["errors"][0]["field"], "currency");
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &[answer]).await?;
    Ok(())
}
