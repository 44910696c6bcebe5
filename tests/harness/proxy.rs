//! A wire between a client and a store, that a test makes slow, or dead.

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
/// Pieces of an answer that may be under way at a time, on one connection.
const UNDER_WAY: usize = 1_000;

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Those to the client arrive so much later. What is under way already keeps its time.
    Delays(Duration),
    /// Connections are accepted, and nothing arrives until the line changes; then all of it.
    Holds,
    /// Connections are accepted, and nothing arrives ever: those used meanwhile stay dead.
    Swallows,
}

/// Carries every byte both ways, as its line says. On a thread of its own: how slow it is must not
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
    /// A wire that leads nowhere yet: its port is known before the server that has to name it.
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

    /// A wire that leads to `server`.
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

    /// Begins to carry bytes to and from `server`.
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
                // A connection that breaks is what both ends have to live with.
                connections
                    .spawn(async move { relay(client, server, (line, losses), open).await.ok() });
            }
        });
    }

    /// What the server says from now on arrives this late, in order.
    pub fn delay_answers(&self, delay: Duration) {
        self.set(Line::Delays(delay));
    }

    /// Changes what becomes of the bytes.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// The connections that are open now carry nothing any more, not even their end: what a failover or a
    /// firewall without a word looks like. New ones work.
    pub fn lose_open_ones(&self) {
        self.losses.send_modify(|losses| *losses += 1);
    }

    /// How many connections clients have open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for SlowWire {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It is dropped where a test may not block.
            runtime.shutdown_background();
        }
    }
}

/// A client that has not hung up.
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
        // What a client said before it hung up gets there all the same.
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
        // Both ends stay open until the wire is gone.
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Notes of every piece when it may arrive: at once, or when the line says.
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
        // An error: the wire is gone, and this task with it.
        let _ = line.wait_for(|line| *line != Line::Holds).await;
        if *line.borrow() == Line::Swallows {
            // With a hole in it the stream is of no use any more, whatever the line does later.
            while under_way.recv().await.is_some() {}
            return Ok(());
        }
        to.write_all(&piece).await?;
    }
    Ok(())
}
