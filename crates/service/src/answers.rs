//! What holds for every answer of every listener: HEAD is answered as GET is, without the body (RFC 9110,
//! 9.3.2), nobody keeps what does not say that it may be kept, and nobody guesses what it is.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::{BodySize, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::Next;
use actix_web::web::Bytes;

/// A body of which only the size is told.
pub struct Unsent(BodySize);

impl MessageBody for Unsent {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}

/// Makes HEAD the GET that it asks about, and says whether it was one.
pub fn take_head(request: &mut ServiceRequest) -> bool {
    let is_head = request.method() == Method::HEAD;
    if is_head {
        request.head_mut().method = Method::GET;
    }
    is_head
}

/// Those of every answer.
pub fn add_headers(headers: &mut HeaderMap) {
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// The answer as it is sent; `is_head` is what [`take_head`] said.
pub fn complete<B: MessageBody>(
    mut response: ServiceResponse<B>,
    is_head: bool,
) -> ServiceResponse<EitherBody<B, Unsent>> {
    add_headers(response.headers_mut());
    response.map_body(|_, body| {
        if is_head {
            EitherBody::right(Unsent(body.size()))
        } else {
            EitherBody::left(body)
        }
    })
}

/// Both, around a listener's routes.
///
/// # Errors
/// Any error of the wrapped service.
pub async fn observe(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let is_head = take_head(&mut request);
    Ok(complete(next.call(request).await?, is_head))
}
