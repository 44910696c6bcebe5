//! An order on its way to the script.

use seckill_domain::TraceParent;
use seckill_service::clock::BootInstant;
use seckill_stock::ReserveRequest;
use tokio::sync::oneshot;

use super::meters::InFlight;
use super::{PlaceError, Placed};

/// An order on its way to the script.
pub(super) struct Request {
    pub(super) ask: ReserveRequest,
    pub(super) waiter: Waiter,
    pub(super) queued_at: BootInstant,
}

/// The side of the buyer of a request. The order counts as in flight until this is dropped, also after
/// the buyer was answered.
pub(super) struct Waiter {
    reply: Option<oneshot::Sender<Result<Placed, PlaceError>>>,
    /// The id of the request's span, if somebody records its trace.
    span: u64,
    _in_flight: InFlight,
}

impl Waiter {
    pub(super) const fn new(
        reply: oneshot::Sender<Result<Placed, PlaceError>>,
        in_flight: InFlight,
        span: u64,
    ) -> Self {
        Self {
            reply: Some(reply),
            span,
            _in_flight: in_flight,
        }
    }

    /// The request's span, of the same trace as `context`.
    pub(super) fn span(&self, context: TraceParent) -> TraceParent {
        context.child(self.span)
    }

    /// Sends the answer, the first time it is called. The caller may be gone, which changes nothing.
    pub(super) fn answer(&mut self, answer: Result<Placed, PlaceError>) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(answer);
        }
    }
}
