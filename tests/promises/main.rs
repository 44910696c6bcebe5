//! One file a promise, each over real services and stores of its own, in the room of what it is about.

mod deployment;
mod http;
mod kafka;
mod operators;
mod orders;
mod outages;
mod postgres;
mod process_deaths;
mod redis;
