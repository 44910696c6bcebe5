//! The rules of a sale and of an order's life, from its key to its last payment.

mod currencies;
mod expiry;
mod late_retries;
mod one_key_one_order;
mod outcomes;
mod payment_races;
mod payments;
mod races;
mod sale_tokens;
mod sold_out;
mod units;
