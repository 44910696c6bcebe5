//! A proxy from one loopback port to another that a test can cut without closing connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::ports::free_port;

const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Forwards bytes in both directions, until it is cut.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Wire {
    /// A wire to a loopback port. It lasts until the process ends.
    ///
    /// # Errors
    /// When no port is free.
    pub fn to(server: u16) -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let cut = Arc::new(AtomicBool::new(false));
        let wire = Self {
            port,
            cut: Arc::clone(&cut),
        };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Both ends have to handle a connection that breaks.
                let _ = carry(client, server, &cut);
            }
        });
        Ok(wire)
    }

    /// Where clients connect.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing is forwarded in either direction, not even a close, as in a network that drops packets.
    /// Connections can still be made.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Ends a [`Wire::cut`]. The bytes that were held back arrive.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

fn carry(client: TcpStream, server: u16, cut: &Arc<AtomicBool>) -> std::io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        let cut = Arc::clone(cut);
        thread::spawn(move || pump(from, to, &cut));
    }
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).unwrap_or(0);
        while cut.load(Ordering::SeqCst) {
            thread::sleep(LOOK_AGAIN);
        }
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Either end may already be closed.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_up_arrives_when_the_wire_is_mended() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wire = Wire::to(server.local_addr().unwrap().port()).unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, wire.port())).unwrap();
        let (mut served, _) = server.accept().unwrap();
        let mut byte = [0];
        client.write_all(b"1").unwrap();
        served.read_exact(&mut byte).unwrap();

        wire.cut();
        client.write_all(b"2").unwrap();
        let patience = Duration::from_millis(50);
        served.set_read_timeout(Some(patience)).unwrap();
        assert!(served.read_exact(&mut byte).is_err());
        wire.mend();
        served.set_read_timeout(None).unwrap();
        served.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"2");
    }
}
