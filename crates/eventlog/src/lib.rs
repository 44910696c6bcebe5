//! The event log: its topics, its records as Avro, and the clients that write and read them.

#![warn(missing_docs)]

mod consume;
mod kafka;
pub mod metrics;
mod produce;
mod read;
mod registry;
mod wire;

pub use crate::consume::consumer::{
    ConsumerError, ConsumerHandle, ConsumerOptions, Positions, PositionsError, start_consumer,
};
pub use crate::consume::partitions::Assignment;
pub use crate::kafka::address::{check_brokers, check_topic_prefix};
pub use crate::kafka::cluster::cluster_id;
pub use crate::kafka::properties::Properties;
pub use crate::kafka::settings::KafkaSettings;
pub use crate::kafka::topic_settings::TopicFault;
pub use crate::kafka::topics::{TopicError, Topics, check_topics, create_topics};
pub use crate::produce::acks::Delivery;
pub use crate::produce::dead_letter::{DeadLetter, DeadLetterError};
pub use crate::produce::producer::{Delivered, DeliveryError, EventProducer, SendError};
pub use crate::produce::redrive::{NotRedrivable, Redriven};
pub use crate::produce::schema_ids::{
    RegisteredSchema, check_schemas, learn_schema_ids, register_schemas,
};
pub use crate::read::event_reader::{EventStream, read_events};
pub use crate::read::history::{HistoryError, HistoryStep, OrderHistory};
pub use crate::read::reader::{OffsetRange, ReadError, read_all, tail};
pub use crate::read::record_reader::RecordReader;
pub use crate::read::same_log::Log;
pub use crate::read::scan::{
    Backlog, Scan, backlog, event_offset_ranges, first_since, offset_ranges, scan,
};
pub use crate::read::shown::{event_json, moment, record_json, written_at};
pub use crate::registry::{Misconfigured, RegistryError, RegistrySettings, SchemaRegistry};
pub use crate::wire::error::DecodeError;
pub use crate::wire::events::{decode_event, encode_event};
pub use crate::wire::guard::catches_panics;
pub use crate::wire::headers::{DEAD_LETTER_HEADERS, Headers, TRACEPARENT};
pub use crate::wire::outcomes::{
    OutcomeKey, OutcomeRecord, SourceRef, decode_outcome, encode_outcome,
};
pub use crate::wire::record::Record;
pub use rdkafka::error::KafkaError;
