//! Every version of a schema that ever landed stays readable, and every later one fits all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use seckill_domain::{Epoch, EventBody, Offset, SaleReloaded, SaleState, Terms};
use seckill_eventlog::{decode_event, encode_event};

use crate::golden::golden;
use crate::samples::{self, event, reserved, scheduled};

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The versions of each record that ever landed, from the first on.
pub(crate) fn versions() -> BTreeMap<String, Vec<String>> {
    let entries = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().path())
    };
    entries(schemas().join("versions"))
        .map(|record| {
            let count = entries(record.clone()).count();
            let version = |n| text(&record.join(format!("{n}.avsc")));
            let name = record.file_name().unwrap().to_str().unwrap();
            (name.to_owned(), (1..=count).map(version).collect())
        })
        .collect()
}

/// Why a reader of one of the two cannot read what a writer of the other wrote.
fn incompatibility(a: &str, b: &str) -> Option<String> {
    let parse = |json| Schema::parse_str(json).unwrap();
    match SchemaCompatibility::mutual_read(&parse(a), &parse(b)) {
        Ok(Compatibility::Full) => None,
        Ok(Compatibility::Partial) => Some("only some values can be read".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

#[test]
fn every_version_fits_every_version_that_ever_landed() {
    for (record, versions) in versions() {
        for (n, a) in (1..).zip(&versions) {
            for (m, b) in (1..).zip(&versions) {
                let wrong = incompatibility(a, b);
                assert_eq!(wrong, None, "{record}: versions {n} and {m}");
            }
        }
    }
}

#[test]
fn the_schema_that_is_written_is_the_last_version() {
    let versions = versions();
    for path in std::fs::read_dir(schemas()).unwrap() {
        let path = path.unwrap().path();
        if path.extension().is_none_or(|end| end != "avsc") {
            continue;
        }
        let record = path.file_stem().unwrap().to_str().unwrap();
        let landed = versions.get(record).and_then(|versions| versions.last());
        let hint = "a changed schema is a new file in schemas/versions, see CONTRIBUTING.md";
        assert_eq!(landed, Some(&text(&path)), "{record}: {hint}");
    }
}

#[test]
fn the_check_refuses_what_some_reader_could_not_read() {
    let with = |fields: &str| {
        format!(
            r#"{{"type": "record", "name": "R", "namespace": "seckill.v1", "fields": [{fields}]}}"#
        )
    };
    let before = with(r#"{"name": "units", "type": "long"}"#);
    for (what, fields) in [
        (
            "a field more, without a default",
            r#"{"name": "units", "type": "long"}, {"name": "why", "type": "string"}"#,
        ),
        ("a field less that had no default", ""),
        ("another name", r#"{"name": "quantity", "type": "long"}"#),
        ("another type", r#"{"name": "units", "type": "string"}"#),
        (
            "a type that only new readers can read",
            r#"{"name": "units", "type": "int"}"#,
        ),
        (
            "null where there was none",
            r#"{"name": "units", "type": ["null", "long"]}"#,
        ),
    ] {
        assert!(incompatibility(&before, &with(fields)).is_some(), "{what}");
    }
    let optional = r#"{"name": "units", "type": "long"}, {"name": "why", "type": ["null", "string"], "default": null}"#;
    assert_eq!(incompatibility(&before, &with(optional)), None);
}

/// What stands in logs from before `first` was added.
#[test]
fn the_first_version_of_sale_reloaded_is_read_as_one_that_says_less() {
    let EventBody::SaleReloaded(now) = reloaded(&golden("SaleReloaded")) else {
        panic!("another record");
    };
    assert_eq!(now.first, Some(false));
    let before = EventBody::SaleReloaded(SaleReloaded { first: None, ..now });
    assert_eq!(reloaded(&golden("SaleReloaded.1")), before);
}

/// What stands in logs from before `requires_sale_token` was added.
#[test]
fn the_first_version_of_sale_scheduled_is_of_a_sale_that_asks_for_no_token() {
    let terms = |name| match decode_event(&golden(name)).unwrap().body {
        EventBody::SaleScheduled(scheduled) => scheduled.terms,
        other => panic!("{other:?}"),
    };
    let now = terms("SaleScheduled");
    assert!(now.requires_sale_token);
    let before = Terms {
        requires_sale_token: false,
        ..now
    };
    assert_eq!(terms("SaleScheduled.1"), before);
}

fn reloaded(payload: &[u8]) -> EventBody {
    decode_event(payload).unwrap().body
}

/// The tables are the fold: the same from a log of old records, of new ones, and of both.
#[test]
fn a_log_of_both_versions_folds_to_the_same_state() {
    let fold = |reloads: [&str; 2]| {
        let mut state = SaleState::default();
        let mut payloads = vec![encode_event(&event(EventBody::SaleScheduled(scheduled())))];
        payloads.extend(reloads.map(golden));
        let mut order = reserved(None);
        order.epoch = Epoch::new(2);
        payloads.push(encode_event(&event(EventBody::SeckillReserved(order))));
        for (offset, payload) in (0..).zip(&payloads) {
            state.fold(Offset::new(offset), &decode_event(payload).unwrap());
        }
        state
    };
    let old = fold(["SaleReloaded.1", "SaleReloaded.1"]);
    assert_eq!(old.sale.as_ref().unwrap().epoch, Epoch::new(2));
    assert_eq!(old.orders[&samples::order()].rejected, None);
    for mixed in [
        ["SaleReloaded.1", "SaleReloaded"],
        ["SaleReloaded", "SaleReloaded.1"],
        ["SaleReloaded", "SaleReloaded"],
    ] {
        assert_eq!(fold(mixed), old, "{mixed:?}");
    }
}
