//! What the projectors' consistency check finds wrong at the moment.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::Timestamp;
use seckill_orderbook::Finding as FindingRow;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::problem::Problem;
use crate::http::rfc3339;
use crate::operators::Admin;
use crate::operators::role::Action;

/// As many as a person looks through.
const LISTED: u32 = 50;

/// What is wrong at the moment; of a sale whose projector does not run, what it last found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Findings {
    /// The oldest first; of one sale at most 20.
    findings: Vec<Finding>,
    /// Whether there may be more than the 50 that are listed.
    more: bool,
}

/// Something that is wrong with a sale, seen in two looks.
#[derive(Debug, Serialize, ToSchema)]
struct Finding {
    voucher_id: i64,
    /// The rule that is broken, as the label of `seckill_audit_violations` has it.
    invariant: String,
    /// What it is about, such as a hold; empty where it is the sale. At most 300 characters, as the detail.
    subject: String,
    detail: String,
    /// By PostgreSQL's clock.
    #[serde(serialize_with = "rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

impl From<(Timestamp, FindingRow)> for Finding {
    fn from((since, row): (Timestamp, FindingRow)) -> Self {
        Self {
            voucher_id: row.voucher_id.get(),
            invariant: row.invariant,
            subject: row.subject,
            detail: row.detail,
            since,
        }
    }
}

/// Lists what the consistency check finds wrong at the moment.
///
/// # Errors
/// `unauthorized`, `forbidden`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/findings",
    operation_id = "listFindings",
    tag = "Pipeline",
    responses((status = 200, description = "At most 50.", body = Findings)),
    security(("adminToken" = [])),
    extensions(("x-headers" = json!({"200": ["Cache-Control"]}))),
)]
pub async fn list(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let read = admin
        .reads
        .with_orderbook(|orderbook| async move { orderbook.findings(LISTED).await });
    let rows = read.await?;
    Ok(HttpResponse::Ok().json(Findings {
        more: rows.len() == LISTED as usize,
        findings: rows.into_iter().map(Finding::from).collect(),
    }))
}
