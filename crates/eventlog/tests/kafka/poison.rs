//! Records that no client of ours would write: they are read, and buried with everything that is in them.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use seckill_eventlog::{DeadLetter, EventProducer, KafkaSettings, Record, read_all};
use seckill_testkit::codecs::Codec;
use seckill_testkit::produce::{Answer, RawBatch, RawRecord, fetch, prefixed, produce};

use crate::harness::{Log, PARTITIONS, SOON};

const MIB: usize = 1 << 20;

/// Writes a batch into partition 0 of the event topic.
fn write(log: &Log, batch: &RawBatch) {
    let (brokers, topic) = (&log.settings.brokers, &log.topics.events);
    let answer = produce(brokers, topic, 0, &batch.bytes()).unwrap();
    assert!(matches!(answer, Answer::Written(_)), "{answer:?}");
}

async fn bury(log: &Log, record: &Record) -> Record {
    let letter = DeadLetter {
        record,
        cause: "nobody can read this".to_owned(),
        group: "g",
    };
    log.producer.send_dead_letter(&letter).await.unwrap();
    let letters = read_all(&log.settings, &log.topics.dead_letters, SOON).await;
    letters.unwrap().pop().unwrap()
}

fn note<'a>(letter: &'a Record, of: &str) -> Option<&'a str> {
    let value = letter.header(&format!("__dlq.errors.{of}"))?;
    Some(str::from_utf8(value).unwrap())
}

/// Bytes that no codec makes shorter.
fn random(bytes: usize) -> Vec<u8> {
    let ids = std::iter::repeat_with(|| uuid::Uuid::new_v4().into_bytes());
    ids.flatten().take(bytes).collect()
}

#[tokio::test]
async fn headers_that_cannot_be_read_hold_nothing_up_and_are_copied_to_the_last_byte() {
    let log = Log::create().await;
    let record = RawRecord::new("42", "no event")
        .with_header([0xFF, 0xFE], Some(b"1"))
        .with_header("x-null", None)
        .with_header("x-empty", Some(b""))
        .with_header("ce_id", Some(b"an id"));
    write(&log, &RawBatch::of(&[record], Codec::None));

    let records = read_all(&log.settings, &log.topics.events, SOON).await;
    let [record] = &records.unwrap()[..] else {
        panic!("one record was written");
    };
    let expected = [
        None,
        Some(("x-null", None)),
        Some(("x-empty", Some(&b""[..]))),
        Some(("ce_id", Some(&b"an id"[..]))),
    ];
    assert!(record.headers.iter().eq(expected), "{record:?}");
    assert_eq!(record.header("ce_id"), Some(&b"an id"[..]));

    bury(&log, record).await;
    let letters = fetch(&log.settings.brokers, &log.topics.dead_letters, 0, 0).unwrap();
    let copied = [
        prefixed(&[0xFF, 0xFE]),
        prefixed(b"1"),
        prefixed(b"x-null"),
        vec![1], // null
        prefixed(b"x-empty"),
        prefixed(b""),
    ]
    .concat();
    assert!(
        letters.windows(copied.len()).any(|w| w == copied),
        "{letters:x?}"
    );
}

#[tokio::test]
async fn every_codec_that_kafka_has_is_read() {
    let log = Log::create().await;
    let value = |n: u8| [&b"before the run "[..], &vec![n; 300_000], b" and after it"].concat();
    let mut expected = Vec::new();
    for (n, codec) in (1..).zip(Codec::ALL) {
        let records = [RawRecord::new("42", value(n)), RawRecord::new("42", [n])];
        write(&log, &RawBatch::of(&records, codec));
        expected.extend([Some(value(n)), Some(vec![n])]);
    }
    let records = read_all(&log.settings, &log.topics.events, SOON).await;
    let found: Vec<_> = records.unwrap().into_iter().map(|r| r.payload).collect();
    assert!(found == expected, "{} records", found.len());
}

#[tokio::test]
async fn a_record_that_is_too_large_for_the_dead_letters_leaves_a_letter_that_says_so() {
    let log = Log::create().await;
    let zeros = RawRecord::new("42", vec![0; 5 * MIB]).with_header("ce_id", Some(b"an id"));
    let batch = RawBatch::of(&[zeros], Codec::Gzip);
    assert!(batch.bytes().len() < 10_000);
    write(&log, &batch);
    let records = read_all(&log.settings, &log.topics.events, SOON)
        .await
        .unwrap();

    let letter = bury(&log, &records[0]).await;
    assert_eq!(
        (letter.key.as_deref(), &letter.payload),
        (Some(&b"42"[..]), &None)
    );
    assert_eq!(note(&letter, "payload"), Some("omitted: 5242880 bytes"));
    assert_eq!(note(&letter, "message"), Some("nobody can read this"));
    assert_eq!(
        (note(&letter, "partition"), note(&letter, "offset")),
        (Some("0"), Some("0"))
    );
    assert_eq!(letter.header("ce_id"), Some(&b"an id"[..]));
    assert_eq!(
        (note(&letter, "key"), note(&letter, "headers")),
        (None, None)
    );
}

#[tokio::test]
async fn what_the_broker_finds_too_large_is_left_out_and_the_next_letter_is_whole() {
    let log = Log::create().await;
    set_limit(&log, 200_000).await;
    log.write(42, 1).await;
    let mut records = read_all(&log.settings, &log.topics.events, SOON)
        .await
        .unwrap();
    let mut record = records.remove(0);
    let own_key = record.key.clone();

    record.payload = Some(random(300_000));
    let letter = bury(&log, &record).await;
    assert_eq!((&letter.key, &letter.payload), (&own_key, &None));
    assert_eq!(note(&letter, "payload"), Some("omitted: 300000 bytes"));

    record.key = Some(random(400_000));
    let letter = bury(&log, &record).await;
    assert_eq!((&letter.key, &letter.payload), (&None, &None));
    assert_eq!(note(&letter, "key"), Some("omitted: 400000 bytes"));
    let count = format!("omitted: {} headers", record.headers.len());
    assert_eq!(note(&letter, "headers"), Some(count.as_str()));

    record.payload = Some(random(100_000));
    record.key = None;
    let letter = bury(&log, &record).await;
    assert_eq!(
        (&letter.key, &letter.payload),
        (&record.key, &record.payload)
    );
    assert_eq!(note(&letter, "payload"), None);
}

#[tokio::test]
async fn a_small_letter_beside_one_that_is_too_large_is_whole() {
    let log = Log::create().await;
    set_limit(&log, 200_000).await;
    log.write(42, 1).await;
    let records = read_all(&log.settings, &log.topics.events, SOON).await;
    let small = records.unwrap().remove(0);
    let large = Record {
        payload: Some(random(300_000)),
        ..small.clone()
    };
    // Long enough for both to go in one batch, which the broker refuses.
    let settings = KafkaSettings {
        linger: std::time::Duration::from_millis(200),
        ..log.settings.clone()
    };
    let producer = EventProducer::new(&settings, &log.topics, PARTITIONS).unwrap();
    let letter = |record| DeadLetter {
        record,
        cause: "nobody can read this".to_owned(),
        group: "g",
    };
    let (small_letter, large_letter) = (letter(&small), letter(&large));
    let both = tokio::join!(
        producer.send_dead_letter(&small_letter),
        producer.send_dead_letter(&large_letter)
    );
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    let letters = read_all(&log.settings, &log.topics.dead_letters, SOON).await;
    let found: Vec<_> = letters.unwrap().into_iter().map(|l| l.payload).collect();
    assert!(found.len() == 2 && found.contains(&small.payload) && found.contains(&None));
}

/// Makes the broker refuse dead letters of more than so many bytes.
async fn set_limit(log: &Log, bytes: usize) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &log.settings.brokers);
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let topic = ResourceSpecifier::Topic(&log.topics.dead_letters);
    let bytes = bytes.to_string();
    let change = AlterConfig::new(topic).set("max.message.bytes", &bytes);
    let done = admin.alter_configs(&[change], &AdminOptions::new()).await;
    assert!(done.unwrap().iter().all(Result::is_ok));
}
