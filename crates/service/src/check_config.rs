//! `--check-config`: the settings that a process would run with, and what its stores say to them. It asks
//! what a start asks, by the same code, and nothing is written.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::effective::Effective;
use crate::health::Health;
use crate::settings::Source;

/// Longer than any client of a store waits: its own words are better than ours.
const PATIENCE: Duration = Duration::from_secs(15);

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line a setting, a line a store.
    Text,
    /// One JSON value.
    Json,
}

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// How to answer.
    pub form: Form,
    /// Whether the stores are tried, too.
    pub tries_stores: bool,
}

/// `--check-config`, or `--check-config=settings` where no store is in reach; with `--output json` for programs.
#[must_use]
pub fn asked() -> Option<Asked> {
    parse(&std::env::args_os().skip(1).collect::<Vec<_>>())
}

fn parse<S: AsRef<OsStr>>(arguments: &[S]) -> Option<Asked> {
    let is = |argument: &S, text: &str| argument.as_ref() == text;
    let has = |text: &str| arguments.iter().any(|one| is(one, text));
    let tries_stores = has("--check-config");
    if !tries_stores && !has("--check-config=settings") {
        return None;
    }
    let json = arguments
        .windows(2)
        .any(|two| is(&two[0], "--output") && is(&two[1], "json"))
        || has("--output=json");
    let form = if json { Form::Json } else { Form::Text };
    Some(Asked { form, tries_stores })
}

/// A health that a preflight may be run with for this: each condition is tried once, and one that is not met
/// keeps nobody from trying the next.
#[must_use]
pub fn health() -> Health {
    Health::trying(PATIENCE)
}

/// Prints what came of it. 0: all is right; 1: a store is not.
///
/// # Errors
/// When standard output cannot be written to.
pub fn print(form: Form, source: &Source, health: &Health) -> std::io::Result<ExitCode> {
    use std::io::Write;

    let tried = health.tried();
    let mut out = std::io::stdout().lock();
    match form {
        Form::Text => write!(out, "{}", text(&source.effective(), &tried))?,
        Form::Json => writeln!(out, "{:#}", value(&source.effective(), &tried))?,
    }
    out.flush()?;
    let is_right = tried.iter().all(|(_, problem)| problem.is_none());
    Ok(ExitCode::from(u8::from(!is_right)))
}

type Tried = [(&'static str, Option<String>)];

fn text(settings: &[Effective], tried: &Tried) -> String {
    let mut lines = String::new();
    for Effective {
        name,
        value,
        origin,
    } in settings
    {
        lines += &format!("{name}={value} ({origin})\n");
    }
    for (store, problem) in tried {
        lines += &match problem {
            None => format!("{store}: ok\n"),
            Some(problem) => format!("{store}: {problem}\n  {}\n", advice(store)),
        };
    }
    lines
}

fn value(settings: &[Effective], tried: &Tried) -> serde_json::Value {
    let settings: Vec<_> = settings
        .iter()
        .map(
            |one| json!({ "name": one.name, "value": one.value, "origin": one.origin.to_string() }),
        )
        .collect();
    let stores: Vec<_> = tried
        .iter()
        .map(|(store, problem)| {
            let advice = problem.as_ref().map(|_| advice(store));
            json!({ "name": store, "ok": problem.is_none(), "problem": problem, "advice": advice })
        })
        .collect();
    json!({ "settings": settings, "stores": stores })
}

/// Where a problem does not name its own cure.
fn advice(store: &str) -> &'static str {
    match store {
        "kafka" => {
            "see KAFKA_BROKERS, KAFKA_SECURITY_PROTOCOL and what follows it in docs/configuration.md; \
             `seckillctl doctor` tells more"
        }
        "redis" => "see REDIS_URL in docs/configuration.md; `seckillctl doctor` tells more",
        "postgresql" => "see DATABASE_URL in docs/configuration.md; `seckillctl doctor` tells more",
        "schema-registry" => {
            "see SCHEMA_REGISTRY_URL in docs/configuration.md; `seckillctl doctor` tells more"
        }
        _ => "see docs/configuration.md",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_for_by_name_and_in_two_forms() {
        let asked = |form, tries_stores| Some(Asked { form, tries_stores });
        for (arguments, expected) in [
            (&["--output", "json"][..], None),
            (&["--check-config"], asked(Form::Text, true)),
            (
                &["--check-config", "--output", "json"],
                asked(Form::Json, true),
            ),
            (
                &["--output=json", "--check-config"],
                asked(Form::Json, true),
            ),
            (&["--check-config=settings"], asked(Form::Text, false)),
        ] {
            assert_eq!(parse(arguments), expected, "{arguments:?}");
        }
    }
}
