//! Any bytes may be written into the event topic. Every record that the broker accepts is folded or skipped, every
//! skipped record becomes a dead letter with its bytes, and good orders before and after it are decided.

mod corpus;
mod payloads;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use seckill_domain::VoucherId;
use seckill_eventlog::{KafkaSettings, Record, Topics, offset_ranges, read_all};
use seckill_testkit::produce::{Answer, produce};
use seckill_tests::{
    ForeignProducer, SaleTerms, World, check_consistency, eventually_within, readiness,
};

use self::corpus::{Case, Expected, Fate, corpus};

const SOON: Duration = Duration::from_secs(60);

/// The largest record that fits into the dead-letter topic.
const LETTER_MAX_BYTES: usize = 2 << 20;

/// The place of a record: partition and offset.
type Place = (i32, i64);

/// Writes the cases, each between two good orders. Returns the expected result for each record.
async fn write_all(
    world: &World,
    voucher: VoucherId,
    cases: &[Case],
) -> Result<(BTreeMap<Place, Fate>, Vec<seckill_tests::Answer>)> {
    let foreign = ForeignProducer::of(world)?;
    let topic = Topics::new(world.stack.setting("TOPIC_PREFIX")).events;
    let (mut fates, mut answers, mut wrong) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (user, case) in (1..).zip(cases) {
        answers.push(world.client.order(voucher, user, None, 1).await?);
        let partition = (foreign.home_of(voucher) + case.partitions_on) % foreign.partitions();
        let broker = world.stack.setting("KAFKA_BROKERS");
        let answer = produce(broker, &topic, partition, &case.bytes)?;
        match (&case.expected, answer) {
            (Expected::Taken(expected), Answer::Written(first)) => {
                fates.extend((first..).zip(expected).map(|(at, f)| ((partition, at), *f)));
            }
            (Expected::Refused(expected), Answer::Refused(code)) if *expected == code => {}
            (expected, answer) => {
                wrong.push(format!("{}: {answer:?}, not {expected:?}", case.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok((fates, answers))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_past_the_services_is_folded_or_listed_and_good_orders_stand() -> Result<()>
{
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(500)).await?;
    let cases = corpus(voucher);
    ensure!(cases.len() >= 100, "{} cases", cases.len());
    let (fates, answers) = write_all(&world, voucher, &cases).await?;
    until_read_to_the_end(&world).await?;
    world.quiet(voucher).await?;

    let found = check_consistency(&world, voucher, &answers).await?;
    let orders = i64::try_from(cases.len())?;
    assert_eq!(
        (found.unpaid, found.rejected),
        (orders, 0),
        "every good order stands"
    );
    let folded = fates.values().filter(|fate| **fate == Fate::Folded).count();
    assert_eq!(
        found.units,
        500 + i64::try_from(folded)?,
        "every good event is folded once"
    );
    check_letters(&world, &fates).await?;
    check_replay(&world).await
}

/// A record at which the Kafka library itself stops cannot be skipped. But this is not silent: `/readyz` names it, or
/// the process ends, each time. Sales of other partitions go on.
async fn stops_the_client(batch: &[u8]) -> Result<()> {
    let mut world = World::start()?;
    let foreign = ForeignProducer::of(&world)?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let home = foreign.home_of(voucher);
    let mut other = world.sale(SaleTerms::of(10)).await?;
    while foreign.home_of(other) == home {
        other = world.sale(SaleTerms::of(10)).await?;
    }
    let topic = Topics::new(world.stack.setting("TOPIC_PREFIX")).events;
    let written = produce(world.stack.setting("KAFKA_BROKERS"), &topic, home, batch)?;
    let Answer::Written(at) = written else {
        bail!("brokers keep it out: {written:?}");
    };
    let behind = world.client.order(voucher, 1, None, 1).await?;
    ensure!(behind.is_reserved(), "it is in the log: {behind:?}");
    let began = Instant::now();
    let (mut said, mut ended) = (false, 0);
    while !said || ended < 3 {
        ensure!(began.elapsed() < SOON, "ended={ended} said={said}");
        let (status, why) = readiness(&world.projector).unwrap_or_default();
        said |= status == 503 && why.contains("it reads nothing, and a fresh client would");
        ended += world.supervise()?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let place = format!("[({home}, {at})]");
    let output = world.projector.output()?;
    ensure!(output.contains(&place), "{place} in {output}");

    let goes_on = world.client.order(other, 1, None, 1).await?;
    let path = format!("/api/v1/orders/{}", goes_on.order_id().context("an id")?);
    loop {
        ensure!(began.elapsed() < SOON * 2, "{goes_on:?} is not decided");
        world.supervise()?;
        if world.client.get(1, &path).await?.body["status"] == "unpaid" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("case a batch that stops librdkafka: its projector ended {ended} times");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_stops_the_client_itself_is_said_and_sales_of_other_partitions_go_on()
-> Result<()> {
    stops_the_client(&corpus::with_a_length_that_stops_the_client()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_stops_the_client_itself_is_said_and_sales_of_other_partitions_go_on()
-> Result<()> {
    stops_the_client(&corpus::with_a_size_that_stops_the_client()).await
}

/// Waits until the fold and the effects have reached the end of each partition.
async fn until_read_to_the_end(world: &World) -> Result<()> {
    let (settings, topics) = kafka(world);
    let pool = world.database().await?;
    eventually_within(SOON * 2, "the lag is 0", || async {
        let rows: Vec<(i32, i64)> = sqlx::query_as(
            "SELECT partition, min(next_offset) FROM view_positions
              WHERE view IN ('orders', 'effects') GROUP BY partition HAVING count(*) = 2",
        )
        .fetch_all(&pool)
        .await?;
        let positions: BTreeMap<i32, i64> = rows.into_iter().collect();
        let held = offset_ranges(&settings, &topics.events).await?;
        let mut behind = held.iter().filter(|held| {
            let position = positions.get(&held.partition).copied().unwrap_or(0);
            position != held.to.get()
        });
        let first = behind.next();
        ensure!(first.is_none(), "{first:?} is not read: {positions:?}");
        Ok(true)
    })
    .await
}

/// Checks that there is one letter for each record that had to be skipped, with its bytes, and no other letter.
async fn check_letters(world: &World, fates: &BTreeMap<Place, Fate>) -> Result<()> {
    let (settings, topics) = kafka(world);
    let log = read_all(&settings, &topics.events, SOON).await?;
    let place = |record: &Record| (record.partition, record.offset.get());
    let originals: BTreeMap<Place, &Record> = log.iter().map(|r| (place(r), r)).collect();
    let mut causes = BTreeMap::new();
    for letter in &read_all(&settings, &topics.dead_letters, SOON).await? {
        let source = (
            note(letter, "partition")?.parse()?,
            note(letter, "offset")?.parse()?,
        );
        let original = originals.get(&source).context("no such record")?;
        check_copy(original, letter).with_context(|| format!("{source:?}"))?;
        let twice = causes.insert(source, note(letter, "message")?);
        ensure!(twice.is_none(), "two letters of {source:?}");
    }
    check_causes(causes, fates).context("dead letters")?;
    let pool = world.database().await?;
    let rows: Vec<(i32, i64, String)> =
        sqlx::query_as(r#"SELECT partition, "offset", cause FROM skipped_records"#)
            .fetch_all(&pool)
            .await?;
    let listed = rows
        .into_iter()
        .map(|(p, offset, cause)| ((p, offset), cause));
    check_causes(listed.collect(), fates).context("skipped records")
}

/// Checks that exactly the records that had to be skipped are listed, each with its cause.
fn check_causes(mut listed: BTreeMap<Place, String>, fates: &BTreeMap<Place, Fate>) -> Result<()> {
    for (place, fate) in fates {
        match (fate, listed.remove(place)) {
            (Fate::Folded, None) => {}
            (Fate::Skipped(expected), Some(cause)) if cause.contains(expected) => {}
            (fate, cause) => bail!("{place:?} was to be {fate:?}, and is {cause:?}"),
        }
    }
    ensure!(listed.is_empty(), "good records are listed: {listed:?}");
    Ok(())
}

/// Checks that a letter has the bytes of its record, or says how many of them are missing.
fn check_copy(original: &Record, letter: &Record) -> Result<()> {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers = original.headers.iter().flatten();
    let header_bytes: usize = headers.map(|(_, value)| value.map_or(0, <[u8]>::len)).sum();
    let (key, payload) = (bytes(&original.key), bytes(&original.payload));
    if key + payload + header_bytes < LETTER_MAX_BYTES {
        ensure!(letter.payload == original.payload, "another payload");
        ensure!(letter.key == original.key, "another key");
        let copied = letter.headers.iter().take(original.headers.len());
        ensure!(copied.eq(original.headers.iter()), "other headers");
        ensure!(
            letter.headers.len() == original.headers.len() + 5,
            "more headers"
        );
        return Ok(());
    }
    ensure!(letter.payload.is_none());
    ensure!(note(letter, "payload")? == format!("omitted: {payload} bytes"));
    if key + header_bytes >= LETTER_MAX_BYTES {
        ensure!(letter.key.is_none());
        ensure!(note(letter, "key")? == format!("omitted: {key} bytes"));
        let count = original.headers.len();
        ensure!(note(letter, "headers")? == format!("omitted: {count} headers"));
    }
    Ok(())
}

/// The value of a header that says what was wrong. If there are several, the last one counts, because the record's own
/// headers come first.
fn note(letter: &Record, name: &str) -> Result<String> {
    let name = format!("__dlq.errors.{name}");
    let value = letter.headers.named(&name).next_back().flatten();
    Ok(String::from_utf8(value.context(name.clone())?.to_vec())?)
}

/// Checks that the operators' export has a line for every record.
async fn check_replay(world: &World) -> Result<()> {
    let (settings, topics) = kafka(world);
    let held = offset_ranges(&settings, &topics.events).await?;
    let records: u64 = held.iter().map(seckill_eventlog::OffsetRange::len).sum();
    let lines = world.stack.seckillctl(&["replay", "--stdout"])?;
    assert_eq!(lines.lines().count() as u64, records);
    Ok(())
}

fn kafka(world: &World) -> (KafkaSettings, Topics) {
    let setting = |name| world.stack.setting(name);
    let settings = KafkaSettings::new(setting("KAFKA_BROKERS"), "poison");
    (settings, Topics::new(setting("TOPIC_PREFIX")))
}
