//! Questions about the log while leaders come and go. A broker of its own would elect one when it likes: these
//! tests decide when, at the client's own mock of a cluster.

use rdkafka::mocking::MockCluster;
use seckill_domain::Offset;
use seckill_eventlog::{KafkaSettings, OffsetRange, RecordReader};

const TOPIC: &str = "questions";
const BROKER: i32 = 1;

#[tokio::test]
async fn a_partition_that_has_a_leader_again_is_read_at_once() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    let settings = KafkaSettings::new(cluster.bootstrap_servers(), "test");
    let reader = RecordReader::new(&settings, TOPIC).unwrap();
    let nothing_yet = OffsetRange {
        partition: 0,
        from: Offset::new(0),
        to: Offset::new(0),
    };
    assert_eq!(reader.held(1).await.unwrap(), [nothing_yet]);

    cluster.partition_leader(TOPIC, 0, None).unwrap();
    while reader.held(1).await.is_ok() {}

    cluster.partition_leader(TOPIC, 0, Some(BROKER)).unwrap();
    assert_eq!(reader.held(1).await.unwrap(), [nothing_yet]);
}
