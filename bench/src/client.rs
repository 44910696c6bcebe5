//! An HTTP client for single calls; load is made by [`crate::load`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A call without an answer after this long counts as one that has none.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

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

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands in front of a request to this server in [`crate::load`]: its first line and its host.
    #[must_use]
    pub fn request_head(&self, method: &str, path: &str) -> Vec<u8> {
        let host = self.host.to_str().unwrap_or_default();
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").into_bytes()
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
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, call: Call) -> anyhow::Result<Reply> {
    timeout(CALL_TIMEOUT, async {
        let response = sender.send_request(call).await?;
        let (head, body) = response.into_parts();
        Ok(Reply {
            status: head.status,
            body: body.collect().await?.to_bytes(),
        })
    })
    .await?
}
