//! A load generator that costs little, as it shares its cores with the system that it loads: one thread, requests
//! written straight into bytes, and no more of HTTP/1.1 read than answers have.

mod reply;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::ProgressBar;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

pub use self::reply::Reply;
use self::reply::{Received, parse};
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

/// When calls begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As soon as a connection has its answer: as many as the server takes.
    WhenAnswered,
    /// So many a second, evenly, whether or not those before are answered. Latency counts from the moment at which a
    /// call was to begin, also if no connection was free then.
    PerSecond(f64),
}

/// How calls are made.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where to.
    pub endpoint: Arc<Endpoint>,
    /// Over how many connections, each with one call at a time.
    pub connections: usize,
    /// When they begin.
    pub pace: Pace,
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
    /// From when the call was to begin until its whole answer was there.
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
    /// Connections without a call in flight, by turns.
    idle: VecDeque<usize>,
    next: usize,
    pace: Pace,
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
            idle: (0..load.connections).collect(),
            next: 0,
            pace: load.pace,
            stop_after: load.stop_after,
            started: Instant::now(),
            samples: Vec::with_capacity(calls.len()),
        })
    }

    fn run(mut self) -> anyhow::Result<Run<C::Answer>> {
        self.started = Instant::now();
        self.begin_due();
        let mut events = Events::with_capacity(self.connections.len().max(1));
        let mut checked = Instant::now();
        while self.idle.len() < self.connections.len() || self.next_start().is_some() {
            match self.poll.poll(&mut events, Some(self.patience())) {
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
            self.begin_due();
        }
        Ok(Run {
            samples: self.samples,
            elapsed: self.started.elapsed(),
        })
    }

    /// When the next call begins, if a connection is free; none when no more does.
    fn next_start(&self) -> Option<Instant> {
        let start = match self.pace {
            Pace::WhenAnswered => Instant::now(),
            Pace::PerSecond(rate) => {
                self.started + Duration::from_secs_f64(self.next as f64 / rate)
            }
        };
        let is_left = self.next < self.calls.len();
        (is_left && start < self.started + self.stop_after).then_some(start)
    }

    /// How long to wait for answers before something else is to be done.
    fn patience(&self) -> Duration {
        let start = (!self.idle.is_empty()).then(|| self.next_start()).flatten();
        let until = start.map(|start| start.saturating_duration_since(Instant::now()));
        until.map_or(OVERDUE_CHECK, |until| until.min(OVERDUE_CHECK))
    }

    /// Begins the calls whose time has come, as far as connections are free.
    fn begin_due(&mut self) {
        while let Some(number) = self.idle.front().copied()
            && let Some(start) = self.next_start()
            && (self.pace == Pace::WhenAnswered || start <= Instant::now())
        {
            self.idle.pop_front();
            self.begin_call(number, start);
        }
    }

    /// Sends the next call over a free connection, or a new one where that was lost. A lost one is not asked
    /// again: what became of its call is unknown, and that is an answer too.
    fn begin_call(&mut self, number: usize, since: Instant) {
        let index = self.next;
        self.next += 1;
        let connection = &mut self.connections[number];
        if connection.stream.is_none() {
            connection.stream = connect(self.address, self.poll.registry(), Token(number)).ok();
        }
        connection.request.clear();
        connection.received.clear();
        connection.sent_bytes = 0;
        self.calls.write(index, &mut connection.request);
        let call = InFlight { index, since };
        let sent = connection.send();
        connection.in_flight = Some(call);
        if sent.is_err() {
            connection.stream = None;
            self.finish(number, call, None);
        }
    }

    /// Something has come for a connection, or it takes bytes again.
    fn go_on(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let Some(call) = connection.in_flight else {
            return;
        };
        let mut received = std::mem::take(&mut connection.received);
        let sent = connection.send();
        let reply = loop {
            let read = match &sent {
                Ok(()) => connection.read(&mut received),
                Err(error) => Err(error.kind().into()),
            };
            match (&read, parse(&received)) {
                (Ok(true), Received::Incomplete) => {}
                (Ok(false), Received::Incomplete) => {
                    connection.received = received;
                    return;
                }
                (_, Received::Complete { reply, closes }) => {
                    if closes || read.is_err() {
                        connection.stream = None;
                    }
                    break Some(reply);
                }
                _ => {
                    connection.stream = None;
                    break None;
                }
            }
        };
        self.finish(number, call, reply.as_ref());
        self.connections[number].received = received;
        self.begin_due();
    }

    fn give_up_overdue(&mut self) {
        for number in 0..self.connections.len() {
            let connection = &mut self.connections[number];
            let overdue = |call: &InFlight| call.since.elapsed() >= CALL_TIMEOUT;
            if let Some(call) = connection.in_flight.filter(overdue) {
                connection.stream = None;
                self.finish(number, call, None);
            }
        }
    }

    fn finish(&mut self, number: usize, call: InFlight, reply: Option<&Reply<'_>>) {
        self.connections[number].in_flight = None;
        self.idle.push_back(number);
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

    /// Reads once; false where nothing more has come. An error when nothing more will.
    fn read(&mut self, received: &mut Vec<u8>) -> std::io::Result<bool> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let mut chunk = [0; READ_BYTES];
        match stream.read(&mut chunk) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                received.extend_from_slice(&chunk[..bytes]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
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
