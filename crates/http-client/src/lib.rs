//! One question over HTTP/1.1 at a time, with TLS or without, to a server that is asked now and then: a schema
//! registry, the admin API. Every question has a connection of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
pub use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
pub use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use hyper::{Method, StatusCode};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Which setting is wrong, and why. Never with the URL itself: it may hold a password that does not belong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misconfigured {
    /// Where the server is.
    #[error("{0}")]
    Url(String),
    /// Who signs its certificate.
    #[error("{0}")]
    Ca(String),
}

/// What one question may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long it may take, with the connection.
    pub timeout: Duration,
    /// How long the body of its answer may be.
    pub answer_bytes: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing was asked: there is no connection, or nobody whose certificate is trusted at its other end.
    #[error("{0}")]
    NotAsked(String),
    /// What was asked for may have been done.
    #[error("{0}")]
    Lost(String),
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// The way to one server.
pub struct HttpClient {
    url: String,
    host: String,
    port: u16,
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    limits: Limits,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HttpClient").field(&self.url).finish()
    }
}

impl HttpClient {
    /// Connects to nothing yet. `url` begins with `http://` or `https://` and may end with the path that the API is under;
    /// `ca` is a PEM file of those who sign the server's certificate, by default whom the system trusts.
    ///
    /// # Errors
    /// Which setting is wrong, and why.
    pub fn new(url: &str, ca: Option<&Path>, limits: Limits) -> Result<Self, Misconfigured> {
        let wrong_url = |why: &str| Misconfigured::Url(why.to_owned());
        let url = url.trim_end_matches('/').to_owned();
        let uri = url.parse::<Uri>();
        let uri = uri.map_err(|e| wrong_url(&format!("it is no URL: {e}")))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong_url("it begins with https:// or http://")),
        };
        let authority = uri
            .authority()
            .ok_or_else(|| wrong_url("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong_url("a login has settings of its own"));
        }
        if uri.query().is_some() {
            return Err(wrong_url("it has a query"));
        }
        if ca.is_some() && !is_tls {
            let why = "has no use without an https URL";
            return Err(Misconfigured::Ca(why.to_owned()));
        }
        let host = authority.host().to_owned();
        let tls = is_tls.then(|| connector(ca, &host)).transpose()?;
        Ok(Self {
            port: authority
                .port_u16()
                .unwrap_or(if is_tls { 443 } else { 80 }),
            path: uri.path().trim_end_matches('/').to_owned(),
            url,
            host,
            tls,
            limits,
        })
    }

    /// Where the server is, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks once. `path` begins with a slash.
    ///
    /// # Errors
    /// Why there is no answer. Headers and body have not left this process unless it is [`NoAnswer::Lost`].
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, NoAnswer> {
        let request = self.request(method, path, headers, body);
        let request = request.map_err(NoAnswer::NotAsked)?;
        let deadline = tokio::time::Instant::now() + self.limits.timeout;
        let late = || format!("no answer within {} s", self.limits.timeout.as_secs());
        // A handshake with TLS is large, and is part of every future that may ask.
        let connected = tokio::time::timeout_at(deadline, Box::pin(self.connect())).await;
        let stream = connected
            .unwrap_or_else(|_| Err(late()))
            .map_err(NoAnswer::NotAsked)?;
        let conversation = converse(stream, request, self.limits.answer_bytes);
        let answered = tokio::time::timeout_at(deadline, Box::pin(conversation)).await;
        answered
            .unwrap_or_else(|_| Err(late()))
            .map_err(NoAnswer::Lost)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let name = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((name, self.port)).await;
        let stream = stream.map_err(|e| e.to_string())?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                Ok(Box::new(stream.map_err(|e| format!("TLS: {e}"))?))
            }
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.path))
            .header(HOST, format!("{}:{}", self.host, self.port));
        let mut request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        request.headers_mut().extend(headers);
        Ok(request)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn converse(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
    answer_bytes: usize,
) -> Result<Answer, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let answered = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), answer_bytes).collect();
        let body = body.await.map_err(|e| e.to_string())?.to_bytes();
        Ok(Answer { status, body })
    };
    // The connection only carries it: whatever ends it, the answer is told.
    let carried = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answered => answer,
        never = carried => never,
    }
}

fn connector(
    ca: Option<&Path>,
    host: &str,
) -> Result<(TlsConnector, ServerName<'static>), Misconfigured> {
    let name = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(name).map_err(|e| Misconfigured::Url(e.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Misconfigured::Url(e.to_string()))?
        .with_root_certificates(roots(ca).map_err(Misconfigured::Ca)?)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca {
        let unreadable = |error| format!("{}: {error}", file.display());
        let found = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
        for certificate in found {
            let certificate = certificate.map_err(unreadable)?;
            roots.add(certificate).map_err(|e| e.to_string())?;
        }
        if roots.is_empty() {
            return Err(format!("{} has no certificate", file.display()));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    Ok(roots)
}
