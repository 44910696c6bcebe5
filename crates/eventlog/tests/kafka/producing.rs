use std::time::Duration;

use seckill_domain::{
    Effect, LogRef, Offset, Outcome, SaleOutcome, SalePhase, TraceParent, VoucherId,
};
use seckill_domain::{Timestamp, partition_of};
use seckill_eventlog::{
    DeadLetter, DeliveryError, EventProducer, KafkaSettings, OutcomeRecord, Topics, decode_outcome,
    read_all, tail,
};

use crate::harness::{Log, PARTITIONS, SOON, reservation};

#[tokio::test]
async fn an_event_is_read_as_it_was_sent() {
    let log = Log::create().await;
    let event = reservation(42, 7);
    let trace = TraceParent::generate(5, 6);
    let delivered = log
        .producer
        .send_event(&event, Some(trace))
        .unwrap()
        .await
        .unwrap();
    assert_eq!(delivered.partition, partition_of(b"42", PARTITIONS));
    assert_eq!(delivered.offset, Offset::new(0));

    let records = read_all(&log.settings, &log.topics.events, SOON)
        .await
        .unwrap();
    let [record] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(record.event(PARTITIONS), Ok(event.clone()));
    assert_eq!(record.trace(), Some(trace));
    let header = |name| str::from_utf8(record.header(name).unwrap()).unwrap();
    assert_eq!(header("ce_id"), event.event_id.to_string());
    assert_eq!(header("ce_type"), "seckill.v1.SeckillReserved");
    assert_eq!(header("ce_source"), "seckill-test");
    assert_eq!(header("ce_time"), "2026-06-18T12:00:00Z");
    assert_eq!(header("ce_specversion"), "1.0");
    assert_eq!(header("content-type"), "application/avro");
}

#[tokio::test]
async fn a_record_without_a_trace_begins_one() {
    let log = Log::create().await;
    log.write(1, 2).await;
    let records = read_all(&log.settings, &log.topics.events, SOON)
        .await
        .unwrap();
    let traces: Vec<_> = records
        .iter()
        .map(|r| r.trace().expect("a trace"))
        .collect();
    assert_eq!(traces.len(), 2);
    assert_ne!(traces[0], traces[1]);
}

#[tokio::test]
async fn a_dead_letter_is_the_record_itself_and_why() {
    let log = Log::create().await;
    log.write(42, 2).await;
    let mut records = read_all(&log.settings, &log.topics.events, SOON)
        .await
        .unwrap();
    let mut record = records.remove(1);
    record.payload = Some(vec![1, 2, 3]);
    let letter = DeadLetter {
        record: &record,
        cause: "nobody can read this".to_owned(),
        group: "seckill-projector",
    };
    log.producer.send_dead_letter(&letter).await.unwrap();

    let letters = read_all(&log.settings, &log.topics.dead_letters, SOON)
        .await
        .unwrap();
    let [letter] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(
        (&letter.key, &letter.payload),
        (&record.key, &record.payload)
    );
    let copied = letter.headers.iter().take(record.headers.len());
    assert!(copied.eq(record.headers.iter()), "{letter:?}");
    let added = letter.headers.iter().skip(record.headers.len()).flatten();
    let added: Vec<_> = added
        .map(|(name, value)| (name, str::from_utf8(value.unwrap()).unwrap()))
        .collect();
    let partition = record.partition.to_string();
    let expected = [
        ("__dlq.errors.topic", log.topics.events.as_str()),
        ("__dlq.errors.partition", &partition),
        ("__dlq.errors.offset", "1"),
        ("__dlq.errors.group", "seckill-projector"),
        ("__dlq.errors.message", "nobody can read this"),
    ];
    assert_eq!(added, expected);
}

#[tokio::test]
async fn a_dead_letter_may_be_a_tombstone_without_a_key() {
    let log = Log::create().await;
    log.write(42, 1).await;
    let mut records = read_all(&log.settings, &log.topics.events, SOON)
        .await
        .unwrap();
    let mut record = records.remove(0);
    (record.key, record.payload) = (None, None);
    let letter = DeadLetter {
        record: &record,
        cause: "no payload".to_owned(),
        group: "g",
    };
    log.producer.send_dead_letter(&letter).await.unwrap();
    let letters = read_all(&log.settings, &log.topics.dead_letters, SOON)
        .await
        .unwrap();
    assert_eq!((&letters[0].key, &letters[0].payload), (&None, &None));
}

#[tokio::test]
async fn a_tail_gives_what_is_picked_of_what_is_written_after_it_began() {
    let log = Log::create().await;
    let outcome = |voucher, offset| {
        let effect = Effect {
            voucher_id: VoucherId::new(voucher).unwrap(),
            offset: Offset::new(offset),
            stock: None,
            outcome: Outcome::Sale(SaleOutcome {
                phase: SalePhase::Closed,
                version: offset + 1,
                delta: 0,
            }),
        };
        OutcomeRecord::new(
            &effect,
            3,
            LogRef::default(),
            Timestamp::from_micros(1_781_784_000_000_000),
        )
    };
    let send = |record: &OutcomeRecord| log.producer.send_outcome(record, None).unwrap();
    send(&outcome(42, 1)).await.unwrap();
    let pick = |key: &[u8]| (key != b"43").then(|| key.to_vec());
    let mut keys = tail(&log.settings, &log.topics.outcomes, 1, pick)
        .await
        .unwrap();
    for (voucher, offset) in [(42, 2), (43, 3), (44, 4), (42, 5)] {
        send(&outcome(voucher, offset)).await.unwrap();
    }
    let mut picked = Vec::new();
    for _ in 0..3 {
        let key = tokio::time::timeout(SOON, keys.recv()).await.unwrap();
        picked.push(String::from_utf8(key.unwrap().unwrap()).unwrap());
    }
    // The topic has partitions, between which there is no order.
    picked.sort();
    assert_eq!(picked, ["42", "42", "44"]);
    let written = read_all(&log.settings, &log.topics.outcomes, SOON)
        .await
        .unwrap();
    let decoded = written
        .iter()
        .map(|record| decode_outcome(record.payload.as_deref().unwrap()));
    let decoded: Vec<_> = decoded.map(Result::unwrap).collect();
    assert!(decoded.contains(&outcome(43, 3)));
    assert_eq!(decoded.len(), 5);
}

#[tokio::test]
async fn without_a_broker_the_outcome_is_unknown() {
    let port = seckill_testkit::ports::free_port().unwrap();
    let settings = KafkaSettings {
        delivery_timeout: Duration::from_secs(1),
        ..KafkaSettings::new(format!("127.0.0.1:{port}"), "seckill-test")
    };
    let producer = EventProducer::new(&settings, &Topics::new(""), 1).unwrap();
    let warm = producer.warm_up(Duration::from_millis(100)).await;
    assert!(warm.is_err());
    let delivery = producer.send_event(&reservation(1, 1), None).unwrap();
    assert!(producer.in_flight() >= 1);
    assert_eq!(delivery.await, Err(DeliveryError::TimedOut));
}

#[tokio::test]
async fn flushing_waits_for_the_acks() {
    let log = Log::create().await;
    log.producer.warm_up(SOON).await.unwrap();
    let deliveries: Vec<_> = (0..100)
        .map(|n| log.producer.send_event(&reservation(1, n), None).unwrap())
        .collect();
    log.producer.flush(SOON).await.unwrap();
    assert_eq!(log.producer.in_flight(), 0);
    for (offset, delivery) in (0..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, Offset::new(offset));
    }
}
