//! Requests to the ingress' admin listener.

use anyhow::{Context, anyhow};
use seckill_domain::{Actor, Reason};
use seckill_http_client::header::{AUTHORIZATION, CONTENT_TYPE};
use seckill_http_client::{
    Bytes, HeaderMap, HeaderName, HeaderValue, Method, NoAnswer, StatusCode,
};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::settings::Admin;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const OPERATOR: HeaderName = HeaderName::from_static("x-operator");
const REASON: HeaderName = HeaderName::from_static("x-reason");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The admin API of one ingress.
#[derive(Debug)]
pub(crate) struct AdminApi(Admin);

/// Who asks for a change, the reason, and the idempotency key with which it is made only once.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) actor: Option<Actor>,
    /// The reason, if the body of the request has none.
    pub(crate) reason: Option<Reason>,
    pub(crate) key: String,
}

/// The members of a problem document (RFC 9457) that describe the error, and this API's list of invalid fields.
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
    /// Makes no connection yet.
    pub(crate) const fn new(admin: Admin) -> Self {
        Self(admin)
    }

    /// The body of the answer to a GET of `path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, HeaderMap::new(), Bytes::new())
            .await
    }

    /// The body of the answer to a POST of `body` to `path`, with the idempotency key of the request.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &Value,
        asking: &Asking,
    ) -> Result<Value, Failure> {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
        for (name, value) in [
            (KEY, Some(asking.key.as_str())),
            (OPERATOR, asking.actor.as_ref().map(Actor::as_str)),
            (REASON, asking.reason.as_ref().map(Reason::as_str)),
        ] {
            if let Some(value) = value {
                // Made from bytes, because names and reasons may contain other characters than ASCII.
                let bytes = HeaderValue::from_bytes(value.as_bytes());
                let bytes = bytes.with_context(|| format!("{name} cannot be sent"))?;
                headers.insert(name, bytes);
            }
        }
        let body = Bytes::from(body.to_string());
        let mut answer = self.send(Method::POST, path, headers, body).await?;
        answer["idempotency_key"] = asking.key.as_str().into();
        Ok(answer)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Value, Failure> {
        let token = HeaderValue::from_str(&format!("Bearer {}", self.0.token.expose()));
        let mut token =
            token.map_err(|_| anyhow!("ADMIN_TOKEN has characters that no header has"))?;
        token.set_sensitive(true);
        headers.insert(AUTHORIZATION, token);
        let path = format!("/admin/v1{path}");
        let answer = self.0.http.ask(method, &path, headers, body).await;
        let answer = answer.map_err(|error| self.no_answer(error))?;
        interpret(answer.status, &answer.body)
    }

    fn no_answer(&self, error: NoAnswer) -> Failure {
        let url = self.0.http.url();
        let advice = match &error {
            NoAnswer::NotAsked(_) => {
                "nothing was asked for. Is the ingress running there? INGRESS_ADMIN_URL says where it is, and \
                 INGRESS_ADMIN_SSL_CA_LOCATION who signs its certificate"
            }
            NoAnswer::Lost(_) => {
                "what was asked for may have been done: look with `sale list` or `sale show` before you repeat it"
            }
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

/// `title: detail` and the invalid fields, or only the status if the body is not a problem document.
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
