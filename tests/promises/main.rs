//! One file a promise, each over real services and stores of its own.

mod bad_input;
mod chaos;
mod cluster;
mod dead_letters;
mod deaths;
mod expiry;
mod late_retries;
mod lost_commit;
mod lost_redis;
mod one_key_one_order;
mod operators;
mod orderly_end;
mod outcomes;
mod payment_races;
mod payments;
mod races;
mod redis_faults;
mod redis_parts;
mod redis_slow;
mod reload_deaths;
mod reload_size;
mod sentinel;
mod sign_in;
mod sleepers;
mod store_outages;
mod units;
