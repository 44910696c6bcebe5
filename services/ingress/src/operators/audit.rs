//! What operators did to a sale, as the audit has it.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::Timestamp;
use seckill_orderbook::AuditedDeed;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::problem::Problem;
use crate::http::{request, rfc3339};
use crate::operators::Admin;
use crate::operators::api::unknown_sale;
use crate::operators::role::Action;

/// As many as a person looks through.
const LISTED: u32 = 50;

/// What operators did to a sale.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Audit {
    /// The newest first.
    deeds: Vec<Deed>,
    /// Whether there may be more than the 50 that are listed.
    more: bool,
}

/// What an operator did or asked for. It is noted before it is done: whether it was, the ledger and the report say. Only
/// a redrive is noted afterwards.
#[derive(Debug, Serialize, ToSchema)]
struct Deed {
    /// By PostgreSQL's clock.
    #[serde(serialize_with = "rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who; the address of the request where nobody's name was known.
    actor: String,
    /// The request with its terms, or the command as it was typed.
    command: String,
    /// Why; empty where nobody said.
    reason: String,
}

impl From<AuditedDeed> for Deed {
    fn from(deed: AuditedDeed) -> Self {
        Self {
            at: deed.at,
            actor: deed.actor,
            command: deed.command,
            reason: deed.reason,
        }
    }
}

/// Lists what operators did to a sale.
///
/// # Errors
/// `unauthorized`, `forbidden`, `not-found`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/vouchers/{voucher_id}/audit",
    operation_id = "getAudit",
    tag = "Sales",
    responses((status = 200, description = "At most 50.", body = Audit)),
    security(("adminToken" = [])),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-problems" = json!(["invalid-request", "not-found"])),
    ),
)]
pub async fn of_sale(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let voucher = request::voucher_id(&http)?;
    admin.reads.sale(voucher).await?.ok_or_else(unknown_sale)?;
    let read = admin
        .reads
        .with_orderbook(move |orderbook| async move { orderbook.audit_of(voucher, LISTED).await });
    let deeds = read.await?;
    Ok(HttpResponse::Ok().json(Audit {
        more: deeds.len() == LISTED as usize,
        deeds: deeds.into_iter().map(Deed::from).collect(),
    }))
}
