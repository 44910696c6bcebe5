//! A change that an operator asks for. The operator, the request and the reason are recorded before a sale is changed,
//! and an idempotency key always belongs to the same event.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use seckill_domain::{Actor, EventId, KeyHash, Reason, TraceParent, VoucherId};
use seckill_orderbook::{AuditEntry, RequestKey, SaleRequest};
use serde_json::Value;
use uuid::Uuid;

use crate::http::problem::{FieldError, Problem};
use crate::http::request;
use crate::http::trace::trace_of;
use crate::operators::Admin;
use crate::operators::auth::Operator;

const OPERATOR: &str = "X-Operator";
const REASON: &str = "X-Reason";

/// A checked request.
#[derive(Clone)]
pub(super) struct Change {
    actor: String,
    /// The address that the request came from.
    origin: Option<String>,
    reason: String,
    /// The request line and the terms.
    command: String,
    pub(super) trace: TraceParent,
    key: Option<RequestKey>,
}

/// A recorded change.
pub(super) struct Noted {
    /// The id of its event. It is always the same for the same key, also after PostgreSQL has lost the key. In that
    /// case the event is in the log twice, and the fold accepts it once.
    pub(super) event_id: EventId,
    /// Whether the same change was requested before.
    pub(super) again: bool,
}

impl Change {
    /// `asked` are the terms as they were received, and `canonical` is the same for all spellings of the request. If
    /// the terms have no `reason`, a header may have one.
    ///
    /// # Errors
    /// 400 for an invalid header, or for a header that names another operator than the owner of the token.
    pub(super) fn new(
        (admin, operator): (&Admin, &Operator),
        http: &HttpRequest,
        (asked, canonical): (&Value, &[u8]),
        reason: Option<&Reason>,
    ) -> Result<Self, Problem> {
        let key = request::key_hash(http.headers())?;
        let reason = match reason {
            Some(reason) => Some(reason.clone()),
            None => header(http.headers(), REASON, Reason::written)?,
        };
        let address = admin.gate.trusted_proxies.client(http);
        let origin = address.map(|address| address.to_string());
        let said = header(http.headers(), OPERATOR, Actor::written)?;
        if let (Some(said), Some(known)) = (&said, &operator.name)
            && said != known
        {
            return Err(Problem::invalid_fields(&[FieldError::new(
                OPERATOR,
                "the name that the token is of, or none",
            )]));
        }
        let actor = said.or_else(|| operator.name.clone());
        let actor = actor.map(|actor| actor.to_string());
        Ok(Self {
            // With the shared admin token the name of the operator is not known.
            actor: actor.or_else(|| origin.clone()).unwrap_or_default(),
            origin,
            reason: reason.unwrap_or_default().to_string(),
            command: format!("{} {} {asked}", http.method(), http.path()),
            trace: trace_of(http),
            key: key.map(|key| RequestKey {
                key,
                request: request::hash(canonical),
            }),
        })
    }

    /// Records the change, and returns the id of the new sale, which is the same for the same key.
    ///
    /// # Errors
    /// `idempotency-key-reused`, `unavailable`.
    pub(super) async fn note_sale(&self, admin: &Admin) -> Result<VoucherId, Problem> {
        let change = self.clone();
        let noted = admin.reads.with_orderbook(|orderbook| async move {
            orderbook.request_sale(change.key, change.entry()).await
        });
        match noted.await? {
            SaleRequest::New(voucher) | SaleRequest::Same(voucher) => Ok(voucher),
            SaleRequest::Reused => Err(Problem::key_reused()),
        }
    }

    /// Records the change.
    ///
    /// # Errors
    /// As [`Self::note_sale`].
    pub(super) async fn note(&self, admin: &Admin, voucher: VoucherId) -> Result<Noted, Problem> {
        let change = self.clone();
        let noted = admin.reads.with_orderbook(move |orderbook| async move {
            let entry = change.entry();
            orderbook.request_change(voucher, change.key, entry).await
        });
        let again = match noted.await? {
            SaleRequest::New(_) => false,
            SaleRequest::Same(_) => true,
            SaleRequest::Reused => return Err(Problem::key_reused()),
        };
        fail::fail_point!("ingress.operator.after-note");
        let new = || EventId::from_uuid(Uuid::now_v7());
        let event_id = self.key.map_or_else(new, |key| event_id(key.key, voucher));
        Ok(Noted { event_id, again })
    }

    /// The advice for the operator if it is not known whether the event is in the log.
    pub(super) fn repeat(&self) -> &'static str {
        match self.key {
            Some(_) => "send it again with the same Idempotency-Key",
            None => "look at the ledger before you send it again",
        }
    }

    pub(super) fn entry(&self) -> AuditEntry<'_> {
        AuditEntry {
            actor: &self.actor,
            command: &self.command,
            reason: &self.reason,
            origin: self.origin.as_deref(),
            affected: 1,
            voucher_id: None,
            trace: Some(self.trace),
        }
    }
}

fn event_id(key: KeyHash, voucher: VoucherId) -> EventId {
    let named = request::hash(format!("{voucher} {key}").as_bytes());
    EventId::from_uuid(Uuid::new_v8(*named.as_bytes()))
}

fn header<T, E: ToString>(
    headers: &HeaderMap,
    name: &'static str,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = str::from_utf8(value.as_bytes()).map_err(|error| error.to_string());
    let read = text.and_then(|text| read(text).map_err(|error| error.to_string()));
    read.map(Some)
        .map_err(|detail| Problem::invalid_fields(&[FieldError::new(name, detail)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_one_keys_and_one_sales() {
        let id = |key, voucher| {
            event_id(
                KeyHash::from_bytes([key; 16]),
                VoucherId::new(voucher).unwrap(),
            )
        };
        assert_eq!(id(1, 7), id(1, 7));
        assert_ne!(id(1, 7), id(2, 7));
        assert_ne!(id(1, 7), id(1, 8));
        assert_eq!(id(1, 7).as_uuid().get_version_num(), 8);
    }
}
