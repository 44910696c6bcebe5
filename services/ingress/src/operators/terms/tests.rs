use std::borrow::Cow;

use super::*;

/// 2026-05-01T00:00:00Z.
const NOW: Timestamp = Timestamp::from_micros(1_777_593_600_000_000);

fn good() -> Value {
    json!({
        "title": "Lamp", "price_cents": 999, "currency": "EUR", "stock": 100,
        "opens_at": "2026-05-01T10:00:00Z", "closes_at": "2026-05-01T11:00:00Z",
    })
}

fn terms(body: &Value) -> Result<Terms, Vec<FieldError>> {
    parse(body.as_object().unwrap(), NOW)
}

fn wrong_fields(body: &Value) -> Vec<Cow<'static, str>> {
    let errors = terms(body).err().unwrap_or_default();
    errors.into_iter().map(|error| error.field).collect()
}

#[test]
fn defaults_are_one_unit_an_order_and_a_quarter_of_an_hour() {
    let terms = terms(&good()).unwrap();
    assert_eq!((terms.max_quantity, terms.hold_seconds), (1, 900));
    assert_eq!(terms.price.cents(), 999);
}

#[test]
fn every_limit_is_checked_on_both_sides() {
    let cases = [
        ("title", json!(""), false),
        ("title", json!("x".repeat(200)), true),
        ("title", json!("x".repeat(201)), false),
        ("title", json!("a\0b"), false),
        ("title", json!("two\nlines"), false),
        ("price_cents", json!(-1), false),
        ("price_cents", json!(0), true),
        ("price_cents", json!(Terms::PRICE_CENTS.end()), true),
        ("price_cents", json!(Terms::PRICE_CENTS.end() + 1), false),
        ("currency", json!("eur"), false),
        ("currency", json!("JPY"), true),
        ("currency", json!("XAU"), false),
        ("currency", json!("QQQ"), false),
        ("stock", json!(0), false),
        ("stock", json!(Terms::STOCK.end()), true),
        ("stock", json!(Terms::STOCK.end() + 1), false),
        ("max_quantity", json!(0), false),
        ("max_quantity", json!(1000), true),
        ("max_quantity", json!(1001), false),
        ("hold_seconds", json!(0), false),
        ("hold_seconds", json!(86_400), true),
        ("hold_seconds", json!(86_401), false),
        ("opens_at", json!("2026-05-01T11:00:00Z"), false),
        ("opens_at", json!("soon"), false),
        ("opens_at", json!("1970-01-01T00:00:00Z"), true),
        ("opens_at", json!("1970-01-01T00:30:00+01:00"), false),
        ("opens_at", json!("0001-01-01T00:00:00Z"), false),
        ("closes_at", json!("9999-12-31T23:59:59.999999Z"), true),
        ("closes_at", json!("9999-12-31T23:59:59-01:00"), false),
        ("closes_at", json!("never"), false),
        ("requires_sale_token", json!(true), true),
        ("requires_sale_token", json!("yes"), false),
    ];
    for (field, value, fine) in cases {
        let mut body = good();
        body[field] = value.clone();
        let expected: &[&str] = if fine { &[] } else { &[field] };
        assert_eq!(wrong_fields(&body), expected, "{field} = {value}");
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let mut body = good();
    for (field, wrong) in [
        ("title", json!(" ")),
        ("stock", json!(-5)),
        ("currency", json!("€")),
    ] {
        body[field] = wrong;
    }
    body["opens_at"] = json!("2026-04-01T10:00:00Z");
    body["closes_at"] = json!("2026-04-01T11:00:00Z");
    assert_eq!(
        wrong_fields(&body),
        ["title", "currency", "stock", "closes_at"]
    );
}

#[test]
fn what_is_missing_unknown_or_of_another_type_is_named_too() {
    let body = json!({ "title": 5, "stock": "100", "max_quantity": 1.5, "colour": "red" });
    let expected = [
        "body",
        "title",
        "price_cents",
        "currency",
        "stock",
        "max_quantity",
        "opens_at",
        "closes_at",
    ];
    assert_eq!(wrong_fields(&body), expected);
}

#[test]
fn the_documented_members_are_those_that_are_read() {
    let schema = serde_json::to_value(SaleRequest::schema()).unwrap();
    let mut members = MEMBERS;
    members.sort_unstable();
    let documented = schema["properties"].as_object().unwrap();
    assert!(documented.keys().eq(members), "{documented:?}");
    let required = schema["required"].as_array().unwrap();
    let nothing = wrong_fields(&json!({}));
    assert!(
        required.iter().eq(nothing.iter().map(|field| &**field)),
        "{required:?}, {nothing:?}"
    );
}

#[test]
fn the_same_request_in_another_spelling_is_the_same() {
    let mut spelled_out = good();
    spelled_out["hold_seconds"] = json!(900);
    spelled_out["opens_at"] = json!("2026-05-01T12:00:00+02:00");
    let same = canonical(&terms(&spelled_out).unwrap());
    assert_eq!(same, canonical(&terms(&good()).unwrap()));
    spelled_out["requires_sale_token"] = json!(false);
    assert_eq!(same, canonical(&terms(&spelled_out).unwrap()));
    for (member, other) in [("stock", json!(101)), ("requires_sale_token", json!(true))] {
        let mut changed = spelled_out.clone();
        changed[member] = other;
        assert_ne!(same, canonical(&terms(&changed).unwrap()), "{member}");
    }
}
