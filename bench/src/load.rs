//! A load generator that costs little, as it shares its cores with the system that it loads: one thread, requests
//! written straight into bytes, and as much of HTTP/1.1 as the API's answers have.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::ProgressBar;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::client::{CALL_TIMEOUT, Endpoint};

/// The bar moves in steps: drawing is not free either.
const BAR_STEP: usize = 64;
/// How often calls are looked for that have taken too long.
const OVERDUE_CHECK: Duration = Duration::from_millis(100);
/// More than any answer to an order has.
const READ_BYTES: usize = 4_096;

/// Calls to make, in order, by whichever connection is free.
pub trait Calls: Send + Sync + 'static {
    /// What is kept of an answer.
    type Answer: Send + 'static;

    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the whole request at `index`.
    fn write(&self, index: usize, request: &mut Vec<u8>);

    /// What is kept of its answer; `None` when there was none.
    fn answer(&self, index: usize, reply: Option<&Reply<'_>>) -> Self::Answer;
}

/// An answer, whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// Its `RateLimit` header: which limit it was counted under, and what is left of that.
    pub rate_limit: Option<&'a [u8]>,
}

/// What the bytes that have come so far are.
#[derive(Debug, PartialEq, Eq)]
enum Received<'a> {
    Incomplete,
    Complete {
        reply: Reply<'a>,
        /// Whether the server closes the connection behind it.
        closes: bool,
    },
    /// Nothing that this reads, such as chunks or more than one answer.
    Unreadable,
}

/// How calls are made.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where to.
    pub endpoint: Arc<Endpoint>,
    /// Over how many connections, each with one call at a time.
    pub connections: usize,
    /// When no new call begins any more, from the first one on.
    pub stop_after: Duration,
    /// Moves with every answer.
    pub bar: ProgressBar,
}

/// One call's answer.
#[derive(Debug, Clone)]
pub struct Sample<T> {
    /// Which call it was.
    pub index: usize,
    /// What it said.
    pub answer: T,
    /// From before the request was sent until its whole answer was there.
    pub latency: Duration,
}

/// What came of the calls.
#[derive(Debug, Clone)]
pub struct Run<T> {
    /// One for each call made, in no order.
    pub samples: Vec<Sample<T>>,
    /// From the first call to the last answer.
    pub elapsed: Duration,
}

impl Load {
    /// Opens the connections, then makes the calls over all of them at once, on a thread of its own.
    ///
    /// # Errors
    /// When a connection cannot be opened; a call without an answer is not an error.
    pub async fn run<C: Calls>(&self, calls: Arc<C>) -> anyhow::Result<Run<C::Answer>> {
        let load = self.clone();
        let run = tokio::task::spawn_blocking(move || Generator::new(&load, &*calls)?.run());
        run.await.context("the load generator failed")?
    }
}

/// One connection, with at most one call in flight.
#[derive(Debug, Default)]
struct Connection {
    /// None once it is broken.
    stream: Option<TcpStream>,
    in_flight: Option<InFlight>,
    request: Vec<u8>,
    /// How much of the request is sent.
    sent_bytes: usize,
    received: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    index: usize,
    since: Instant,
}

struct Generator<'a, C: Calls> {
    poll: Poll,
    address: SocketAddr,
    calls: &'a C,
    bar: &'a ProgressBar,
    connections: Vec<Connection>,
    next: usize,
    /// Connections with a call in flight.
    busy: usize,
    stop_after: Duration,
    started: Instant,
    samples: Vec<Sample<C::Answer>>,
}

impl<'a, C: Calls> Generator<'a, C> {
    fn new(load: &'a Load, calls: &'a C) -> anyhow::Result<Self> {
        let (poll, address) = (Poll::new()?, load.endpoint.address());
        let mut connections = Vec::with_capacity(load.connections);
        for number in 0..load.connections {
            let stream = connect(address, poll.registry(), Token(number));
            let stream = stream
                .with_context(|| format!("http://{address} cannot be reached; is the stack up?"))?;
            connections.push(Connection {
                stream: Some(stream),
                ..Connection::default()
            });
        }
        Ok(Self {
            poll,
            address,
            calls,
            bar: &load.bar,
            connections,
            next: 0,
            busy: 0,
            stop_after: load.stop_after,
            started: Instant::now(),
            samples: Vec::with_capacity(calls.len()),
        })
    }

    fn run(mut self) -> anyhow::Result<Run<C::Answer>> {
        self.started = Instant::now();
        for number in 0..self.connections.len() {
            self.begin_call(number);
        }
        let mut events = Events::with_capacity(self.connections.len().max(1));
        let mut checked = Instant::now();
        while self.busy > 0 {
            match self.poll.poll(&mut events, Some(OVERDUE_CHECK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                self.go_on(event.token().0);
            }
            if checked.elapsed() >= OVERDUE_CHECK {
                checked = Instant::now();
                self.give_up_overdue();
            }
        }
        Ok(Run {
            samples: self.samples,
            elapsed: self.started.elapsed(),
        })
    }

    /// Sends the next call over a free connection, or a new one where that was lost. A lost one is not asked
    /// again: what became of its call is unknown, and that is an answer too.
    fn begin_call(&mut self, number: usize) {
        while self.started.elapsed() < self.stop_after && self.next < self.calls.len() {
            let index = self.next;
            self.next += 1;
            let since = Instant::now();
            let connection = &mut self.connections[number];
            if connection.stream.is_none() {
                connection.stream = connect(self.address, self.poll.registry(), Token(number)).ok();
            }
            connection.request.clear();
            connection.received.clear();
            connection.sent_bytes = 0;
            self.calls.write(index, &mut connection.request);
            let call = InFlight { index, since };
            if connection.send().is_ok() {
                connection.in_flight = Some(call);
                self.busy += 1;
                return;
            }
            connection.stream = None;
            self.keep(call, None);
        }
    }

    /// Something has come for a connection, or it takes bytes again.
    fn go_on(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let Some(call) = connection.in_flight else {
            return;
        };
        let mut received = std::mem::take(&mut connection.received);
        let read = connection
            .send()
            .and_then(|()| connection.read(&mut received));
        let reply = match (&read, parse(&received)) {
            (Ok(()), Received::Incomplete) => {
                connection.received = received;
                return;
            }
            (_, Received::Complete { reply, closes }) => {
                if closes || read.is_err() {
                    connection.stream = None;
                }
                Some(reply)
            }
            _ => {
                connection.stream = None;
                None
            }
        };
        self.finish(number, call, reply.as_ref());
        self.connections[number].received = received;
        self.begin_call(number);
    }

    fn give_up_overdue(&mut self) {
        for number in 0..self.connections.len() {
            let connection = &mut self.connections[number];
            let overdue = |call: &InFlight| call.since.elapsed() >= CALL_TIMEOUT;
            if let Some(call) = connection.in_flight.filter(overdue) {
                connection.stream = None;
                self.finish(number, call, None);
                self.begin_call(number);
            }
        }
    }

    fn finish(&mut self, number: usize, call: InFlight, reply: Option<&Reply<'_>>) {
        self.connections[number].in_flight = None;
        self.busy -= 1;
        self.keep(call, reply);
    }

    fn keep(&mut self, call: InFlight, reply: Option<&Reply<'_>>) {
        let latency = call.since.elapsed();
        self.samples.push(Sample {
            index: call.index,
            answer: self.calls.answer(call.index, reply),
            latency,
        });
        if call.index.is_multiple_of(BAR_STEP) {
            self.bar.set_position(call.index as u64);
        }
    }
}

impl Connection {
    /// Sends as much of the request as the connection takes now.
    fn send(&mut self) -> std::io::Result<()> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        while self.sent_bytes < self.request.len() {
            match stream.write(&self.request[self.sent_bytes..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => self.sent_bytes += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until an answer is there, or nothing more has come. An error when nothing more will.
    fn read(&mut self, received: &mut Vec<u8>) -> std::io::Result<()> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let mut chunk = [0; READ_BYTES];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    received.extend_from_slice(&chunk[..bytes]);
                    if parse(received) != Received::Incomplete {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn connect(address: SocketAddr, registry: &Registry, token: Token) -> std::io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect_timeout(&address, CALL_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

fn parse(received: &[u8]) -> Received<'_> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Received::Incomplete;
    };
    let (head, body) = (&received[..end], &received[end + 4..]);
    let Some(status) = status_of(head) else {
        return Received::Unreadable;
    };
    let (mut length, mut rate_limit, mut closes) = (None, None, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Received::Unreadable;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
        } else if name.eq_ignore_ascii_case(b"ratelimit") {
            rate_limit = Some(value);
        } else if name.eq_ignore_ascii_case(b"connection") {
            closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    match length.or((status == 204).then_some(0)) {
        Some(length) if body.len() == length => Received::Complete {
            reply: Reply {
                status,
                body,
                rate_limit,
            },
            closes,
        },
        Some(length) if body.len() < length => Received::Incomplete,
        _ => Received::Unreadable,
    }
}

/// Of `HTTP/1.1 202 Accepted`.
fn status_of(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\
        ratelimit:  \"user\";r=0;t=1 \r\n\r\n{}";

    #[test]
    fn an_answer_is_there_with_its_last_byte_and_not_before() {
        for end in 0..ANSWER.len() {
            assert_eq!(parse(&ANSWER[..end]), Received::Incomplete, "{end}");
        }
        let Received::Complete { reply, closes } = parse(ANSWER) else {
            panic!("it is whole");
        };
        assert_eq!((reply.status, reply.body, closes), (429, &b"{}"[..], false));
        assert_eq!(reply.rate_limit, Some(&b"\"user\";r=0;t=1"[..]));
    }

    #[test]
    fn what_is_no_single_answer_with_a_length_is_not_read() {
        let twice = [ANSWER, ANSWER].concat();
        for text in [
            &twice,
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"[..],
            b"HTTP/1.1 abc\r\ncontent-length: 0\r\n\r\n",
            b"+PONG\r\n\r\n",
        ] {
            assert_eq!(parse(text), Received::Unreadable);
        }
        let closing = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        assert!(matches!(
            parse(closing),
            Received::Complete { closes: true, .. }
        ));
    }
}
