//! Records that the fold has skipped, with their content, which is read with the same code as in `seckillctl dlq show`.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::Offset;
use seckill_eventlog::record_json;
use seckill_orderbook::{SkipFate, SkippedRecord};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::problem::Problem;
use crate::operators::Admin;
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
    let found = admin.operations.letter(partition, offset).await?;
    let unknown = || Problem::not_found("The fold has passed over no such record.");
    let (row, record) = found.ok_or_else(unknown)?;
    let record = record.map(|record| {
        let mut json = record_json(&record, PART_BYTES);
        if let Some(headers) = json["headers"].as_array_mut() {
            headers.truncate(HEADERS);
        }
        json
    });
    let letter = Letter::from(row);
    Ok(HttpResponse::Ok().json(OpenedLetter { letter, record }))
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
