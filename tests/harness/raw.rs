//! A connection on which a test can write any bytes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Much longer than every deadline of the services.
const PATIENCE: Duration = Duration::from_secs(150);

/// A TCP connection to a service.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
}

/// One answer without any interpretation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

impl RawAnswer {
    /// Whether it says that the server closes the connection after it.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.head.to_ascii_lowercase().contains("connection: close")
    }
}

impl Raw {
    /// Connects to the host of `url`, `http://host:port`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn to(url: &str) -> Result<Self> {
        let address = url.strip_prefix("http://").context("http://")?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the service has cut the connection.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(self.stream.write_all(bytes.as_ref()).await?)
    }

    /// Closes the connection for sending.
    ///
    /// # Errors
    /// When the service has cut the connection.
    pub async fn end(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    /// The next answer. None if the connection was closed instead.
    ///
    /// # Errors
    /// When neither happens in time, or the answer is not HTTP.
    pub async fn answer(&mut self) -> Result<Option<RawAnswer>> {
        loop {
            if let Some((answer, length)) = parse(&self.received)? {
                self.received.drain(..length);
                return Ok(Some(answer));
            }
            if !self.more().await? {
                ensure!(
                    self.received.is_empty(),
                    "half an answer: {}",
                    String::from_utf8_lossy(&self.received)
                );
                return Ok(None);
            }
        }
    }

    /// All answers until the service ends the connection.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn answers(&mut self) -> Result<Vec<RawAnswer>> {
        let mut answers = Vec::new();
        while let Some(answer) = self.answer().await? {
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Reads some bytes. False at the end. A reset also counts as the end.
    async fn more(&mut self) -> Result<bool> {
        let mut buffer = vec![0; 16 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
        match read.context("the service neither answers nor ends the connection")? {
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                Ok(length > 0)
            }
            Err(_) => Ok(false),
        }
    }
}

/// The first answer and its length, if it was received completely.
fn parse(received: &[u8]) -> Result<Option<(RawAnswer, usize)>> {
    let Some(head_end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8(received[..head_end].to_vec())?;
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok())
        .with_context(|| format!("no status line: {head}"))?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    let end = head_end + 4 + length.unwrap_or(0);
    if received.len() < end {
        return Ok(None);
    }
    let body = String::from_utf8_lossy(&received[head_end + 4..end]).into_owned();
    Ok(Some((RawAnswer { status, head, body }, end)))
}
