//! Refusals as RFC 9457 `application/problem+json`: a stable `type`, a status, and a detail that
//! says what to do next.

mod kinds;
mod refusal;

use std::borrow::Cow;
use std::fmt::{self, Display};

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

pub(crate) use self::refusal::{RefusalText, text_of};

pub(crate) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(crate) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What every `type` begins with; the problem's name follows.
pub const TYPE_BASE: &str = "https://seckill.example/problems/";

/// One mistake in a request's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The member of the body.
    pub field: Cow<'static, str>,
    /// What it has to be.
    pub detail: String,
}

impl FieldError {
    /// A mistake in a member of the body that has no members of its own.
    pub fn new(field: &'static str, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            detail: detail.into(),
        }
    }
}

/// A refusal, ready to be answered.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

/// Boxed, because it is the error of most functions, and errors are rare.
#[derive(Debug)]
struct Parts {
    name: &'static str,
    title: &'static str,
    status: StatusCode,
    detail: Cow<'static, str>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<String>,
}

impl Problem {
    pub(crate) fn new(
        name: &'static str,
        title: &'static str,
        status: StatusCode,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts {
            name,
            title,
            status,
            detail: detail.into(),
            members: Map::new(),
            headers: Vec::new(),
            cause: None,
        }))
    }

    pub(crate) fn with_member(mut self, name: &str, value: Value) -> Self {
        self.0.members.insert(name.to_owned(), value);
        self
    }

    /// Adds a response header; a value that cannot be one is left out.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn with(mut self, header: (HeaderName, HeaderValue)) -> Self {
        self.0.headers.push(header);
        self
    }

    /// Adds the cause, for the log only.
    #[must_use]
    pub fn because(mut self, cause: impl Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// The last part of `type`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// What to do next, for the client.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The response headers of its own.
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0.headers
    }

    /// The cause, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The body of the answer: JSON.
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = self.0.members.clone();
        body.insert(
            "type".to_owned(),
            json!(format!("{TYPE_BASE}{}", self.0.name)),
        );
        body.insert("title".to_owned(), json!(self.0.title));
        body.insert("status".to_owned(), json!(self.0.status.as_u16()));
        body.insert("detail".to_owned(), json!(self.0.detail));
        Value::Object(body).to_string()
    }

    #[must_use]
    pub fn respond(&self) -> HttpResponse {
        self.respond_with(self.body().into())
    }

    /// The answer, with [`Self::body`] made before.
    #[must_use]
    pub fn respond_with(&self, body: Bytes) -> HttpResponse {
        let mut response = HttpResponse::build(self.0.status);
        response.content_type("application/problem+json");
        for header in &self.0.headers {
            response.insert_header(header.clone());
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"seckill\""));
        }
        response.body(body)
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.name, self.0.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        self.respond()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use actix_web::http::Method;
    use seckill_domain::{OrderId, Refusal, VoucherId};
    use std::time::Duration;

    async fn shape(problem: Problem) -> (HttpResponse<()>, Value) {
        let (head, body) = problem.respond().into_parts();
        let body = to_bytes(body).await.unwrap();
        (head, serde_json::from_slice(&body).unwrap())
    }

    #[actix_web::test]
    async fn a_problem_has_the_members_of_rfc_9457_and_its_own() {
        let order_id = OrderId::from_parts(VoucherId::new(7).unwrap(), 1, 2);
        let (head, body) = shape(Problem::refused(
            Refusal::AlreadyOrdered { order_id },
            order_id.voucher_id(),
            "missing",
        ))
        .await;
        assert_eq!(head.status(), 409);
        assert_eq!(
            head.headers().get("content-type").unwrap(),
            "application/problem+json"
        );
        assert_eq!(body["type"], format!("{TYPE_BASE}already-ordered"));
        assert_eq!(body["status"], 409);
        assert_eq!(body["order_id"], order_id.to_string());
        assert!(body["title"].is_string() && body["detail"].is_string());
    }

    #[actix_web::test]
    async fn waits_are_named_in_headers_and_rounded_up() {
        let limited = Problem::rate_limited("user", 5, Duration::from_millis(1200));
        let (head, _) = shape(limited).await;
        assert_eq!(head.headers().get("retry-after").unwrap(), "2");
        assert_eq!(head.headers().get("ratelimit").unwrap(), "\"user\";r=0;t=2");
        assert_eq!(
            head.headers().get("ratelimit-policy").unwrap(),
            "\"user\";q=5;w=1"
        );
        let (head, _) = shape(Problem::unavailable("later")).await;
        assert_eq!(head.headers().get("retry-after").unwrap(), "1");
    }

    #[actix_web::test]
    async fn a_cause_stays_here() {
        let (head, body) = shape(Problem::internal("password=hunter2")).await;
        assert_eq!(head.status(), 500);
        assert!(!body.to_string().contains("hunter2"));
    }

    #[actix_web::test]
    async fn an_unauthorized_caller_is_told_the_scheme() {
        let (head, body) = shape(Problem::unauthorized("sign in")).await;
        assert!(head.headers().contains_key("www-authenticate"));
        assert_eq!(body["type"], format!("{TYPE_BASE}unauthorized"));
        let (head, _) = shape(Problem::method_not_allowed(&[Method::GET, Method::POST])).await;
        assert_eq!(head.headers().get("allow").unwrap(), "GET, POST");
    }
}
