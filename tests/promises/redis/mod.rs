//! Redis loses data, fails over, answers late, or has unusual settings.

mod cluster;
mod lost_redis;
mod redis_faults;
mod redis_parts;
mod redis_slow;
mod reload_size;
mod retirement;
mod secured_cluster;
mod sentinel;
mod strange_redis;
