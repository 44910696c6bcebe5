//! Free loopback ports.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Result, bail};

/// Below the ephemeral range of Linux (32768 and up): a store that is down for a while must not find
/// its port taken by somebody's outgoing connection, and a client that retries a dead port of the
/// ephemeral range can even connect to itself.
const CANDIDATES: Range<u16> = 10_000..32_000;
const ATTEMPTS: u32 = 200;

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A loopback port that nobody listens on and that this process has not been given before.
///
/// Another process may still take it before it is used: whoever starts a server on it tries again
/// with another port.
///
/// # Errors
/// When no candidate is free.
pub fn free_port() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..ATTEMPTS {
        let port = candidate();
        if is_free(port) && given.insert(port) {
            return Ok(port);
        }
    }
    bail!("no free loopback port in {CANDIDATES:?} after {ATTEMPTS} attempts");
}

/// Whether nobody listens on this loopback port now.
///
/// Asked by connecting: a listener opened to find out would, for a moment, live on in any child that
/// another thread starts just then.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn candidate() -> u16 {
    let random = uuid::Uuid::new_v4().into_bytes();
    let width = CANDIDATES.end - CANDIDATES.start;
    CANDIDATES.start + u16::from_le_bytes([random[0], random[1]]) % width
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_is_given_once_and_not_while_somebody_listens() {
        let first = free_port().unwrap();
        let second = free_port().unwrap();
        assert_ne!(first, second);

        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        assert!(!is_free(first));
    }
}
