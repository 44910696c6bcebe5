//! Tables beside the view: claims of expiries, ids and idempotency keys, users, ended sessions, risk rules, the operators' audit,
//! what the consistency check found.

pub(crate) mod admin;
pub(crate) mod expiry;
pub(crate) mod findings;
pub(crate) mod risk;
pub(crate) mod sessions;
pub(crate) mod subjects;
pub(crate) mod users;
