//! Who is let in: how many at a time, how often, whose orders are refused, and who has had the sale's page.

pub mod admission;
pub mod limits;
pub mod risk;
pub mod sale_tokens;
