//! A cheap HTTP load client. It shares its cores with the system that it loads, so it keeps
//! connections open, one task each, and does nothing a call does not need.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A call without an answer after this long counts as one that has none.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The bar moves in steps: drawing is not free either.
const BAR_STEP: usize = 64;

/// A request with its whole body.
pub type Call = Request<Full<Bytes>>;

/// A server to call.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    host: HeaderValue,
}

impl Endpoint {
    /// Of a URL such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When it is no `http` URL with a host and a port, or the host has no address.
    pub async fn resolve(url: &str) -> anyhow::Result<Arc<Self>> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is not a URL"))?;
        let authority = uri
            .authority()
            .with_context(|| format!("{url} names no host"))?;
        ensure!(
            uri.scheme_str() == Some("http"),
            "{url} is not an http:// URL"
        );
        let address = tokio::net::lookup_host(authority.as_str())
            .await
            .with_context(|| format!("looking up {url}"))?
            .next()
            .with_context(|| format!("{url} has no address"))?;
        let host = HeaderValue::from_str(authority.as_str()).context("the host's name")?;
        Ok(Arc::new(Self { address, host }))
    }

    /// A request to this server, with the headers that HTTP asks for.
    #[must_use]
    pub fn request(&self, method: Method, path: Uri, body: Bytes) -> Call {
        let mut call = Request::new(Full::new(body));
        *call.method_mut() = method;
        *call.uri_mut() = path;
        call.headers_mut().insert(HOST, self.host.clone());
        call
    }

    /// One call over a connection of its own.
    ///
    /// # Errors
    /// When the server cannot be reached or does not answer within ten seconds.
    pub async fn call(&self, call: Call) -> anyhow::Result<Reply> {
        let mut sender = self.connect().await?;
        exchange(&mut sender, call)
            .await
            .with_context(|| format!("no answer from http://{}", self.address))
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let unreachable = || {
            format!(
                "http://{} cannot be reached; is the stack up?",
                self.address
            )
        };
        let stream = timeout(CALL_TIMEOUT, TcpStream::connect(self.address))
            .await
            .with_context(unreachable)?
            .with_context(unreachable)?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with its sender; a broken one shows in the next call.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Connections that are kept open between calls: as many as there ever were calls at a time.
#[derive(Debug)]
pub struct Pool {
    endpoint: Arc<Endpoint>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Pool {
    /// Without any connection yet.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        let idle = Mutex::default();
        Self { endpoint, idle }
    }

    /// One call. A connection on which it got no answer is not used again.
    ///
    /// # Errors
    /// When the server cannot be reached or does not answer within ten seconds.
    pub async fn call(&self, call: Call) -> anyhow::Result<Reply> {
        let idle = self.idle().pop();
        let mut sender = match idle {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.endpoint.connect().await?,
        };
        sender.ready().await?;
        let reply = exchange(&mut sender, call).await?;
        self.idle().push(sender);
        Ok(reply)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer, whatever it says.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    /// Its whole body.
    pub body: Bytes,
    /// Its `RateLimit` header: which limit it was counted under, and what is left of that.
    pub rate_limit: Option<HeaderValue>,
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, call: Call) -> anyhow::Result<Reply> {
    timeout(CALL_TIMEOUT, async {
        let response = sender.send_request(call).await?;
        let (head, body) = response.into_parts();
        Ok(Reply {
            status: head.status,
            body: body.collect().await?.to_bytes(),
            rate_limit: head.headers.get("ratelimit").cloned(),
        })
    })
    .await?
}

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

    /// The call at `index`.
    fn call(&self, index: usize) -> Call;

    /// What is kept of its answer; `None` when there was none.
    fn answer(&self, index: usize, reply: Option<Reply>) -> Self::Answer;
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
    /// Opens the connections, then makes the calls over all of them at once.
    ///
    /// # Errors
    /// When a connection cannot be opened; a call without an answer is not an error.
    pub async fn run<C: Calls>(&self, calls: Arc<C>) -> anyhow::Result<Run<C::Answer>> {
        let mut senders = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            senders.push(self.endpoint.connect().await?);
        }
        let next = Arc::new(AtomicUsize::new(0));
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for sender in senders {
            let work = self
                .clone()
                .work(sender, Arc::clone(&calls), Arc::clone(&next), started);
            tasks.spawn(work);
        }
        let mut samples = Vec::with_capacity(calls.len());
        while let Some(done) = tasks.join_next().await {
            samples.extend(done.context("a connection's task failed")?);
        }
        Ok(Run {
            samples,
            elapsed: started.elapsed(),
        })
    }

    async fn work<C: Calls>(
        self,
        sender: SendRequest<Full<Bytes>>,
        calls: Arc<C>,
        next: Arc<AtomicUsize>,
        started: Instant,
    ) -> Vec<Sample<C::Answer>> {
        let mut sender = Some(sender);
        let mut samples = Vec::new();
        while started.elapsed() < self.stop_after {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= calls.len() {
                break;
            }
            let sent = Instant::now();
            let reply = self.one_call(&mut sender, calls.call(index)).await;
            let latency = sent.elapsed();
            let answer = calls.answer(index, reply);
            samples.push(Sample {
                index,
                answer,
                latency,
            });
            if index.is_multiple_of(BAR_STEP) {
                self.bar.set_position(index as u64);
            }
        }
        samples
    }

    /// Over the connection at hand, or a new one where that was lost. A lost one is not asked
    /// again: what became of its call is unknown, and that is an answer too.
    async fn one_call(
        &self,
        sender: &mut Option<SendRequest<Full<Bytes>>>,
        call: Call,
    ) -> Option<Reply> {
        let mut usable = match sender.take() {
            Some(usable) => usable,
            None => self.endpoint.connect().await.ok()?,
        };
        usable.ready().await.ok()?;
        let reply = exchange(&mut usable, call).await.ok()?;
        *sender = Some(usable);
        Some(reply)
    }
}
