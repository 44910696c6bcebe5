//! Around every request: its trace, its metrics, the headers of every answer, the log line of a failure, and the
//! refusal of all requests until the start has checked the stores.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, web};
use seckill_domain::TraceParent;
use seckill_metrics::{Counter, Histogram};
use seckill_service::answers;

use seckill_service::traces;

use crate::buyers::tokens::RenewedToken;
use crate::gate::admission::{Class, ORDERS_ROUTE};
use crate::http::problem::Problem;
use crate::http::{body, request, trace};
use crate::metrics;
use crate::shop::pages;
use crate::state::App;

/// The header with the trace of an answer that failed.
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");
const RENEWED_TOKEN: HeaderName = HeaderName::from_static("x-renewed-token");

/// Gives the request its trace, measures it, and logs a failure with its cause. A path that is spelled in
/// another way than the routes gets no further.
///
/// # Errors
/// Any error of the wrapped service.
pub async fn observe(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let is_head = answers::take_head(&mut request);
    let parent = trace::incoming(&request);
    let trace = traces::of_request(parent);
    request.extensions_mut().insert(trace);
    let mut response = if request::is_canonical(request.path()) {
        next.call(request).await?.map_into_left_body()
    } else {
        let http = request.into_parts().0;
        let refusal = pages::not_found(http.clone()).await;
        let refusal = refusal.unwrap_or_else(|problem| problem.respond());
        ServiceResponse::new(http, refusal).map_into_right_body()
    };
    let route = route_of(response.request());
    let status = response.status();
    let took = started.elapsed();
    if (status.is_client_error() || status.is_server_error())
        && let Ok(value) = HeaderValue::from_str(trace.as_str())
    {
        response.headers_mut().insert(TRACE_RESPONSE, value);
    }
    let problem = failure(&response);
    if let Some(cause) = problem.and_then(Problem::cause) {
        log_failure(status, &route, trace, cause);
    }
    let http = (response.request(), &*route);
    let why = problem.map(|problem| problem.cause().unwrap_or(problem.name()));
    trace::end((trace, parent), http, status, took, why);
    METERS.with_borrow_mut(|meters| meters.count(&route, status, took));
    Ok(answers::complete(response, is_head))
}

/// The pattern of the route that took a request. The router has to look for it once more, but for the route
/// that nearly all requests of a sale take.
fn route_of(request: &HttpRequest) -> Cow<'static, str> {
    if matches!(Class::of(request.method(), request.path()), Class::Order(_)) {
        return ORDERS_ROUTE.into();
    }
    // A path without a route is a text of the client. As a label it would create a series for each request.
    let pattern = request.match_pattern();
    pattern.map_or("unmatched".into(), Cow::from)
}

thread_local! {
    static METERS: RefCell<Meters> = RefCell::default();
}

/// The metrics of one thread. They are stored, because a look-up by name takes longer than counting.
#[derive(Default)]
struct Meters(HashMap<String, RouteMeters>);

struct RouteMeters {
    seconds: Histogram,
    answers: HashMap<StatusCode, Counter>,
}

impl Meters {
    fn count(&mut self, route: &str, status: StatusCode, took: Duration) {
        if !self.0.contains_key(route) {
            let name = route.to_owned();
            let meters = RouteMeters {
                seconds: metrics::HTTP_REQUEST_SECONDS.with([name.clone()]),
                answers: HashMap::new(),
            };
            self.0.insert(name, meters);
        }
        let Some(meters) = self.0.get_mut(route) else {
            return;
        };
        meters.seconds.record(took);
        let answers = meters.answers.entry(status);
        let counter = || {
            let labels = [route.to_owned(), status.as_u16().to_string()];
            metrics::HTTP_REQUESTS.with(labels)
        };
        answers.or_insert_with(counter).increment(1);
    }
}

/// Refuses a request for which there is no place, before anything is done for it. Its body is still
/// read, so that the client can use its connection again.
///
/// # Errors
/// Any error of the wrapped service.
pub async fn admit(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let mut refusal = {
        let Some(app) = request.app_data::<web::Data<App>>() else {
            return Ok(next.call(request).await?.map_into_left_body());
        };
        let class = Class::of(request.method(), request.path());
        match app
            .gate
            .admission
            .admit(class, |voucher| app.orders.reservations.check_room(voucher))
        {
            Some(_entered) => return Ok(next.call(request).await?.map_into_left_body()),
            None => app.gate.admission.refusal(),
        }
    };
    answers::add_headers(refusal.headers_mut());
    let headers = request.headers();
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        body::discard(request.take_payload()).await;
    }
    Ok(request.into_response(refusal).map_into_right_body())
}

/// Refuses while the start has not checked the stores: an order taken then could end up on a
/// partition that nobody folds.
///
/// # Errors
/// Any error of the wrapped service.
pub async fn require_started(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let started = request
        .app_data::<web::Data<App>>()
        .is_some_and(|app| app.is_started());
    if started {
        Ok(next.call(request).await?.map_into_left_body())
    } else {
        let refusal = Problem::unavailable("The service is starting: try again in a moment.");
        Ok(request.error_response(refusal).map_into_right_body())
    }
}

/// Adds the renewed token to the answer, whatever that is, and forbids caches to store the answer.
///
/// # Errors
/// Any error of the wrapped service.
pub async fn hand_out_renewed_token(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let mut response = next.call(request).await?;
    let renewed = response.request().extensions_mut().remove::<RenewedToken>();
    if let Some(RenewedToken(token)) = renewed
        && let Ok(value) = HeaderValue::from_str(&token)
    {
        let headers = response.headers_mut();
        headers.insert(RENEWED_TOKEN, value);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// Logs why a request could not be served. Requests that were refused at once are only counted, because there
/// may be very many.
fn failure<B>(response: &ServiceResponse<B>) -> Option<&Problem> {
    if !response.status().is_server_error() {
        return None;
    }
    let problem = response.response().error()?.as_error::<Problem>()?;
    (problem.name() != Problem::OVERLOADED).then_some(problem)
}

/// A failure without a cause says all there is to know in its answer.
fn log_failure(status: StatusCode, route: &str, trace: TraceParent, cause: &str) {
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%trace, route, cause, "request failed");
    } else {
        tracing::warn!(%trace, route, status = status.as_u16(), cause, "request not served");
    }
}
