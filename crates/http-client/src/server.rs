//! Where a server is, and one conversation with it.

use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::{Answer, Limits, NoAnswer};

/// A server that a URL names.
pub(crate) struct Server {
    host: String,
    port: u16,
    /// What its certificate has to name, with TLS.
    tls_name: Option<ServerName<'static>>,
}

impl Server {
    /// That of the URL.
    ///
    /// # Errors
    /// Why it names none.
    pub(crate) fn of(uri: &Uri) -> Result<Self, String> {
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it begins with https:// or http://".to_owned()),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("a login has settings of its own".to_owned());
        }
        let host = authority.host().to_owned();
        let name = is_tls.then(|| ServerName::try_from(bare(&host).to_owned()));
        Ok(Self {
            port: authority
                .port_u16()
                .unwrap_or(if is_tls { 443 } else { 80 }),
            tls_name: name.transpose().map_err(|e| e.to_string())?,
            host,
        })
    }

    pub(crate) const fn is_tls(&self) -> bool {
        self.tls_name.is_some()
    }

    pub(crate) fn is_on_this_machine(&self) -> bool {
        ["127.0.0.1", "[::1]", "localhost"].contains(&&*self.host)
    }

    /// Asks once, on a connection of its own. `tls` is needed by a server with TLS, and has no use for another.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn ask(
        &self,
        tls: Option<&TlsConnector>,
        question: Question<'_>,
        limits: Limits,
    ) -> Result<Answer, NoAnswer> {
        let request = self.request(question).map_err(NoAnswer::NotAsked)?;
        let deadline = Instant::now() + limits.timeout;
        let late = || format!("no answer within {} s", limits.timeout.as_secs());
        let connected = timeout_at(deadline, self.connect(tls)).await;
        let stream = connected
            .unwrap_or_else(|_| Err(late()))
            .map_err(NoAnswer::NotAsked)?;
        let conversation = converse(stream, request, limits.answer_bytes);
        let answered = timeout_at(deadline, conversation).await;
        answered
            .unwrap_or_else(|_| Err(late()))
            .map_err(NoAnswer::Lost)
    }

    async fn connect(&self, tls: Option<&TlsConnector>) -> Result<Box<dyn Stream>, String> {
        let stream = TcpStream::connect((bare(&self.host), self.port)).await;
        let stream = stream.map_err(|e| e.to_string())?;
        let Some(name) = &self.tls_name else {
            return Ok(Box::new(stream));
        };
        let tls = tls.ok_or("nothing says whose certificates are trusted")?;
        let stream = tls.connect(name.clone(), stream).await;
        Ok(Box::new(stream.map_err(|e| format!("TLS: {e}"))?))
    }

    fn request(&self, question: Question<'_>) -> Result<Request<Full<Bytes>>, String> {
        let request = Request::builder()
            .method(question.method)
            .uri(question.path)
            .header(HOST, format!("{}:{}", self.host, self.port));
        let request = request.body(Full::new(question.body));
        let mut request = request.map_err(|e| e.to_string())?;
        request.headers_mut().extend(question.headers);
        Ok(request)
    }
}

/// What is asked.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    /// With the query.
    pub(crate) path: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
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

/// Trusts who is in the PEM file, by default whom the system trusts. It is read here, and never again.
pub(crate) fn trusting(ca: Option<&Path>) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
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
