//! Transactions of somebody else: their ends take offsets that belong to no record, and one that is left
//! open must not hold anything back.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use seckill_domain::Offset;
use seckill_eventlog::{
    OffsetRange, Record, RecordReader, backlog, offset_ranges, read_all, read_events, scan,
};

use crate::harness::{Log, PARTITIONS, SOON, View, assigned, read};

/// A producer with a transaction open in which it has written one record to a partition.
async fn transaction(log: &Log, partition: i32) -> BaseProducer {
    let (brokers, topic) = (log.settings.brokers.clone(), log.topics.events.clone());
    let begun = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("transactional.id", format!("{topic}-{partition}"))
            .create()
            .unwrap();
        producer.init_transactions(SOON).unwrap();
        producer.begin_transaction().unwrap();
        let record = BaseRecord::to(&topic).key("nobody's").payload("nothing");
        producer.send(record.partition(partition)).unwrap();
        producer.flush(SOON).unwrap();
        producer
    });
    begun.await.unwrap()
}

async fn commit(producer: BaseProducer) {
    let committed = tokio::task::spawn_blocking(move || producer.commit_transaction(SOON));
    committed.await.unwrap().unwrap();
}

fn offsets(records: &[Record], partition: i32) -> Vec<i64> {
    let here = records.iter().filter(|r| r.partition == partition);
    here.map(|r| r.offset.get()).collect()
}

#[tokio::test]
async fn an_end_of_the_log_that_belongs_to_no_record_is_reached_and_is_no_lag() {
    let log = Log::create().await;
    let partition = log.write(42, 3).await;
    commit(transaction(&log, partition).await).await;

    let end_of = async || {
        let held = offset_ranges(&log.settings, &log.topics.events)
            .await
            .unwrap();
        *held.iter().find(|h| h.partition == partition).unwrap()
    };
    // Four records and the end of the transaction, which may come a moment after the commit's answer.
    let deadline = Instant::now() + SOON;
    let mut all = end_of().await;
    while all.to < Offset::new(5) {
        assert!(Instant::now() < deadline, "{all:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        all = end_of().await;
    }
    assert_eq!(all.to, Offset::new(5));
    let records = read_all(&log.settings, &log.topics.events, SOON)
        .await
        .unwrap();
    assert_eq!(offsets(&records, partition), [0, 1, 2, 3]);

    let reader = RecordReader::new(&log.settings, &log.topics.events).unwrap();
    let kept = reader.held(PARTITIONS).await.unwrap();
    assert_eq!(kept.iter().find(|h| h.partition == partition), Some(&all));
    let behind = async |from: i64| {
        let from = Offset::new(from);
        let unread = [OffsetRange { from, ..all }];
        let found = backlog(&log.settings, &log.topics.events, &unread).await;
        let found = found.unwrap();
        // The one client that is kept says the same.
        assert_eq!(reader.backlog(&unread).await.unwrap(), found);
        found.get(&partition).map(|b| b.events)
    };
    assert_eq!(
        behind(4).await,
        None,
        "the view that has all four is not behind"
    );
    assert_eq!(behind(3).await, Some(2));
    let from = Offset::new(4);
    let rest = vec![OffsetRange { from, ..all }];
    let rest = scan(&log.settings, &log.topics.events, rest, 1).await;
    assert_eq!(rest.unwrap().next().await.unwrap(), None);

    let topic = (log.topics.events.as_str(), PARTITIONS);
    let starts = vec![(partition, Offset::new(0))];
    let streams = read_events(&log.settings, topic, starts, 1_000, 1).await;
    let mut stream = streams.unwrap().remove(0);
    let mut at = Offset::new(0);
    while at < all.to {
        at = tokio::time::timeout(SOON, stream.next())
            .await
            .unwrap()
            .unwrap()
            .to;
    }
}

#[tokio::test]
async fn a_transaction_that_is_left_open_holds_nothing_back() {
    let log = Log::create().await;
    let partition = log.write(42, 1).await;
    let open = transaction(&log, partition).await;
    log.write(42, 2).await;

    let held = offset_ranges(&log.settings, &log.topics.events)
        .await
        .unwrap();
    let all = held.iter().find(|h| h.partition == partition).unwrap();
    assert_eq!(all.to, Offset::new(4));
    let records = read_all(&log.settings, &log.topics.events, SOON)
        .await
        .unwrap();
    assert_eq!(offsets(&records, partition), [0, 1, 2, 3]);

    let (mut assignments, handle) = log.consume(100, View::at(&[]));
    let mut assignment = assigned(&mut assignments, partition).await;
    assert_eq!(read(&mut assignment, 4).await, [0, 1, 2, 3]);
    assert_eq!(log.held(partition).await, *all);
    handle.shutdown().await.unwrap();
    drop(open);
}
