//! What can be wrong with a message.

/// Why a message cannot be read. It is malformed, and every version finds it so, but for what
/// [`Self::is_not_known_yet`] says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A record without a payload. The topics are not compacted: nothing writes these.
    #[error("no payload")]
    NoPayload,
    /// Ends inside its framing.
    #[error("the message ends inside its framing")]
    TooShort,
    /// Neither of the two framings.
    #[error("the first byte {first:#04x} begins no known framing")]
    UnknownFraming {
        /// The byte.
        first: u8,
    },
    /// Single-object encoding, under a schema that this build does not have.
    #[error("unknown schema fingerprint {fingerprint:#018x}: written by a newer version?")]
    UnknownFingerprint {
        /// The Rabin fingerprint of the writer's schema.
        fingerprint: u64,
    },
    /// Confluent's framing, with an id that no registry has told yet, or of a schema that this build does not have.
    #[error("unknown schema id {id}: {why}")]
    UnknownSchemaId {
        /// The registry's id.
        id: u32,
        /// What the registry said of it last.
        why: String,
    },
    /// A known record that does not belong in this topic.
    #[error("a {record} does not belong into this topic")]
    WrongTopic {
        /// The record's name.
        record: String,
    },
    /// The body does not follow the schema.
    #[error("{record}: {problem}")]
    Body {
        /// The record's name.
        record: String,
        /// What the Avro reader says.
        problem: String,
    },
    /// The body is longer than its schema says.
    #[error("{record}: {count} bytes too many")]
    TrailingBytes {
        /// The record's name.
        record: String,
        /// How many.
        count: usize,
    },
    /// The Avro reader panicked.
    #[error("reading it panicked: {problem}")]
    Panicked {
        /// The panic's message.
        problem: String,
    },
    /// A field has a value that is not allowed.
    #[error("{record}.{field}: {problem}")]
    Invalid {
        /// The record's name.
        record: String,
        /// The field's name in the schema.
        field: &'static str,
        /// What it has to be.
        problem: String,
    },
    /// An event under a key other than its voucher id.
    #[error("the record's key is not {expected}, its voucher id")]
    WrongKey {
        /// The voucher id.
        expected: String,
    },
    /// A record of an unknown schema under a key that is not a voucher id.
    #[error("the record's key is not a voucher id")]
    KeyOfNoVoucher,
    /// An event in a partition that is not that of its key.
    #[error("the record stands in partition {partition}, and its key leads to {expected}")]
    WrongPartition {
        /// The partition that it is in.
        partition: i32,
        /// The partition of its key.
        expected: i32,
    },
}

impl DecodeError {
    /// Whether another version of this program may be able to read the message: it names a schema that this
    /// one does not have.
    #[must_use]
    pub const fn is_not_known_yet(&self) -> bool {
        matches!(
            self,
            Self::UnknownFingerprint { .. } | Self::UnknownSchemaId { .. }
        )
    }
}

/// Why a registry's schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SchemaError {
    /// Not an Avro schema.
    #[error("not an Avro schema: {0}")]
    Syntax(String),
    /// None of the schemas that this build reads.
    #[error("it is of the schema registry's {name}, in a version that this build does not have")]
    Unknown {
        /// The schema's name.
        name: String,
    },
    /// Too many ids: one registry gives far fewer to the schemas of this project.
    #[error("too many ids of known schemas")]
    TooMany,
}
