//! The levels of the limits on codes, at their edges: time is moved in Redis, not waited for.

use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use seckill_ephemeral::Ephemeral;
use seckill_identity::{Address, AddressHash, CodeHash, Limits};
use seckill_ingress::sign_in::codes::{Codes, Requested};
use seckill_testkit::Redis;

struct Stand {
    codes: Codes,
    redis: MultiplexedConnection,
    who: AddressHash,
    _server: Redis,
}

impl Stand {
    async fn new() -> Self {
        let server = Redis::start().unwrap();
        let codes = Codes::new(
            Ephemeral::new(&server.url(), "").unwrap(),
            Limits::default(),
        );
        let client = redis::Client::open(server.url()).unwrap();
        let redis = client.get_multiplexed_async_connection().await.unwrap();
        let address: Address = "ada@example.com".parse().unwrap();
        Self {
            codes,
            redis,
            who: address.hash(b"key"),
            _server: server,
        }
    }

    /// Seconds until a code is sent; 0 when this one is.
    async fn ask(&self) -> u64 {
        let code = CodeHash::stored("x");
        match self.codes.request(&self.who, &code).await.unwrap() {
            Requested::Send => 0,
            Requested::Blocked(wait) => wait.as_secs() + u64::from(wait.subsec_millis() > 0),
        }
    }

    /// As if so many seconds had gone by.
    async fn pass(&mut self, seconds: i64) {
        let key = |part: &str| format!("sign-in:{{{}}}:{part}", self.who);
        let sent: Vec<(String, i64)> = self
            .redis
            .zrange_withscores(key("sent"), 0, -1)
            .await
            .unwrap();
        for (member, at) in sent {
            let () = self
                .redis
                .zadd(key("sent"), member, at - seconds * 1_000)
                .await
                .unwrap();
        }
        let blocked_ms: i64 = self.redis.pttl(key("blocked")).await.unwrap();
        let left_ms = blocked_ms - seconds * 1_000;
        if left_ms > 0 {
            let () = self.redis.pexpire(key("blocked"), left_ms).await.unwrap();
        } else {
            let () = self.redis.del(key("blocked")).await.unwrap();
        }
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
    let first = CodeHash::stored("first");
    assert_eq!(
        stand.codes.request(&stand.who, &first).await.unwrap(),
        Requested::Send
    );
    let second = CodeHash::stored("second");
    let refused = stand.codes.request(&stand.who, &second).await.unwrap();
    assert!(matches!(refused, Requested::Blocked(wait) if wait <= Duration::from_secs(60)));
    let stored = stand.codes.take_attempt(&stand.who).await.unwrap();
    assert_eq!(stored, Some(first));
}
