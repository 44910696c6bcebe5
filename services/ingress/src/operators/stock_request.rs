//! The body of a request that changes a sale's stock, and its checks.

use seckill_domain::{Reason, Terms};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::Schema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};

use crate::http::problem::{FieldError, Problem};
use crate::operators::terms::ONE_LINE_PATTERN;

const DELTA_MAX: i64 = Terms::DELTA_MAX;

/// A change of stock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StockRequest {
    #[schema(schema_with = units)]
    delta: i64,
    #[schema(schema_with = why)]
    reason: String,
}

/// A checked change of stock.
#[derive(Debug)]
pub(super) struct StockChange {
    /// The change in units. Negative to remove units; never 0.
    pub(super) delta: i64,
    /// The operator's reason.
    pub(super) reason: Reason,
}

fn why() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("Why: one line, without control characters."))
        .min_length(Some(1))
        .max_length(Some(Reason::MAX_CHARS))
        .pattern(Some(ONE_LINE_PATTERN))
        .examples(["found a box"])
        .build()
        .into()
}

fn units() -> Schema {
    let range = |min, max| {
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        number.minimum(Some(min)).maximum(Some(max))
    };
    OneOfBuilder::new()
        .description(Some("Units to add, or below 0 to take off."))
        .item(range(-DELTA_MAX, -1))
        .item(range(1, DELTA_MAX))
        .examples([10])
        .build()
        .into()
}

impl StockRequest {
    /// All mistakes together.
    ///
    /// # Errors
    /// `invalid-request`.
    pub(super) fn check(&self) -> Result<StockChange, Problem> {
        let mut errors = Vec::new();
        if self.delta == 0 || self.delta.unsigned_abs() > DELTA_MAX.unsigned_abs() {
            errors.push(FieldError::new(
                "delta",
                format!("units from -{DELTA_MAX} to {DELTA_MAX}, but not 0"),
            ));
        }
        let reason = Reason::written(&self.reason);
        match reason {
            Ok(reason) if errors.is_empty() => {
                return Ok(StockChange {
                    delta: self.delta,
                    reason,
                });
            }
            Ok(_) => {}
            Err(error) => errors.push(FieldError::new("reason", error.to_string())),
        }
        Err(Problem::invalid_fields(&errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(delta: i64, reason: &str) -> bool {
        let reason = reason.to_owned();
        StockRequest { delta, reason }.check().is_ok()
    }

    #[test]
    fn a_change_of_stock_has_a_size_and_a_reason() {
        assert!(good(1, "found a box"));
        assert!(good(-DELTA_MAX, "é".repeat(Reason::MAX_CHARS).as_str()));
        assert!(!good(0, "nothing"));
        assert!(!good(DELTA_MAX + 1, "too many"));
        assert!(!good(i64::MIN, "far too few"));
        assert!(!good(1, " "));
        assert!(!good(1, "a\0b"));
        assert!(!good(1, "two\nlines"));
        assert!(!good(1, "x".repeat(Reason::MAX_CHARS + 1).as_str()));
    }
}
