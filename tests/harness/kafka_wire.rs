//! A proxy between Kafka's clients and their broker. It understands enough of the protocol to disturb only one client,
//! by its `client.id`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Result;

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const INIT_PRODUCER_ID: i16 = 22;
const CLUSTER_AUTHORIZATION_FAILED: [u8; 2] = [0, 31];
const OUT_OF_ORDER_SEQUENCE_NUMBER: [u8; 2] = [0, 45];

/// How one client is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Its records are written, but it is told that their sequence numbers are wrong, and it gets no new producer id.
    /// So its producer has failed permanently.
    FailsItsProducer,
    /// It can connect, but nothing that it sends arrives.
    Swallows,
    /// It can fetch this many bytes, and after that nothing that it sends arrives.
    CutsReading(usize),
}

/// By client: how it is disturbed, and when it was first told that its producer has failed.
type Harms = Arc<Mutex<HashMap<String, (Harm, Option<Instant>)>>>;

/// Forwards requests and answers, until it is told to disturb a client.
#[derive(Debug)]
pub struct KafkaWire {
    port: u16,
    listener: Option<TcpListener>,
    harms: Harms,
}

impl KafkaWire {
    /// A proxy without a broker yet, because the broker's settings need its port.
    ///
    /// # Errors
    /// When no port is free.
    pub fn bind() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Self {
            port: listener.local_addr()?.port(),
            listener: Some(listener),
            harms: Harms::default(),
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Begins to forward to this broker, until the process ends.
    pub fn lead_to(&mut self, broker: SocketAddr) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        let harms = Arc::clone(&self.harms);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Both ends have to handle a connection that breaks.
                let _ = carry(client, broker, &harms);
            }
        });
    }

    /// Disturbs the client with this `client.id` from now on.
    pub fn harm(&self, client_id: &str, harm: Harm) {
        lock(&self.harms).insert(client_id.to_owned(), (harm, None));
    }

    /// When this client was told that its producer has failed permanently.
    #[must_use]
    pub fn failed_at(&self, client_id: &str) -> Option<Instant> {
        lock(&self.harms).get(client_id).and_then(|(_, at)| *at)
    }

    /// Whether nothing that it sends arrives. This is also the case after the bytes of [`Harm::CutsReading`].
    #[must_use]
    pub fn swallows(&self, client_id: &str) -> bool {
        matches!(lock(&self.harms).get(client_id), Some((Harm::Swallows, _)))
    }

    /// Stops disturbing it. What was lost stays lost.
    pub fn spare(&self, client_id: &str) {
        lock(&self.harms).remove(client_id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The requests on one connection, by correlation id: the API key, its version, and the client.
type Asked = Arc<Mutex<HashMap<[u8; 4], (i16, i16, String)>>>;

fn carry(client: TcpStream, broker: SocketAddr, harms: &Harms) -> std::io::Result<()> {
    let broker = TcpStream::connect(broker)?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let asked = Asked::default();
    let (up, down) = (
        (Arc::clone(harms), Arc::clone(&asked)),
        (Arc::clone(harms), asked),
    );
    let (from, to) = (client.try_clone()?, broker.try_clone()?);
    thread::spawn(move || pump(from, to, |frame| request(frame, &up.0, &up.1)));
    thread::spawn(move || pump(broker, client, |frame| answer(frame, &down.0, &down.1)));
    Ok(())
}

/// Forwards each frame for which `look` returns true.
fn pump(mut from: TcpStream, mut to: TcpStream, look: impl Fn(&mut Vec<u8>) -> bool) {
    let mut size = [0; 4];
    while from.read_exact(&mut size).is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        if from.read_exact(&mut frame).is_err() {
            break;
        }
        if look(&mut frame) {
            let whole = [&size[..], &frame].concat();
            if to.write_all(&whole).is_err() {
                break;
            }
        }
    }
    // Either end may already be closed.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn number(bytes: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn request(frame: &mut [u8], harms: &Harms, asked: &Asked) -> bool {
    let head = || {
        let (call, version) = (number(frame, 0)?, number(frame, 2)?);
        let correlation: [u8; 4] = frame.get(4..8)?.try_into().ok()?;
        let length = usize::try_from(number(frame, 8)?).unwrap_or(0);
        let name = String::from_utf8_lossy(frame.get(10..10 + length)?).into_owned();
        Some((correlation, (call, version, name)))
    };
    let Some((correlation, what)) = head() else {
        return true;
    };
    if matches!(lock(harms).get(&what.2), Some((Harm::Swallows, _))) {
        return false;
    }
    lock(asked).insert(correlation, what);
    true
}

fn answer(frame: &mut [u8], harms: &Harms, asked: &Asked) -> bool {
    let correlation = frame.get(..4).and_then(|bytes| bytes.try_into().ok());
    let what = correlation.and_then(|c: [u8; 4]| lock(asked).remove(&c));
    let Some((call, version, name)) = what else {
        return true;
    };
    let mut harms = lock(harms);
    let Some((harm, failed_at)) = harms.get_mut(&name) else {
        return true;
    };
    match harm {
        Harm::Swallows => false,
        Harm::CutsReading(_) if call != FETCH => true,
        Harm::CutsReading(left) => {
            let rest = left.checked_sub(frame.len());
            *harm = rest.map_or(Harm::Swallows, Harm::CutsReading);
            rest.is_some()
        }
        Harm::FailsItsProducer => {
            let (place, code) = match call {
                // After the correlation id, the tags of newer versions, and the throttle time.
                INIT_PRODUCER_ID => (
                    Some(if version >= 2 { 9 } else { 8 }),
                    CLUSTER_AUTHORIZATION_FAILED,
                ),
                PRODUCE => (code_of_first(frame, version), OUT_OF_ORDER_SEQUENCE_NUMBER),
                _ => (None, [0; 2]),
            };
            if let Some(field) = place.and_then(|at| frame.get_mut(at..at + 2)) {
                field.copy_from_slice(&code);
                failed_at.get_or_insert_with(Instant::now);
            }
            true
        }
    }
}

/// The place of the error code of the first partition of the first topic in an answer to Produce. In the newer
/// versions, lengths below 128 take one byte.
fn code_of_first(frame: &[u8], version: i16) -> Option<usize> {
    if version >= 9 {
        let name_length = usize::from(*frame.get(6)?) - 1;
        return Some(7 + name_length + 1 + 4);
    }
    let name_length = usize::try_from(number(frame, 8)?).ok()?;
    Some(10 + name_length + 4 + 4)
}
