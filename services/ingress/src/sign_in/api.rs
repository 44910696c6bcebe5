//! Signing in and out.

use std::sync::Arc;

use actix_web::http::header::{COOKIE, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse, web};
use seckill_identity::{Address, Code};
use seckill_metrics::CounterEntry;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::gate::Gate;
use crate::http::problem::{FieldError, Problem};
use crate::http::trace::trace_of;
use crate::http::{body, rfc3339};
use crate::metrics;
use crate::sign_in::codes::CODE_LIFE;
use crate::sign_in::throttle::ThrottleError;
use crate::sign_in::{Attempt, CodeError, ExchangeError, SignIn};

/// The state of the handlers of the sign-in.
pub struct SignInApi {
    /// Checks tokens and blocked users, and limits how many calls may be under way.
    pub gate: Arc<Gate>,
    /// Sends codes and exchanges them.
    pub sign_in: SignIn,
}

/// The cookie with the challenge of the code that was asked for last. It is no credential: it only says which
/// code is tried.
pub(crate) const CHALLENGE: &str = "seckill-challenge";

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
    /// The digits of the mail: six, or ten while somebody guesses codes.
    #[schema(pattern = "^([0-9]{6}|[0-9]{10})$", example = "123456")]
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

/// Sends a code by mail.
///
/// The answer is the same whether or not the address is known. It sets a cookie that belongs to the code: a caller
/// that sends the cookie back with the code has five attempts of their own.
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
    extensions(
        ("x-headers" = json!({"204": ["Set-Cookie"]})),
        ("x-problems" = json!(["rate-limited"])),
    ),
)]
pub async fn send_code(
    room: web::Data<SignInApi>,
    http: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let answer = try_send_code(&room, &http, payload).await;
    count(&metrics::SIGN_IN_CODES, &answer);
    answer
}

async fn try_send_code(
    room: &SignInApi,
    http: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let request: CodeRequest = body::json(http, payload).await?;
    let _place = room.gate.admission.read()?;
    let address = address(&request.email)?;
    let client = room.gate.trusted_proxies.client(http);
    match room.sign_in.send_code(address, client).await {
        Ok(challenge) => Ok(HttpResponse::NoContent()
            .insert_header((
                SET_COOKIE,
                cookie(challenge, room.gate.trusted_proxies.came_by_tls(http)),
            ))
            .finish()),
        Err(CodeError::Domain) => Err(field(
            "email",
            "an address of a domain that may sign in here",
        )),
        Err(CodeError::Blocked { retry_after }) => {
            Err(Problem::code_limited(room.sign_in.limits(), retry_after))
        }
        Err(CodeError::Throttled(error)) => Err(error.into()),
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
/// Without the cookie from the request for a code, the newest code of the address is tried, and all callers without
/// a cookie share five attempts.
///
/// # Errors
/// `invalid-request`, `unauthorized`, `denied`, `rate-limited`, `unavailable`.
#[utoipa::path(
    post,
    path = "/api/v1/sign-in",
    operation_id = "signIn",
    tag = "Sign-in",
    request_body = SignInRequest,
    responses((status = 200, description = "Signed in.", body = SignedIn)),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-parameters" = json!(["seckill-challenge"])),
        ("x-problems" = json!(["denied", "rate-limited", "unauthorized"])),
    ),
)]
pub async fn sign_in(
    room: web::Data<SignInApi>,
    http: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let answer = try_sign_in(&room, &http, payload).await;
    count(&metrics::SIGN_INS, &answer);
    answer
}

async fn try_sign_in(
    room: &SignInApi,
    http: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let request: SignInRequest = body::json(http, payload).await?;
    let _place = room.gate.admission.read()?;
    let address = address(&request.email)?;
    let code: Code = request
        .code
        .parse()
        .map_err(|()| field("code", "the digits of the mail: six, or ten"))?;
    let (client, trace) = (room.gate.trusted_proxies.client(http), trace_of(http));
    let attempt = Attempt {
        address,
        code,
        challenge: challenge(http),
        client,
        trace,
    };
    let user_id = room.sign_in.exchange(attempt).await.inspect_err(|error| {
        tracing::info!(%trace, ?client, %error, "not signed in");
    })?;
    room.gate.risk.check_user(user_id)?;
    let issued = room.gate.tokens.sign_in(user_id)?;
    tracing::info!(%trace, %user_id, ?client, "signed in");
    Ok(HttpResponse::Ok().json(SignedIn {
        token: issued.token,
        user_id: user_id.get(),
        expires_at: rfc3339::format(issued.expires_at),
    }))
}

/// Ends the session of the token.
///
/// All tokens that it was renewed to end with it: on this instance at once, on others within seconds.
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
pub async fn sign_out(
    room: web::Data<SignInApi>,
    http: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let caller = room.gate.tokens.caller_to_sign_out(http.headers()).await?;
    let expires_at = room.gate.tokens.revoke(&caller);
    room.sign_in
        .sign_out(caller.user_id, caller.session_id, expires_at)
        .await?;
    tracing::info!(trace = %trace_of(&http), user_id = %caller.user_id, "signed out");
    Ok(HttpResponse::NoContent().finish())
}

/// Ends all sessions of the caller that have begun so far.
///
/// On this instance at once, on others within seconds. Open streams end too.
///
/// # Errors
/// `unauthorized`; `unavailable` when only this instance knows of it: sign in, and send it again.
#[utoipa::path(
    post,
    path = "/api/v1/sign-out/everywhere",
    operation_id = "signOutEverywhere",
    tag = "Sign-in",
    responses((status = 204, description = "The sessions are over.")),
    security(("token" = [])),
)]
pub async fn sign_out_everywhere(
    room: web::Data<SignInApi>,
    http: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let caller = room.gate.tokens.caller(http.headers()).await?;
    let ended = room.gate.tokens.revoke_all(&caller);
    room.sign_in.sign_out_everywhere(ended).await?;
    tracing::info!(trace = %trace_of(&http), user_id = %caller.user_id, "signed out everywhere");
    Ok(HttpResponse::NoContent().finish())
}

fn cookie(challenge: Uuid, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    let (id, life_s) = (challenge.simple(), CODE_LIFE.as_secs());
    format!(
        "{CHALLENGE}={id}; Path=/api/v1/sign-in; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}"
    )
}

/// Another's cookie, or none at all, is no mistake: it is just no challenge.
fn challenge(http: &HttpRequest) -> Option<Uuid> {
    let headers = http.headers().get_all(COOKIE);
    let cookies = headers.filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|value| value.split(';'));
    cookies.find_map(|cookie| {
        let (name, value) = cookie.split_once('=')?;
        (name.trim() == CHALLENGE)
            .then_some(value.trim())?
            .parse()
            .ok()
    })
}

impl From<ThrottleError> for Problem {
    fn from(error: ThrottleError) -> Self {
        match error {
            ThrottleError::UsedUp {
                policy,
                per_minute,
                retry_after,
            } => Self::sign_in_limited(policy, per_minute, retry_after),
            ThrottleError::Store(error) => ExchangeError::Store(error).into(),
        }
    }
}

impl From<ExchangeError> for Problem {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Throttled(error) => error.into(),
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
    Problem::invalid_fields(&[FieldError::new(field, detail)])
}

fn count(metric: &CounterEntry<1>, answer: &Result<HttpResponse, Problem>) {
    let name = answer.as_ref().map_or_else(Problem::name, |_| "ok");
    metric.with([name]).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_challenge_comes_back_as_it_was_given_out_among_other_cookies() {
        let given = Uuid::new_v4();
        let sent = cookie(given, false);
        assert!(!sent.contains("Secure"));
        assert_eq!(cookie(given, true), format!("{sent}; Secure"));
        let pair = sent.split(';').next().unwrap();
        let back = |header: &str| {
            let request = TestRequest::default().insert_header((COOKIE, header));
            challenge(&request.to_http_request())
        };
        assert_eq!(back(pair), Some(given));
        assert_eq!(back(&format!("theme=dark; {pair}; x=y")), Some(given));
        for none in ["", "theme=dark", "seckill-challenge=1", "seckill-challenge"] {
            assert_eq!(back(none), None, "{none:?}");
        }
    }
}
