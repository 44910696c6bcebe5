//! The typed calls of the scripts, by what they are for.

pub(crate) mod correct;
pub(crate) mod keys;
pub(crate) mod load_items;
pub(crate) mod pending;
pub(crate) mod reload;
pub(crate) mod reserve;
pub(crate) mod scan;
pub(crate) mod settle;
pub(crate) mod sold_out;
pub(crate) mod stock;
pub(crate) mod survey;
pub(crate) mod view;
