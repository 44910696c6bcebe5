//! Sales, through the ingress' admin API.

use anyhow::Context;
use clap::{Args, Subcommand};
use seckill_domain::{
    Actor, Currency, Money, Reason, Terms, Timestamp, TimestampError, Title, VoucherId,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::act::user;
use crate::admin::{AdminApi, Asking};
use crate::commands::sale_report::report;
use crate::failure::Failure;
use crate::output::{Report, fields, table, tell};
use crate::settings::Settings;

/// What to do with sales.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put a sale up; prints its id.
    #[command(
        after_help = "Example: seckillctl sale create --title Lamp --price-cents 4900 --stock 100 --require-sale-token"
    )]
    Create(NewSale),
    /// List the sales, the newest first.
    List(SalesPage),
    /// Show where a sale's units are, in PostgreSQL and Redis.
    Show {
        /// The voucher id of the sale.
        #[arg(value_name = "ID")]
        voucher: VoucherId,
    },
    /// Print the results of a sale: sell-through, orders by state, when it sold out, lateness of expiries, refunds,
    /// drift.
    ///
    /// The data come from PostgreSQL and from the ingress' ledger. Refusals and latency are not counted for single
    /// sales; the report contains queries for Prometheus for the time of the sale.
    #[command(after_help = "Example: seckillctl sale report 17 --output json")]
    Report {
        /// The voucher id of the sale.
        #[arg(value_name = "ID")]
        voucher: VoucherId,
    },
    /// Put more units on sale.
    Restock(Adjustment),
    /// Remove units from a sale; refused while they are sold or held.
    Shrink(Adjustment),
    /// End a sale; its live orders can still be paid.
    Close(Closing),
}

/// Who makes the change, and with which idempotency key.
#[derive(Debug, Args)]
pub(crate) struct Repeatable {
    /// The name of the operator, for the audit [default: the value of USER].
    #[arg(long, value_name = "NAME", value_parser = Actor::written)]
    actor: Option<Actor>,
    /// Repeat the command that printed this key. A change that it has made is not made again.
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    idempotency_key: Option<String>,
}

/// The terms of a new sale.
#[derive(Debug, Args)]
pub(crate) struct NewSale {
    /// The title that buyers see.
    #[arg(long, value_parser = Title::written)]
    title: Title,
    /// The price of one unit, in minor units of the currency: 4900 is €49.00, ¥4900 or KWD 4.900.
    #[arg(long, value_name = "CENTS", value_parser = clap::value_parser!(i64).range(Terms::PRICE_CENTS))]
    price_cents: i64,
    /// Three capital letters of ISO 4217.
    #[arg(long, default_value = "EUR", value_parser = Currency::in_use)]
    currency: Currency,
    /// Units on sale.
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(i64).range(Terms::STOCK))]
    stock: i64,
    /// The most units in one order.
    #[arg(long, value_name = "UNITS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(Terms::MAX_QUANTITY))]
    max_quantity: u32,
    /// When orders are first taken, in RFC 3339 [default: now].
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    opens_at: Option<OffsetDateTime>,
    /// When orders are no longer taken, in RFC 3339 [default: an hour after --opens-at].
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    closes_at: Option<OffsetDateTime>,
    /// Seconds that a buyer has to pay.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(Terms::HOLD_SECONDS))]
    hold_seconds: u32,
    /// Accept only orders with a one-use token from the sale's page.
    #[arg(long)]
    require_sale_token: bool,
    /// The reason, for the audit.
    #[arg(long, value_name = "TEXT", value_parser = Reason::written)]
    reason: Option<Reason>,
    #[command(flatten)]
    repeatable: Repeatable,
}

/// Which part of a list.
#[derive(Debug, Args)]
pub(crate) struct SalesPage {
    /// The most sales to list.
    #[arg(long, value_name = "SALES", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    /// Only sales with a smaller id than this.
    #[arg(long, value_name = "ID")]
    before: Option<VoucherId>,
}

/// A change of a sale's stock.
#[derive(Debug, Args)]
pub(crate) struct Adjustment {
    /// The voucher id of the sale.
    #[arg(value_name = "ID")]
    voucher: VoucherId,
    /// The number of units.
    #[arg(value_parser = clap::value_parser!(i64).range(1..=Terms::DELTA_MAX))]
    units: i64,
    /// The reason, for the log and the audit.
    #[arg(long, value_parser = Reason::written)]
    reason: Reason,
    #[command(flatten)]
    repeatable: Repeatable,
}

/// The end of a sale.
#[derive(Debug, Args)]
pub(crate) struct Closing {
    /// The voucher id of the sale.
    #[arg(value_name = "ID")]
    voucher: VoucherId,
    /// The reason, for the audit.
    #[arg(long, value_name = "TEXT", value_parser = Reason::written)]
    reason: Option<Reason>,
    #[command(flatten)]
    repeatable: Repeatable,
}

impl Repeatable {
    /// Prints, before the request is sent, how to repeat it: with its key, and with the `terms` that were not given.
    fn asking(&self, reason: Option<&Reason>, terms: &str) -> Asking {
        let key = self.idempotency_key.clone();
        let key = key.unwrap_or_else(|| Uuid::new_v4().to_string());
        tell(format_args!(
            "to repeat this: --idempotency-key {key}{terms}\n"
        ));
        Asking {
            actor: self.actor.clone().or_else(user),
            reason: reason.cloned(),
            key,
        }
    }
}

pub(crate) async fn run(command: Command, settings: &Settings) -> Result<Report, Failure> {
    let api = AdminApi::new(settings.admin()?);
    match command {
        Command::Create(terms) => create(&api, &terms).await,
        Command::List(page) => list(&api, &page).await,
        Command::Show { voucher } => show(&api, voucher).await,
        Command::Report { voucher } => report(&api, voucher, settings).await,
        Command::Restock(change) => adjust(&api, &change, change.units).await,
        Command::Shrink(change) => adjust(&api, &change, -change.units).await,
        Command::Close(closing) => close(&api, &closing).await,
    }
}

async fn create(api: &AdminApi, terms: &NewSale) -> Result<Report, Failure> {
    #[derive(Deserialize)]
    struct Created {
        voucher_id: i64,
    }
    let repeatable = &terms.repeatable;
    if repeatable.idempotency_key.is_some() && terms.opens_at.and(terms.closes_at).is_none() {
        return Err(Failure::Usage(
            "--idempotency-key needs the times of the command that it repeats: that one printed them"
                .into(),
        ));
    }
    let body = scheduling(terms, OffsetDateTime::now_utc())?;
    let times = ["opens", "closes"].map(|end| {
        let at = body[format!("{end}_at")].as_str().unwrap_or_default();
        format!(" --{end}-at {at}")
    });
    let asking = repeatable.asking(terms.reason.as_ref(), &times.concat());
    let json = api.post("/vouchers", &body, &asking).await?;
    let Created { voucher_id } = parse(&json)?;
    let text = format!("sale {voucher_id} is scheduled");
    Ok(Report { json, text })
}

fn scheduling(terms: &NewSale, now: OffsetDateTime) -> anyhow::Result<Value> {
    let opens_at = terms.opens_at.unwrap_or(now);
    let closes_at = terms
        .closes_at
        .or_else(|| opens_at.checked_add(Duration::HOUR));
    let closes_at = closes_at.context("--opens-at is beyond the calendar; give an earlier one")?;
    let mut body = json!({
        "title": terms.title.as_str(),
        "price_cents": terms.price_cents,
        "currency": terms.currency.as_str(),
        "stock": terms.stock,
        "max_quantity": terms.max_quantity,
        "opens_at": opens_at.format(&Rfc3339).context("--opens-at")?,
        "closes_at": closes_at.format(&Rfc3339).context("--closes-at")?,
        "hold_seconds": terms.hold_seconds,
    });
    if terms.require_sale_token {
        body["requires_sale_token"] = json!(true);
    }
    Ok(body)
}

/// A sale as the catalogue describes it.
#[derive(Debug, Deserialize)]
struct Voucher {
    voucher_id: i64,
    title: String,
    price_cents: i64,
    currency: String,
    stock_left: i64,
    max_quantity: u32,
    opens_at: String,
    closes_at: String,
    status: String,
}

async fn list(api: &AdminApi, page: &SalesPage) -> Result<Report, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        vouchers: Vec<Voucher>,
        next: Option<i64>,
    }
    let mut path = format!("/vouchers?limit={}", page.limit);
    if let Some(before) = page.before {
        path = format!("{path}&before={before}");
    }
    let json = api.get(&path).await?;
    let Answer { vouchers, next } = parse(&json)?;
    let rows: Vec<_> = vouchers.into_iter().map(row).collect();
    let headers = [
        "id",
        "status",
        "left",
        "price",
        "max",
        "opens at",
        "closes at",
        "title",
    ];
    let mut text = table(headers, &rows);
    if let Some(next) = next {
        text = format!("{text}\nolder sales: --before {next}");
    }
    Ok(Report { json, text })
}

/// The price as text for people, or as it was received if it is not a valid price.
fn price(voucher: &Voucher) -> String {
    let (cents, currency) = (voucher.price_cents, &voucher.currency);
    let money = currency.parse().and_then(|of| Money::new(cents, of));
    money.map_or_else(|_| format!("{cents} {currency}"), |money| money.to_string())
}

fn row(voucher: Voucher) -> [String; 8] {
    let price = price(&voucher);
    [
        voucher.voucher_id.to_string(),
        voucher.status,
        voucher.stock_left.to_string(),
        price,
        voucher.max_quantity.to_string(),
        voucher.opens_at,
        voucher.closes_at,
        voucher.title,
    ]
}

/// Where a sale's units are. The numbers that only Redis knows are missing while it does not serve the sale.
#[derive(Debug, Deserialize)]
pub(crate) struct Ledger {
    initial: i64,
    adjusted: i64,
    available: i64,
    held: Option<i64>,
    unpaid: i64,
    paid: i64,
    redis_available: Option<i64>,
    in_flight: Option<i64>,
    pub(crate) drift: Option<i64>,
    /// Whether the stores were read at the same position of the log. If not, the drift means nothing.
    pub(crate) consistent: bool,
}

async fn show(api: &AdminApi, voucher: VoucherId) -> Result<Report, Failure> {
    let json = api.get(&format!("/vouchers/{voucher}/ledger")).await?;
    let text = ledger_text(&parse(&json)?);
    Ok(Report { json, text })
}

/// A number that only Redis knows, or a text if it is not known.
pub(crate) fn known(units: Option<i64>) -> String {
    units.map_or_else(|| "unknown: not on sale in Redis".into(), |n| n.to_string())
}

fn ledger_text(ledger: &Ledger) -> String {
    fields(&[
        ("initial", ledger.initial.to_string()),
        ("adjusted", ledger.adjusted.to_string()),
        ("available", ledger.available.to_string()),
        ("unpaid", ledger.unpaid.to_string()),
        ("paid", ledger.paid.to_string()),
        ("held in Redis", known(ledger.held)),
        ("available in Redis", known(ledger.redis_available)),
        ("in flight", known(ledger.in_flight)),
        ("drift", known(ledger.drift)),
        ("consistent", ledger.consistent.to_string()),
    ])
}

async fn adjust(api: &AdminApi, change: &Adjustment, delta: i64) -> Result<Report, Failure> {
    let voucher = change.voucher;
    let body = json!({ "delta": delta, "reason": change.reason.as_str() });
    let asking = change.repeatable.asking(None, "");
    let path = format!("/vouchers/{voucher}/stock");
    let json = api.post(&path, &body, &asking).await?;
    let text = format!("sale {voucher}: a change of stock by {delta:+} is accepted");
    Ok(Report { json, text })
}

async fn close(api: &AdminApi, closing: &Closing) -> Result<Report, Failure> {
    let voucher = closing.voucher;
    let asking = closing.repeatable.asking(closing.reason.as_ref(), "");
    let path = format!("/vouchers/{voucher}/close");
    let json = api.post(&path, &json!({}), &asking).await?;
    let text = format!("sale {voucher}: its end is accepted");
    Ok(Report { json, text })
}

/// Checks an idempotency key with the rule of the admin API.
fn parse_key(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned())
        .ok_or_else(|| "1 to 255 visible ASCII characters".to_owned())
}

pub(crate) fn parse<T: DeserializeOwned>(json: &Value) -> anyhow::Result<T> {
    T::deserialize(json).context(
        "the admin API answered in another shape than expected: are seckillctl and the ingress of \
         one version?",
    )
}

pub(crate) fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|e| format!("{e}; give RFC 3339, such as 2030-01-31T12:00:00Z"))?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000))
        .ok()
        .and_then(|micros| Timestamp::new(micros).ok())
        .map(|_| time)
        .ok_or_else(|| TimestampError.to_string())
}
