//! What buyers see: the sales, and the pages.

pub mod pages;
pub mod representation;
pub mod vouchers;
