//! Batches as bytes, and the expected result of each.

use seckill_domain::VoucherId;
use seckill_testkit::codecs::Codec;
use seckill_testkit::produce::{RawBatch, RawRecord, prefixed, varint};

use super::payloads::{malformed, restock};

const MIB: usize = 1 << 20;

/// Kafka's error codes.
const CORRUPT: i16 = 2;
const TOO_LARGE: i16 = 10;
const INVALID_TRANSACTION: i16 = 53;
const INVALID_RECORD: i16 = 87;
const UNKNOWN: i16 = -1;

/// What happens to a record that the broker has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is folded, and adds one unit.
    Folded,
    /// It is skipped, and its cause contains this.
    Skipped(&'static str),
}

/// What the broker does with a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// It accepts all of its records.
    Taken(Vec<Fate>),
    /// It refuses it with this code.
    Refused(i16),
}

/// A description, and the name and the value of a header.
type Named<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);

/// What is wrong with a batch, the error code of the brokers, and the change that makes it wrong.
type Change = (&'static str, i16, fn(&mut RawBatch));

#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// How many partitions after the partition of its sale it is written to.
    pub(super) partitions_on: i32,
    pub(super) expected: Expected,
}

/// All cases.
pub(super) fn corpus(voucher: VoucherId) -> Vec<Case> {
    let corpus = Corpus {
        voucher,
        cases: Vec::new(),
    };
    let corpus = corpus.payloads().codecs().keys().headers();
    corpus.sizes().batches().refused().cases
}

struct Corpus {
    voucher: VoucherId,
    cases: Vec<Case>,
}

impl Corpus {
    /// A good event with its key.
    fn good(&self) -> RawRecord {
        RawRecord::new(self.voucher.to_string(), restock(self.voucher))
    }

    /// Another value with the same key.
    fn garbage(&self, value: impl Into<Vec<u8>>) -> RawRecord {
        RawRecord::new(self.voucher.to_string(), value)
    }

    fn push(&mut self, name: impl Into<String>, batch: &RawBatch, expected: Expected) {
        self.cases.push(Case {
            name: name.into(),
            bytes: batch.bytes(),
            partitions_on: 0,
            expected,
        });
    }

    fn one(&mut self, name: impl Into<String>, record: RawRecord, fate: Fate) {
        let batch = RawBatch::of(&[record], Codec::None);
        self.push(name, &batch, Expected::Taken(vec![fate]));
    }

    fn payloads(mut self) -> Self {
        for (name, payload, cause) in malformed(self.voucher) {
            let record = self.garbage(payload);
            self.one(format!("payload: {name}"), record, Fate::Skipped(cause));
        }
        self
    }

    fn codecs(mut self) -> Self {
        for codec in Codec::ALL {
            let run = [&b"none"[..], &[0; 2_000]].concat();
            let records = [self.good(), self.garbage(run), self.good()];
            let batch = RawBatch::of(&records, codec);
            let fates = vec![Fate::Folded, Fate::Skipped("framing"), Fate::Folded];
            self.push(format!("codec: {codec:?}"), &batch, Expected::Taken(fates));
        }
        self
    }

    fn keys(mut self) -> Self {
        let key = Some(self.voucher.to_string().into_bytes());
        let wrong = "the record's key is not";
        let other = (self.voucher.get() + 1).to_string();
        let padded = format!("0{}", self.voucher);
        let keys = [
            ("null", None),
            ("empty", Some(Vec::new())),
            ("another sale's", Some(other.into_bytes())),
            ("with a zero before it", Some(padded.into_bytes())),
            ("not UTF-8", Some(vec![0xFF, 0xFE])),
            ("with U+0000", Some(b"1\x002".to_vec())),
            ("of 100 KB", Some(vec![b'7'; 100_000])),
        ];
        for (name, key) in keys {
            let record = RawRecord { key, ..self.good() };
            self.one(format!("key: {name}"), record, Fate::Skipped(wrong));
        }
        let tombstone = RawRecord {
            key,
            ..RawRecord::default()
        };
        self.one("a tombstone", tombstone, Fate::Skipped("no payload"));
        self.one(
            "nothing at all",
            RawRecord::default(),
            Fate::Skipped("no payload"),
        );
        let record = self.good();
        self.one(
            "another partition",
            record,
            Fate::Skipped("the record stands in partition"),
        );
        if let Some(case) = self.cases.last_mut() {
            case.partitions_on = 1;
        }
        self
    }

    /// Headers have no influence: good events are folded with any headers.
    fn headers(mut self) -> Self {
        let headers: [Named; 9] = [
            ("a name that is not UTF-8", b"\xFF\xFE", Some(b"1")),
            ("a null value", b"x", None),
            ("an empty value", b"x", Some(b"")),
            ("no name", b"", Some(b"1")),
            ("neither name nor value", b"", None),
            ("a name with U+0000", b"a\0b", Some(b"1")),
            ("a trace that is none", b"traceparent", Some(b"\xFF")),
            ("a null trace", b"traceparent", None),
            ("a dead letter's", b"__dlq.errors.partition", Some(b"-1")),
        ];
        for (name, key, value) in headers {
            let good = self.good().with_header(key, value);
            self.one(format!("a good event, header: {name}"), good, Fate::Folded);
            let garbage = self.garbage("?").with_header(key, value);
            self.one(format!("header: {name}"), garbage, Fate::Skipped("0x3f"));
        }
        let mut many = self.garbage("?");
        for n in 0..1_000 {
            many = many.with_header(format!("x-{n}"), None);
        }
        self.one("a thousand headers", many, Fate::Skipped("0x3f"));
        self
    }

    fn sizes(mut self) -> Self {
        let most = self.garbage(vec![b'x'; MIB - 1_000]);
        self.one("almost too large", most, Fate::Skipped("0x78"));
        let one_more = RawBatch::of(&[self.garbage(vec![b'x'; MIB])], Codec::None);
        self.push("too large", &one_more, Expected::Refused(TOO_LARGE));
        for codec in &Codec::ALL[1..] {
            let batch = RawBatch::of(&[self.garbage(vec![b'x'; 5 * MIB])], *codec);
            let fate = vec![Fate::Skipped("0x78")];
            self.push(format!("5 MiB in {codec:?}"), &batch, Expected::Taken(fate));
        }
        let wide = self.garbage("?").with_header("x", Some(&vec![0; 3 * MIB]));
        let batch = RawBatch::of(&[wide], Codec::Zstd);
        let fate = vec![Fate::Skipped("0x3f")];
        self.push("a header of 3 MiB", &batch, Expected::Taken(fate));
        let key = Some(vec![b'7'; 3 * MIB]);
        let batch = RawBatch::of(&[RawRecord { key, ..self.good() }], Codec::Zstd);
        let fate = vec![Fate::Skipped("the record's key is not")];
        self.push("a key of 3 MiB", &batch, Expected::Taken(fate));
        self
    }

    /// Unusual batches that brokers accept.
    fn batches(mut self) -> Self {
        let mixed = [
            self.garbage("?"),
            self.good(),
            self.garbage(""),
            self.good(),
        ];
        let fates = vec![
            Fate::Skipped("0x3f"),
            Fate::Folded,
            Fate::Skipped("framing"),
            Fate::Folded,
        ];
        let batch = RawBatch::of(&mixed, Codec::Lz4);
        self.push("good and bad in one", &batch, Expected::Taken(fates));

        let tombstones = vec![RawRecord::default(); 500];
        let fates = vec![Fate::Skipped("no payload"); 500];
        let batch = RawBatch::of(&tombstones, Codec::Gzip);
        self.push("500 tombstones", &batch, Expected::Taken(fates));

        for (name, timestamp_ms) in [
            ("in 1970", 0),
            ("none", -1),
            ("in the year 10000", 253_402_300_800_000),
        ] {
            let mut batch = RawBatch::of(&[self.good()], Codec::None);
            batch.timestamp_ms = timestamp_ms;
            self.push(
                format!("timestamp: {name}"),
                &batch,
                Expected::Taken(vec![Fate::Folded]),
            );
        }
        self
    }

    /// Batches that the broker's own checks refuse.
    fn refused(mut self) -> Self {
        let good = |corpus: &Self| RawBatch::of(&[corpus.good()], Codec::None);
        let changes: [Change; 14] = [
            ("a wrong checksum", CORRUPT, |b| b.checksum_error = 1),
            ("format 1", INVALID_RECORD, |b| b.magic = 1),
            ("format 3", CORRUPT, |b| b.magic = 3),
            ("a control batch", INVALID_RECORD, |b| b.attributes |= 0x20),
            (
                "a transaction's, without a producer",
                INVALID_TRANSACTION,
                |b| {
                    b.attributes |= 0x10;
                },
            ),
            ("codec 5", UNKNOWN, |b| b.attributes |= 5),
            ("codec 7", UNKNOWN, |b| b.attributes |= 7),
            ("says gzip and is not", UNKNOWN, |b| b.attributes |= 1),
            ("says zstd and is not", UNKNOWN, |b| b.attributes |= 4),
            ("no records", INVALID_RECORD, |b| b.count = 0),
            ("one record too few", INVALID_RECORD, |b| b.count = 2),
            ("-1 records", INVALID_RECORD, |b| b.count = -1),
            ("a last offset of 5", INVALID_RECORD, |b| {
                b.last_offset_delta = 5;
            }),
            ("nothing after the count", INVALID_RECORD, |b| {
                b.records.clear();
            }),
        ];
        for (name, code, change) in changes {
            let mut batch = good(&self);
            change(&mut batch);
            self.push(format!("refused: {name}"), &batch, Expected::Refused(code));
        }
        let empty = RawBatch::of(&[], Codec::None);
        self.push(
            "refused: an empty batch",
            &empty,
            Expected::Refused(INVALID_RECORD),
        );
        for (name, bytes, code) in malformed_records(&self.good().bytes(0)) {
            let batch = RawBatch::of_bytes(&bytes, 1, Codec::None);
            self.push(format!("refused: {name}"), &batch, Expected::Refused(code));
        }
        self
    }
}

/// A key of length -2: brokers treat it as no key, and librdkafka cannot read its partition any more.
pub(super) fn with_a_length_that_stops_the_client() -> Vec<u8> {
    let null = varint(-1);
    let record = record_of(&[&varint(-2), &null, &varint(0)]);
    RawBatch::of_bytes(&record, 1, Codec::None).bytes()
}

/// More than 100 MB in one batch of zstd, which has only a few kilobytes on the wire.
pub(super) fn with_a_size_that_stops_the_client() -> Vec<u8> {
    let large = RawRecord::new("1", vec![0; 110 * MIB]);
    RawBatch::of(&[large], Codec::Zstd).bytes()
}

/// A record with these parts after its attributes, timestamp and offset.
fn record_of(parts: &[&[u8]]) -> Vec<u8> {
    prefixed(&[&[0, 0, 0], &parts.concat()[..]].concat())
}

/// Records as bytes whose lengths are inconsistent.
fn malformed_records(good: &[u8]) -> Vec<(&'static str, Vec<u8>, i16)> {
    let null = varint(-1);
    let bytes = [
        ("a record cut in half", good[..good.len() / 2].to_vec()),
        (
            "a length of six bytes",
            [vec![0xFF; 5], vec![0x01]].concat(),
        ),
        ("a length of -2", varint(-2)),
        (
            "a length of 2^31 - 1",
            [varint(i64::from(i32::MAX)), vec![0; 9]].concat(),
        ),
        ("a key of 2^30 bytes", record_of(&[&varint(1 << 30), b"x"])),
        (
            "a value beyond its end",
            record_of(&[&null, &varint(100), b"x"]),
        ),
        ("-1 headers", record_of(&[&null, &null, &varint(-1)])),
        (
            "3 headers that are not there",
            record_of(&[&null, &null, &varint(3)]),
        ),
        (
            "a header without a name",
            record_of(&[&null, &null, &varint(1), &null, &null]),
        ),
        (
            "bytes after its headers",
            record_of(&[&null, &null, &varint(0), b"more"]),
        ),
        ("no fields", prefixed(&[])),
    ];
    let code = |name| match name {
        "a length of six bytes" => UNKNOWN,
        _ => INVALID_RECORD,
    };
    let with_code = |(name, bytes)| (name, bytes, code(name));
    bytes.into_iter().map(with_code).collect()
}
