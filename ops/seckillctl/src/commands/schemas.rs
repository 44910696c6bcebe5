//! The schemas of the records that this version writes, in the schema registry.

use anyhow::{Context, anyhow};
use clap::Subcommand;
use seckill_eventlog::{RegisteredSchema, check_schemas, register_schemas};
use serde_json::json;

use crate::failure::Failure;
use crate::output::{Output, Report, table};
use crate::settings::Settings;

/// What to do with the schemas.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register the schemas that this version writes, a subject for each record of a topic
    /// (TopicRecordNameStrategy), with the compatibility FULL_TRANSITIVE.
    ///
    /// Schemas that are already registered stay as they are. Services register nothing; they wait until this was done.
    /// If one version is not compatible with those that are registered, nothing is registered.
    #[command(after_help = "Example: seckillctl schemas register")]
    Register,
    /// Compare the schemas that this version writes with all registered versions, in both directions.
    ///
    /// Fails if a version is not compatible, or a subject's compatibility is not FULL_TRANSITIVE. A schema that is not
    /// registered yet is no error.
    #[command(after_help = "Example: seckillctl schemas check --output json")]
    Check,
}

pub(crate) async fn run(
    command: Command,
    settings: &Settings,
    output: Output,
) -> Result<Report, Failure> {
    let kafka = settings.kafka()?;
    let topics = kafka.topics();
    let registry = kafka.registry.as_ref().ok_or_else(|| {
        Failure::Usage("SCHEMA_REGISTRY_URL is not set: there is no registry to ask".to_owned())
    })?;
    let schemas = match command {
        Command::Register => register_schemas(registry, &topics).await,
        Command::Check => check_schemas(registry, &topics).await,
    };
    let schemas = schemas.context("SCHEMA_REGISTRY_URL")?;
    let report = report(&schemas);
    let wrong = schemas.iter().filter(|schema| !schema.faults().is_empty());
    match wrong.count() {
        0 => Ok(report),
        count => {
            let failure = anyhow!("{count} of the schemas do not fit what is registered");
            Err(report.print_with(output, failure))
        }
    }
}

fn report(schemas: &[RegisteredSchema]) -> Report {
    let rows: Vec<_> = schemas.iter().map(row).collect();
    let schemas = schemas.iter().map(|schema| {
        json!({
            "subject": schema.subject,
            "id": schema.id,
            "versions": schema.versions,
            "compatibility": schema.compatibility,
            "faults": schema.faults(),
        })
    });
    Report {
        text: table(["SUBJECT", "ID", "VERSIONS", "STATE"], &rows),
        json: schemas.collect(),
    }
}

fn row(schema: &RegisteredSchema) -> [String; 4] {
    let faults = schema.faults();
    let state = match (faults.is_empty(), schema.id) {
        (false, _) => faults.join("; "),
        (true, Some(_)) => "registered".to_owned(),
        (true, None) => "fits, not registered yet".to_owned(),
    };
    [
        schema.subject.clone(),
        schema
            .id
            .map_or_else(|| "-".to_owned(), |id| id.to_string()),
        schema.versions.to_string(),
        state,
    ]
}
