//! What callers and pages say when a sale refuses an order.

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
        let text = text_of(refusal);
        Self::new(refusal.name(), text.title, text.status, text.detail)
    }
}

/// How one refusal is told.
pub(crate) struct RefusalText {
    title: &'static str,
    status: StatusCode,
    /// What to do next, for programs and their authors.
    detail: Cow<'static, str>,
    /// What to do next, on the pages in English.
    pub(crate) english: &'static str,
    /// The same in Chinese.
    pub(crate) chinese: &'static str,
}

pub(crate) fn text_of(refusal: Refusal) -> RefusalText {
    match refusal {
        Refusal::SoldOut => RefusalText {
            title: "Sold out",
            status: StatusCode::CONFLICT,
            detail: "Not enough units are left. Units of unpaid orders come back: watch the voucher.".into(),
            english: "Not enough units are left. Units of unpaid orders come back: stay here for them.",
            chinese: "库存不足。未付款的订单过期后会退回库存：请留在本页等候。",
        },
        Refusal::AlreadyOrdered { .. } => RefusalText {
            title: "Already ordered",
            status: StatusCode::CONFLICT,
            detail: "You have an order of this voucher: pay or cancel the one in order_id.".into(),
            english: "You have an order of this sale: pay or cancel that one.",
            chinese: "您在这场抢购中已有订单：请付款或先取消它。",
        },
        Refusal::NotStarted { .. } => RefusalText {
            title: "Not started",
            status: StatusCode::FORBIDDEN,
            detail: "The sale opens at opens_at: try again then.".into(),
            english: "The sale has not begun yet.",
            chinese: "抢购尚未开始。",
        },
        Refusal::Ended => RefusalText {
            title: "Ended",
            status: StatusCode::FORBIDDEN,
            detail: "The sale is over and takes no more orders.".into(),
            english: "The sale is over and takes no more orders.",
            chinese: "抢购已结束，不再接受订单。",
        },
        Refusal::QuantityLimit { max_quantity } => RefusalText {
            title: "Quantity not allowed",
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: format!("One order is of 1 to {max_quantity} units: change quantity.").into(),
            english: "One order cannot have as many units: choose fewer.",
            chinese: "超出每单限购数量：请减少数量。",
        },
        Refusal::KeyReused => RefusalText {
            title: "Idempotency key reused",
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: "This Idempotency-Key came with another request before: use a new key.".into(),
            english: "This attempt was for another order. Press Buy again.",
            chinese: "这次尝试属于另一个订单。请再点一次“立即抢购”。",
        },
        Refusal::TokenRequired => RefusalText {
            title: "Sale token required",
            status: StatusCode::FORBIDDEN,
            detail: "This sale takes orders only from its page: get a token at token_url, and send it as X-Sale-Token.".into(),
            english: "This sale takes orders only from its page: load it again.",
            chinese: "此抢购只能从本页面下单：请刷新页面。",
        },
        Refusal::TokenUsed => RefusalText {
            title: "Sale token used",
            status: StatusCode::CONFLICT,
            detail: "A sale token is good for one order, and this one had its: get a new one at token_url.".into(),
            english: "This page was used for an order: load it again.",
            chinese: "此页面已下过单：请刷新页面。",
        },
    }
}
