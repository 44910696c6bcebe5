//! The description of every refusal for the document. It is made from a real answer of each kind.

use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::http::header::CONTENT_TYPE;
use seckill_domain::{OrderId, Refusal, VoucherId};
use serde_json::{Map, Value, json};

use crate::gate::risk::Rule;
use crate::gate::sale_tokens::PageProof;
use crate::http::body::LIMIT_BYTES;
use crate::http::problem::{FieldError, Problem};

/// A kind of refusal, which its `type` names.
pub(super) struct Kind {
    pub(super) name: String,
    pub(super) status: u16,
    /// The name of its schema.
    pub(super) component: String,
    pub(super) schema: Value,
    pub(super) example: Value,
    /// Names of the headers that it always has.
    pub(super) headers: Vec<String>,
}

/// One answer of each kind, without `method-not-allowed`, which no operation returns.
fn samples() -> Vec<Problem> {
    let voucher = VoucherId::new(7).expect("7 is a voucher id");
    let wrong = FieldError::new("email", "has no @");
    let refused = Refusal::examples()
        .map(|refusal| Problem::refused(refusal, voucher, PageProof::Missing.as_str()));
    let others = [
        Problem::payment_id_reused(OrderId::from_parts(voucher, 1, 1)),
        Problem::rate_limited("user", 5, Duration::from_secs(1)),
        Problem::too_many_streams(),
        Problem::unauthorized("Send Authorization: Bearer with a token that has not expired."),
        Problem::forbidden("Ask an admin for the role operator."),
        Problem::from(Rule::UserBlocked),
        Problem::not_found("There is no such voucher."),
        Problem::not_cancellable("The order is paid already."),
        Problem::not_redrivable("it was dealt with: discarded"),
        Problem::stock_committed(3),
        Problem::unavailable("A store does not answer: try again in a moment."),
        Problem::overloaded(),
        Problem::invalid_fields(&[wrong]),
        Problem::body_too_slow(),
        Problem::body_too_large(LIMIT_BYTES),
        Problem::not_json(),
        Problem::internal("only the log has it"),
    ];
    refused.into_iter().chain(others).collect()
}

pub(super) fn kinds() -> Vec<Kind> {
    samples().iter().map(Kind::of).collect()
}

impl Kind {
    fn of(problem: &Problem) -> Self {
        let (head, body) = problem.respond().into_parts();
        let body = body.try_into_bytes().unwrap_or_default();
        let example: Value = serde_json::from_slice(&body).unwrap_or_default();
        let names = head.headers().keys().filter(|name| **name != CONTENT_TYPE);
        Self {
            name: problem.name().to_owned(),
            status: head.status().as_u16(),
            component: component(problem.name()),
            schema: schema(&example),
            headers: names.map(|name| name.as_str().to_owned()).collect(),
            example,
        }
    }
}

/// `sold-out` is `SoldOutProblem`.
fn component(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_ascii_uppercase() + rest
    });
    words.collect::<String>() + "Problem"
}

fn schema(example: &Value) -> Value {
    let members = example.as_object().into_iter().flatten();
    let properties: Map<String, Value> = members
        .clone()
        .map(|(name, value)| (name.clone(), member(name, value)))
        .collect();
    // A request can also be wrong in other ways than in the members of its body.
    let mut required: Vec<_> = members
        .map(|(name, _)| name)
        .filter(|n| *n != "errors")
        .collect();
    // serde_json keeps another order of members if a dependency of a test enables that, so sort them.
    required.sort_unstable();
    json!({
        "type": "object",
        "description": example["title"],
        "properties": properties,
        "required": required,
    })
}

fn member(name: &str, value: &Value) -> Value {
    match name {
        "type" => json!({ "type": "string", "format": "uri", "const": value }),
        "status" => json!({ "type": "integer", "const": value }),
        "detail" => json!({ "type": "string", "description": "What to do next, for people." }),
        "order_id" => json!({ "type": "string", "format": "uuid" }),
        "opens_at" => json!({ "type": "string", "format": "date-time" }),
        "rule" => json!({ "type": "string", "enum": Rule::ALL.map(Rule::as_str) }),
        "token" => json!({ "type": "string", "enum": PageProof::REFUSED.map(PageProof::as_str) }),
        "token_url" => json!({ "type": "string", "format": "uri-reference" }),
        "errors" => json!({
            "type": "array",
            "items": { "$ref": "#/components/schemas/FieldError" },
        }),
        _ if value.is_i64() => json!({ "type": "integer" }),
        _ => json!({ "type": "string" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use crate::shop::pages::language::Language;

    /// Reads the names from the code of the constructors, so that a new one has to be added to the samples.
    #[test]
    fn every_refusal_is_among_the_samples() {
        let code = include_str!("../http/problem/kinds.rs");
        let names = code.split("Self::new(").skip(1).map(|call| {
            let argument = call.trim_start().split(',').next().unwrap();
            match argument {
                "Self::RATE_LIMITED" => Problem::RATE_LIMITED,
                "Self::OVERLOADED" => Problem::OVERLOADED,
                literal => literal.trim_matches('"'),
            }
        });
        let known: Vec<String> = kinds().into_iter().map(|kind| kind.name).collect();
        let mut seen = 0;
        for name in names.filter(|name| *name != "method-not-allowed") {
            assert!(known.iter().any(|known| known == name), "{name}");
            seen += 1;
        }
        assert!(seen + Refusal::examples().len() >= known.len(), "{seen}");
    }

    #[test]
    fn the_pages_have_a_sentence_for_every_refusal_in_every_language() {
        let known: BTreeSet<String> = kinds().into_iter().map(|kind| kind.name).collect();
        for language in Language::ALL {
            let names = language.texts().problems.all().map(|(name, _)| name);
            let told: BTreeSet<String> = names.map(str::to_owned).collect();
            assert_eq!(told, known, "{language:?}");
        }
    }

    #[test]
    fn a_kind_says_what_its_answer_has() {
        let kinds = kinds();
        let limited = kinds.iter().find(|kind| kind.status == 429).unwrap();
        assert_eq!(limited.component, "RateLimitedProblem");
        assert_eq!(limited.headers.len(), 3, "{:?}", limited.headers);
        assert!(limited.headers.contains(&"retry-after".to_owned()));
        assert_eq!(limited.schema["properties"]["status"]["const"], 429);
    }
}
