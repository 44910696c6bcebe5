//! Schemas of the OpenAPI documents.

use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// A text that is one of `values`.
pub(crate) fn one_of(description: &str, values: impl IntoIterator<Item = &'static str>) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let text = text.description(Some(description));
    text.enum_values(Some(values)).build()
}
