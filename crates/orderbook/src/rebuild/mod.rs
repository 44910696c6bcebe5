//! A view made anew beside the one in use, and their exchange.

pub(crate) mod fold;
pub(crate) mod proof;
pub(crate) mod record;
pub(crate) mod shadow;
pub(crate) mod swap;
