//! What callers prove themselves with. The ingress checks it; tests, the benchmark, the payment
//! simulator and `seckillctl` make it.

pub mod issued;
mod jwt;
pub mod metrics;
pub mod signature;
pub mod token;
