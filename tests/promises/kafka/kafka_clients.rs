//! A Kafka client that has failed permanently, or makes no progress while others do, ends its process. The restarted
//! process continues with what was pending.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seckill_testkit::{Kafka, Service, TestStack};
use seckill_tests::{Harm, KafkaWire, SaleTerms, World, eventually};

/// The most time from the answer that reports the failure until the process has ended.
const FAILED: Duration = Duration::from_secs(2);
/// The most time from when a client stops to make progress until its process has ended. Meanwhile this is noticed and
/// checked with new clients. A consumer may lose its partitions first, and has to be out of its group for a while.
const STUCK: Duration = Duration::from_secs(40);

fn start() -> Result<(World, KafkaWire)> {
    let mut wire = KafkaWire::bind()?;
    let broker = Kafka::behind_proxy(wire.port())?;
    wire.lead_to(broker.own_address());
    let world = World::over(TestStack::builder().kafka(broker), &[])?;
    Ok((world, wire))
}

/// Checks that a service ends soon after it was told that its producer has failed permanently.
fn ends_at_once(service: &mut Service, wire: &KafkaWire, client: &str) -> Result<()> {
    ends(service, STUCK, CANNOT_GO_ON)?;
    let failed_at = wire.failed_at(client).context("it was not told")?;
    let took = failed_at.elapsed();
    ensure!(took < FAILED, "{client} ended {took:?} after its failure");
    println!("case {client} with a failed producer: ended after {took:?}");
    Ok(())
}

/// Waits until a service ends with a failure and this message. Returns how long it took.
fn ends(service: &mut Service, within: Duration, says: &str) -> Result<Duration> {
    let begun = Instant::now();
    let status = tokio::task::block_in_place(|| service.wait_for_exit(within))?;
    let output = service.output()?;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains(says), "{says} in {output}");
    Ok(begun.elapsed())
}

fn restart(service: &mut Service) -> Result<()> {
    tokio::task::block_in_place(|| service.restart(&[]))
}

const CANNOT_GO_ON: &str = "the process cannot go on and ends";

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_whose_producer_failed_takes_nothing_and_its_successor_publishes() -> Result<()>
{
    let (mut world, wire) = start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    assert!(world.client.order(voucher, 1, None, 1).await?.is_reserved());

    wire.harm("seckill-ingress", Harm::FailsItsProducer);
    let caught = world.client.order(voucher, 2, Some("k"), 1).await?;
    assert_eq!(
        (caught.status, &caught.body["status"]),
        (202, &"pending".into())
    );
    let refused = world.client.order(voucher, 3, None, 1).await;
    if let Ok(refused) = refused {
        assert_eq!(refused.status, 503, "{refused:?}");
    }
    ends_at_once(&mut world.ingress, &wire, "seckill-ingress")?;
    // A restarted process that cannot produce either ends too.
    tokio::task::block_in_place(|| world.ingress.relaunch(&[]))?;
    ends(&mut world.ingress, STUCK, CANNOT_GO_ON)?;

    wire.spare("seckill-ingress");
    restart(&mut world.ingress)?;
    let order_id = caught.order_id().context("an order id")?;
    world.until_status(2, order_id, "unpaid").await?;
    let ledger = world.quiet(voucher).await?;
    assert_eq!(
        (&ledger["unpaid"], &ledger["redis_available"]),
        (&2.into(), &8.into()),
        "{ledger}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_whose_producer_failed_ends_and_its_successor_opens_the_sale() -> Result<()> {
    let (mut world, wire) = start()?;
    wire.harm("seckill-projector", Harm::FailsItsProducer);
    // The projector writes an event for the first load of the sale.
    let voucher = world.schedule(SaleTerms::of(10)).await?;
    ends_at_once(&mut world.projector, &wire, "seckill-projector")?;
    wire.spare("seckill-projector");
    restart(&mut world.projector)?;
    world.until_served(voucher).await?;
    assert!(world.client.order(voucher, 1, None, 1).await?.is_reserved());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_service_whose_producer_failed_ends_and_its_successor_expires() -> Result<()> {
    let (mut world, wire) = start()?;
    let terms = SaleTerms {
        hold_seconds: 1,
        ..SaleTerms::of(10)
    };
    let voucher = world.sale(terms).await?;
    wire.harm("seckill-timeout", Harm::FailsItsProducer);
    let order = world.client.order(voucher, 1, None, 1).await?;
    ends_at_once(&mut world.timeout, &wire, "seckill-timeout")?;
    wire.spare("seckill-timeout");
    restart(&mut world.timeout)?;
    let order_id = order.order_id().context("an order id")?;
    world.until_status(1, order_id, "expired").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_that_gets_no_ack_while_others_do_ends_and_its_successor_publishes() -> Result<()>
{
    let (mut world, wire) = start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    assert!(world.client.order(voucher, 1, None, 1).await?.is_reserved());
    wire.harm("seckill-ingress", Harm::Swallows);
    let caught = world.client.order(voucher, 2, Some("k"), 1).await?;
    assert_eq!(
        (caught.status, &caught.body["status"]),
        (202, &"pending".into())
    );
    let took = ends(&mut world.ingress, STUCK, "no record was acknowledged")?;
    wire.spare("seckill-ingress");
    restart(&mut world.ingress)?;
    let order_id = caught.order_id().context("an order id")?;
    world.until_status(2, order_id, "unpaid").await?;
    println!("case an ingress without acks: given up after {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_reads_nothing_while_others_do_ends_and_its_successor_folds() -> Result<()>
{
    let (mut world, wire) = start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    assert!(world.client.order(voucher, 1, None, 1).await?.is_reserved());
    world.quiet(voucher).await?;
    // Else the producer may wait for the acks of the first order's outcomes, and be given up before the consumer.
    world.until_carried_out().await?;
    wire.harm("seckill-projector", Harm::Swallows);
    let order = world.client.order(voucher, 2, None, 1).await?;
    assert!(order.is_reserved(), "{order:?}");
    let took = ends(&mut world.projector, STUCK, "reads nothing")?;
    wire.spare("seckill-projector");
    restart(&mut world.projector)?;
    let order_id = order.order_id().context("an order id")?;
    world.until_status(2, order_id, "unpaid").await?;
    println!("case a fold that reads nothing: given up after {took:?}");
    Ok(())
}

/// If Kafka is down for all clients, no client is at fault, and no process ends.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_ends_while_kafka_is_away_for_all() -> Result<()> {
    let (mut world, wire) = start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let clients = ["seckill-ingress", "seckill-projector", "seckill-timeout"];
    for client in clients {
        wire.harm(client, Harm::Swallows);
        wire.harm(&format!("{client}-probe"), Harm::Swallows);
    }
    let away_since = Instant::now();
    let caught = world.client.order(voucher, 1, Some("k"), 1).await?;
    assert_eq!(caught.status, 202, "{caught:?}");
    eventually("longer than a stuck client is kept", || async {
        Ok(away_since.elapsed() > STUCK)
    })
    .await?;
    for service in [&mut world.ingress, &mut world.projector, &mut world.timeout] {
        assert_eq!(service.exit_status()?, None, "{}", service.output()?);
    }
    Ok(())
}
