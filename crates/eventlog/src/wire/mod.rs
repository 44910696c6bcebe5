//! Records as bytes: Avro, schemas, headers, and what a record is.

pub(crate) mod avro;
pub(crate) mod check;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod fields;
pub(crate) mod guard;
pub(crate) mod headers;
pub(crate) mod ids;
pub(crate) mod outcomes;
pub(crate) mod record;
pub(crate) mod schemas;
