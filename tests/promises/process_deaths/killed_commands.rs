//! `seckillctl` is killed in the middle of a command. The audit agrees with what the command did, and the command can
//! be repeated.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use seckill_domain::VoucherId;
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_testkit::process::Process;
use seckill_testkit::scratch::scratch_dir;
use seckill_testkit::service::binary;
use seckill_tests::{ForeignProducer, SaleTerms, SlowWire, World, check_consistency, eventually};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// More letters than one chunk of the command, which is a hundred.
const LETTERS: i64 = 150;
const REDRIVE: [&str; 9] = [
    "dlq",
    "redrive",
    "--cause",
    "key",
    "--limit",
    "200",
    "--execute",
    "--yes",
    "--reason",
];

/// Starts `seckillctl` and kills it as soon as `acted` returns that it has done something.
pub(crate) async fn killed_when<F>(
    world: &World,
    arguments: &[&str],
    admin_url: &str,
    acted: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let directory = scratch_dir("seckillctl")?;
    let mut command = Command::new(binary("seckillctl")?);
    command
        .args(arguments)
        .envs(world.stack.env())
        .env("INGRESS_ADMIN_URL", admin_url);
    let mut process = Process::spawn("seckillctl", &command, &directory.path().join("log"))?;
    eventually("it has acted", acted).await?;
    process.expect_running().context(process.log_tail())?;
    process.kill()
}

/// The number of letters that are marked as redriven or discarded, and the number in the audit.
async fn noted(pool: &sqlx::PgPool) -> Result<(i64, i64)> {
    let sql = "SELECT (SELECT count(*) FROM skipped_records WHERE fate IS NOT NULL),
                      (SELECT coalesce(sum(affected), 0)::bigint FROM ops_audit
                        WHERE command LIKE 'dlq%')";
    Ok(sqlx::query_as(sql).fetch_one(pool).await?)
}

async fn adjusted(world: &World, voucher: VoucherId) -> Result<i64> {
    let ledger = world.client.ledger(voucher).await?;
    ledger["adjusted"].as_i64().context("no such member")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a slow redrive, twice"]
async fn a_redrive_that_is_killed_can_be_given_again() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let foreign = ForeignProducer::of(&world)?;
    // If one of them were carried out twice, the stock would show it.
    for _ in 0..LETTERS {
        foreign.misfile_restock(voucher).await?;
    }
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "letters");
    eventually("all of them are dead letters", || async {
        let letters = read_all(&settings, &topics.dead_letters, Duration::from_secs(30)).await?;
        Ok(letters.len() >= usize::try_from(LETTERS)?)
    })
    .await?;
    let pool = world.database().await?;
    let slowly = [
        &REDRIVE[..],
        &["a new key", "--actor", "kim", "--per-second", "50"],
    ]
    .concat();

    // Kill it in the first chunk, and then in the second, when the first one is recorded.
    for (at_least, chunks) in [(5, 0), (100 + 5, 100)] {
        killed_when(&world, &slowly, "http://127.0.0.1:1", || async {
            let (letters, _) = noted(&pool).await?;
            Ok(adjusted(&world, voucher).await? >= at_least && letters >= chunks)
        })
        .await?;
        let (letters, in_audit) = noted(&pool).await?;
        assert_eq!(letters, in_audit, "both or neither");
        assert_eq!(letters, chunks, "what was not noted is still listed");
    }
    let again = Instant::now();
    let rest = [
        &REDRIVE[..],
        &["a new key", "--actor", "kim", "--per-second", "10000"],
    ]
    .concat();
    world.stack.seckillctl(&rest)?;
    let recovered_ms = again.elapsed().as_millis();
    assert_eq!(noted(&pool).await?, (LETTERS, LETTERS));
    eventually("all of them are folded", || async {
        Ok(adjusted(&world, voucher).await? >= LETTERS)
    })
    .await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &[]).await?;
    assert_eq!(
        found.units,
        10 + LETTERS,
        "each once, however often it was sent"
    );
    println!(
        "case seckillctl killed in a redrive: letters={LETTERS} killed=2 recovered_ms={recovered_ms}"
    );
    Ok(())
}

/// A connection to the admin API on which no answer arrives.
async fn deaf_wire(world: &World) -> Result<(SlowWire, String)> {
    let address = world.client.admin_url.strip_prefix("http://");
    let address: SocketAddr = address.context("an address")?.parse()?;
    let wire = SlowWire::before(address).await?;
    wire.delay_answers(Duration::from_secs(3600));
    let url = format!("http://127.0.0.1:{}", wire.port());
    Ok((wire, url))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_that_was_put_up_by_a_killed_command_is_put_up_once() -> Result<()> {
    let world = World::start()?;
    let (_wire, deaf) = deaf_wire(&world).await?;
    let now = OffsetDateTime::now_utc();
    let (opens, closes) = (
        now.format(&Rfc3339)?,
        (now + time::Duration::hours(1)).format(&Rfc3339)?,
    );
    let create = [
        "sale",
        "create",
        "--title",
        "One",
        "--price-cents",
        "100",
        "--stock",
        "5",
        "--idempotency-key",
        "k",
        "--opens-at",
        &opens,
        "--closes-at",
        &closes,
    ];
    let pool = world.database().await?;
    let ids = || async {
        let ids = sqlx::query_scalar("SELECT voucher_id FROM vouchers")
            .fetch_all(&pool)
            .await;
        anyhow::Ok::<Vec<i64>>(ids?)
    };
    killed_when(&world, &create, &deaf, || async {
        Ok(!ids().await?.is_empty())
    })
    .await?;
    let mut env = world.stack.env().clone();
    env.insert(
        "INGRESS_ADMIN_URL".to_owned(),
        world.client.admin_url.clone(),
    );
    let told = seckill_testkit::service::run_binary("seckillctl", &create, &env)?;
    let ids = ids().await?;
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(told.contains(&ids[0].to_string()), "{told}");
    world.until_served(VoucherId::new(ids[0])?).await?;

    // The restock has no idempotency key. The ledger shows whether it was made, as the command itself advises.
    let voucher = ids[0].to_string();
    let restock = ["sale", "restock", &voucher, "3", "--reason", "found"];
    let id = VoucherId::new(ids[0])?;
    killed_when(&world, &restock, &deaf, || async {
        Ok(adjusted(&world, id).await? != 0)
    })
    .await?;
    let show = ["sale", "show", &voucher, "--output", "json"];
    let shown = seckill_testkit::service::run_binary("seckillctl", &show, &env)?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    assert_eq!(shown["adjusted"], json!(3));
    world.quiet(id).await?;
    assert_eq!(check_consistency(&world, id, &[]).await?.units, 8);
    println!("case seckillctl killed in sale create and restock: sales=1 recovered_ms=0");
    Ok(())
}
