//! `docker-compose.yml` is one by the Compose specification's own schema, and says nothing that the code does not:
//! commands, settings, ports, health checks.
//!
//! What no test here can see, for want of a container engine: that the images exist and start so, that the image
//! builds, that the users and the missing capabilities suit the images of others, that Compose takes `init`'s image
//! for the others', and that a browser gets through.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod containers;
mod settings;

use std::collections::BTreeMap;
use std::process::Command;

use serde_yaml_ng::Value;

/// What somebody who starts the containers has to choose, each as long as a secret must be.
const CHOSEN: [&str; 4] = [
    "POSTGRES_PASSWORD",
    "ADMIN_TOKEN",
    "TOKEN_SECRET",
    "PAYMENT_WEBHOOK_SECRET",
];

/// Those that run the project's own image, and what of it.
const OURS: [(&str, &str); 4] = [
    ("ingress", "seckill-ingress"),
    ("projector", "seckill-projector"),
    ("timeout", "seckill-timeout"),
    ("payments", "seckill-payment-simulator"),
];

type Variables = BTreeMap<String, String>;

fn compose() -> Value {
    let path = seckill_testkit::workspace_root().join("docker-compose.yml");
    let mut file: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    // Twice: what is merged merges something itself.
    file.apply_merge().unwrap();
    file.apply_merge().unwrap();
    file
}

fn chosen() -> Variables {
    CHOSEN
        .map(|name| (name.to_owned(), format!("{name:0>32}")))
        .into()
}

/// The environment of a container, or what compose would refuse it for.
fn environment(file: &Value, service: &str, variables: &Variables) -> Result<Variables, String> {
    let environment = file["services"][service]["environment"]
        .as_mapping()
        .unwrap();
    environment
        .iter()
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                other => panic!("{service}: {name:?} is {other:?}"),
            };
            let value = interpolate(&text, variables)?;
            Ok((name.as_str().unwrap().to_owned(), value))
        })
        .collect()
}

/// Compose's `${NAME:?message}` and `${NAME:-default}`.
fn interpolate(text: &str, variables: &Variables) -> Result<String, String> {
    let Some((before, rest)) = text.split_once("${") else {
        return Ok(text.to_owned());
    };
    let (expression, after) = rest.split_once('}').unwrap();
    let (name, otherwise) = expression.split_once(':').unwrap();
    let value = match (variables.get(name), otherwise.split_at(1)) {
        (Some(value), _) => value.clone(),
        (None, ("-", default)) => default.to_owned(),
        (None, (_, message)) => return Err(message.to_owned()),
    };
    Ok(format!("{before}{value}{}", interpolate(after, variables)?))
}

/// The port that the container's health check asks.
fn health_port(service: &str) -> u16 {
    let file = compose();
    let test = file["services"][service]["healthcheck"]["test"]
        .as_sequence()
        .unwrap();
    assert_eq!(test[1].as_str(), Some("healthcheck"));
    test[2].as_str().unwrap().parse().unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    let list = value.as_sequence().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

fn read(path: &str) -> String {
    let path = seckill_testkit::workspace_root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs a program that has to find nothing wrong.
fn passes(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = [&output.stdout[..], &output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(output.status.success(), "{command:?}: {told}");
    told
}
