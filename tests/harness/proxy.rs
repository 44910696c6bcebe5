//! A proxy between a client and a store that a test can make slow or silent.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

const BUFFER_BYTES: usize = 64 * 1024;
/// The number of pieces of data that may be under way at the same time on one connection.
const UNDER_WAY: usize = 1_000;

/// What happens to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Bytes to the client arrive this much later. Bytes that are already under way keep their time.
    Delays(Duration),
    /// Connections are accepted, and nothing arrives until the line changes. Then everything arrives.
    Holds,
    /// Connections are accepted, and nothing ever arrives. Connections that are used meanwhile stay unusable.
    Swallows,
}

/// Forwards bytes in both directions, in the way that its line says. It has its own thread, so that its delay does not
/// depend on how busy the test is.
#[derive(Debug)]
pub struct SlowWire {
    runtime: Option<Runtime>,
    listener: Option<TcpListener>,
    address: SocketAddr,
    line: watch::Sender<Line>,
    /// How many times the open connections were lost.
    losses: watch::Sender<u64>,
    open: Arc<AtomicUsize>,
}

impl SlowWire {
    /// A proxy without a server yet, because the server's settings need its port.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn bind() -> Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.spawn(TcpListener::bind(("127.0.0.1", 0)));
        let listener = listener.await??;
        Ok(Self {
            runtime: Some(runtime),
            address: listener.local_addr()?,
            listener: Some(listener),
            line: watch::Sender::new(Line::Delays(Duration::ZERO)),
            losses: watch::Sender::new(0),
            open: Arc::default(),
        })
    }

    /// A proxy for `server`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(server: SocketAddr) -> Result<Self> {
        let mut wire = Self::bind().await?;
        wire.lead_to(server);
        Ok(wire)
    }

    /// Where clients connect.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Begins to forward bytes to and from `server`.
    pub fn lead_to(&mut self, server: SocketAddr) {
        let (Some(listener), Some(runtime)) = (self.listener.take(), &self.runtime) else {
            return;
        };
        let (line, open) = (self.line.subscribe(), Arc::clone(&self.open));
        let losses = self.losses.subscribe();
        runtime.spawn(async move {
            // Its connections end with the runtime.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let (line, open) = (line.clone(), Open::count(&open));
                let mut losses = losses.clone();
                losses.mark_unchanged();
                // Both ends have to handle a connection that breaks.
                connections
                    .spawn(async move { relay(client, server, (line, losses), open).await.ok() });
            }
        });
    }

    /// Delays everything that the server sends from now on, and keeps its order.
    pub fn delay_answers(&self, delay: Duration) {
        self.set(Line::Delays(delay));
    }

    /// Changes what happens to the bytes.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// The open connections transfer nothing any more, not even a close, as after a failover or behind a firewall that
    /// drops packets. New connections work.
    pub fn lose_open_ones(&self) {
        self.losses.send_modify(|losses| *losses += 1);
    }

    /// The number of connections that clients have open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for SlowWire {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped in async code, which must not block.
            runtime.shutdown_background();
        }
    }
}

/// Counts a connection that a client has open.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn count(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn relay(
    client: TcpStream,
    server: SocketAddr,
    (line, mut losses): (watch::Receiver<Line>, watch::Receiver<u64>),
    open: Open,
) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (pieces, under_way) = mpsc::channel(UNDER_WAY);
    let (answers, answers_under_way) = mpsc::channel(UNDER_WAY);
    let there = async {
        // What a client has sent before it closes the connection is still forwarded.
        let heard = async {
            let heard = hear(from_client, pieces, None).await;
            drop(open);
            heard
        };
        tokio::try_join!(heard, tell(to_server, under_way, line.clone()))
    };
    let back = async {
        let heard = hear(from_server, answers, Some(line.clone()));
        tokio::try_join!(heard, tell(to_client, answers_under_way, line.clone()))
    };
    let (mut there, mut back) = (pin!(there), pin!(back));
    let lost = tokio::select! {
        there = &mut there => return there.map(drop),
        back = &mut back => return back.map(drop),
        lost = losses.changed() => lost,
    };
    if lost.is_ok() {
        // Both ends stay open until the proxy is dropped.
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Determines for every piece when it may arrive.
async fn hear(
    mut from: OwnedReadHalf,
    pieces: mpsc::Sender<(Instant, Vec<u8>)>,
    line: Option<watch::Receiver<Line>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let delay = match line.as_ref().map(|line| *line.borrow()) {
            Some(Line::Delays(delay)) => delay,
            _ => Duration::ZERO,
        };
        let piece = (Instant::now() + delay, buffer[..length].to_vec());
        if pieces.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

async fn tell(
    mut to: OwnedWriteHalf,
    mut under_way: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut line: watch::Receiver<Line>,
) -> std::io::Result<()> {
    while let Some((due, piece)) = under_way.recv().await {
        tokio::time::sleep_until(due).await;
        // An error means that the proxy was dropped, and this task ends with it.
        let _ = line.wait_for(|line| *line != Line::Holds).await;
        if *line.borrow() == Line::Swallows {
            // Bytes of the stream are missing now, so it can never be used again.
            while under_way.recv().await.is_some() {}
            return Ok(());
        }
        to.write_all(&piece).await?;
    }
    Ok(())
}
