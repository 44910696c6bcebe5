//! How the programs are configured, packaged, secured and upgraded.

mod chart;
mod check_config;
mod demo;
mod deployments;
mod readme;
mod secured;
mod start_up;
mod upgrades;
