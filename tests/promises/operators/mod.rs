//! Operations: commands, audit, alerts, dashboards and runbooks.

mod alerts;
mod audit;
mod dashboards;
mod doctor;
mod metrics;
mod operator_keys;
mod provider;
mod readings;
pub(crate) mod reconcile;
mod reconcile_many;
mod removals;
mod runbooks;
pub(crate) mod sale_report;
mod sales;
mod traces;
