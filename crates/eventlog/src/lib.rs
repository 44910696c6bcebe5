//! The event log: its topics, its records as Avro, and the clients that write and read them.

#![warn(missing_docs)]

mod acks;
mod address;
mod check;
mod cluster;
mod consumer;
mod consumer_state;
mod consumer_thread;
mod dead_letter;
mod error;
mod event_reader;
mod events;
mod guard;
mod headers;
mod history;
mod outcomes;
mod partitions;
mod producer;
mod progress;
mod properties;
mod reader;
mod record;
mod record_reader;
mod same_log;
mod scan;
mod schemas;
mod settings;
mod topic_settings;
mod topics;
mod wire;
mod witness;

pub use acks::Delivery;
pub use address::{check_brokers, check_topic_prefix};
pub use cluster::cluster_id;
pub use consumer::{
    ConsumerError, ConsumerHandle, ConsumerOptions, Positions, PositionsError, Watermarks,
    start_consumer,
};
pub use dead_letter::{DeadLetter, DeadLetterError};
pub use error::{DecodeError, SchemaError};
pub use event_reader::{EventStream, read_events};
pub use events::{decode_event, decode_event_with, encode_event};
pub use guard::catches_panics;
pub use headers::{DEAD_LETTER_HEADERS, Headers, TRACEPARENT};
pub use history::{HistoryError, HistoryStep, OrderHistory};
pub use outcomes::{OutcomeRecord, SourceRef, decode_outcome, decode_outcome_with, encode_outcome};
pub use partitions::Assignment;
pub use producer::{Delivered, DeliveryError, EventProducer, SendError};
pub use properties::Properties;
pub use rdkafka::error::KafkaError;
pub use reader::{OffsetRange, ReadError, read_all, tail};
pub use record::Record;
pub use record_reader::RecordReader;
pub use same_log::Log;
pub use scan::{Backlog, Scan, backlog, event_offset_ranges, first_since, offset_ranges, scan};
pub use schemas::SchemaIds;
pub use settings::KafkaSettings;
pub use topic_settings::TopicFault;
pub use topics::{TopicError, Topics, check_topics, create_topics};
