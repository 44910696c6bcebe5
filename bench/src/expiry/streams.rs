//! The event streams of orders.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use seckill_domain::OrderId;
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::Endpoint;
use crate::progress::Stage;
use crate::table::count;

/// Streams that are being opened at a time.
const OPENING: usize = 64;

/// The lines of an open stream.
type Events = Lines<BufReader<TcpStream>>;

/// What a stream says of its order.
#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(with = "time::serde::rfc3339")]
    pay_by: OffsetDateTime,
}

/// Opens a stream of each of the orders.
pub(super) async fn open(
    endpoint: &Arc<Endpoint>,
    orders: &[(OrderId, u32)],
    bearers: &[String],
) -> anyhow::Result<Vec<Events>> {
    let stage = Stage::begin("Streams", orders.len() as u64);
    let opening = Arc::new(Semaphore::new(OPENING));
    let mut tasks = JoinSet::new();
    for (order, buyer) in orders {
        let mut request = endpoint.request_head("GET", &format!("/api/v1/orders/{order}/events"));
        let bearer = &bearers[*buyer as usize - 1];
        request.extend_from_slice(format!("authorization: {bearer}\r\n\r\n").as_bytes());
        let (endpoint, opening) = (Arc::clone(endpoint), Arc::clone(&opening));
        tasks.spawn(async move {
            let _turn = opening.acquire().await?;
            let mut stream = TcpStream::connect(endpoint.address()).await?;
            stream.write_all(&request).await?;
            let mut events = BufReader::new(stream).lines();
            let first = events.next_line().await?.unwrap_or_default();
            ensure!(first.contains(" 200 "), "a stream was refused: {first}");
            anyhow::Ok(events)
        });
    }
    let mut opened = Vec::with_capacity(orders.len());
    while let Some(events) = tasks.join_next().await {
        opened.push(events??);
    }
    stage.done(&format!("{} open", count(opened.len() as u64)));
    Ok(opened)
}

/// Reads until the order has expired: how long after its `pay_by` it was told.
pub(super) async fn told_after(mut events: Events) -> anyhow::Result<Duration> {
    while let Some(line) = events.next_line().await? {
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        let said: Status = serde_json::from_str(data).context("an event")?;
        if said.status == "expired" {
            let late = OffsetDateTime::now_utc() - said.pay_by;
            return Ok(late.try_into().unwrap_or_default());
        }
    }
    bail!("a stream ended before its order")
}
