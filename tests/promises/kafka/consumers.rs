//! The consumers in `examples/` read both wire formats, and lose nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use seckill_domain::{EventId, Offset, Outcome, SaleOutcome, SalePhase, Timestamp, VoucherId};
use seckill_eventlog::{
    KafkaSettings, OutcomeRecord, SourceRef, Topics, create_topics, decode_outcome, encode_outcome,
    read_all,
};
use seckill_testkit::{HttpServer, shared_kafka, unique_prefix, workspace_root};
use seckill_tests::{SaleTerms, World, eventually};
use serde_json::json;
use uuid::Uuid;

mod example;
pub(crate) mod toolchains;

pub(crate) use example::{Example, LANGUAGES, Language, OTHERS};

const SOON: Duration = Duration::from_secs(30);

/// The id of each record's schema in the registry.
const IDS: [(u32, &str); 3] = [(11, "OrderOutcome"), (12, "SaleOutcome"), (13, "RefundDue")];

/// A schema registry that answers `GET /schemas/ids/{id}` for [`IDS`] with the schema and everything else with 404.
/// With `broken` it answers everything with that status.
fn registry(broken: Option<u16>) -> Result<HttpServer> {
    HttpServer::start(0, move |request| {
        let asked = |(id, _): &&(u32, &str)| request.path.ends_with(&format!("/schemas/ids/{id}"));
        match (broken, IDS.iter().find(asked)) {
            (Some(status), _) => (status, String::new()),
            (None, None) => (404, json!({"error_code": 40403}).to_string()),
            (None, Some((_, record))) => {
                let file = workspace_root().join(format!("schemas/{record}.avsc"));
                let schema = std::fs::read_to_string(file).expect("a schema");
                (200, json!({ "schema": schema }).to_string())
            }
        }
    })
}

/// A payload of the default format, in Confluent's framing: magic byte, schema id, the same body.
fn in_confluent_framing(payload: &[u8]) -> Result<Vec<u8>> {
    let record = decode_outcome(payload)?.name();
    let (id, _) = IDS
        .iter()
        .find(|(_, name)| *name == record)
        .context("an id")?;
    let body = payload.get(10..).context("too short")?;
    Ok([&[0], &id.to_be_bytes()[..], body].concat())
}

/// A test's own topics.
struct Topic {
    brokers: String,
    name: String,
    producer: FutureProducer,
}

impl Topic {
    async fn create(brokers: String) -> Result<Self> {
        let topics = Topics::new(&unique_prefix());
        create_topics(&KafkaSettings::new(&brokers, "test"), &topics, 3, 1).await?;
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .create()?;
        Ok(Self {
            brokers,
            name: topics.outcomes,
            producer,
        })
    }

    /// Writes all payloads into one partition, in this order.
    async fn write(&self, payloads: &[Vec<u8>]) -> Result<()> {
        for payload in payloads {
            let record = FutureRecord::<(), _>::to(&self.name);
            let record = record.partition(1).payload(payload);
            let sent = self.producer.send(record, SOON).await;
            sent.map_err(|(error, _)| error)?;
        }
        Ok(())
    }
}

fn outcome(version: i64) -> Vec<u8> {
    encode_outcome(&OutcomeRecord {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id: VoucherId::new(7).expect("an id"),
        occurred_at: Timestamp::from_micros(1_781_784_000_000_001),
        source: SourceRef {
            partition: 0,
            offset: Offset::new(version),
        },
        outcome: Outcome::Sale(SaleOutcome {
            phase: SalePhase::Adjusted,
            version,
            delta: -1,
        }),
    })
}

async fn brokers() -> Result<String> {
    tokio::task::spawn_blocking(shared_kafka).await?
}

/// Makes a sale with every kind of outcome. Returns the payloads that the projector has published.
async fn sale_with_everything(world: &World) -> Result<Vec<Vec<u8>>> {
    let voucher = world.sale(SaleTerms::default()).await?;
    let mut orders = Vec::new();
    for user in [1, 2] {
        let answer = world.client.order(voucher, user, None, 1).await?;
        let order_id = answer.order_id().context("no order")?.to_owned();
        world.until_status(user, &order_id, "unpaid").await?;
        orders.push(order_id);
    }
    world.client.pay(&orders[0], "pay-\"1\"", 1_000).await?;
    world.client.cancel(2, &orders[1]).await?;
    world.until_status(2, &orders[1], "cancelled").await?;
    world.client.pay(&orders[1], "too-late", 1_000).await?;
    let restock = json!({"delta": 5, "reason": "found a box"});
    let path = format!("/admin/v1/vouchers/{voucher}");
    world
        .client
        .admin_post(&format!("{path}/stock"), &restock)
        .await?;
    world
        .client
        .admin_post(&format!("{path}/close"), &json!({}))
        .await?;

    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "test");
    let mut payloads = Vec::new();
    // Scheduled, two unpaid, paid, cancelled, the refund, adjusted, closed.
    eventually("eight outcomes are published", || async {
        Ok(read_all(&settings, &topics.outcomes, SOON).await?.len() == 8)
    })
    .await?;
    for record in read_all(&settings, &topics.outcomes, SOON).await? {
        payloads.push(record.payload.context("a tombstone")?);
    }
    Ok(payloads)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_examples_print_the_same_lines_for_both_wire_formats() -> Result<()> {
    all_print_the_same(&LANGUAGES).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: builds the examples of three more languages"]
async fn the_other_examples_print_skip_and_commit_what_the_first_two_do() -> Result<()> {
    all_print_the_same(&[&LANGUAGES[..1], &OTHERS].concat()).await?;
    all_skip_the_same(&OTHERS).await?;
    all_commit_what_they_have_printed(&OTHERS).await
}

async fn all_print_the_same(languages: &[Language]) -> Result<()> {
    let world = World::start()?;
    let published = sale_with_everything(&world).await?;
    let brokers = world.stack.setting("KAFKA_BROKERS");
    let live = Topics::new(world.stack.setting("TOPIC_PREFIX")).outcomes;
    let framed = Topic::create(brokers.to_owned()).await?;
    let payloads: Result<Vec<_>> = published.iter().map(|p| in_confluent_framing(p)).collect();
    framed.write(&payloads?).await?;

    let ids = IDS.map(|(id, record)| format!("--schema-id={id}=schemas/{record}.avsc"));
    let ids = ids.each_ref().map(String::as_str);
    let registry = registry(None)?;
    let asking = format!("--registry={}/", registry.url());
    let asking = [asking.as_str()];
    let mut runs = Vec::new();
    for language in languages {
        let more = match language {
            Language::Python => &ids[..],
            _ => &asking,
        };
        runs.push((*language, &live, &[][..]));
        runs.push((*language, &framed.name, more));
    }
    let mut printed = BTreeSet::new();
    for (language, topic, more) in runs {
        let example = Example::start(language, brokers, topic, more)?;
        let (lines, skipped) = example.finish(published.len(), 0).await?;
        assert_eq!(skipped, [""; 0], "{language:?} {topic}");
        printed.insert(lines);
    }
    assert_eq!(printed.len(), 1, "{printed:#?}");
    let lines = printed.pop_first().context("no lines")?;
    let parsed: Result<Vec<serde_json::Value>, _> = lines
        .iter()
        .map(|line| serde_json::from_str(line))
        .collect();
    let parsed = parsed?;
    assert_eq!(parsed.len(), published.len());
    for payload in &published {
        let is = decode_outcome(payload)?;
        let (id, at) = (is.event_id.to_string(), is.occurred_at.as_micros());
        let line = parsed.iter().find(|line| line["event_id"] == id.as_str());
        let line = line.with_context(|| format!("{is:?} was not printed"))?;
        assert_eq!(line["record"], is.name());
        assert_eq!(line["occurred_at"], at);
        assert_eq!(line["source_offset"], is.source.offset.get());
        if let Outcome::Order(order) = is.outcome {
            assert_eq!(line["order_id"], order.order_id.to_string());
            assert_eq!(line["status"], order.status.as_str());
            assert_eq!(line["rejected_reason"], serde_json::Value::Null);
        }
    }
    Ok(())
}

/// Whatever records are between two outcomes, the second outcome is printed too, and the first one only once.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_skip_what_they_do_not_know_and_what_is_repeated() -> Result<()> {
    all_skip_the_same(&LANGUAGES).await
}

async fn all_skip_the_same(languages: &[Language]) -> Result<()> {
    let topic = Topic::create(brokers().await?).await?;
    let first = outcome(1);
    let framed = in_confluent_framing(&first)?;
    let event = include_str!("../../../crates/eventlog/tests/golden/SaleClosed.hex");
    let event: String = event.split_whitespace().collect();
    let unknown = [
        [&[0xC3, 0x01], &[7; 8][..], &first[10..]].concat(),
        [&[0x00, 0, 0, 0, 99][..], &first[10..]].concat(),
        hex::decode(event)?,
        b"garbage".to_vec(),
        Vec::new(),
        first[..first.len() - 3].to_vec(),
        [&first[..], &[0]].concat(),
    ];
    topic.write(&[first.clone(), framed.clone(), first]).await?;
    topic.write(&unknown).await?;
    topic.write(&[outcome(2)]).await?;

    let registry = registry(None)?;
    for &language in languages {
        let more = [&*format!("--registry={}/", registry.url())];
        let start = || Example::start(language, &topic.brokers, &topic.name, &more);
        let (lines, skipped) = start()?.finish(2, unknown.len()).await?;
        assert_eq!(lines.len(), 2, "{language:?}: {lines:#?}");
        for (line, why) in skipped.iter().zip([
            "no schema has the fingerprint 0707070707070707",
            "no schema has the id 99",
            "SaleClosed",
            "neither of the two framings",
            "neither of the two framings",
            "",
            "1 bytes too many",
        ]) {
            assert!(line.contains(why), "{language:?}: {line}");
            assert!(
                line.starts_with(&format!("skipped {}-1@", topic.name)),
                "{line}"
            );
        }
        assert_eq!(skipped.len(), unknown.len(), "{language:?}: {skipped:#?}");
    }
    Ok(())
}

/// If the registry does not answer, that is not a fault of the message, so no message is skipped.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_commit_only_what_they_have_printed() -> Result<()> {
    all_commit_what_they_have_printed(&LANGUAGES).await
}

async fn all_commit_what_they_have_printed(languages: &[Language]) -> Result<()> {
    let topic = Topic::create(brokers().await?).await?;
    let later = in_confluent_framing(&outcome(2))?;
    topic.write(&[outcome(1), later, outcome(3)]).await?;
    let (broken, healthy) = (registry(Some(500))?, registry(None)?);
    for &language in languages {
        let start = |registry: &HttpServer| {
            let more = [&*format!("--registry={}/", registry.url())];
            Example::start(language, &topic.brokers, &topic.name, &more)
        };
        let mut failing = start(&broken)?;
        assert!(!failing.process.wait(SOON)?.success(), "{language:?}");
        let (before, said) = failing.lines()?;
        assert_eq!(before.len(), 1, "{before:#?} {said:#?}");
        assert!(said.iter().any(|line| line.contains("500")), "{said:#?}");

        let (after, skipped) = start(&healthy)?.finish(2, 0).await?;
        let versions: Result<Vec<_>> = after
            .iter()
            .map(|line| Ok(serde_json::from_str::<serde_json::Value>(line)?["version"].clone()))
            .collect();
        assert_eq!(versions?, [2, 3], "{language:?}: {after:#?} {skipped:#?}");
    }
    Ok(())
}
