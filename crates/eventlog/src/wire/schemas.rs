//! The schemas, and the two framings that say under which of them a message was written.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

use crate::wire::avro::Wire;
use crate::wire::error::{DecodeError, SchemaError};
use crate::wire::ids;

/// Avro's single-object encoding: these two bytes, then the schema's fingerprint.
const SINGLE_OBJECT: [u8; 2] = [0xC3, 0x01];
/// Confluent's framing: this byte, then the registry's id of the schema.
const CONFLUENT: u8 = 0x00;
const FINGERPRINT_BYTES: usize = 8;

/// No field is larger than the largest message that a broker accepts by default. A larger length prefix is
/// wrong, and no memory is allocated for it.
const MAX_FIELD_BYTES: usize = 1 << 20;

/// A record of one of the topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RecordKind {
    SaleScheduled,
    StockAdjusted,
    SaleClosed,
    SaleReloaded,
    SeckillReserved,
    OrderPaid,
    OrderCancelled,
    OrderExpired,
    RecordSkipped,
    OrderOutcome,
    SaleOutcome,
    RefundDue,
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

macro_rules! schema_file {
    ($kind:ident) => {
        (
            RecordKind::$kind,
            include_str!(concat!("../../../../schemas/", stringify!($kind), ".avsc")),
        )
    };
    ($kind:ident, $version:literal) => {
        (
            RecordKind::$kind,
            include_str!(concat!(
                "../../../../schemas/versions/",
                stringify!($kind),
                "/",
                $version,
                ".avsc"
            )),
        )
    };
}

/// Every version of every record's schema that may stand in a log. Of several versions of one
/// record the last is the one that is written.
///
/// A record is read under the version that it was written in, which its framing names; a field
/// that this version has not is none in the record's type. (Resolving one schema into another
/// while reading is not used: apache/avro-rs#575.)
const SCHEMAS: &[(RecordKind, &str)] = &[
    schema_file!(SaleScheduled, 1),
    schema_file!(SaleScheduled),
    schema_file!(StockAdjusted),
    schema_file!(SaleClosed),
    schema_file!(SaleReloaded, 1),
    schema_file!(SaleReloaded),
    schema_file!(SeckillReserved),
    schema_file!(OrderPaid),
    schema_file!(OrderCancelled),
    schema_file!(OrderExpired),
    schema_file!(RecordSkipped),
    schema_file!(OrderOutcome),
    schema_file!(SaleOutcome),
    schema_file!(RefundDue),
];

static PARSED: LazyLock<Vec<(RecordKind, Schema)>> = LazyLock::new(|| {
    let parse = |&(kind, json): &(RecordKind, &str)| {
        (kind, Schema::parse_str(json).expect("a schema file parses"))
    };
    SCHEMAS.iter().map(parse).collect()
});

static VERSIONS: LazyLock<Versions> = LazyLock::new(Versions::build);

/// What [`PARSED`] has, ready to read and to write with.
struct Versions {
    by_fingerprint: HashMap<[u8; FINGERPRINT_BYTES], Version>,
    current: HashMap<RecordKind, [u8; FINGERPRINT_BYTES]>,
}

/// One version of one record's schema.
pub(crate) struct Version {
    kind: RecordKind,
    reader: GenericDatumReader<'static>,
    writer: GenericDatumWriter<'static>,
}

impl Versions {
    fn build() -> Self {
        apache_avro::util::max_allocation_bytes(MAX_FIELD_BYTES);
        let mut versions = Self {
            by_fingerprint: HashMap::new(),
            current: HashMap::new(),
        };
        for (kind, schema) in PARSED.iter() {
            let fingerprint = fingerprint(schema);
            let version = Version {
                kind: *kind,
                reader: GenericDatumReader::builder(schema)
                    .build()
                    .expect("a schema file refers to nothing outside"),
                writer: GenericDatumWriter::builder(schema)
                    .build()
                    .expect("a schema file refers to nothing outside"),
            };
            versions.by_fingerprint.insert(fingerprint, version);
            versions.current.insert(*kind, fingerprint);
        }
        versions
    }
}

/// The Rabin fingerprint of a schema's canonical form, as every language computes it. The library's
/// canonical form leaves `{"type":"long"}` where it took a logical type out; the specification
/// (Parsing Canonical Form, rule PRIMITIVES), and with it Java, has `"long"` there. Without the
/// logical types, at the second time, the library does so too.
fn fingerprint(schema: &Schema) -> [u8; FINGERPRINT_BYTES] {
    let plain = Schema::parse_str(&schema.canonical_form()).expect("a canonical form is a schema");
    let bytes = plain.fingerprint::<Rabin>().bytes;
    bytes.try_into().expect("a Rabin fingerprint has 64 bits")
}

/// Writes a record in single-object encoding under the current version of its schema.
pub(crate) fn encode<T: Wire>(record: &T) -> Vec<u8> {
    let fingerprint = VERSIONS.current[&T::KIND];
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&SINGLE_OBJECT);
    bytes.extend_from_slice(&fingerprint);
    VERSIONS.by_fingerprint[&fingerprint]
        .writer
        .write_ser(&mut bytes, record)
        .expect("a record's fields are those of its schema");
    bytes
}

/// What the schema `json` is here, whoever wrote it down: one of ours if its canonical form is.
pub(crate) fn version_of(json: &str) -> Result<&'static Version, SchemaError> {
    let schema = Schema::parse_str(json).map_err(|e| SchemaError::Syntax(e.to_string()))?;
    let name = schema
        .name()
        .map_or_else(|| schema.to_string(), ToString::to_string);
    let version = VERSIONS.by_fingerprint.get(&fingerprint(&schema));
    version.ok_or(SchemaError::Unknown { name })
}

/// A record as it is written now.
#[derive(Clone)]
pub(crate) struct Written {
    pub(crate) kind: RecordKind,
    /// With its namespace.
    pub(crate) full_name: String,
    /// The text of its schema.
    pub(crate) json: &'static str,
    pub(crate) schema: &'static Schema,
}

/// Every record, with the version of its schema that is written.
pub(crate) fn written() -> Vec<Written> {
    let all = SCHEMAS.iter().zip(PARSED.iter()).enumerate();
    let last = all.filter(|(n, ((kind, _), _))| !SCHEMAS[n + 1..].iter().any(|(k, _)| k == kind));
    last.map(|(_, ((kind, json), (_, schema)))| Written {
        kind: *kind,
        full_name: schema.name().map(ToString::to_string).unwrap_or_default(),
        json,
        schema,
    })
    .collect()
}

/// Puts a registry's id where the framing of a message of ours has the fingerprint.
pub(crate) fn put_id(message: &mut Vec<u8>, id: u32) {
    let [a, b, c, d] = id.to_be_bytes();
    let framing = SINGLE_OBJECT.len() + FINGERPRINT_BYTES;
    message.splice(..framing, [CONFLUENT, a, b, c, d]);
}

/// The registry's id in a message's framing, if it is framed so.
pub(crate) fn id_in(message: &[u8]) -> Option<u32> {
    match message {
        [CONFLUENT, rest @ ..] => rest.first_chunk().map(|id| u32::from_be_bytes(*id)),
        _ => None,
    }
}

/// Which record a message is, by its framing alone.
pub(crate) fn kind_of(message: &[u8]) -> Option<RecordKind> {
    let framed = Framed::parse(message).ok()?;
    Some(framed.kind())
}

fn unknown(fingerprint: [u8; FINGERPRINT_BYTES]) -> DecodeError {
    DecodeError::UnknownFingerprint {
        fingerprint: u64::from_le_bytes(fingerprint),
    }
}

/// A message whose schema is known and whose body is not read yet.
pub(crate) struct Framed<'m> {
    version: &'static Version,
    body: &'m [u8],
}

impl<'m> Framed<'m> {
    /// Reads the framing.
    pub(crate) fn parse(message: &'m [u8]) -> Result<Self, DecodeError> {
        let (version, body) = match message {
            [0xC3, 0x01, rest @ ..] => {
                let (fingerprint, body) = rest.split_first_chunk().ok_or(DecodeError::TooShort)?;
                let version = VERSIONS.by_fingerprint.get(fingerprint);
                (version.ok_or_else(|| unknown(*fingerprint))?, body)
            }
            [CONFLUENT, rest @ ..] => {
                let (id, body) = rest.split_first_chunk().ok_or(DecodeError::TooShort)?;
                (ids::known(u32::from_be_bytes(*id))?, body)
            }
            [] | [0xC3] => return Err(DecodeError::TooShort),
            [first, ..] => return Err(DecodeError::UnknownFraming { first: *first }),
        };
        // Simulates a process of a version that does not have this schema.
        fail::fail_point!(&format!("eventlog.lacks.{}", version.kind), |_| Err(
            unknown(VERSIONS.current[&version.kind])
        ));
        Ok(Self { version, body })
    }

    /// Which record it is.
    pub(crate) const fn kind(&self) -> RecordKind {
        self.version.kind
    }

    /// Reads the body as Avro's own value.
    pub(crate) fn read_value(mut self) -> Result<Value, DecodeError> {
        let value = self.version.reader.read_value(&mut self.body);
        value.map_err(|e| DecodeError::Body {
            record: self.version.kind.to_string(),
            problem: e.to_string(),
        })
    }

    /// Reads the body, all of it.
    pub(crate) fn read<T: Wire>(mut self) -> Result<T, DecodeError> {
        let kind = self.version.kind;
        let record = self
            .version
            .reader
            .read_deser(&mut self.body)
            .map_err(|e| DecodeError::Body {
                record: kind.to_string(),
                problem: e.to_string(),
            })?;
        if self.body.is_empty() {
            Ok(record)
        } else {
            Err(DecodeError::TrailingBytes {
                record: kind.to_string(),
                count: self.body.len(),
            })
        }
    }
}
