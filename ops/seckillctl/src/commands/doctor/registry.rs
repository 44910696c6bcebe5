//! The schema registry: whether it has the schemas of this version, and accepts only compatible ones.

use seckill_eventlog::{SchemaRegistry, check_schemas};

use super::{Findings, State, Stores, causes};

const REGISTER: &str = "seckillctl schemas register";
const SETTINGS: &str = "SCHEMA_REGISTRY_URL and what follows it: docs/configuration.md";

pub(super) async fn look(stores: &Stores) -> Findings {
    let mut findings = Findings::of("schema-registry");
    if let Some(registry) = &stores.log.client.registry {
        ask(registry, stores, &mut findings).await;
    }
    findings
}

async fn ask(registry: &SchemaRegistry, stores: &Stores, findings: &mut Findings) {
    let schemas = match check_schemas(registry, &stores.log.topics).await {
        Ok(schemas) => schemas,
        Err(error) => return findings.wrong("answer", causes(&error), SETTINGS),
    };
    let fitting = schemas.iter().filter(|schema| schema.misfits.is_empty());
    let mut lacking = Vec::new();
    for schema in fitting {
        let missing = schema.id.is_none().then(|| "not registered".to_owned());
        let faults = missing.into_iter().chain(schema.faults());
        lacking.extend(faults.map(|fault| format!("{}: {fault}", schema.subject)));
    }
    let all = format!("{} subjects, FULL_TRANSITIVE", schemas.len());
    let found = lacking
        .first()
        .map_or(all, |first| match lacking.len() - 1 {
            0 => first.clone(),
            more => format!("{first}; and {more} more"),
        });
    findings.judge(
        lacking.is_empty(),
        State::Wrong,
        "subjects",
        &found,
        REGISTER,
    );
    for schema in schemas.iter().filter(|schema| !schema.misfits.is_empty()) {
        let mend =
            "the release that this version of it is of, or the registry that belongs to this log";
        findings.wrong(&schema.subject, schema.misfits.join("; "), mend);
    }
}
