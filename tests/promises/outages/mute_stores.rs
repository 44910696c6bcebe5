//! The connections of a store are silently lost without being closed, as after a failover or behind a firewall that has
//! dropped them. The services time out, make new connections and go on. SIGTERM ends a service within its grace period,
//! whatever it waits for.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::{Kafka, Service, TestStack};
use seckill_tests::{
    Answer, Crowd, Line, SaleTerms, SlowWire, World, check_consistency, eventually_within,
    readiness,
};

/// The most time from the loss of the connections until everything works again.
const BACK: Duration = Duration::from_secs(10);
/// The time between SIGTERM and SIGKILL: the default of Kubernetes.
const GRACE: Duration = Duration::from_secs(30);

const LARGE: SaleTerms = SaleTerms::of(20_000);

/// Services that reach PostgreSQL only over a wire. The test itself connects directly.
async fn over_a_wire() -> Result<(World, SlowWire)> {
    let stack = TestStack::builder().start()?;
    let url = stack.setting("DATABASE_URL").to_owned();
    let (user, rest) = url.split_once('@').context("a user")?;
    let (server, database) = rest.split_once('/').context("a database")?;
    let wire = SlowWire::before(server.parse()?).await?;
    let through = format!("{user}@127.0.0.1:{}/{database}", wire.port());
    let world = World::on(stack, &[("DATABASE_URL", &through)])?;
    Ok((world, wire))
}

/// How many events are folded.
async fn folded(world: &World) -> Result<i64> {
    let pool = world.database().await?;
    let sum =
        "SELECT coalesce(sum(next_offset), 0)::bigint FROM view_positions WHERE view = 'orders'";
    let folded = sqlx::query_scalar(sum).fetch_one(&pool).await?;
    pool.close().await;
    Ok(folded)
}

/// Waits until a service is not ready and names this store.
async fn names(service: &Service, store: &str, within: Duration) -> Result<()> {
    eventually_within(within, "it is not ready and says why", || async {
        let (status, text) = readiness(service)?;
        Ok(status == 503 && text.contains(store))
    })
    .await
}

/// Sends SIGTERM and checks that the service ends within the grace period. Returns how long it took.
fn stop(service: &mut Service) -> Result<Duration> {
    let asked = Instant::now();
    service.terminate()?;
    let status = service.wait_for_exit(GRACE)?;
    let took = asked.elapsed();
    println!("  ended with {status} after {took:?}");
    Ok(took)
}

fn stop_all(world: &mut World) -> Result<()> {
    tokio::task::block_in_place(|| {
        for service in [&mut world.ingress, &mut world.projector, &mut world.timeout] {
            stop(service)?;
        }
        Ok(())
    })
}

fn start_all(world: &mut World) -> Result<()> {
    tokio::task::block_in_place(|| {
        world.projector.restart(&[])?;
        world.timeout.restart(&[])?;
        world.ingress.restart(&[])
    })
}

/// Waits until every promised order is decided and carried out, and checks consistency.
async fn in_balance(world: &World, voucher: VoucherId, answers: &[Answer]) -> Result<()> {
    world.quiet(voucher).await?;
    let found = check_consistency(world, voucher, answers).await?;
    assert_eq!(found.rejected, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fold_goes_on_within_ten_seconds_after_postgresqls_connections_went_mute() -> Result<()>
{
    let (world, wire) = over_a_wire().await?;
    let voucher = world.sale(LARGE).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001);
    for round in 0..2 {
        crowd.flows(200).await?;
        wire.lose_open_ones();
        let lost = Instant::now();
        // Count the events that were committed before, including those that were under way then.
        let before = folded(&world).await?;
        let what = "the fold goes on";
        eventually_within(BACK, what, || async {
            Ok(folded(&world).await? > before + 100)
        })
        .await?;
        println!(
            "case mute PostgreSQL, round {round}: the fold goes on after {:?}",
            lost.elapsed()
        );
    }
    let answers = crowd.leave().await?;
    in_balance(&world, voucher, &answers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_reads_within_ten_seconds_after_postgresqls_connections_went_mute() -> Result<()>
{
    let (world, wire) = over_a_wire().await?;
    let voucher = world.sale(LARGE).await?;
    let order = world.client.order(voucher, 1, None, 1).await?;
    let order_id = order.order_id().context("an order id")?;
    world.until_status(1, order_id, "unpaid").await?;
    let path = format!("/api/v1/orders/{order_id}");
    let ledger = format!("/admin/v1/vouchers/{voucher}/ledger");
    // Open as many connections as the service may have, so that all of them are lost.
    let reads = (0..64).map(|_| world.client.get(1, &path));
    futures_util::future::join_all(reads).await;

    wire.lose_open_ones();
    let lost = Instant::now();
    let late = world.client.order(voucher, 2, None, 1).await?;
    assert!(late.is_reserved(), "orders need no PostgreSQL: {late:?}");
    eventually_within(BACK, "reads are answered", || async {
        let reads = (0..32).map(|_| world.client.get(1, &path));
        let answers = futures_util::future::try_join_all(reads).await?;
        let operators = world.client.admin_get(&ledger).await?;
        Ok(operators.status == 200 && answers.iter().all(|answer| answer.status == 200))
    })
    .await?;
    println!(
        "case mute PostgreSQL: an ingress reads after {:?}",
        lost.elapsed()
    );
    in_balance(&world, voucher, &[order, late]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_expire_within_ten_seconds_after_postgresqls_connections_went_mute() -> Result<()> {
    let (world, wire) = over_a_wire().await?;
    let terms = SaleTerms {
        hold_seconds: 1,
        ..LARGE
    };
    let voucher = world.sale(terms).await?;
    let order = world.client.order(voucher, 1, None, 1).await?;
    let order_id = order.order_id().context("an order id")?.to_owned();
    wire.lose_open_ones();
    let due = Duration::from_secs(1 + 2);
    eventually_within(due + BACK, "the order expires", || async {
        let path = format!("/api/v1/orders/{order_id}");
        Ok(world.client.get(1, &path).await?.body["status"] == "expired")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_services_in_their_grace_period_while_postgresql_is_mute() -> Result<()> {
    let (mut world, wire) = over_a_wire().await?;
    let voucher = world.sale(LARGE).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001);
    crowd.flows(200).await?;
    wire.lose_open_ones();
    wire.set(Line::Swallows);
    crowd.flows(50).await?;
    for service in [&world.projector, &world.timeout] {
        names(service, "PostgreSQL", 2 * BACK).await?;
    }
    crowd.flows(50).await?;
    let answers = crowd.leave().await?;
    stop_all(&mut world)?;

    wire.set(Line::Delays(Duration::ZERO));
    start_all(&mut world)?;
    in_balance(&world, voucher, &answers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_waits_for_a_mute_store_at_its_start_ends_at_sigterm() -> Result<()> {
    let (mut world, wire) = over_a_wire().await?;
    wire.set(Line::Swallows);
    for service in [&mut world.ingress, &mut world.projector, &mut world.timeout] {
        tokio::task::block_in_place(|| service.relaunch(&[]))?;
        names(service, "PostgreSQL", BACK).await?;
        let took = tokio::task::block_in_place(|| stop(service))?;
        assert!(took < BACK, "{took:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_services_in_their_grace_period_while_redis_is_mute() -> Result<()> {
    let (mut world, wire) = World::over_a_wire(TestStack::builder()).await?;
    let voucher = world.sale(LARGE).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001);
    crowd.flows(200).await?;
    wire.lose_open_ones();
    crowd.flows(50).await?;

    wire.lose_open_ones();
    wire.set(Line::Swallows);
    let services = [&world.ingress, &world.projector, &world.timeout];
    for service in services {
        names(service, "redis", 2 * BACK).await?;
    }
    let answers = crowd.leave().await?;
    stop_all(&mut world)?;
    wire.set(Line::Delays(Duration::ZERO));
    start_all(&mut world)?;
    in_balance(&world, voucher, &answers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_services_in_their_grace_period_while_kafka_is_mute() -> Result<()> {
    let mut wire = SlowWire::bind().await?;
    let broker = Kafka::behind_proxy(wire.port())?;
    wire.lead_to(broker.own_address());
    let mut world = World::over(TestStack::builder().kafka(broker), &[])?;
    let voucher = world.sale(LARGE).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001);
    crowd.flows(200).await?;
    wire.lose_open_ones();
    wire.set(Line::Swallows);
    let caught = world.client.order(voucher, 30_000, None, 1).await?;
    assert_eq!(
        (caught.status, &caught.body["status"]),
        (202, &"pending".into())
    );
    stop_all(&mut world)?;
    let mut answers = crowd.leave().await?;
    answers.push(caught);
    wire.set(Line::Delays(Duration::ZERO));
    start_all(&mut world)?;
    in_balance(&world, voucher, &answers).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: half a minute of waiting"]
async fn a_service_that_hangs_for_good_ends_in_its_grace_period_all_the_same() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(LARGE).await?;
    tokio::task::block_in_place(|| {
        let hangs = (
            "SECKILL_FAILPOINTS",
            Some("projector.before-apply=sleep(120000)"),
        );
        world.projector.restart(&[hangs])
    })?;
    let order = world.client.order(voucher, 1, None, 1).await?;
    ensure!(order.is_reserved(), "{order:?}");
    eventually_within(6 * BACK, "the fold hangs", || async {
        let (status, text) = readiness(&world.projector)?;
        ensure!(status == 503, "{text}");
        // Two messages are possible, because the thread that hangs may be the one that writes the first.
        Ok(text.contains("has not moved") || text.contains("not heard of in time"))
    })
    .await?;
    let status = tokio::task::block_in_place(|| {
        world.projector.terminate()?;
        world.projector.wait_for_exit(GRACE)
    })?;
    assert_eq!(status.code(), Some(1), "it did not end in order");
    let says = world.projector.output()?;
    assert!(says.contains("the process ends at once"), "{says}");
    tokio::task::block_in_place(|| world.projector.restart(&[("SECKILL_FAILPOINTS", None)]))?;
    in_balance(&world, voucher, &[order]).await
}

/// The connections of `pid` from the kernel: both ends. A row of `/proc/net/tcp` has these columns: number, own end,
/// other end, state, queues, timer (2: the next keep-alive probe), …, inode.
fn connections(pid: u32) -> Result<Vec<(String, String)>> {
    let sockets = std::fs::read_dir(format!("/proc/{pid}/fd"))?
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect::<HashSet<_>>();
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let rows = table
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    let own = rows.filter(|row| row[3] == ESTABLISHED && sockets.contains(row[9]));
    Ok(own
        .map(|row| (row[1].to_owned(), row[2].to_owned()))
        .collect())
}

const ESTABLISHED: &str = "01";
const RETRANSMISSION: &str = "01";
const KEEPALIVE: &str = "02";

/// The kernel's timer at this end of a connection.
fn timer(own: &str, other: &str) -> Result<Option<String>> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let mut rows = table
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    // The end that closes a connection first is listed in another state for a minute.
    let row = rows.find(|row| (row[1], row[2], row[3]) == (own, other, ESTABLISHED));
    Ok(row.and_then(|row| Some(row[5].split(':').next()?.to_owned())))
}

/// Whether the kernel sends keep-alive probes from this end while nothing is said, as soon as that can be seen: while
/// data are under way, the timer is the one of the next retransmission. A reply is under way until its receiver says
/// the next thing, or for a fifth of a second, so this can be so all the time. Then a dead peer is noticed anyway.
async fn asks(own: &str, other: &str) -> Result<bool> {
    let deadline = Instant::now() + BACK;
    let mut silent = false;
    while Instant::now() < deadline {
        match timer(own, other)?.as_deref() {
            // A connection that has been closed needs no probes.
            None | Some(KEEPALIVE) => return Ok(true),
            Some(RETRANSMISSION) => {}
            Some(_) => silent = true,
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(!silent)
}

fn port_of(address: &str) -> Result<u16> {
    let (_, port) = address.rsplit_once(':').context("a port")?;
    Ok(u16::from_str_radix(port, 16)?)
}

/// For Redis and Kafka the services send the probes. For PostgreSQL the server sends them, so that a client that is
/// gone does not keep a lock; the services have time-outs.
#[tokio::test(flavor = "multi_thread")]
async fn every_connection_to_a_store_is_asked_after_while_nothing_is_said() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(LARGE).await?;
    let order = world.client.order(voucher, 1, None, 1).await?;
    in_balance(&world, voucher, &[order]).await?;
    let stores = ["KAFKA_BROKERS", "DATABASE_URL"].map(|name| world.stack.setting(name));
    let port = |address: &str| -> Result<u16> {
        let address = address
            .rsplit_once('@')
            .map_or(address, |(_, server)| server);
        let address = address.split('/').next().unwrap_or_default();
        Ok(address.rsplit_once(':').context("a port")?.1.parse()?)
    };
    let (kafka, postgresql, redis) = (port(stores[0])?, port(stores[1])?, world.stack.redis.port());
    for service in [&world.ingress, &world.projector, &world.timeout] {
        let open = connections(service.pid())?;
        for store in [kafka, postgresql, redis] {
            let of_store: Vec<_> = open
                .iter()
                .filter(|(_, other)| port_of(other).is_ok_and(|port| port == store))
                .collect();
            ensure!(
                !of_store.is_empty(),
                "{}: none to {store}: {open:?}",
                service.admin_url()
            );
            for (own, other) in of_store {
                let (from, to) = if store == postgresql {
                    (other, own)
                } else {
                    (own, other)
                };
                ensure!(
                    asks(from, to).await?,
                    "{}: {from} sends no probes to {to}",
                    service.admin_url()
                );
            }
        }
    }
    Ok(())
}
