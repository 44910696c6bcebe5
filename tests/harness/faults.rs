//! Services that die or stop exactly at a point that a test chooses.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use seckill_domain::{VoucherId, partition_of};
use seckill_testkit::{Service, http};

use crate::waits::eventually;
use crate::world::World;

const DEATH_DEADLINE: Duration = Duration::from_secs(30);

const VARIABLE: &str = "SECKILL_FAILPOINTS";

/// Stops a service in an orderly way and starts it again, so that it does `action` (`kill` or `stop`) at a failpoint.
///
/// # Errors
/// When it does not end, or is not ready again.
pub fn arm(service: &mut Service, point: &str, action: &str) -> Result<()> {
    service.stop()?;
    service.restart(&[(VARIABLE, Some(&format!("{point}={action}")))])
}

/// Starts a service again without failpoints, after it has died because of [`arm`].
///
/// # Errors
/// When it is not ready.
pub fn revive(service: &mut Service) -> Result<()> {
    service.restart(&[(VARIABLE, None)])
}

/// Waits until a service has died, and checks that it died at the failpoint.
///
/// # Errors
/// When it still runs, or has died elsewhere; with the end of its log.
pub fn await_death(service: &mut Service, point: &str) -> Result<()> {
    service.wait_for_exit(DEATH_DEADLINE)?;
    let output = service.output()?;
    ensure!(
        output.contains(&format!("failpoint {point}: SIGKILL")),
        "it died of something else than {point}: {output}"
    );
    Ok(())
}

/// Waits until a service has stopped itself at a failpoint. `Service::resume` lets it continue.
///
/// # Errors
/// When it does not get there in time.
pub async fn await_stop(service: &Service, point: &str) -> Result<()> {
    let line = format!("failpoint {point}: SIGSTOP");
    eventually(&line, || async { Ok(service.output()?.contains(&line)) }).await
}

/// The answer of `/readyz` of a service: its status, and its body, which names the broken conditions.
///
/// # Errors
/// When there is no answer.
pub fn readiness(service: &Service) -> Result<(u16, String)> {
    ask(service, "/readyz")
}

/// The metrics of a service, in the format of Prometheus.
///
/// # Errors
/// When there is no answer.
pub fn metrics(service: &Service) -> Result<String> {
    Ok(ask(service, "/metrics")?.1)
}

/// The value of one series, named with its labels as it is exported. `None` if there is no such series.
///
/// # Errors
/// When there is no answer, or the value is not a `T`.
pub fn series<T: FromStr>(service: &Service, name: &str) -> Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = metrics(service)?;
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
    let value = values.find_map(|rest| rest.strip_prefix(' '));
    Ok(value.map(str::parse).transpose()?)
}

fn ask(service: &Service, path: &str) -> Result<(u16, String)> {
    let url = service.admin_url();
    let address = url.strip_prefix("http://").unwrap_or(&url);
    http::get(address.parse()?, path)
}

/// Waits until a service is not ready and names `condition` as the reason.
///
/// # Errors
/// When it does not in time.
pub async fn until_unready(service: &Service, condition: &str) -> Result<()> {
    eventually(&format!("/readyz names {condition}"), || async {
        let (status, body) = readiness(service)?;
        Ok(status == 503 && body.contains(condition))
    })
    .await
}

/// Waits until a service is ready.
///
/// # Errors
/// When it is not in time.
pub async fn until_ready(service: &Service) -> Result<()> {
    eventually("/readyz says 200", || async {
        Ok(readiness(service)?.0 == 200)
    })
    .await
}

/// The id of the broker that leads a sale's partition; none while there is no leader.
///
/// # Errors
/// When no broker answers.
pub fn leader_of(world: &World, voucher: VoucherId) -> Result<Option<usize>> {
    let (leader, _) = placement(world, voucher)?;
    Ok(usize::try_from(leader).ok())
}

/// The id of the broker that leads a sale's partition, and that of the first other one that has a copy.
///
/// # Errors
/// When no broker answers, or there is no leader or no other copy.
pub fn copies_of(world: &World, voucher: VoucherId) -> Result<(usize, usize)> {
    let (leader, copies) = placement(world, voucher)?;
    let other = copies.into_iter().find(|copy| *copy != leader);
    let other = other.context("no other copy")?;
    Ok((usize::try_from(leader)?, usize::try_from(other)?))
}

fn placement(world: &World, voucher: VoucherId) -> Result<(i32, Vec<i32>)> {
    let setting = |name| world.stack.setting(name);
    let topic = format!("{}seckill.order-events.v1", setting("TOPIC_PREFIX"));
    let partitions: i32 = setting("EVENT_PARTITIONS").parse()?;
    let wanted = partition_of(voucher.to_string().as_bytes(), partitions);
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", setting("KAFKA_BROKERS"))
        .create()?;
    let metadata = client.fetch_metadata(Some(&topic), Duration::from_secs(10))?;
    let topic = metadata.topics().first().context("no such topic")?;
    let mut found = topic.partitions().iter().filter(|p| p.id() == wanted);
    let partition = found.next().context("no such partition")?;
    Ok((partition.leader(), partition.replicas().to_vec()))
}
