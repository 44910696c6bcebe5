//! Free loopback ports.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Result, bail};

/// Below the ephemeral range of Linux (32768 and up). Otherwise an outgoing connection could take the port of a store
/// that is down for a while, and a client that retries a closed port of the ephemeral range could even connect to
/// itself.
const CANDIDATES: Range<u16> = 10_000..32_000;
const ATTEMPTS: u32 = 200;

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A loopback port on which no process listens and that this process has not got before.
///
/// Another process may still take it before it is used. In that case start the server again with another port.
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

/// Whether no process listens on this loopback port now.
///
/// This is checked with a connection. A listener would be inherited by a child that another thread starts at that
/// moment.
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
