//! The body of a request that puts up a sale, and its checks.

use std::ops::RangeInclusive;

use seckill_domain::{Currency, Money, Terms, Timestamp, Title};
use serde_json::{Map, Value, json};
use utoipa::openapi::schema::{
    AdditionalProperties, KnownFormat, Object, ObjectBuilder, SchemaFormat, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::http::problem::FieldError;
use crate::http::rfc3339;

/// The rule of the domain for texts that are written now, for the API's document: no control characters, and at least
/// one character that is not white space.
pub(crate) const ONE_LINE_PATTERN: &str = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*[^\s\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069][^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$";
const QUANTITY_DEFAULT: i64 = 1;
const HOLD_DEFAULT_SECONDS: i64 = 900;

const MEMBERS: [&str; 9] = [
    "title",
    "price_cents",
    "currency",
    "stock",
    "max_quantity",
    "opens_at",
    "closes_at",
    "hold_seconds",
    "requires_sale_token",
];

const PRICE: &str =
    "Of one unit, in minor units of the currency by ISO 4217: 4900 is €49.00, ¥4900 or KWD 4.900.";

/// The body, for the API's document: [`parse`] reads it member by member.
pub(super) struct SaleRequest;

impl PartialSchema for SaleRequest {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let time = || {
            let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
            text()
                .format(Some(format))
                .pattern(Some(rfc3339::YEARS_PATTERN))
        };
        let flag = ObjectBuilder::new()
            .schema_type(Type::Boolean)
            .default(Some(false.into()))
            .description(Some(
                "Whether orders need a one-use token from the sale's page.",
            ));
        let title = text()
            .min_length(Some(1))
            .max_length(Some(Title::MAX_CHARS));
        let price = ObjectBuilder::from(whole(Terms::PRICE_CENTS, None));
        let codes = Currency::all_in_use().map(|currency| currency.to_string());
        let required = [
            "title",
            "price_cents",
            "currency",
            "stock",
            "opens_at",
            "closes_at",
        ];
        required
            .into_iter()
            .fold(ObjectBuilder::new(), ObjectBuilder::required)
            .property("title", title.pattern(Some(ONE_LINE_PATTERN)))
            .property("price_cents", price.description(Some(PRICE)))
            .property("currency", text().enum_values(Some(codes)))
            .property("stock", whole(Terms::STOCK, None))
            .property(
                "max_quantity",
                whole(Terms::MAX_QUANTITY, Some(QUANTITY_DEFAULT)),
            )
            .property(
                "opens_at",
                time().description(Some("From 1970 to 9999 in UTC.")),
            )
            .property(
                "closes_at",
                time().description(Some("After opens_at, and in the future.")),
            )
            .property(
                "hold_seconds",
                whole(Terms::HOLD_SECONDS, Some(HOLD_DEFAULT_SECONDS)),
            )
            .property("requires_sale_token", flag)
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .description(Some("A sale."))
            .examples([json!({
                "title": "Lamp", "price_cents": 999, "currency": "EUR", "stock": 100,
                "opens_at": "2026-05-01T10:00:00Z", "closes_at": "2999-05-01T11:00:00Z",
            })])
            .into()
    }
}

impl ToSchema for SaleRequest {}

fn whole(range: RangeInclusive<i64>, default: Option<i64>) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(*range.start()))
        .maximum(Some(*range.end()))
        .default(default.map(Value::from))
        .build()
}

/// The terms of `{title, price_cents, currency, stock, max_quantity?, opens_at, closes_at,
/// hold_seconds?, requires_sale_token?}`. The end of the window has to be after `now`.
///
/// # Errors
/// All mistakes together, also missing and unknown members.
pub fn parse(body: &Map<String, Value>, now: Timestamp) -> Result<Terms, Vec<FieldError>> {
    let mut check = Check {
        body,
        errors: Vec::new(),
    };
    if let Some(unknown) = body.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        check.refuse("body", format!("{unknown:?} is no member of a sale"));
    }
    let title = check.title();
    let cents = check.integer("price_cents", None, Terms::PRICE_CENTS);
    let currency = check.currency();
    let stock = check.integer("stock", None, Terms::STOCK);
    let max_quantity = check.integer("max_quantity", Some(QUANTITY_DEFAULT), Terms::MAX_QUANTITY);
    let opens_at = check.time("opens_at");
    let closes_at = check.time("closes_at");
    check.window(opens_at, closes_at, now);
    let hold_default = Some(HOLD_DEFAULT_SECONDS);
    let hold_seconds = check.integer("hold_seconds", hold_default, Terms::HOLD_SECONDS);
    let requires_sale_token = check.flag("requires_sale_token");
    let price = cents.zip(currency).and_then(|(c, y)| Money::new(c, y).ok());
    let terms = || {
        Some(Terms {
            title: title?,
            price: price?,
            stock: stock?,
            max_quantity: max_quantity?,
            opens_at: opens_at?,
            closes_at: closes_at?,
            hold_seconds: hold_seconds?,
            requires_sale_token: requires_sale_token?,
        })
    };
    match terms() {
        Some(terms) if check.errors.is_empty() => Ok(terms),
        _ => Err(check.errors),
    }
}

/// The same bytes for the same terms, independent of the spelling of the request.
#[must_use]
pub fn canonical(terms: &Terms) -> Vec<u8> {
    let Terms {
        title,
        price,
        stock,
        max_quantity,
        opens_at,
        closes_at,
        hold_seconds,
        requires_sale_token,
    } = terms;
    let mut values = vec![
        json!(title.as_str()),
        json!(price.cents()),
        json!(price.currency().as_str()),
        json!(stock),
        json!(max_quantity),
        json!(opens_at.as_micros()),
        json!(closes_at.as_micros()),
        json!(hold_seconds),
    ];
    // The member is added only if it is true, so that terms of keys from before it existed are still the same.
    if *requires_sale_token {
        values.push(json!(true));
    }
    Value::Array(values).to_string().into_bytes()
}

/// Reads members and collects mistakes. A member with a mistake is read as `None`.
struct Check<'a> {
    body: &'a Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Check<'_> {
    fn refuse(&mut self, field: &'static str, detail: impl Into<String>) {
        let detail = detail.into();
        self.errors.push(FieldError::new(field, detail));
    }

    fn text(&mut self, field: &'static str, expected: &str) -> Option<String> {
        let text = self.body.get(field).and_then(Value::as_str);
        if text.is_none() {
            self.refuse(field, expected);
        }
        text.map(str::to_owned)
    }

    fn title(&mut self) -> Option<Title> {
        let title = self.text("title", "a text")?;
        Title::written(&title)
            .map_err(|error| self.refuse("title", error.to_string()))
            .ok()
    }

    fn currency(&mut self) -> Option<Currency> {
        let expected = "three capital letters of ISO 4217, such as EUR";
        let currency = Currency::in_use(&self.text("currency", expected)?);
        currency
            .map_err(|error| self.refuse("currency", error.to_string()))
            .ok()
    }

    fn time(&mut self, field: &'static str) -> Option<Timestamp> {
        let text = self.text(field, "an RFC 3339 time, such as 2026-05-01T10:00:00Z")?;
        rfc3339::parse(&text)
            .map_err(|expected| self.refuse(field, expected))
            .ok()
    }

    fn integer<T: TryFrom<i64>>(
        &mut self,
        field: &'static str,
        default: Option<i64>,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        let value = match self.body.get(field) {
            Some(value) => value.as_i64(),
            None => default,
        };
        let fits = value.filter(|value| range.contains(value));
        if fits.is_none() {
            let (min, max) = (range.start(), range.end());
            self.refuse(field, format!("a whole number from {min} to {max}"));
        }
        T::try_from(fits?).ok()
    }

    fn flag(&mut self, field: &'static str) -> Option<bool> {
        let Some(value) = self.body.get(field) else {
            return Some(false);
        };
        if !value.is_boolean() {
            self.refuse(field, "true or false");
        }
        value.as_bool()
    }

    fn window(&mut self, opens: Option<Timestamp>, closes: Option<Timestamp>, now: Timestamp) {
        let Some(closes) = closes else { return };
        if opens.is_some_and(|opens| opens >= closes) {
            self.refuse("opens_at", "before closes_at");
        }
        if closes <= now {
            self.refuse("closes_at", "in the future");
        }
    }
}

#[cfg(test)]
mod tests;
