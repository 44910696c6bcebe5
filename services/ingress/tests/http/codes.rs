//! The levels of the limits on codes, at their edges: time is moved in Redis, not waited for.

use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use seckill_ephemeral::Ephemeral;
use seckill_identity::{Address, CodeHash, CodeKey, Limits};
use seckill_ingress::sign_in::codes::{Codes, NewCode, Requested, Who};
use seckill_ingress::sign_in::throttle::{Act, PerMinute, Throttle, Whose};
use seckill_testkit::{Redis, RedisCluster};
use uuid::Uuid;

struct Stand {
    codes: Codes,
    redis: MultiplexedConnection,
    key: CodeKey,
    who: Who,
    _server: Redis,
}

fn code(usual: &str) -> NewCode {
    NewCode {
        usual: CodeHash::stored(usual),
        long: CodeHash::stored("long"),
    }
}

impl Stand {
    async fn new() -> Self {
        let server = Redis::start().unwrap();
        let codes = Codes::new(Ephemeral::new(server.url(), "").unwrap(), Limits::default());
        let client = redis::Client::open(server.url()).unwrap();
        let redis = client.get_multiplexed_async_connection().await.unwrap();
        let key = CodeKey::derived_from("key");
        Self {
            codes,
            redis,
            who: who(&key, "ada@example.com", 1),
            key,
            _server: server,
        }
    }

    async fn request(&self, challenge: Uuid, usual: &str, attacked: bool) -> Requested {
        let code = code(usual);
        let asked = self.codes.request(&self.who, challenge, &code, attacked);
        asked.await.unwrap()
    }

    /// From now on it is another client that asks.
    fn as_client(&mut self, last: u8) {
        self.who = who(&self.key, "ada@example.com", last);
    }

    /// Seconds until a code is sent; 0 when this one is.
    async fn ask(&self) -> u64 {
        match self.request(Uuid::new_v4(), "x", false).await {
            Requested::Send { .. } => 0,
            Requested::Blocked(wait) => wait.as_secs() + u64::from(wait.subsec_millis() > 0),
        }
    }

    /// As if so many seconds had gone by.
    async fn pass(&mut self, seconds: i64) {
        let key = |part: &str| format!("sign-in:{{{}}}:*{part}", self.who.mailbox);
        let sent_by: Vec<String> = self.redis.keys(key("sent")).await.unwrap();
        for sent in sent_by {
            let members: Vec<(String, i64)> =
                self.redis.zrange_withscores(&sent, 0, -1).await.unwrap();
            for (member, at) in members {
                let earlier = at - seconds * 1_000;
                let () = self.redis.zadd(&sent, member, earlier).await.unwrap();
            }
        }
        let blocked: Vec<String> = self.redis.keys(key("blocked")).await.unwrap();
        for blocked in blocked {
            let blocked_ms: i64 = self.redis.pttl(&blocked).await.unwrap();
            let left_ms = blocked_ms - seconds * 1_000;
            if left_ms > 0 {
                let () = self.redis.pexpire(&blocked, left_ms).await.unwrap();
            } else {
                let () = self.redis.del(&blocked).await.unwrap();
            }
        }
    }
}

fn who(key: &CodeKey, address: &str, client: u8) -> Who {
    let address: Address = address.parse().unwrap();
    Who {
        mailbox: key.hash_address(&address.mailbox()),
        address: key.hash_address(&address),
        client: key.hash_client([203, 0, 113, client].into()),
    }
}

#[tokio::test]
async fn one_a_minute_five_in_five_minutes_ten_in_twenty() {
    let mut stand = Stand::new().await;
    // Five, a minute apart: the fifth blocks for five minutes.
    for _ in 0..4 {
        assert_eq!(stand.ask().await, 0);
        assert_eq!(stand.ask().await, 60, "one a minute");
        stand.pass(58).await;
        assert!(stand.ask().await > 0, "not before the minute is over");
        stand.pass(2).await;
    }
    assert_eq!(stand.ask().await, 0);
    assert_eq!(stand.ask().await, 300);
    stand.pass(298).await;
    assert!(stand.ask().await > 0);
    // Four of the five are older than five minutes now, but ten within twenty minutes are too many.
    stand.pass(2).await;
    for _ in 0..4 {
        assert_eq!(stand.ask().await, 0);
        stand.pass(60).await;
    }
    assert_eq!(stand.ask().await, 0, "the tenth");
    assert_eq!(stand.ask().await, 1_200);
    stand.pass(1_198).await;
    assert!(stand.ask().await > 0);
    stand.pass(2).await;
    assert_eq!(stand.ask().await, 0, "and the window is empty again");
    assert_eq!(stand.ask().await, 60);
}

#[tokio::test]
async fn what_was_refused_does_not_count_and_does_not_touch_the_code() {
    let mut stand = Stand::new().await;
    for _ in 0..3 {
        assert_eq!(stand.ask().await, 0);
        for _ in 0..20 {
            assert!(stand.ask().await > 0);
        }
        stand.pass(61).await;
    }
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let sent = stand.request(first, "first", false).await;
    assert_eq!(sent, Requested::Send { is_long: false });
    let refused = stand.request(second, "second", false).await;
    assert!(matches!(refused, Requested::Blocked(wait) if wait <= Duration::from_secs(60)));
    let stored = stand.codes.take_attempt(&stand.who, None).await.unwrap();
    let stored = stored.unwrap();
    assert_eq!(stored.hash, CodeHash::stored("first"));
    assert_eq!(stored.challenge, first);
    let other = stand.codes.take_attempt(&stand.who, Some(second)).await;
    assert_eq!(other.unwrap(), None);
}

#[tokio::test]
async fn one_client_blocks_a_mailbox_for_itself_and_five_for_all() {
    let mut stand = Stand::new().await;
    for client in 1..=4 {
        stand.as_client(client);
        assert_eq!(stand.ask().await, 0, "client {client}");
        assert_eq!(stand.ask().await, 60, "client {client}");
    }
    stand.as_client(5);
    assert_eq!(stand.ask().await, 0);
    stand.as_client(6);
    assert_eq!(stand.ask().await, 60, "five have asked within the minute");
    // Aliases of the mailbox are the same mailbox.
    stand.who = who(&stand.key, "ada+6@example.com", 6);
    assert!(stand.ask().await > 0);
    stand.pass(60).await;
    assert_eq!(stand.ask().await, 0);
    // One client at its own limit for twenty minutes is far from that of all.
    for _ in 0..12 {
        stand.as_client(1);
        stand.ask().await;
        stand.pass(60).await;
    }
    stand.as_client(7);
    assert_eq!(stand.ask().await, 0);
}

#[tokio::test]
async fn a_code_has_attempts_of_its_own_for_who_asked_for_it_and_is_good_once() {
    let stand = Stand::new().await;
    let challenge = Uuid::new_v4();
    stand.request(challenge, "x", false).await;
    let take = async |challenge| {
        stand
            .codes
            .take_attempt(&stand.who, challenge)
            .await
            .unwrap()
    };
    for _ in 0..5 {
        assert!(take(None).await.is_some());
    }
    for _ in 0..20 {
        assert!(take(None).await.is_none(), "strangers have had theirs");
    }
    let stored = take(Some(challenge)).await.unwrap();
    assert!(stand.codes.use_up(&stand.who, &stored).await.unwrap());
    assert!(!stand.codes.use_up(&stand.who, &stored).await.unwrap());
    assert!(take(Some(challenge)).await.is_none());
    assert!(take(None).await.is_none());
}

#[tokio::test]
async fn codes_grow_once_an_address_was_guessed_at_twenty_times_a_day() {
    let mut stand = Stand::new().await;
    let (short, long) = (
        Requested::Send { is_long: false },
        Requested::Send { is_long: true },
    );
    for _ in 0..4 {
        let challenge = Uuid::new_v4();
        assert_eq!(stand.request(challenge, "x", false).await, short);
        // What was right does not count.
        let stored = stand.codes.take_attempt(&stand.who, Some(challenge)).await;
        let stored = stored.unwrap().unwrap();
        assert!(stand.codes.use_up(&stand.who, &stored).await.unwrap());
        stand.pass(300).await;
        assert_eq!(stand.request(challenge, "x", false).await, short);
        for _ in 0..5 {
            let taken = stand.codes.take_attempt(&stand.who, Some(challenge)).await;
            assert!(taken.unwrap().is_some());
        }
        stand.pass(300).await;
    }
    assert_eq!(stand.request(Uuid::new_v4(), "x", false).await, long);
    let failed = format!("sign-in:{{{}}}:failed", stand.who.mailbox);
    let ttl_s: i64 = stand.redis.ttl(&failed).await.unwrap();
    assert!((1..=86_400).contains(&ttl_s), "{ttl_s}");
    let () = stand.redis.del(&failed).await.unwrap();
    stand.pass(300).await;
    assert_eq!(stand.request(Uuid::new_v4(), "x", false).await, short);
    stand.pass(300).await;
    let by_all = stand.request(Uuid::new_v4(), "x", true).await;
    assert_eq!(by_all, long, "whoever was guessed at");
}

/// Each call's keys are in one slot, also with a deployment's prefix before them.
#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_sign_in_works_on_a_cluster() {
    let cluster = RedisCluster::start(2_000).unwrap();
    let redis = Ephemeral::new(cluster.url(), "shop-1.").unwrap();
    let codes = Codes::new(redis.clone(), Limits::default());
    let per_minute = PerMinute {
        client: 100,
        global: 100,
    };
    let throttle = Throttle::new(redis, per_minute);
    let key = CodeKey::derived_from("key");
    // Many, so that every master has some.
    for number in 0..20 {
        let who = who(&key, &format!("buyer{number}@example.com"), number);
        for act in [Act::Code, Act::Attempt] {
            for whose in [Whose::Client(&who.client), Whose::All] {
                throttle.take(act, whose).await.unwrap();
                throttle.give_back(act, whose).await;
            }
        }
        throttle.note_failure().await.unwrap();
        throttle.is_under_attack().await.unwrap();
        let challenge = Uuid::new_v4();
        let asked = codes.request(&who, challenge, &code("usual"), false).await;
        assert!(matches!(asked.unwrap(), Requested::Send { .. }));
        let again = codes.request(&who, challenge, &code("usual"), false).await;
        assert!(matches!(again.unwrap(), Requested::Blocked(_)));
        let newest = codes.take_attempt(&who, None).await.unwrap();
        assert!(newest.is_some());
        let own = codes.take_attempt(&who, Some(challenge)).await.unwrap();
        assert!(codes.use_up(&who, &own.unwrap()).await.unwrap());
    }
}
