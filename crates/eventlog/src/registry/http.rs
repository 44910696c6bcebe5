//! One question to the registry over HTTP, with TLS or without.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_MAX_BYTES: usize = 1 << 20;
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.schemaregistry.v1+json");

/// Where a schema registry with Confluent's API is, and how one signs in there.
#[derive(Clone)]
pub struct RegistrySettings {
    /// `http://` or `https://`, with the path that the API is under, and without a login.
    pub url: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// A PEM file: who signs its certificate. None: whom the system trusts.
    pub ca: Option<PathBuf>,
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

pub(crate) struct Http {
    pub(crate) url: String,
    host: String,
    port: u16,
    path: String,
    authorization: Option<HeaderValue>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Http {
    /// Connects to nothing yet. An error says what is wrong with the settings, without the password.
    pub(crate) fn new(settings: &RegistrySettings) -> Result<Self, String> {
        let url = settings.url.trim_end_matches('/').to_owned();
        let uri: Uri = url.parse().map_err(|e| format!("it is no URL: {e}"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it begins with https:// or http://".to_owned()),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("a login has settings of its own".to_owned());
        }
        if uri.query().is_some() {
            return Err("it has a query".to_owned());
        }
        let host = authority.host().to_owned();
        let tls = is_tls.then(|| connector(settings, &host)).transpose()?;
        Ok(Self {
            port: authority
                .port_u16()
                .unwrap_or(if is_tls { 443 } else { 80 }),
            path: uri.path().trim_end_matches('/').to_owned(),
            authorization: settings.login.as_ref().map(authorization).transpose()?,
            url,
            host,
            tls,
        })
    }

    /// Asks once, within seconds. An error says why there is no answer.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        // A handshake with TLS is large, and is part of every future that may ask.
        let asked = Box::pin(self.connect_and_ask(method, path, body));
        let asked = tokio::time::timeout(TIMEOUT, asked);
        let seconds = TIMEOUT.as_secs();
        asked
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {seconds} s")))
    }

    async fn connect_and_ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let request = self.request(method, path, body)?;
        let name = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((name, self.port)).await;
        let stream = stream.map_err(|e| e.to_string())?;
        match &self.tls {
            None => converse(stream, request).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                converse(stream.map_err(|e| e.to_string())?, request).await
            }
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, String> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.path))
            .header(HOST, format!("{}:{}", self.host, self.port))
            .header(
                ACCEPT,
                "application/vnd.schemaregistry.v1+json, application/json",
            )
            .header(CONTENT_TYPE, MEDIA_TYPE);
        if let Some(login) = &self.authorization {
            request = request.header(AUTHORIZATION, login);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        request.map_err(|e| e.to_string())
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let answered = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect();
        let body = body.await.map_err(|e| e.to_string())?.to_bytes();
        // What a proxy in between says need not be JSON.
        let text = || Value::String(String::from_utf8_lossy(&body).trim().to_owned());
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
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

fn authorization((user, password): &(String, String)) -> Result<HeaderValue, String> {
    let login = STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {login}")).map_err(|e| e.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

fn connector(
    settings: &RegistrySettings,
    host: &str,
) -> Result<(TlsConnector, ServerName<'static>), String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &settings.ca {
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
    let name = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}
