//! Slow clients lose their connections, and all other clients are served meanwhile.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_tests::{Raw, SaleTerms, World, check_consistency};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The time between two bytes of a slow client.
const BYTE: Duration = Duration::from_secs(1);
/// Longer than any connection may last.
const PATIENCE: Duration = Duration::from_secs(120);
/// The number of orders in one measurement.
const ORDERS: u64 = 100;
/// The median of their times may grow by this factor while there are slow clients.
const SLOWER_MAX: u32 = 10;

/// A kind of slow client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slow {
    /// Connects.
    Silent,
    /// Sends a first head, byte by byte.
    FirstHead,
    /// Sends a request, and then a head byte by byte.
    LaterHead,
    /// Sends a request, and then nothing.
    Idle,
    /// Sends a body byte by byte.
    Body,
    /// Sends a body that nobody reads, byte by byte.
    UnreadBody,
    /// Sends requests, and reads no answer.
    Reader,
}

impl Slow {
    const ALL: [Self; 7] = [
        Self::Silent,
        Self::FirstHead,
        Self::LaterHead,
        Self::Idle,
        Self::Body,
        Self::UnreadBody,
        Self::Reader,
    ];

    /// How many of them there are.
    const fn clients(self) -> usize {
        match self {
            // Few, because each of them fills the kernel's buffers.
            Self::Reader => 10,
            _ => 100,
        }
    }

    /// The part that it sends at once. The rest follows byte by byte.
    fn begins(self, voucher: VoucherId, token: &str) -> String {
        let order = format!("POST /api/v1/vouchers/{voucher}/orders");
        let of_1000 = format!(
            "HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        );
        let page = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        match self {
            Self::Silent | Self::FirstHead => String::new(),
            Self::LaterHead | Self::Idle => page.to_owned(),
            Self::Body => format!("{order} {of_1000}"),
            Self::UnreadBody => format!("POST /nowhere {of_1000}"),
            Self::Reader => "GET /assets/shop.en.js HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2_000),
        }
    }

    /// Whether these are the statuses of the expected answers before its connection ends.
    fn is_answered(self, statuses: &[u16]) -> bool {
        match self {
            Self::Silent | Self::FirstHead => statuses == [408],
            Self::LaterHead | Self::Idle => statuses == [200],
            Self::Body => statuses == [408],
            Self::UnreadBody => statuses == [404],
            Self::Reader => true,
        }
    }

    /// The next byte that it sends.
    fn next_byte(self, number: usize) -> Option<u8> {
        let head = b"GET / HTTP/1.1\r\nX: ";
        match self {
            Self::Silent | Self::Idle => None,
            Self::FirstHead | Self::LaterHead => Some(*head.get(number).unwrap_or(&b'x')),
            Self::Body | Self::UnreadBody | Self::Reader => Some(b'x'),
        }
    }

    /// Runs the client. Returns the time from the first byte to the end of the connection.
    async fn live(self, url: String, begins: String) -> Result<Duration> {
        let mut raw = Raw::to(&url).await?;
        let began = Instant::now();
        raw.send(begins).await?;
        let (mut statuses, mut tick) = (Vec::new(), tokio::time::interval(BYTE));
        for number in 0.. {
            tick.tick().await;
            let sent = match self.next_byte(number) {
                Some(byte) => raw.send([byte]).await,
                None => Ok(()),
            };
            if self == Self::Reader {
                match sent {
                    Ok(()) => continue,
                    Err(_) => break,
                }
            }
            // An answer that was sent before the end can still be read when nothing can be sent any more.
            let Ok(answer) = timeout(BYTE / 2, raw.answer()).await else {
                continue;
            };
            match answer? {
                Some(answer) => statuses.push(answer.status),
                None => break,
            }
        }
        ensure!(self.is_answered(&statuses), "{self:?}: {statuses:?}");
        Ok(began.elapsed())
    }
}

/// The time that each of these orders took. A refused order counts as infinitely long.
async fn times(world: &World, voucher: VoucherId, users: Range<u64>) -> Vec<Duration> {
    let mut times = Vec::new();
    for user in users {
        let began = Instant::now();
        let answer = world.client.order(voucher, user, None, 1).await;
        let took = began.elapsed();
        let served = answer.is_ok_and(|answer| answer.status == 202);
        times.push(if served { took } else { Duration::MAX });
    }
    times
}

fn median(mut times: Vec<Duration>) -> Result<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied().context("an order")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: most of a minute until the last one is cut"]
async fn lose_their_connections_and_hold_nobody_up() -> Result<()> {
    let world = World::with(&[("KEEP_ALIVE_SECONDS", "5")])?;
    let voucher = world.sale(SaleTerms::of(1_000_000)).await?;
    let alone = median(times(&world, voucher, 1..ORDERS).await)?;

    let mut slow = JoinSet::new();
    for kind in Slow::ALL {
        let begins = kind.begins(voucher, &world.client.token(999_999_999)?);
        for _ in 0..kind.clients() {
            let life = kind.live(world.client.url.clone(), begins.clone());
            slow.spawn(async move { (kind, timeout(PATIENCE, life).await) });
        }
    }
    let (mut first, mut beside) = (ORDERS, Vec::new());
    let mut longest = BTreeMap::new();
    while !slow.is_empty() {
        beside.extend(times(&world, voucher, first..first + ORDERS).await);
        first += ORDERS;
        while let Some(ended) = slow.try_join_next() {
            let (kind, life) = ended?;
            let life = life.with_context(|| format!("{kind:?} was never cut"))??;
            let known: &mut Duration = longest.entry(kind).or_default();
            *known = life.max(*known);
        }
    }
    let beside = median(beside)?;
    println!(
        "cut after at most {longest:?}; half of the orders within {alone:?}, beside them {beside:?}"
    );
    ensure!(
        beside < alone * SLOWER_MAX,
        "{beside:?} beside, {alone:?} alone"
    );
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &[]).await?;
    Ok(())
}
