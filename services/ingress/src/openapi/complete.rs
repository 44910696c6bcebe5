//! Makes the whole document from the descriptions of the handlers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use super::pages::HtmlPage;
use super::problems::{Kind, kinds};
use super::shared::{RENEWED_TOKEN, header, parameter, security_scheme};

/// The refusals that every request with a body may get.
const OF_BODIES: [&str; 4] = [
    "invalid-request",
    "payload-too-large",
    "request-timeout",
    "unsupported-media-type",
];

/// The document of `api` and `pages`. Every operation may also get the refusals `of_all`.
///
/// # Panics When a handler uses an unknown name. This is a mistake in the program, which the test of the committed
/// documents finds.
pub(super) fn complete(api: OpenApi, of_all: &[&str], pages: &[HtmlPage]) -> Value {
    let mut document = serde_json::to_value(api).expect("a document is JSON");
    let kinds = kinds();
    let mut used = Used::default();
    for path in members(&mut document["paths"]) {
        for (_, operation) in members(path.1) {
            used.complete(path.0, operation, of_all, &kinds);
        }
    }
    for page in pages {
        let mut operation = page.operation();
        add_parameters(page.path, &mut operation);
        document["paths"][page.path]["get"] = operation;
    }
    for kind in kinds
        .into_iter()
        .filter(|kind| used.problems.contains(&kind.component))
    {
        document["components"]["schemas"][kind.component] = kind.schema;
    }
    for name in used.headers {
        let (name, header) = header(&name).unwrap_or_else(|| panic!("no such header: {name}"));
        document["components"]["headers"][name] = header;
    }
    for name in used.security {
        let scheme = security_scheme(&name).unwrap_or_else(|| panic!("no such scheme: {name}"));
        document["components"]["securitySchemes"][name] = scheme;
    }
    document
}

fn members(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flatten()
}

/// The components that operations refer to.
#[derive(Default)]
struct Used {
    headers: BTreeSet<String>,
    problems: BTreeSet<String>,
    security: BTreeSet<String>,
}

impl Used {
    fn complete(&mut self, path: &str, operation: &mut Value, of_all: &[&str], kinds: &[Kind]) {
        add_parameters(path, operation);
        cut_errors(operation);
        let mut names = texts(&take(operation, "x-problems"));
        names.extend(of_all.iter().map(ToString::to_string));
        if operation.get("requestBody").is_some() {
            names.extend(OF_BODIES.map(str::to_owned));
        }
        for requirement in operation["security"].as_array().into_iter().flatten() {
            let schemes = requirement.as_object().into_iter().flatten();
            self.security.extend(schemes.map(|(name, _)| name.clone()));
            names.insert("unauthorized".to_owned());
            if requirement.get("adminToken").is_some() {
                names.insert("forbidden".to_owned());
            }
        }
        let mut by_status: BTreeMap<u16, Vec<&Kind>> = BTreeMap::new();
        for name in names {
            let kind = kinds.iter().find(|kind| kind.name == name);
            let kind = kind.unwrap_or_else(|| panic!("{path}: no such problem: {name}"));
            self.problems.insert(kind.component.clone());
            by_status.entry(kind.status).or_default().push(kind);
        }
        let headers = take(operation, "x-headers");
        for (status, kinds) in by_status {
            let response = &mut operation["responses"][status.to_string()];
            *response = refusal(&kinds);
            for name in kinds.iter().flat_map(|kind| &kind.headers) {
                let always = kinds.iter().all(|kind| kind.headers.contains(name));
                add_header(response, name, always);
            }
        }
        for (status, names) in headers.as_object().into_iter().flatten() {
            let names = texts(names);
            self.headers.extend(names.iter().cloned());
            add_headers(path, operation, status, &names);
        }
    }
}

fn take(operation: &mut Value, extension: &str) -> Value {
    let members = operation.as_object_mut();
    members
        .and_then(|members| members.remove(extension))
        .unwrap_or_default()
}

fn texts(value: &Value) -> BTreeSet<String> {
    let texts = value.as_array().into_iter().flatten();
    texts.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Removes `# Errors` from a handler's description, because the document has a description of each refusal.
fn cut_errors(operation: &mut Value) {
    let text = operation["description"].as_str().unwrap_or_default();
    let text = text.split("# Errors").next().unwrap_or_default().trim();
    operation["description"] = text.replace('\n', " ").into();
}

/// Adds the parameters of the path, before all others, and those of `x-parameters`.
fn add_parameters(path: &str, operation: &mut Value) {
    let in_path = path.split(['{', '}']).skip(1).step_by(2).map(str::to_owned);
    let named = texts(&take(operation, "x-parameters"));
    let mut parameters: Vec<Value> = in_path
        .chain(named)
        .map(|name| parameter(&name).unwrap_or_else(|| panic!("no such parameter: {name}")))
        .collect();
    if let Value::Array(own) = operation["parameters"].take() {
        parameters.extend(own);
    }
    operation["parameters"] = parameters.into();
}

/// One answer for all refusals of a status.
fn refusal(kinds: &[&Kind]) -> Value {
    let reference =
        |kind: &&Kind| json!({ "$ref": format!("#/components/schemas/{}", kind.component) });
    let schema = match kinds {
        [one] => reference(one),
        several => json!({ "oneOf": several.iter().map(reference).collect::<Vec<_>>() }),
    };
    let examples: Map<String, Value> = kinds
        .iter()
        .map(|kind| (kind.name.clone(), json!({ "value": kind.example })))
        .collect();
    let titles: Vec<&str> = kinds
        .iter()
        .filter_map(|kind| kind.example["title"].as_str())
        .collect();
    json!({
        "description": format!("{}.", titles.join(", or ")),
        "content": { "application/problem+json": { "schema": schema, "examples": examples } },
    })
}

/// Adds the headers that answers of one status always have, or with `*` those that any answer may have.
fn add_headers(path: &str, operation: &mut Value, status: &str, names: &BTreeSet<String>) {
    for (code, response) in members(&mut operation["responses"]) {
        for name in names.iter().filter(|name| may_have(code, name)) {
            if status == "*" {
                add_header(response, name, false);
            } else if status == code {
                add_header(response, name, true);
            }
        }
    }
    let there = status == "*" || operation["responses"].get(status).is_some();
    assert!(
        there,
        "{path}: headers of a status without an answer: {status}"
    );
}

fn may_have(code: &str, name: &str) -> bool {
    code != "401" || name != RENEWED_TOKEN
}

/// Adds a header. If some answers lack it, it refers to the shared description.
fn add_header(response: &mut Value, name: &str, always: bool) {
    let (name, mut header) = header(name).unwrap_or_else(|| panic!("no such header: {name}"));
    if response["headers"].get(name).is_some() {
        return;
    }
    response["headers"][name] = if always {
        header["required"] = true.into();
        header
    } else {
        json!({ "$ref": format!("#/components/headers/{name}") })
    };
}
