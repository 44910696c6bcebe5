//! From a message's bytes to an outcome, in either of the two wire formats.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use reqwest::StatusCode;
use serde_json::{Map, Value};

/// The records of this topic. One of another name is newer than this program.
const RECORDS: [&str; 3] = ["OrderOutcome", "SaleOutcome", "RefundDue"];

/// No field is longer: a length beyond that is a lie, and nothing is allocated for it.
const MAX_FIELD_BYTES: usize = 1 << 20;

/// What a message turned out to be.
pub(crate) enum Reading {
    /// An outcome: its fields and `record`, its record's name, as a JSON object with sorted keys. Times are
    /// microseconds since 1970.
    Outcome { event_id: String, json: String },
    /// Nothing that this program knows, and why. Reading it again would end the same.
    Unreadable(String),
}

type Fingerprint = [u8; 8];

/// The schemas that messages may be written under.
pub(crate) struct Schemas {
    by_fingerprint: HashMap<Fingerprint, Schema>,
    by_id: HashMap<u32, Schema>,
    registry: Option<String>,
    http: reqwest::Client,
}

impl Schemas {
    /// Loads every `.avsc` file under `directory`: old versions stand beside new ones in the topic.
    pub(crate) fn load(directory: &Path) -> Result<Self> {
        apache_avro::util::max_allocation_bytes(MAX_FIELD_BYTES);
        let mut by_fingerprint = HashMap::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            let entries = fs::read_dir(&directory)
                .with_context(|| format!("no schemas in {}", directory.display()))?;
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|end| end == "avsc") {
                    let schema = parse_file(&path)?;
                    by_fingerprint.insert(fingerprint(&schema)?, schema);
                }
            }
        }
        Ok(Self {
            by_fingerprint,
            by_id: HashMap::new(),
            registry: None,
            http: reqwest::Client::new(),
        })
    }

    /// Says which schema an id stands for.
    pub(crate) fn insert_id(&mut self, id: u32, file: &Path) -> Result<()> {
        self.by_id.insert(id, parse_file(file)?);
        Ok(())
    }

    /// Names the registry that is asked for ids which nobody has told.
    pub(crate) fn ask(&mut self, registry: &str) {
        self.registry = Some(registry.trim_end_matches('/').to_owned());
    }

    /// Reads a message. An error is none of the message's: the registry did not answer, say.
    pub(crate) fn read(&mut self, message: &[u8]) -> Result<Reading> {
        let (found, wanted, body) = match message {
            // Avro's single-object encoding: C3 01, the schema's fingerprint, the body.
            [0xC3, 0x01, a, b, c, d, e, f, g, h, body @ ..] => {
                let fingerprint = [*a, *b, *c, *d, *e, *f, *g, *h];
                let wanted = format!("fingerprint {:016x}", u64::from_be_bytes(fingerprint));
                (self.by_fingerprint.get(&fingerprint), wanted, body)
            }
            // Confluent's framing: 00, the schema's id in the registry, the body.
            [0x00, a, b, c, d, body @ ..] => {
                let id = u32::from_be_bytes([*a, *b, *c, *d]);
                (self.of_id(id)?, format!("id {id}"), body)
            }
            _ => {
                return Ok(Reading::Unreadable(
                    "neither of the two framings".to_owned(),
                ));
            }
        };
        let Some(schema) = found else {
            let why = format!("no schema has the {wanted}: written by a newer version?");
            return Ok(Reading::Unreadable(why));
        };
        Ok(read_body(schema, body).unwrap_or_else(|e| Reading::Unreadable(format!("{e:#}"))))
    }

    fn of_id(&mut self, id: u32) -> Result<Option<&Schema>> {
        if let (false, Some(registry)) = (self.by_id.contains_key(&id), &self.registry) {
            let url = format!("{registry}/schemas/ids/{id}");
            let asked = fetch(&self.http, &url);
            let found = tokio::runtime::Handle::current().block_on(asked);
            if let Some(json) = found.with_context(|| format!("cannot ask {url}"))? {
                self.by_id.insert(id, Schema::parse_str(&json)?);
            }
        }
        Ok(self.by_id.get(&id))
    }
}

/// The body under its writer's schema: a newer version has fields more, an older one has fields less.
fn read_body(schema: &Schema, mut body: &[u8]) -> Result<Reading> {
    let record = schema.name().map_or("", |name| name.name());
    if !RECORDS.contains(&record) {
        let why = format!("a record {record:?}, which this program does not know");
        return Ok(Reading::Unreadable(why));
    }
    let reader = GenericDatumReader::builder(schema).build()?;
    let fields = Value::try_from(reader.read_value(&mut body)?)?;
    if !body.is_empty() {
        let why = format!("{record}: {} bytes too many", body.len());
        return Ok(Reading::Unreadable(why));
    }
    let event_id = fields["event_id"]
        .as_str()
        .context("no event_id")?
        .to_owned();
    let mut sorted = Map::new();
    if let Value::Object(fields) = fields {
        sorted.extend(fields);
    }
    sorted.insert("record".to_owned(), record.into());
    sorted.sort_keys();
    let json = Value::Object(sorted).to_string();
    Ok(Reading::Outcome { event_id, json })
}

/// The schema of a registry's id; none if it has none.
async fn fetch(http: &reqwest::Client, url: &str) -> Result<Option<String>> {
    let mut request = http.get(url);
    if let Ok(user) = std::env::var("SCHEMA_REGISTRY_USERNAME")
        && !user.is_empty()
    {
        request = request.basic_auth(user, std::env::var("SCHEMA_REGISTRY_PASSWORD").ok());
    }
    let answer = request.send().await?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let body: Value = answer.error_for_status()?.json().await?;
    let schema = body["schema"].as_str().context("no schema in the answer")?;
    Ok(Some(schema.to_owned()))
}

fn parse_file(path: &Path) -> Result<Schema> {
    let what = || format!("cannot read {}", path.display());
    let json = fs::read_to_string(path).with_context(what)?;
    Schema::parse_str(&json).with_context(what)
}

/// The Rabin fingerprint of the schema's canonical form. The library's form keeps the object around a type whose
/// logical type it took out; other languages don't. Without logical types, the second time, it doesn't either.
fn fingerprint(schema: &Schema) -> Result<Fingerprint> {
    let plain = Schema::parse_str(&schema.canonical_form())?;
    let bytes = plain.fingerprint::<Rabin>().bytes;
    Fingerprint::try_from(bytes).ok().context("not 64 bits")
}
