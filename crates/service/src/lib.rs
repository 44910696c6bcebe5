//! What every service process has around its work: settings, logs, metrics, health, shutdown, what a
//! panic does, what every HTTP answer has, a clock that runs on while the process is stopped, and named
//! failpoints for tests.

pub mod answers;
pub mod check_config;
pub mod clock;
pub mod effective;
pub mod failpoints;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod ops;
pub mod panics;
pub mod settings;
pub mod shutdown;
pub mod traces;
