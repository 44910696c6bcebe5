//! Each rung does what its card says, on real stores.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, ensure};
use seckill_lab::disk::Disk;
use seckill_lab::lab::LabWorld;
use seckill_lab::pipeline::Pipeline;
use seckill_lab::plan::Load;
use seckill_lab::report::Outcome;
use seckill_lab::rungs::{self, Rung};
use seckill_lab::scenario::Scenario;
use seckill_lab::store::Stores;
use seckill_testkit::{Database, Redis, fresh_database};
use tokio::sync::Semaphore;

/// Each rung's scenarios run together, and need up to eighty connections of the server's two hundred.
static ROOM: Semaphore = Semaphore::const_new(2);
/// As many as the rung that uses most.
static REDIS: LazyLock<Result<Vec<Redis>>> =
    LazyLock::new(|| (0..5).map(|_| Redis::start()).collect());

const LOAD: Load = Load {
    stock: 20,
    buyers: 60,
    concurrency: 8,
    stop_after_s: 20,
    pause_ms: 500,
    steady_s: 1,
};

fn rung(name: &str) -> Result<Rung> {
    let found = rungs::all().into_iter().find(|rung| rung.card.name == name);
    found.context("no such rung")
}

fn world() -> Result<(LabWorld, Database)> {
    let database = fresh_database()?;
    let redis = REDIS.as_ref().map_err(|e| anyhow::anyhow!("{e:#}"))?;
    let world = LabWorld {
        stores: Stores {
            database_url: database.url(),
            redis_urls: redis.iter().map(Redis::url).collect(),
        },
        program: PathBuf::from(env!("CARGO_BIN_EXE_seckill-lab")),
        pipeline: None,
    };
    Ok((world, database))
}

fn scenarios(rung: &Rung) -> impl Iterator<Item = Scenario> {
    let expected = rung.card.expected;
    let duels = Scenario::DUELS.into_iter();
    duels.filter(move |scenario| scenario.concerns(&expected))
}

fn ensure_expected(rung: &Rung, outcome: &Outcome) -> Result<()> {
    let expected = outcome.scenario.expected(&rung.card.expected);
    ensure!(
        expected.is_none_or(|expected| outcome.verdict == expected),
        "expected {expected:?}: {outcome:#?}"
    );
    Ok(())
}

async fn check(name: &str) -> Result<()> {
    let _permit = ROOM.acquire().await?;
    let (world, _database) = world()?;
    let rung = rung(name)?;
    let runs = scenarios(&rung).map(|scenario| rung.run(&world, scenario, &LOAD));
    for outcome in futures_util::future::try_join_all(runs).await? {
        ensure_expected(&rung, &outcome)?;
        if outcome.scenario == Scenario::Pool {
            // All but the twenty who had a connection.
            let away = [("http: 503 no connection".to_owned(), 980)];
            ensure!(outcome.errors == BTreeMap::from(away), "{outcome:#?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: starts a whole stack, and waits for what was killed"]
async fn the_pipeline_is_safe_under_every_fault() -> Result<()> {
    let _room = ROOM.acquire_many(2).await?;
    let (world, _database) = world()?;
    let pipeline = Arc::new(Pipeline::start(Disk::Unused).await?);
    let world = LabWorld {
        stores: pipeline.stores().clone(),
        pipeline: Some(pipeline),
        ..world
    };
    let rung = rung(PIPELINE)?;
    for scenario in scenarios(&rung).chain([Scenario::Load]) {
        let outcome = rung.run(&world, scenario, &LOAD).await?;
        ensure_expected(&rung, &outcome)?;
        ensure!(outcome.oversold == 0 && outcome.unkept == 0, "{outcome:#?}");
    }
    Ok(())
}

/// The one rung that needs a stack.
const PIPELINE: &str = "pipeline";

macro_rules! verdicts {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() -> Result<()> {
                check($name).await
            }
        )*

        #[test]
        fn no_rung_is_left_out() {
            let names: Vec<&str> = rungs::all().iter().map(|rung| rung.card.name).collect();
            assert_eq!(names, [$($name,)* PIPELINE]);
        }
    };
}

verdicts! {
    naive: "naive",
    mutex: "mutex",
    mutex_per_user: "mutex-per-user",
    actor: "actor",
    read_committed: "read-committed",
    repeatable_read: "repeatable-read",
    serializable: "serializable",
    for_update: "for-update",
    for_share: "for-share",
    two_rows: "two-rows",
    two_rows_in_order: "two-rows-in-order",
    table_lock: "table-lock",
    skip_locked: "skip-locked",
    advisory_lock: "advisory-lock",
    version: "version",
    version_retry: "version-retry",
    conditional_update: "conditional-update",
    unique_index: "unique-index",
    setnx: "setnx",
    setnx_expire: "setnx-expire",
    set_nx_px: "set-nx-px",
    get_then_del: "get-then-del",
    owner_token: "owner-token",
    watchdog: "watchdog",
    reentrant: "reentrant",
    redlock: "redlock",
    fencing_token: "fencing-token",
    redlock_fenced: "redlock-fenced",
    segments: "segments",
    next_segment: "next-segment",
    lpop: "lpop",
    decr: "decr",
    decr_segments: "decr-segments",
    lua_insert: "lua-insert",
    lua_stream: "lua-stream",
}
