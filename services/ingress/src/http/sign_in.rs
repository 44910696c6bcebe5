//! Signing in and out.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_identity::{Address, Code};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::App;
use crate::http::middleware::trace_of;
use crate::problem::{FieldError, Problem};
use crate::sign_in::{CodeError, ExchangeError};
use crate::{body, rfc3339};

/// Who wants a code.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeRequest {
    #[schema(format = "email", max_length = 254, example = "ada@example.com")]
    email: String,
}

/// Who has one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignInRequest {
    #[schema(format = "email", max_length = 254, example = "ada@example.com")]
    email: String,
    /// The six digits.
    #[schema(pattern = "^[0-9]{6}$", example = "123456")]
    code: String,
}

/// A token and whose it is.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignedIn {
    /// To be sent as `Authorization: Bearer`.
    token: String,
    user_id: i64,
    /// Until when it is good.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Has a code mailed.
///
/// The answer is the same whether or not the address is known.
///
/// # Errors
/// `invalid-request`, `rate-limited`, `unavailable`.
#[utoipa::path(
    post,
    path = "/api/v1/sign-in/codes",
    operation_id = "sendSignInCode",
    tag = "Sign-in",
    request_body = CodeRequest,
    responses((status = 204, description = "A code is on its way.")),
    extensions(("x-problems" = json!(["rate-limited"]))),
)]
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

/// Exchanges a code for a token.
///
/// # Errors
/// `invalid-request`, `unauthorized`, `unavailable`.
#[utoipa::path(
    post,
    path = "/api/v1/sign-in",
    operation_id = "signIn",
    tag = "Sign-in",
    request_body = SignInRequest,
    responses((status = 200, description = "Signed in.", body = SignedIn)),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-problems" = json!(["unauthorized"])),
    ),
)]
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
        .json(SignedIn {
            token: issued.token,
            user_id: user_id.get(),
            expires_at: rfc3339::format(issued.expires_at),
        }))
}

/// Ends the token's session.
///
/// With it every token that it was renewed to, here at once and on other instances within seconds.
///
/// # Errors
/// `unauthorized`; `unavailable` when only this instance knows of it: send it again.
#[utoipa::path(
    post,
    path = "/api/v1/sign-out",
    operation_id = "signOut",
    tag = "Sign-in",
    responses((status = 204, description = "The session is over.")),
    security(("token" = [])),
)]
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
