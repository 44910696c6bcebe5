//! Requests to the ingress' admin listener.

use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::{Method, RequestBuilder, StatusCode};
use seckill_domain::{Actor, Reason};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::settings::Admin;

/// Longer than the ingress waits for Kafka before it answers 503.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The admin API of one ingress.
#[derive(Debug)]
pub(crate) struct AdminApi {
    http: reqwest::Client,
    admin: Admin,
}

/// Who asks for a change and why, and the key under which it is made once.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) actor: Option<Actor>,
    /// Where the terms have none.
    pub(crate) reason: Option<Reason>,
    pub(crate) key: String,
}

/// The members of RFC 9457 that say what went wrong, and this API's list of bad fields.
#[derive(Debug, Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<FieldError>,
}

#[derive(Debug, Deserialize)]
struct FieldError {
    field: String,
    detail: String,
}

impl AdminApi {
    /// Connects to nothing yet.
    pub(crate) fn new(admin: Admin) -> Result<Self, Failure> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build();
        let http = http.context("cannot make an HTTP client")?;
        Ok(Self { http, admin })
    }

    /// The body of the answer to a GET of `path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(self.request(Method::GET, path)).await
    }

    /// The body of the answer to a POST of `body` to `path`, with the key that it went under.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &Value,
        asking: &Asking,
    ) -> Result<Value, Failure> {
        let request = self.request(Method::POST, path).json(body);
        let mut request = request.header("idempotency-key", &asking.key);
        for (name, value) in [
            ("x-operator", asking.actor.as_ref().map(Actor::as_str)),
            ("x-reason", asking.reason.as_ref().map(Reason::as_str)),
        ] {
            if let Some(value) = value {
                // As bytes: names and reasons need not be ASCII.
                request = request.header(name, value.as_bytes());
            }
        }
        let mut answer = self.send(request).await?;
        answer["idempotency_key"] = asking.key.as_str().into();
        Ok(answer)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/admin/v1{path}", self.admin.url);
        let request = self.http.request(method, url);
        request.bearer_auth(self.admin.token.expose())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let answer = request.send().await.map_err(|e| self.no_answer(e))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|e| self.no_answer(e))?;
        interpret(status, &body)
    }

    fn no_answer(&self, error: reqwest::Error) -> Failure {
        let url = &self.admin.url;
        let advice = if error.is_connect() {
            "is the ingress running there? INGRESS_ADMIN_URL says where it is"
        } else {
            "what was asked for may have been done: look with `sale list` or `sale show` before \
             you repeat it"
        };
        let error = anyhow::Error::new(error);
        error
            .context(format!("no answer from the admin API at {url}; {advice}"))
            .into()
    }
}

fn interpret(status: StatusCode, body: &[u8]) -> Result<Value, Failure> {
    if status.is_success() {
        if body.is_empty() {
            return Ok(Value::Null);
        }
        let value = serde_json::from_slice(body);
        return Ok(value.context("the admin API's answer is not JSON")?);
    }
    let message = describe(status, body);
    Err(match status {
        StatusCode::NOT_FOUND => Failure::NotFound(message),
        StatusCode::UNAUTHORIZED => {
            anyhow!("{message} (ADMIN_TOKEN has to be the ingress' own)").into()
        }
        _ => anyhow!(message).into(),
    })
}

/// `title: detail` and the bad fields; the status alone where the body is no problem document.
fn describe(status: StatusCode, body: &[u8]) -> String {
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        return format!("the admin API answered {status}");
    };
    let mut text = problem.title;
    if !problem.detail.is_empty() {
        text = format!("{text}: {}", problem.detail);
    }
    for FieldError { field, detail } in problem.errors {
        text = format!("{text}\n  - {field}: {detail}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_its_title_detail_and_fields() {
        let body = br#"{"type":"https://seckill.example/problems/invalid-request",
            "title":"Invalid request","status":400,"detail":"2 fields are wrong",
            "errors":[{"field":"stock","detail":"is 0"}]}"#;
        let failure = interpret(StatusCode::BAD_REQUEST, body).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "Invalid request: 2 fields are wrong\n  - stock: is 0"
        );
    }

    #[test]
    fn not_found_is_told_apart_and_other_bodies_are_not_trusted() {
        let missing = interpret(StatusCode::NOT_FOUND, br#"{"title":"Not found"}"#);
        assert!(matches!(missing, Err(Failure::NotFound(m)) if m == "Not found"));
        let proxy = interpret(StatusCode::BAD_GATEWAY, b"<html>").unwrap_err();
        assert!(proxy.to_string().contains("502"), "{proxy}");
        let answer = interpret(StatusCode::OK, b"<html>").unwrap_err();
        assert!(answer.to_string().contains("not JSON"), "{answer}");
    }

    #[test]
    fn an_empty_answer_is_null() {
        assert_eq!(interpret(StatusCode::ACCEPTED, b"").unwrap(), Value::Null);
    }
}
