//! A connection breaks after PostgreSQL has committed and before the projector gets the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use seckill_tests::{SaleTerms, World, check_consistency, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The server's answers to the beginning of a transaction, to an INSERT, and to a COMMIT.
const BEGUN: &[u8] = b"BEGIN\0";
const INSERTED: &[u8] = b"INSERT 0 ";
const COMMITTED: &[u8] = b"COMMIT\0";

/// A proxy between a client and PostgreSQL that cuts the connection when it is armed.
struct Cutter {
    address: SocketAddr,
    /// The next answer to a COMMIT of inserted rows is lost.
    armed: Arc<AtomicBool>,
}

impl Cutter {
    async fn before(server: String) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let armed = Arc::new(AtomicBool::new(false));
        let of_connections = Arc::clone(&armed);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                let armed = Arc::clone(&of_connections);
                // Both ends have to handle a connection that breaks.
                tokio::spawn(async move { relay(client, server, &armed).await.ok() });
            }
        });
        Ok(Self { address, armed })
    }
}

/// Copies bytes in both directions until an end closes the connection, or until an answer is to be lost.
async fn relay(client: TcpStream, server: TcpStream, armed: &AtomicBool) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut has_inserted = false;
        loop {
            let length = from_server.read(&mut buffer).await?;
            let answer = &buffer[..length];
            let says = |what: &[u8]| answer.windows(what.len()).any(|part| part == what);
            has_inserted = (has_inserted && !says(BEGUN)) || says(INSERTED);
            if length == 0 {
                return Ok(());
            }
            if says(COMMITTED) && has_inserted && armed.swap(false, SeqCst) {
                return Ok(());
            }
            to_client.write_all(answer).await?;
        }
    };
    tokio::select! {
        copied = tokio::io::copy(&mut from_client, &mut to_server) => copied.map(drop),
        ended = answers => ended,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_not_done_twice() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    world.until_carried_out().await?;
    let url = world.stack.setting("DATABASE_URL").to_owned();
    let (_, rest) = url.split_once('@').context("a user")?;
    let (server, _) = rest.split_once('/').context("a database")?;
    let cutter = Cutter::before(server.to_owned()).await?;
    let through = url.replace(server, &cutter.address.to_string());
    world.projector.stop()?;
    world
        .projector
        .restart(&[("DATABASE_URL", Some(&through))])?;

    let (mut answers, mut slowest) = (Vec::new(), Duration::ZERO);
    for user in 1..6 {
        let asked_at = Instant::now();
        cutter.armed.store(true, SeqCst);
        let answer = world.client.order(voucher, user, None, 1).await?;
        let order_id = answer.order_id().context("no order id")?;
        world.until_status(user, order_id, "unpaid").await?;
        eventually("an answer was lost", || async {
            Ok(!cutter.armed.load(SeqCst))
        })
        .await?;
        slowest = slowest.max(asked_at.elapsed());
        answers.push(answer);
    }
    let unanswered = "a batch did not commit, or its COMMIT was not answered";
    eventually("the projector has looked where it stands", || async {
        Ok(world.projector.output()?.matches(unanswered).count() >= 5)
    })
    .await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.unpaid, found.available), (5, 5));
    let recovered_ms = slowest.as_millis();
    println!(
        "case answers of 5 COMMITs lost: orders={} recovered_ms={recovered_ms}",
        found.unpaid
    );
    Ok(())
}
