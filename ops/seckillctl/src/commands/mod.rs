//! The commands, with one file for each group.

pub(crate) mod accept;
pub(crate) mod completion;
pub(crate) mod db;
pub(crate) mod dlq;
pub(crate) mod doctor;
pub(crate) mod lag;
pub(crate) mod order;
pub(crate) mod rebuild;
pub(crate) mod reconcile;
pub(crate) mod replay;
pub(crate) mod reset;
pub(crate) mod risk;
pub(crate) mod sale;
pub(crate) mod sale_report;
pub(crate) mod schemas;
pub(crate) mod session;
pub(crate) mod timeline;
pub(crate) mod token;
pub(crate) mod topics;
