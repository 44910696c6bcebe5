//! PostgreSQL itself: connections, migrations, errors, rows and times.

pub(crate) mod connect;
pub(crate) mod connections;
pub(crate) mod error;
pub(crate) mod migrate;
pub(crate) mod rows;
pub(crate) mod server;
pub(crate) mod sql_time;
