//! Signing in and out.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_identity::{Address, Code};
use serde::Deserialize;
use serde_json::json;

use crate::http::App;
use crate::http::middleware::trace_of;
use crate::problem::{FieldError, Problem};
use crate::sign_in::{CodeError, ExchangeError};
use crate::{body, rfc3339};

/// Who wants a code.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeRequest {
    email: String,
}

/// Who has one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInRequest {
    email: String,
    code: String,
}

/// `POST /api/v1/sign-in/codes`. 204: a code is on its way, whether or not the address is known.
///
/// # Errors
/// `invalid-request`, `rate-limited`, `unavailable`.
pub async fn send_code(
    app: web::Data<App>,
    http: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let answer = try_send_code(&app, &http, payload).await;
    count("seckill_sign_in_codes_total", &answer);
    answer
}

async fn try_send_code(
    app: &App,
    http: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let request: CodeRequest = body::json(http, payload).await?;
    let address = address(&request.email)?;
    match app.sign_in.send_code(address).await {
        Ok(()) => Ok(HttpResponse::NoContent().finish()),
        Err(CodeError::Domain) => Err(field(
            "email",
            "an address of a domain that may sign in here",
        )),
        Err(CodeError::Blocked { retry_after }) => {
            Err(Problem::code_limited(app.sign_in.limits(), retry_after))
        }
        Err(error @ CodeError::NoMail) => {
            Err(Problem::unavailable("Nobody can sign in by mail here for now.").because(error))
        }
        Err(error @ (CodeError::QueueFull | CodeError::Store(_))) => Err(Problem::unavailable(
            "No code can be sent right now: try again in a moment.",
        )
        .because(error)),
        Err(error @ CodeError::Defect(_)) => Err(Problem::internal(error)),
    }
}

/// `POST /api/v1/sign-in`: `{token, user_id, expires_at}`.
///
/// # Errors
/// `invalid-request`, `unauthorized`, `unavailable`.
pub async fn sign_in(
    app: web::Data<App>,
    http: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let answer = try_sign_in(&app, &http, payload).await;
    count("seckill_sign_ins_total", &answer);
    answer
}

async fn try_sign_in(
    app: &App,
    http: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let request: SignInRequest = body::json(http, payload).await?;
    let address = address(&request.email)?;
    let code: Code = request
        .code
        .parse()
        .map_err(|()| field("code", "the six digits of the mail"))?;
    let user_id = app.sign_in.exchange(address, code).await?;
    let issued = app.tokens.sign_in(user_id)?;
    tracing::info!(trace = %trace_of(http), %user_id, "signed in");
    Ok(HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .json(json!({
            "token": issued.token,
            "user_id": user_id.get(),
            "expires_at": rfc3339::format(issued.expires_at),
        })))
}

/// `POST /api/v1/sign-out`. 204: the token's session is over, with every token that it was renewed
/// to, here at once and on other instances within seconds.
///
/// # Errors
/// `unauthorized`; `unavailable` when only this instance knows of it: send it again.
pub async fn sign_out(app: web::Data<App>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = app.tokens.caller_to_sign_out(http.headers())?;
    let expires_at = app.tokens.revoke(&caller);
    app.sign_in
        .sign_out(caller.user_id, caller.session_id, expires_at)
        .await?;
    tracing::info!(trace = %trace_of(&http), user_id = %caller.user_id, "signed out");
    Ok(HttpResponse::NoContent().finish())
}

impl From<ExchangeError> for Problem {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::NotGood => Self::unauthorized(
                "The code is not good, or no longer: look at the newest mail, or ask for another.",
            ),
            ExchangeError::Store(_) | ExchangeError::Users(_) => {
                Self::unavailable("A store does not answer: try again in a moment.").because(error)
            }
            ExchangeError::Defect(_) => Self::internal(error),
        }
    }
}

fn address(text: &str) -> Result<Address, Problem> {
    text.parse()
        .map_err(|error: seckill_identity::AddressError| field("email", &error.to_string()))
}

fn field(field: &'static str, detail: &str) -> Problem {
    Problem::invalid_fields(&[FieldError {
        field,
        detail: detail.to_owned(),
    }])
}

fn count(metric: &'static str, answer: &Result<HttpResponse, Problem>) {
    let name = answer.as_ref().map_or_else(Problem::name, |_| "ok");
    metrics::counter!(metric, "answer" => name).increment(1);
}
