//! PostgreSQL loses commits or connections, is restored, shared or rebuilt.

mod idle_sales;
mod lost_commit;
mod no_connection_left;
mod pooled;
mod rebuild;
mod rebuild_large;
mod restored_database;
mod strange_databases;
