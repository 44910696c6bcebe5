//! The cache over a Redis of its own: stampedes, invalidation, dead and slow rebuilders, outages.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use seckill_domain::VoucherId;
use seckill_ephemeral::{Ephemeral, Key, Kind, SharedCache, Strategy, Tiered};
use seckill_testkit::Redis;
use tokio::sync::Notify;

const LONG: Duration = Duration::from_secs(600);

static MUTEX: Kind = kind(Strategy::Mutex);
static LOGICAL: Kind = kind(Strategy::LogicalExpiry);

const fn kind(strategy: Strategy) -> Kind {
    Kind {
        name: "test",
        strategy,
        fresh: LONG,
        old: LONG,
        null: LONG,
        local: LONG,
        local_entries: 100,
    }
}

struct Stand {
    server: Redis,
    redis: MultiplexedConnection,
    key: Key,
    builds: Arc<AtomicU32>,
}

impl Stand {
    async fn new() -> Self {
        let server = Redis::start().unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        Self {
            redis: client.get_multiplexed_async_connection().await.unwrap(),
            server,
            key: Key::card(VoucherId::new(7).unwrap()),
            builds: Arc::default(),
        }
    }

    fn shared(&self) -> SharedCache {
        SharedCache::new(Ephemeral::new(self.server.url(), "").unwrap())
    }

    /// One process.
    fn instance(&self, kind: &'static Kind) -> Arc<Tiered<String>> {
        Arc::new(Tiered::new(kind, self.shared()))
    }

    fn builds(&self) -> u32 {
        self.builds.load(Ordering::SeqCst)
    }

    /// Builds `value` in so many milliseconds.
    async fn get(&self, instance: &Tiered<String>, value: &str, ms: u64) -> Option<String> {
        let (builds, value) = (Arc::clone(&self.builds), value.to_owned());
        let build = move || {
            builds.fetch_add(1, Ordering::SeqCst);
            let value = value.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok::<_, String>((!value.is_empty()).then_some(value))
            }
        };
        let got = instance.get(&self.key, build).await.unwrap();
        got.map(|value| (*value).clone())
    }

    /// 10,000 requests over four processes that have no copies of their own.
    async fn stampede(self: &Arc<Self>, kind: &'static Kind) -> Vec<Option<String>> {
        let instances: Vec<_> = (0..4).map(|_| self.instance(kind)).collect();
        let requests: Vec<_> = (0..10_000)
            .map(|n| {
                let (stand, instance) = (Arc::clone(self), Arc::clone(&instances[n % 4]));
                tokio::spawn(async move { stand.get(&instance, "new", 100).await })
            })
            .collect();
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(request.await.unwrap());
        }
        answers
    }

    async fn until_redis_has(&mut self, value: &str) {
        let stored = format!("\"{value}\"");
        for _ in 0..3_000 {
            let now: Option<String> = self.redis.get(self.key.entry()).await.unwrap();
            if now.as_ref() == Some(&stored) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{value} was never stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stampede_on_an_expired_key_is_one_rebuild_that_all_wait_for_with_mutex() {
    let stand = Arc::new(Stand::new().await);
    let answers = stand.stampede(&MUTEX).await;
    assert_eq!(stand.builds(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_deref() == Some("new"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stampede_on_an_expired_key_is_one_rebuild_behind_with_logical_expiry() {
    let mut stand = Stand::new().await;
    stand.get(&stand.instance(&LOGICAL), "old", 0).await;
    let left_ms = i64::try_from(LOGICAL.old.as_millis()).unwrap() - 1;
    let () = stand
        .redis
        .pexpire(stand.key.entry(), left_ms)
        .await
        .unwrap();
    stand.builds.store(0, Ordering::SeqCst);
    let shared = Arc::new(stand);
    let answers = shared.stampede(&LOGICAL).await;
    let old = answers
        .iter()
        .filter(|a| a.as_deref() == Some("old"))
        .count();
    let new = answers
        .iter()
        .filter(|a| a.as_deref() == Some("new"))
        .count();
    assert_eq!(old + new, 10_000, "none fails");
    assert!(old > 0, "the old value is answered at once");
    let mut stand = Arc::into_inner(shared).unwrap();
    stand.until_redis_has("new").await;
    assert_eq!(stand.builds(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilder_that_takes_its_time_keeps_its_lock() {
    let stand = Stand::new().await;
    let (first, second) = (stand.instance(&MUTEX), stand.instance(&MUTEX));
    // Longer than a lease; shorter than anybody's patience.
    let slow = stand.get(&first, "new", 1_500);
    let (one, other) = tokio::join!(slow, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stand.get(&second, "another", 0).await
    });
    assert_eq!(
        (one.as_deref(), other.as_deref()),
        (Some("new"), Some("new"))
    );
    assert_eq!(stand.builds(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilder_that_died_holds_nobody_up_for_long() {
    let mut stand = Stand::new().await;
    let set = stand
        .redis
        .pset_ex(stand.key.lock(), "somebody's", 300)
        .await;
    let () = set.unwrap();
    let instance = stand.instance(&MUTEX);
    assert_eq!(stand.get(&instance, "new", 0).await.as_deref(), Some("new"));
    // And one that lives for ever is waited for, but not for ever.
    let () = stand.redis.del(stand.key.entry()).await.unwrap();
    let () = stand
        .redis
        .set(stand.key.lock(), "somebody's")
        .await
        .unwrap();
    let instance = stand.instance(&MUTEX);
    assert_eq!(
        stand.get(&instance, "mine", 0).await.as_deref(),
        Some("mine")
    );
    let lock: String = stand.redis.get(stand.key.lock()).await.unwrap();
    assert_eq!(lock, "somebody's", "nobody takes another's lock away");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_an_invalidation_is_never_stored_after_it() {
    let stand = Stand::new().await;
    let (instance, shared) = (stand.instance(&MUTEX), stand.shared());
    let (reading, changed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let build = {
        let (builds, reading, changed) = (
            Arc::clone(&stand.builds),
            Arc::clone(&reading),
            Arc::clone(&changed),
        );
        move || {
            let first = builds.fetch_add(1, Ordering::SeqCst) == 0;
            let (reading, changed) = (Arc::clone(&reading), Arc::clone(&changed));
            async move {
                if first {
                    reading.notify_one();
                    changed.notified().await;
                }
                let value = if first { "before" } else { "after" };
                Ok::<_, String>(Some(value.to_owned()))
            }
        }
    };
    let (got, ()) = tokio::join!(instance.get(&stand.key, build), async {
        reading.notified().await;
        shared.invalidate(&stand.key).await.unwrap();
        changed.notify_one();
    });
    assert_eq!(got.unwrap().unwrap().as_str(), "after");
    let mut redis = stand.redis.clone();
    let stored: String = redis.get(stand.key.entry()).await.unwrap();
    assert_eq!(stored, "\"after\"");
    assert_eq!(stand.builds(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_there_is_nothing_is_remembered_too() {
    let stand = Stand::new().await;
    for _ in 0..3 {
        assert_eq!(stand.get(&stand.instance(&MUTEX), "", 0).await, None);
    }
    assert_eq!(stand.builds(), 1);
    stand.shared().invalidate(&stand.key).await.unwrap();
    let instance = stand.instance(&MUTEX);
    assert_eq!(
        stand.get(&instance, "there", 0).await.as_deref(),
        Some("there")
    );
    instance.drop_copy(&stand.key).await;
    assert_eq!(stand.get(&instance, "x", 0).await.as_deref(), Some("there"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_source_answers() {
    let mut stand = Stand::new().await;
    let instance = stand.instance(&MUTEX);
    assert_eq!(stand.get(&instance, "one", 0).await.as_deref(), Some("one"));
    stand.server.kill().unwrap();
    instance.drop_copy(&stand.key).await;
    assert_eq!(stand.get(&instance, "two", 0).await.as_deref(), Some("two"));
    assert!(stand.shared().invalidate(&stand.key).await.is_err());
    stand.server.restart().unwrap();
    instance.drop_copy(&stand.key).await;
    let three = stand.get(&instance, "three", 0).await;
    assert_eq!(three.as_deref(), Some("three"));
}
