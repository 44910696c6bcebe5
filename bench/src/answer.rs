//! What an order's caller is told, sorted by kind.

use seckill_domain::{OrderId, Refusal};
use serde::Deserialize;

use crate::load::Reply;

/// What an order may be answered with beside what its sale refuses it for ([`Refusal`]), by the last
/// part of the `type`.
const OTHER_PROBLEMS: [&str; 11] = [
    "denied",
    "internal",
    "invalid-request",
    "not-found",
    "overloaded",
    "payload-too-large",
    "rate-limited",
    "request-timeout",
    "unauthorized",
    "unavailable",
    "unsupported-media-type",
];
/// What limits are of, as `RateLimit` names them.
const SCOPES: [&str; 4] = ["address", "user", "voucher", "global"];
const ACCEPTED: u16 = 202;
const CONFLICT: u16 = 409;
const TOO_MANY_REQUESTS: u16 = 429;
const UNKNOWN_PROBLEM: &str = "(unexpected)";

/// The answer to one attempt to order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// 202: the order stands, whatever dies now.
    Reserved(OrderId),
    /// 202: the order may stand; its status will tell.
    Pending(OrderId),
    /// Refused.
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem's name.
        problem: &'static str,
    },
    /// 429: over a limit. Nothing was taken; who comes again later may be let in.
    Limited {
        /// What the limit is of: `address`, `user`, `voucher` or `global`.
        scope: &'static str,
    },
    /// None came.
    None,
}

#[derive(Deserialize)]
struct Accepted<'a> {
    order_id: &'a str,
    status: &'a str,
}

#[derive(Deserialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

impl Answer {
    /// Reads an answer; one that is not as the API promises is kept as an unexpected refusal.
    #[must_use]
    pub fn read(reply: Option<&Reply<'_>>) -> Self {
        let Some(reply) = reply else {
            return Self::None;
        };
        let accepted = (reply.status == ACCEPTED)
            .then(|| read_accepted(reply.body))
            .flatten();
        accepted
            .or_else(|| read_limited(reply))
            .unwrap_or_else(|| Self::Refused {
                status: reply.status,
                problem: read_problem(reply.body),
            })
    }

    /// Whether it was past all limits: it got an order, or was told that there is none to have.
    #[must_use]
    pub const fn is_admitted(self) -> bool {
        match self {
            Self::Reserved(_) | Self::Pending(_) => true,
            Self::Refused { status, .. } => status == CONFLICT,
            Self::Limited { .. } | Self::None => false,
        }
    }

    /// The order that it names as the caller's new one.
    #[must_use]
    pub const fn order_id(self) -> Option<OrderId> {
        match self {
            Self::Reserved(order_id) | Self::Pending(order_id) => Some(order_id),
            Self::Refused { .. } | Self::Limited { .. } | Self::None => None,
        }
    }

    /// Its kind, for people.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::Reserved(_) => "202 reserved".to_owned(),
            Self::Pending(_) => "202 pending".to_owned(),
            Self::Refused { status, problem } => format!("{status} {problem}"),
            Self::Limited { scope } => format!("429 by the {scope} limit"),
            Self::None => "no answer".to_owned(),
        }
    }
}

fn read_accepted(body: &[u8]) -> Option<Answer> {
    let accepted: Accepted = serde_json::from_slice(body).ok()?;
    let order_id = accepted.order_id.parse().ok()?;
    match accepted.status {
        "reserved" => Some(Answer::Reserved(order_id)),
        "pending" => Some(Answer::Pending(order_id)),
        _ => None,
    }
}

/// `"user";r=0;t=1`: the limit that was hit stands alone in it.
fn read_limited(reply: &Reply<'_>) -> Option<Answer> {
    let is_limited = reply.status == TOO_MANY_REQUESTS;
    let header = is_limited.then_some(reply.rate_limit).flatten()?;
    let name = std::str::from_utf8(header).ok()?.split('"').nth(1)?;
    let scope = SCOPES.into_iter().find(|scope| *scope == name)?;
    Some(Answer::Limited { scope })
}

fn problems() -> impl Iterator<Item = &'static str> {
    let refusals = Refusal::examples().map(Refusal::name);
    refusals.into_iter().chain(OTHER_PROBLEMS)
}

fn read_problem(body: &[u8]) -> &'static str {
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let name = problem.and_then(|p| p.kind.rsplit('/').next());
    problems()
        .find(|known| Some(*known) == name)
        .unwrap_or(UNKNOWN_PROBLEM)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn read(status: u16, body: &'static str) -> Answer {
        Answer::read(Some(&Reply {
            status,
            body: body.as_bytes(),
            rate_limit: None,
        }))
    }

    #[test]
    fn the_problems_are_those_that_the_api_documents_for_an_order() {
        let document = include_str!("../../docs/openapi.json");
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        let place = &document["paths"]["/api/v1/vouchers/{voucher_id}/orders"]["post"];
        let answers = place["responses"].as_object().unwrap().values();
        let examples = answers
            .filter_map(|a| a["content"]["application/problem+json"]["examples"].as_object());
        let documented: BTreeSet<&str> = examples
            .flat_map(|e| e.keys().map(String::as_str))
            .collect();
        assert_eq!(problems().collect::<BTreeSet<_>>(), documented);
    }

    #[test]
    fn a_limit_is_named_by_what_it_is_of() {
        let limited = |header: &'static str| {
            Answer::read(Some(&Reply {
                status: 429,
                body: br#"{"type":"https://example.test/problems/rate-limited"}"#,
                rate_limit: Some(header.as_bytes()),
            }))
        };
        let user = limited("\"user\";r=0;t=1");
        assert_eq!(user, Answer::Limited { scope: "user" });
        assert!(!user.is_admitted());
        assert_eq!(limited("nonsense").label(), "429 rate-limited");
    }

    #[test]
    fn answers_are_told_apart() {
        let id = "00000000-0100-8000-8000-000000000001";
        let order_id: OrderId = id.parse().unwrap();
        let reserved = r#"{"order_id":"00000000-0100-8000-8000-000000000001","status":"reserved","pay_by":"x"}"#;
        let pending = r#"{"order_id":"00000000-0100-8000-8000-000000000001","status":"pending"}"#;
        assert_eq!(read(202, reserved), Answer::Reserved(order_id));
        assert_eq!(read(202, pending), Answer::Pending(order_id));
        let sold_out = r#"{"type":"https://example.test/problems/sold-out","title":"Sold out"}"#;
        assert_eq!(read(409, sold_out).label(), "409 sold-out");
        assert_eq!(Answer::read(None), Answer::None);
    }

    #[test]
    fn what_the_api_does_not_promise_is_not_taken_for_success() {
        for (status, body) in [
            (202, r#"{"status":"reserved"}"#),
            (202, r#"{"order_id":"1","status":"reserved"}"#),
            (202, ""),
            (
                200,
                r#"{"order_id":"00000000-0100-8000-8000-000000000001","status":"reserved"}"#,
            ),
            (502, "<html>"),
        ] {
            let answer = read(status, body);
            assert_eq!(answer.label(), format!("{status} (unexpected)"), "{body}");
        }
    }
}
