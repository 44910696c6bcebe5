//! The pages in a real browser: headless Chromium, driven over WebDriver.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has to say where"
)]

mod browser;
mod buying;
mod chinese;
mod documents;
mod operators;
mod operators_letters;
mod operators_sale;
mod redirects;
mod shop;
mod sizes;
mod stock;
