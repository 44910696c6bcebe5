//! A minimal HTTP client for readiness probes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends a GET of `path`. Returns the answer's status and body.
///
/// # Errors
/// When there is no answer, or it is not HTTP.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
        .with_context(|| format!("http://{address}{path} does not speak HTTP"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let status = answer.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_taken_from_an_answer() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 7\r\n\r\nno redis";
        assert_eq!(parse(answer), Some((503, "no redis".to_owned())));
        assert_eq!(parse("+PONG\r\n"), None);
    }
}
