//! What the caller is told when a sale refuses an order.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use seckill_domain::{Refusal, VoucherId};
use serde_json::json;

use crate::http::problem::Problem;
use crate::http::rfc3339;

impl Problem {
    /// The sale refuses an order; `sale_token` says what was wrong with the one that came with it.
    #[must_use]
    pub fn refused(refusal: Refusal, voucher: VoucherId, sale_token: &str) -> Self {
        let problem = Self::of_refusal(refusal);
        let token_url = json!(format!("/api/v1/vouchers/{voucher}/sale-token"));
        match refusal {
            Refusal::AlreadyOrdered { order_id } => {
                problem.with_member("order_id", json!(order_id.to_string()))
            }
            Refusal::NotStarted { opens_at } => {
                problem.with_member("opens_at", json!(rfc3339::format(opens_at)))
            }
            Refusal::QuantityLimit { max_quantity } => {
                problem.with_member("max_quantity", json!(max_quantity))
            }
            Refusal::TokenRequired => problem
                .with_member("token", json!(sale_token))
                .with_member("token_url", token_url),
            Refusal::TokenUsed => problem.with_member("token_url", token_url),
            Refusal::SoldOut | Refusal::Ended | Refusal::KeyReused => problem,
        }
    }

    /// 403: the window has closed, or the sale was closed.
    #[must_use]
    pub fn ended() -> Self {
        Self::of_refusal(Refusal::Ended)
    }

    /// 422: the key was used for another request.
    #[must_use]
    pub fn key_reused() -> Self {
        Self::of_refusal(Refusal::KeyReused)
    }

    /// Without the members that only some have.
    fn of_refusal(refusal: Refusal) -> Self {
        let of = |title, status, detail: &'static str| (title, status, Cow::from(detail));
        let (title, status, detail) = match refusal {
            Refusal::SoldOut => of(
                "Sold out",
                StatusCode::CONFLICT,
                "Not enough units are left. Units of unpaid orders come back: watch the voucher.",
            ),
            Refusal::AlreadyOrdered { .. } => of(
                "Already ordered",
                StatusCode::CONFLICT,
                "You have an order of this voucher: pay or cancel the one in order_id.",
            ),
            Refusal::NotStarted { .. } => of(
                "Not started",
                StatusCode::FORBIDDEN,
                "The sale opens at opens_at: try again then.",
            ),
            Refusal::Ended => of(
                "Ended",
                StatusCode::FORBIDDEN,
                "The sale is over and takes no more orders.",
            ),
            Refusal::QuantityLimit { max_quantity } => (
                "Quantity not allowed",
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("One order is of 1 to {max_quantity} units: change quantity.").into(),
            ),
            Refusal::KeyReused => of(
                "Idempotency key reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "This Idempotency-Key came with another request before: use a new key.",
            ),
            Refusal::TokenRequired => of(
                "Sale token required",
                StatusCode::FORBIDDEN,
                "This sale takes orders only from its page: get a token at token_url, and send it as X-Sale-Token.",
            ),
            Refusal::TokenUsed => of(
                "Sale token used",
                StatusCode::CONFLICT,
                "A sale token is good for one order, and this one had its: get a new one at token_url.",
            ),
        };
        Self::new(refusal.name(), title, status, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_and_the_page_of_a_sale_know_every_refusal() {
        let readme = include_str!("../../../../../README.md");
        let page = include_str!("../../../assets/sale_page.js");
        for name in Refusal::examples().map(Refusal::name) {
            assert!(readme.contains(&format!("`{name}`")), "README.md: {name}");
            assert!(
                page.contains(&format!("\"{name}\"")),
                "sale_page.js: {name}"
            );
        }
    }
}
