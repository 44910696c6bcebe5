//! One question over HTTP/1.1 at a time, with TLS or without, to a server that is asked now and then: a schema
//! registry, the admin API, an identity provider. Every question has a connection of its own.

mod fetcher;
mod server;

use std::path::Path;
use std::time::Duration;

use hyper::Uri;
pub use hyper::body::Bytes;
pub use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use hyper::{Method, StatusCode};
use tokio_rustls::TlsConnector;

pub use crate::fetcher::Fetcher;
use crate::server::{Question, Server, trusting};

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

impl Misconfigured {
    /// The name of the wrong one of the two settings.
    #[must_use]
    pub const fn which<'a>(&self, url: &'a str, ca: &'a str) -> &'a str {
        match self {
            Self::Url(_) => url,
            Self::Ca(_) => ca,
        }
    }
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
    server: Server,
    path: String,
    tls: Option<TlsConnector>,
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
        let server = Server::of(&uri).map_err(Misconfigured::Url)?;
        if uri.query().is_some() {
            return Err(wrong_url("it has a query"));
        }
        if ca.is_some() && !server.is_tls() {
            let why = "has no use without an https URL";
            return Err(Misconfigured::Ca(why.to_owned()));
        }
        let tls = server.is_tls().then(|| trusting(ca)).transpose();
        Ok(Self {
            path: uri.path().trim_end_matches('/').to_owned(),
            tls: tls.map_err(Misconfigured::Ca)?,
            url,
            server,
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
        let question = Question {
            method,
            path: &format!("{}{path}", self.path),
            headers,
            body,
        };
        let (tls, limits) = (self.tls.as_ref(), self.limits);
        // A handshake with TLS is large, and is part of every future that may ask.
        Box::pin(self.server.ask(tls, question, limits)).await
    }
}
