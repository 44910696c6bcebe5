//! The body that changes a sale's stock, and everything that can be wrong with it.

use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::Schema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};

use crate::problem::{FieldError, Problem};

const DELTA_MAX: i64 = 1_000_000_000;
const REASON_MAX_CHARS: usize = 200;

/// A change of stock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StockRequest {
    #[schema(schema_with = units)]
    pub(super) delta: i64,
    /// Why.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"\S",
        example = "found a box"
    )]
    pub(super) reason: String,
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
    /// Every mistake at once.
    ///
    /// # Errors
    /// `invalid-request`.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let mut errors = Vec::new();
        if self.delta == 0 || self.delta.unsigned_abs() > DELTA_MAX.unsigned_abs() {
            errors.push(FieldError {
                field: "delta",
                detail: format!("units from -{DELTA_MAX} to {DELTA_MAX}, but not 0"),
            });
        }
        let blank = self.reason.trim().is_empty();
        if blank || self.reason.chars().count() > REASON_MAX_CHARS {
            errors.push(FieldError {
                field: "reason",
                detail: format!("1 to {REASON_MAX_CHARS} characters, not all of them spaces"),
            });
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid_fields(&errors))
        }
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
        assert!(good(-DELTA_MAX, "é".repeat(REASON_MAX_CHARS).as_str()));
        assert!(!good(0, "nothing"));
        assert!(!good(DELTA_MAX + 1, "too many"));
        assert!(!good(i64::MIN, "far too few"));
        assert!(!good(1, " "));
        assert!(!good(1, "x".repeat(REASON_MAX_CHARS + 1).as_str()));
    }
}
