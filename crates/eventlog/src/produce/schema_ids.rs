//! The schemas of what is written, in a schema registry: a subject for each record of a topic
//! (TopicRecordNameStrategy).

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

use crate::kafka::settings::KafkaSettings;
use crate::kafka::topics::Topics;
use crate::registry::{RegistryError, SchemaRegistry};
use crate::wire::ids;
use crate::wire::schemas::{RecordKind, Written, written};

/// Every version that is in the registry reads every other.
const NEEDED: &str = "FULL_TRANSITIVE";

/// A subject for each record of each topic.
fn subjects(topics: &Topics) -> Vec<(String, Written)> {
    let mut subjects = Vec::new();
    for record in written() {
        let homes: &[&String] = match record.kind {
            RecordKind::OrderOutcome => &[&topics.outcomes, &topics.states],
            RecordKind::SaleOutcome | RecordKind::RefundDue => &[&topics.outcomes],
            _ => &[&topics.events],
        };
        let subject = |topic: &&String| (format!("{topic}-{}", record.full_name), record.clone());
        subjects.extend(homes.iter().map(subject));
    }
    subjects
}

/// What a registry has of the schema of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// The topic and the record's full name.
    pub subject: String,
    /// The id of the version that is written here, if it is registered.
    pub id: Option<u32>,
    /// How many versions the subject has.
    pub versions: usize,
    /// Versions that cannot read what is written here, or that cannot be read.
    pub misfits: Vec<String>,
    /// What the registry asks of a version, where the subject has any.
    pub compatibility: Option<String>,
}

/// Compares the schemas that are written with what the registry has of them.
///
/// # Errors
/// [`RegistryError`].
pub async fn check_schemas(
    registry: &SchemaRegistry,
    topics: &Topics,
) -> Result<Vec<RegisteredSchema>, RegistryError> {
    let mut found = Vec::new();
    for (subject, record) in subjects(topics) {
        found.push(look(registry, subject, &record).await?);
    }
    Ok(found)
}

/// Registers the schemas that are written, each as a version of its subject whose versions have to be
/// compatible, all with all. If one is not, nothing is registered.
///
/// # Errors
/// [`RegistryError`].
pub async fn register_schemas(
    registry: &SchemaRegistry,
    topics: &Topics,
) -> Result<Vec<RegisteredSchema>, RegistryError> {
    let found = check_schemas(registry, topics).await?;
    if found.iter().any(|schema| !schema.misfits.is_empty()) {
        return Ok(found);
    }
    for (subject, record) in subjects(topics) {
        registry.demand(&subject, NEEDED).await?;
        registry.add(&subject, record.json).await?;
    }
    check_schemas(registry, topics).await
}

impl RegisteredSchema {
    /// What is wrong with it. A missing schema is not wrong: it can be registered.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.misfits.clone();
        if self.versions > 0 && self.compatibility.as_deref() != Some(NEEDED) {
            let level = self.compatibility.as_deref().unwrap_or("not set");
            faults.push(format!(
                "its compatibility is {level}, and has to be {NEEDED}"
            ));
        }
        faults
    }
}

async fn look(
    registry: &SchemaRegistry,
    subject: String,
    record: &Written,
) -> Result<RegisteredSchema, RegistryError> {
    let versions = registry.versions(&subject).await?;
    let numbered = (1..).zip(&versions);
    let misfit = |(number, json): (u32, &String)| {
        let why = incompatibility(record.schema, json)?;
        Some(format!("version {number} of the registry: {why}"))
    };
    Ok(RegisteredSchema {
        id: registry.id_of(&subject, record.json).await?,
        versions: versions.len(),
        misfits: numbered.filter_map(misfit).collect(),
        compatibility: registry.compatibility(&subject).await?,
        subject,
    })
}

/// Why a reader of one of the two cannot read what a writer of the other wrote.
fn incompatibility(ours: &Schema, theirs: &str) -> Option<String> {
    let theirs = match Schema::parse_str(theirs) {
        Ok(schema) => schema,
        Err(error) => return Some(format!("it is no Avro schema: {error}")),
    };
    match SchemaCompatibility::mutual_read(ours, &theirs) {
        Ok(Compatibility::Full) => None,
        Ok(Compatibility::Partial) => Some("only some values can be read".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Asks the registry for the ids of all schemas that are written. Without a registry there is nothing to ask.
/// Afterwards producers made with these settings, before or later, write without asking again.
///
/// # Errors
/// [`RegistryError`]: waiting may mend it.
pub async fn learn_schema_ids(
    settings: &KafkaSettings,
    topics: &Topics,
) -> Result<(), RegistryError> {
    let Some(registry) = &settings.registry else {
        return Ok(());
    };
    let mut found = HashMap::new();
    for (subject, record) in subjects(topics) {
        let id = registry.id_of(&subject, record.json).await?;
        let id = id.ok_or(RegistryError::NotRegistered { subject })?;
        // It is one of this project's schemas, so the only possible error is their number.
        if let Err(error) = ids::learn(id, record.json) {
            tracing::error!(%error, id, "a schema id cannot be kept");
        }
        found.insert(record.kind.to_string(), id);
    }
    registry.write_with(found);
    Ok(())
}
