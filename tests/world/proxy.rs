//! A wire between a client and a store, that a test makes slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

const BUFFER_BYTES: usize = 64 * 1024;
/// Pieces of an answer that may be under way at a time, on one connection.
const UNDER_WAY: usize = 1_000;

/// Carries every byte both ways; those to the client as late as it is told to.
#[derive(Debug)]
pub struct SlowWire {
    listener: Option<TcpListener>,
    address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
}

impl SlowWire {
    /// A wire that leads nowhere yet: its port is known before the server that has to name it.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn bind() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        Ok(Self {
            address: listener.local_addr()?,
            listener: Some(listener),
            delay_ms: Arc::default(),
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Begins to carry bytes to and from `server`.
    pub fn lead_to(&mut self, server: SocketAddr) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        let delay_ms = Arc::clone(&self.delay_ms);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else {
                    continue;
                };
                let delay_ms = Arc::clone(&delay_ms);
                // A connection that breaks is what both ends have to live with.
                tokio::spawn(async move { relay(client, server, delay_ms).await.ok() });
            }
        });
    }

    /// What the server says from now on arrives this late, in order. What is under way already
    /// keeps its time.
    pub fn delay_answers(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(millis, Ordering::SeqCst);
    }
}

async fn relay(
    client: TcpStream,
    server: TcpStream,
    delay_ms: Arc<AtomicU64>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let (pieces, under_way) = mpsc::channel(UNDER_WAY);
    tokio::select! {
        copied = tokio::io::copy(&mut from_client, &mut to_server) => copied.map(drop),
        heard = hear(from_server, pieces, &delay_ms) => heard,
        told = tell(to_client, under_way) => told,
    }
}

/// Notes of every piece when it may arrive.
async fn hear(
    mut server: OwnedReadHalf,
    pieces: mpsc::Sender<(Instant, Vec<u8>)>,
    delay_ms: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = server.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let delay = Duration::from_millis(delay_ms.load(Ordering::SeqCst));
        let piece = (Instant::now() + delay, buffer[..length].to_vec());
        if pieces.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

async fn tell(
    mut client: OwnedWriteHalf,
    mut under_way: mpsc::Receiver<(Instant, Vec<u8>)>,
) -> std::io::Result<()> {
    while let Some((due, piece)) = under_way.recv().await {
        tokio::time::sleep_until(due).await;
        client.write_all(&piece).await?;
    }
    Ok(())
}
