//! Records that the fold has skipped, with their content, and how one is redriven: by the code of `seckillctl dlq show`
//! and `dlq redrive`.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::Offset;
use seckill_eventlog::{Record, Redriven, record_json};
use seckill_orderbook::{SkipFate, SkippedRecord};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::problem::Problem;
use crate::operators::Admin;
use crate::operators::change::Change;
use crate::operators::role::Action;

/// The most records in a list for a person.
const LISTED: u32 = 50;
const CAUSE_CHARS: usize = 300;
/// The most bytes that are returned of a payload, of a key and of each header.
const PART_BYTES: usize = 2_048;
const HEADERS: usize = 32;

/// A record that was passed over, or of which somebody has decided so.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Letter {
    partition: i32,
    /// Where it stands in the event topic.
    offset: i64,
    /// Why; its first 300 characters.
    cause: String,
    /// The event by which an operator decided so; null where no version can read the record.
    #[schema(required = true, format = "uuid")]
    decided_by: Option<String>,
    /// Whether that event is known to be in the log. Until then the fold waits.
    in_log: bool,
    /// `redriven` or `discarded`; null while nobody has dealt with it.
    #[schema(required = true)]
    fate: Option<&'static str>,
}

/// Records that were passed over.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Letters {
    /// Those that nobody has dealt with first, of these the newest.
    records: Vec<Letter>,
    /// Whether there may be more than the 50 that are listed.
    more: bool,
}

/// One of them with what is in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenedLetter {
    letter: Letter,
    /// Its key, headers and payload, of each at most 2,048 bytes, and `event`: what they say, or `error`: why they say
    /// nothing. Null where the log has the record no more.
    #[schema(required = true, value_type = Option<Object>)]
    record: Option<Value>,
    /// Why it cannot be redriven; null where it can.
    #[schema(required = true)]
    not_redrivable: Option<String>,
}

/// Which record stands in the log again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RedrivenLetter {
    partition: i32,
    /// Where it was passed over.
    offset: i64,
}

impl From<SkippedRecord> for Letter {
    fn from(row: SkippedRecord) -> Self {
        Self {
            partition: row.partition,
            offset: row.offset.get(),
            cause: row.cause.chars().take(CAUSE_CHARS).collect(),
            decided_by: row.decided_by.map(|event| event.to_string()),
            in_log: row.in_log,
            fate: row.fate.map(SkipFate::as_str),
        }
    }
}

/// Lists the records that the fold has skipped.
///
/// # Errors
/// `unauthorized`, `forbidden`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/skipped-records",
    operation_id = "listSkippedRecords",
    tag = "Pipeline",
    responses((status = 200, description = "At most 50.", body = Letters)),
    security(("adminToken" = [])),
    extensions(("x-headers" = json!({"200": ["Cache-Control"]}))),
)]
pub async fn list(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let rows = admin.operations.skipped(LISTED).await?;
    Ok(HttpResponse::Ok().json(Letters {
        more: rows.len() == LISTED as usize,
        records: rows.into_iter().map(Letter::from).collect(),
    }))
}

/// Returns a record that the fold has skipped, with its content.
///
/// # Errors
/// `unauthorized`, `forbidden`, `invalid-request`, `not-found`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/skipped-records/{partition}/{offset}",
    operation_id = "getSkippedRecord",
    tag = "Pipeline",
    responses((status = 200, description = "As it stands in the log.", body = OpenedLetter)),
    security(("adminToken" = [])),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-problems" = json!(["invalid-request", "not-found"])),
    ),
)]
pub async fn one(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let (partition, offset) = place(&http)?;
    let (row, record) = skipped(&admin, partition, offset).await?;
    let not_redrivable = redriven(&row, record.as_ref()).err();
    let record = record.map(|record| {
        let mut json = record_json(&record, PART_BYTES);
        if let Some(headers) = json["headers"].as_array_mut() {
            headers.truncate(HEADERS);
        }
        json
    });
    let letter = Letter::from(row);
    Ok(HttpResponse::Ok().json(OpenedLetter {
        letter,
        record,
        not_redrivable,
    }))
}

/// Writes a record that the fold has skipped into the log again, under the key of its sale.
///
/// Its bytes do not change, and the fold accepts an event once: the same request again does no harm, and changes nothing
/// where the first one succeeded.
///
/// # Errors
/// `unauthorized`, `forbidden`, `invalid-request`, `not-found`, `not-redrivable`, `unavailable`.
#[utoipa::path(
    post,
    path = "/admin/v1/skipped-records/{partition}/{offset}/redrive",
    operation_id = "redriveSkippedRecord",
    tag = "Pipeline",
    responses((status = 202, description = "The record is in the log again.", body = RedrivenLetter)),
    security(("adminToken" = [])),
    extensions(
        ("x-parameters" = json!(["X-Operator", "X-Reason"])),
        ("x-problems" = json!(["invalid-request", "not-found", "not-redrivable"])),
    ),
)]
pub async fn redrive(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let operator = admin.operator(&http, Action::Act).await?;
    let (partition, offset) = place(&http)?;
    let (row, record) = skipped(&admin, partition, offset).await?;
    let terms = json!({});
    let change = Change::new((&admin, &operator), &http, (&terms, &[]), None)?;
    if row.fate != Some(SkipFate::Redriven) {
        let redriven =
            redriven(&row, record.as_ref()).map_err(|why| Problem::not_redrivable(&why))?;
        let voucher_id = redriven.event().voucher_id;
        let trace = change.trace;
        admin.reservations.publish_again(&redriven).await?;
        admin
            .operations
            .note_redriven((partition, offset), voucher_id, change)
            .await?;
        tracing::info!(%trace, %voucher_id, partition, offset = offset.get(), "a skipped record is redriven");
    }
    Ok(HttpResponse::Accepted().json(RedrivenLetter {
        partition,
        offset: offset.get(),
    }))
}

/// What is to be written, or why nothing is.
fn redriven(row: &SkippedRecord, record: Option<&Record>) -> Result<Redriven, String> {
    if let Some(fate) = row.fate {
        return Err(format!("it was dealt with: {}", fate.as_str()));
    }
    let record = record.ok_or_else(|| "the log has it no more".to_owned())?;
    Redriven::of(record).map_err(|error| error.to_string())
}

async fn skipped(
    admin: &Admin,
    partition: i32,
    offset: Offset,
) -> Result<(SkippedRecord, Option<Record>), Problem> {
    let found = admin.operations.letter(partition, offset).await?;
    found.ok_or_else(|| Problem::not_found("The fold has passed over no such record."))
}

fn place(http: &HttpRequest) -> Result<(i32, Offset), Problem> {
    let number = |name| http.match_info().query(name).parse::<u32>().ok();
    let offset = http.match_info().query("offset").parse::<u64>().ok();
    let partition = number("partition").and_then(|number| i32::try_from(number).ok());
    let offset = offset.and_then(|number| i64::try_from(number).ok());
    let wrong = || {
        Problem::invalid(
            "The path names no record: a partition and an offset, as the list has them.",
        )
    };
    let (partition, offset) = partition.zip(offset).ok_or_else(wrong)?;
    Ok((partition, Offset::new(offset)))
}
