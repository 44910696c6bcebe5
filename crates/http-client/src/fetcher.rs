//! What is at whole URLs.

use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode, Uri};
use tokio_rustls::TlsConnector;

use crate::Limits;
use crate::server::{Question, Server, trusting};

/// Fetches documents that decide whom others trust, as an identity provider's keys: whoever is between here and there could exchange
/// them, and so only what stays on this machine goes without TLS.
pub struct Fetcher {
    tls: TlsConnector,
    limits: Limits,
}

impl Fetcher {
    /// Connects to nothing yet. Certificates of those whom the system trusts are read once, here.
    ///
    /// # Errors
    /// When there can be no TLS.
    pub fn new(limits: Limits) -> Result<Self, String> {
        let tls = trusting(None)?;
        Ok(Self { tls, limits })
    }

    /// Whether something could be fetched from there.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn check(url: &str) -> Result<(), String> {
        place(url).map(|_| ())
    }

    /// The body of an answer with the status 200.
    ///
    /// # Errors
    /// Why there is none, with the URL.
    pub async fn get(&self, url: &str) -> Result<Bytes, String> {
        let (server, path) = place(url).map_err(|why| format!("{url}: {why}"))?;
        let question = Question {
            method: Method::GET,
            path: &path,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let asked = server.ask(Some(&self.tls), question, self.limits);
        let answer = Box::pin(asked)
            .await
            .map_err(|error| format!("{url}: {error}"))?;
        if answer.status != StatusCode::OK {
            return Err(format!("{url} answers {}", answer.status));
        }
        Ok(answer.body)
    }
}

/// The server, and what it is asked for.
fn place(url: &str) -> Result<(Server, String), String> {
    let uri = url.parse::<Uri>();
    let uri = uri.map_err(|e| format!("it is no URL: {e}"))?;
    let server = Server::of(&uri)?;
    if !server.is_tls() && !server.is_on_this_machine() {
        return Err("it begins with https://, unless it is on this machine".to_owned());
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((server, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_over_tls_or_from_this_machine() {
        for good in [
            "https://login.example/realms/shop",
            "https://login.example",
            "http://127.0.0.1:8080/realms/shop",
            "http://[::1]:8080",
            "http://localhost/a?b=c",
        ] {
            assert_eq!(Fetcher::check(good), Ok(()), "{good}");
        }
        for wrong in [
            "http://login.example",
            "http://localhost.example",
            "http://127.0.0.1@login.example",
            "https://login.example@127.0.0.1",
            "login.example",
            "ftp://localhost",
            "",
        ] {
            assert!(Fetcher::check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_of_a_url_behind_its_server_is_asked_for() {
        for (url, asked) in [
            ("https://a.example:8/keys/?p=1", "/keys/?p=1"),
            ("https://a.example", "/"),
        ] {
            assert_eq!(place(url).map(|(_, path)| path), Ok(asked.to_owned()));
        }
    }
}
