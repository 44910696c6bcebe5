//! Record batches as bytes, and Produce requests with them, for records that no client library would write. (Record
//! batch of version 2, request of version 7.)

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::codecs::Codec;
use crate::wait::wait_for;

const TIMEOUT: Duration = Duration::from_secs(30);
/// The request's number and version.
const PRODUCE: (i16, i16) = (0, 7);
const FETCH: (i16, i16) = (1, 4);

/// The answers of a broker about a topic that was just made: unknown topic, no leader, not the leader.
const NO_LEADER_YET: [Answer; 3] = [Answer::Refused(3), Answer::Refused(5), Answer::Refused(6)];

/// A record of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// Its key; none is null.
    pub key: Option<Vec<u8>>,
    /// Its value; none is null.
    pub value: Option<Vec<u8>>,
    /// Its headers. Names may be any bytes, and values may be null.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl RawRecord {
    /// A record with a key and a value.
    #[must_use]
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Vec<u8>>, value: Option<&[u8]>) -> Self {
        self.headers.push((name.into(), value.map(<[u8]>::to_vec)));
        self
    }

    /// Its bytes as the `at`-th record of a batch.
    #[must_use]
    pub fn bytes(&self, at: i64) -> Vec<u8> {
        let mut body = vec![0];
        body.extend(varint(0));
        body.extend(varint(at));
        body.extend(nullable(self.key.as_deref()));
        body.extend(nullable(self.value.as_deref()));
        body.extend(varint(length(&self.headers)));
        for (name, value) in &self.headers {
            body.extend(nullable(Some(name)));
            body.extend(nullable(value.as_deref()));
        }
        prefixed(&body)
    }
}

/// A batch. [`RawBatch::of`] makes a correct one, and a test changes what has to be wrong.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// Codec (bits 0 to 2), timestamp type (3), transactional (4), control batch (5).
    pub attributes: i16,
    /// The number of records in its header.
    pub count: i32,
    /// The offset of the last record in its header, relative to the first.
    pub last_offset_delta: i32,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The format's version.
    pub magic: u8,
    /// The producer id. -1 for a producer that is not idempotent.
    pub producer_id: i64,
    /// The records, compressed.
    pub records: Vec<u8>,
    /// The number that is added to the checksum. 0 keeps it correct.
    pub checksum_error: u32,
}

impl RawBatch {
    /// A correct batch of these records.
    #[must_use]
    pub fn of(records: &[RawRecord], codec: Codec) -> Self {
        let bytes: Vec<u8> = (0..).zip(records).flat_map(|(at, r)| r.bytes(at)).collect();
        Self::of_bytes(&bytes, records.len(), codec)
    }

    /// A batch of these bytes, which claims to have this number of records.
    #[must_use]
    pub fn of_bytes(records: &[u8], count: usize, codec: Codec) -> Self {
        let count = i32::try_from(count).expect("a batch has fewer records");
        Self {
            attributes: codec.attribute(),
            count,
            last_offset_delta: count - 1,
            timestamp_ms: 1_700_000_000_000,
            magic: 2,
            producer_id: -1,
            records: codec.compress(records),
            checksum_error: 0,
        }
    }

    /// Its bytes on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut covered = Vec::new();
        covered.extend(self.attributes.to_be_bytes());
        covered.extend(self.last_offset_delta.to_be_bytes());
        covered.extend(self.timestamp_ms.to_be_bytes());
        covered.extend(self.timestamp_ms.to_be_bytes());
        covered.extend(self.producer_id.to_be_bytes());
        covered.extend((-1_i16).to_be_bytes()); // the producer's epoch
        covered.extend((-1_i32).to_be_bytes()); // its sequence
        covered.extend(self.count.to_be_bytes());
        covered.extend(&self.records);
        let checksum = crc32c(&covered).wrapping_add(self.checksum_error);

        let mut tail = (-1_i32).to_be_bytes().to_vec(); // the leader's epoch
        tail.push(self.magic);
        tail.extend(checksum.to_be_bytes());
        tail.extend(covered);
        let mut batch = 0_i64.to_be_bytes().to_vec(); // the base offset, which the broker sets
        batch.extend(size(tail.len()));
        batch.extend(tail);
        batch
    }
}

/// The answer of a broker to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was written, with its first record at this offset.
    Written(i64),
    /// It was refused with this error code.
    Refused(i16),
    /// The broker closed the connection because of the request.
    HungUp,
}

/// Sends a batch to the broker at `address` (`host:port`), which has to lead the partition, and waits
/// until all replicas have it.
///
/// # Errors
/// When there is no answer, or it cannot be parsed.
pub fn produce(address: &str, topic: &str, partition: i32, batch: &[u8]) -> Result<Answer> {
    let mut body = (-1_i16).to_be_bytes().to_vec(); // no transaction
    body.extend((-1_i16).to_be_bytes()); // all replicas
    body.extend(10_000_i32.to_be_bytes()); // milliseconds
    body.extend(one_partition(topic, partition));
    body.extend(size(batch.len()));
    body.extend(batch);
    let request = request(PRODUCE, &body);
    wait_for("the partition's leader", TIMEOUT, || {
        let answer = sent(address, topic, &request)?;
        Ok(Some(answer).filter(|answer| !NO_LEADER_YET.contains(answer)))
    })
}

fn sent(address: &str, topic: &str, request: &[u8]) -> Result<Answer> {
    let mut broker = connect(address)?;
    let sent = broker.write_all(request);
    let mut prefix = [0; 4];
    if sent.and_then(|()| broker.read_exact(&mut prefix)).is_err() {
        return Ok(Answer::HungUp);
    }
    let answer = rest(&mut broker, prefix)?;
    // Correlation id, one topic, its name, one partition, its number, error and offset.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    let (error, rest) = answer
        .get(at..)
        .and_then(<[u8]>::split_first_chunk)
        .context("a short answer")?;
    let (offset, _) = rest.split_first_chunk().context("a short answer")?;
    let (error, offset) = (i16::from_be_bytes(*error), i64::from_be_bytes(*offset));
    ensure!(error != 0 || offset >= 0, "neither an error nor an offset");
    Ok(if error == 0 {
        Answer::Written(offset)
    } else {
        Answer::Refused(error)
    })
}

/// The batches of a partition from `offset` on, as they are on the wire, up to some MiB.
///
/// # Errors
/// When there is no answer, or it has no records.
pub fn fetch(address: &str, topic: &str, partition: i32, offset: i64) -> Result<Vec<u8>> {
    const MAX_BYTES: i32 = 16 << 20;
    let mut body = (-1_i32).to_be_bytes().to_vec(); // no replica
    body.extend(1_000_i32.to_be_bytes()); // milliseconds at the most
    body.extend(1_i32.to_be_bytes()); // bytes at the least
    body.extend(MAX_BYTES.to_be_bytes());
    body.push(0); // uncommitted records too
    body.extend(one_partition(topic, partition));
    body.extend(offset.to_be_bytes());
    body.extend(MAX_BYTES.to_be_bytes());
    let mut broker = connect(address)?;
    broker.write_all(&request(FETCH, &body))?;
    let mut prefix = [0; 4];
    broker.read_exact(&mut prefix)?;
    let answer = rest(&mut broker, prefix)?;
    // Correlation id, throttling, one topic, its name, one partition, its number.
    let at = 4 + 4 + 4 + 2 + topic.len() + 4 + 4;
    let error = answer.get(at..at + 2).context("a short answer")?;
    ensure!(error == [0, 0], "the broker's error {error:?}");
    Ok(answer[at + 2..].to_vec())
}

fn connect(address: &str) -> Result<TcpStream> {
    let broker = TcpStream::connect(address).with_context(|| format!("no broker: {address}"))?;
    broker.set_read_timeout(Some(TIMEOUT))?;
    Ok(broker)
}

fn request((key, version): (i16, i16), body: &[u8]) -> Vec<u8> {
    let mut head = key.to_be_bytes().to_vec();
    head.extend(version.to_be_bytes());
    head.extend(1_i32.to_be_bytes()); // the correlation id
    head.extend(text("raw"));
    [&size(head.len() + body.len())[..], &head, body].concat()
}

fn one_partition(topic: &str, partition: i32) -> Vec<u8> {
    let mut one = 1_i32.to_be_bytes().to_vec();
    one.extend(text(topic));
    one.extend(1_i32.to_be_bytes());
    one.extend(partition.to_be_bytes());
    one
}

fn rest(broker: &mut TcpStream, prefix: [u8; 4]) -> Result<Vec<u8>> {
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(prefix))?];
    broker.read_exact(&mut answer)?;
    Ok(answer)
}

fn text(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn size(bytes: usize) -> [u8; 4] {
    let bytes = i32::try_from(bytes).expect("less than 2 GiB");
    bytes.to_be_bytes()
}

fn length<T>(of: &[T]) -> i64 {
    i64::try_from(of.len()).expect("less than 2^63")
}

/// Bytes behind their length.
#[must_use]
pub fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&varint(length(bytes)), bytes].concat()
}

fn nullable(bytes: Option<&[u8]>) -> Vec<u8> {
    bytes.map_or_else(|| varint(-1), prefixed)
}

/// Kafka's variable-length integer, zigzag, as short as can be.
#[must_use]
pub fn varint(number: i64) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(left & 0x7F).expect("seven bits");
        left >>= 7;
        if left == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let shift = |crc: u32, _| (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
    let table: Vec<u32> = (0..256).map(|n| (0..8).fold(n, shift)).collect();
    let step = |crc: u32, byte: &u8| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ table[usize::from(low ^ byte)]
    };
    bytes.iter().fold(u32::MAX, step) ^ u32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    }

    #[test]
    fn small_numbers_of_either_sign_are_short() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(-1), [1]);
        assert_eq!(varint(63), [126]);
        assert_eq!(varint(64), [0x80, 1]);
        assert_eq!(varint(i64::MIN).len(), 10);
    }
}
