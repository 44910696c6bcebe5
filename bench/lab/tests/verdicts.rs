//! Each rung does what its card says, on real stores.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use seckill_lab::lab::Stores;
use seckill_lab::rungs;
use seckill_lab::scenario::{Load, Scenario};
use seckill_testkit::{Redis, fresh_database};
use tokio::sync::Semaphore;

/// Each rung's scenarios run together, and need up to fifty connections of the server's two hundred.
static ROOM: Semaphore = Semaphore::const_new(2);
static REDIS: LazyLock<Result<Redis>> = LazyLock::new(Redis::start);

const LOAD: Load = Load {
    stock: 20,
    buyers: 60,
    concurrency: 8,
    stop_after_s: 20,
};

async fn check(name: &str) -> Result<()> {
    let _permit = ROOM.acquire().await?;
    let database = fresh_database()?;
    let redis = REDIS.as_ref().map_err(|e| anyhow::anyhow!("{e:#}"))?;
    let stores = Stores {
        database_url: database.url(),
        redis_url: redis.url(),
    };
    let all = rungs::all();
    let rung = all.iter().find(|rung| rung.card.name == name);
    let rung = rung.context("no such rung")?;
    let runs = Scenario::DUELS.map(|scenario| rung.run(&stores, scenario, &LOAD));
    for outcome in futures_util::future::try_join_all(runs).await? {
        if let Some(expected) = outcome.scenario.expected(&rung.card.expected) {
            ensure!(
                outcome.verdict == expected,
                "expected {expected:?}: {outcome:#?}"
            );
        }
    }
    Ok(())
}

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
            assert_eq!(names, [$($name),*]);
        }
    };
}

verdicts! {
    naive: "naive",
    mutex: "mutex",
    two_mutexes: "two-mutexes",
    actor: "actor",
    read_committed: "read-committed",
    repeatable_read: "repeatable-read",
    serializable: "serializable",
    for_update: "for-update",
    for_share: "for-share",
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
    owner_token: "owner-token",
    watchdog: "watchdog",
    fencing_token: "fencing-token",
    segments: "segments",
    lpop: "lpop",
    decr: "decr",
    lua_insert: "lua-insert",
    lua_stream: "lua-stream",
}
