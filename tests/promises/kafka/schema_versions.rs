//! Records of all versions of a schema can be in one log, and have the same meaning.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result};
use seckill_domain::{Epoch, Event, EventBody, EventId, SaleReloaded, Timestamp, VoucherId};
use seckill_eventlog::{KafkaSettings, Topics, encode_event, read_all};
use seckill_tests::{ForeignProducer, SaleTerms, World, check_consistency, eventually};
use uuid::Uuid;

/// Magic and fingerprint of `schemas/versions/SaleReloaded/1.avsc`.
const FIRST_VERSION: [u8; 10] = [0xc3, 0x01, 0xe2, 0x45, 0xb0, 0xf8, 0x05, 0xbe, 0x4c, 0x7c];

/// The event in the form of a writer from before `first` was added, without the last field.
fn in_first_version(event: &Event) -> Result<Vec<u8>> {
    let now = encode_event(event);
    let (null, fields) = now[FIRST_VERSION.len()..].split_last().context("empty")?;
    assert_eq!(*null, 0, "`first` is null");
    Ok([&FIRST_VERSION, fields].concat())
}

fn reloaded(voucher: VoucherId, previous: Epoch) -> Event {
    Event {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id: voucher,
        occurred_at: Timestamp::from_micros(1),
        body: EventBody::SaleReloaded(SaleReloaded {
            previous,
            epoch: previous.next(),
            nonce: Uuid::new_v4(),
            first: None,
        }),
    }
}

/// An older projector began an epoch and died. The current one begins the next epoch, and the tables are the fold of
/// both.
#[tokio::test(flavor = "multi_thread")]
async fn a_sale_that_was_reloaded_by_an_older_projector_goes_on() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    let mut answers = world.client.orders(voucher, 1..6).await;
    world.until_carried_out().await?;
    let pool = world.database().await?;
    let epoch = || async {
        let of = "SELECT epoch FROM vouchers WHERE voucher_id = $1";
        let of = sqlx::query_scalar(of).bind(voucher.get());
        let number: i64 = of.fetch_one(&pool).await?;
        anyhow::Ok(Epoch::new(number))
    };
    let before = epoch().await?;

    let brokers = world.stack.setting("KAFKA_BROKERS");
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let payload = in_first_version(&reloaded(voucher, before))?;
    ForeignProducer::of(&world)?
        .write_as(voucher, &payload)
        .await?;
    eventually("an epoch after the older projector's", || async {
        Ok(epoch().await? == before.next().next())
    })
    .await?;
    world.until_served(voucher).await?;
    answers.extend(world.client.orders(voucher, 6..11).await);
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(&world, voucher, &answers).await?.unpaid,
        10
    );

    let settings = KafkaSettings::new(brokers, "test");
    let log = read_all(&settings, &topics.events, Duration::from_secs(30)).await?;
    let versions: HashSet<Vec<u8>> = log
        .iter()
        .filter(|record| {
            record
                .header("ce_type")
                .is_none_or(|t| t.ends_with(b"SaleReloaded"))
        })
        .filter_map(|record| Some(record.payload.as_ref()?.get(..10)?.to_vec()))
        .collect();
    assert_eq!(versions.len(), 2, "{versions:x?}");
    Ok(())
}
