//! The ceiling: how many reservations a second this Redis decides when nothing else is done for
//! them. `redis-benchmark` calls the project's own script, one reservation a call, unpipelined.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, Value};
use seckill_domain::VoucherId;
use seckill_stock::RedisServer;

use super::evenly::evenly;
use crate::redis_server;
use crate::throughput::measured::Rate;

/// As the services load it: the prelude stands in front of every script.
const RESERVE: &str = concat!(
    include_str!("../../../../crates/stock/scripts/prelude.lua"),
    "\n",
    include_str!("../../../../crates/stock/scripts/reserve.lua"),
);
/// Names the load of the sale in each of its hashes.
const LOAD: &str = "ceiling";
const UNITS: u64 = 1_000_000_000;
/// Buyers are drawn at random from so many that few come twice; redis-benchmark takes an `int`.
const RANDOM_USERS: &str = "2000000000";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const DEADLINE: Duration = Duration::from_secs(120);
const EXIT_POLL: Duration = Duration::from_millis(50);
const DAY_US: u64 = 86_400_000_000;
/// Less than this share of calls granted, and something else was measured.
const GRANTED_SHARE_MIN: f64 = 0.99;

/// A sale of its own in Redis, which no other part of the stack knows of.
#[derive(Debug)]
pub(in crate::throughput) struct Ceiling {
    redis_url: String,
    redis: MultiplexedConnection,
    keys: [String; 3],
}

/// The script in Redis, and the caller that it lets in.
struct Script {
    sha: String,
    fence: String,
}

impl Ceiling {
    /// Connects; nothing is written yet.
    pub(in crate::throughput) async fn new(server: &RedisServer) -> anyhow::Result<Self> {
        // Far from the ids that are handed out, which count up from 1.
        let voucher = VoucherId::MAX - fastrand::u64(..1_000_000);
        Ok(Self {
            redis_url: server.url.clone(),
            redis: redis_server::connect(server).await?,
            keys: ["sale", "holds", "outbox"].map(|part| format!("seckill:{{{voucher}}}:{part}")),
        })
    }

    /// Makes `calls` reservations over `clients` connections. The sale is gone afterwards.
    pub(in crate::throughput) async fn run(
        &self,
        calls: u64,
        clients: usize,
    ) -> anyhow::Result<Rate> {
        self.on_a_sale(async |script| self.benchmark(script, calls, clients).await)
            .await
    }

    /// Makes `per_second` reservations evenly over one connection. The sale is gone afterwards.
    pub(in crate::throughput) async fn evenly(
        &self,
        per_second: f64,
        time: Duration,
    ) -> anyhow::Result<Rate> {
        self.on_a_sale(async |script| {
            evenly(per_second, time, |number| self.reserve(script, number + 1)).await
        })
        .await
    }

    async fn on_a_sale(
        &self,
        work: impl AsyncFnOnce(&Script) -> anyhow::Result<Rate>,
    ) -> anyhow::Result<Rate> {
        let done = work(&self.load().await?).await;
        let _: () = self
            .redis
            .clone()
            .unlink(&self.keys)
            .await
            .context("removing the ceiling's sale")?;
        done
    }

    /// One reservation, which has to be granted.
    fn reserve(
        &self,
        script: &Script,
        number: u64,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.arguments(script, &format!("{number:012}")));
        let mut redis = self.redis.clone();
        async move {
            let reply: Vec<Value> = call.query_async(&mut redis).await?;
            let granted = reply
                .last()
                .is_some_and(|last| *last == Value::BulkString(b"granted".into()));
            ensure!(granted, "this was to be granted: {reply:?}");
            Ok(())
        }
    }

    async fn load(&self) -> anyhow::Result<Script> {
        let mut redis = self.redis.clone();
        let fence = redis_server::fence(&mut redis).await?;
        let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await?;
        let now_us = seconds * 1_000_000;
        let number = |n: u64| n.to_string();
        let fields = [
            ("state", "open".to_owned()),
            ("load", LOAD.to_owned()),
            ("fence", fence.clone()),
            ("epoch", number(1)),
            ("pos", number(0)),
            ("stock", number(UNITS)),
            ("held", number(0)),
            ("unsettled", number(0)),
            ("price_cents", number(100)),
            ("currency", "EUR".to_owned()),
            ("max_quantity", number(1)),
            ("opens_us", number(now_us - DAY_US)),
            ("closes_us", number(now_us + DAY_US)),
            ("hold_us", number(DAY_US)),
            ("sale_token", number(0)),
        ];
        let _: () = redis.hset_multiple(&self.keys[0], &fields).await?;
        for part in &self.keys[1..] {
            let _: () = redis.hset(part, "load", LOAD).await?;
        }
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(RESERVE);
        let sha = load.query_async(&mut redis).await?;
        Ok(Script { sha, fence })
    }

    /// Of a call that orders for the first time, without acks; order, event and buyer have the same number.
    fn arguments(&self, script: &Script, number: &str) -> Vec<String> {
        let keys = self.keys.iter().map(String::as_str);
        let order = format!("00000000-0000-8000-8000-{number}");
        let event = format!("01890000-0000-7000-8000-{number}");
        let call = [&script.sha, "3"].into_iter().chain(keys);
        let caller = [&*script.fence, "first", "0"];
        let request = [&*order, &*event, number, "1", "-", TRACEPARENT, "-"];
        call.chain(caller)
            .chain(request)
            .map(str::to_owned)
            .collect()
    }

    async fn benchmark(&self, script: &Script, calls: u64, clients: usize) -> anyhow::Result<Rate> {
        let mut command = Command::new("redis-benchmark");
        command
            .args([
                "-u",
                &self.redis_url,
                "--csv",
                "-P",
                "1",
                "-r",
                RANDOM_USERS,
            ])
            .args(["-n", &calls.to_string(), "-c", &clients.to_string()])
            .arg("EVALSHA")
            .args(self.arguments(script, "__rand_int__"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || finish(&mut command)).await??;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let run = parse_csv(&stdout).with_context(|| {
            format!(
                "redis-benchmark said: {stdout}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        })?;
        let left: u64 = self.redis.clone().hget(&self.keys[0], "stock").await?;
        let granted = (UNITS - left) as f64 / calls as f64;
        ensure!(
            granted >= GRANTED_SHARE_MIN,
            "only {:.1} % of the ceiling's calls were granted: it measured something else",
            granted * 100.0
        );
        Ok(run)
    }
}

/// Runs a command to its end, or ends it after the deadline. Blocks.
fn finish(command: &mut Command) -> anyhow::Result<Output> {
    let mut child = command
        .spawn()
        .context("redis-benchmark cannot be started; it comes with Redis (redis-tools)")?;
    let started = Instant::now();
    while child.try_wait()?.is_none() {
        if started.elapsed() > DEADLINE {
            child.kill()?;
            child.wait()?;
            bail!("redis-benchmark did not end within {DEADLINE:?}");
        }
        std::thread::sleep(EXIT_POLL);
    }
    Ok(child.wait_with_output()?)
}

/// The last line is `"test","rps","avg","min","p50","p95","p99","max"`, latencies in ms. The test's
/// name is the command and may hold anything, so fields are counted from the end.
fn parse_csv(output: &str) -> Option<Rate> {
    let line = output.lines().rev().find(|line| line.starts_with('"'))?;
    let mut fields = line.trim().trim_matches('"').rsplit("\",\"");
    let mut number = || fields.next()?.parse::<f64>().ok();
    let _max = number()?;
    let p99_ms = number()?;
    let _p95 = number()?;
    let p50_ms = number()?;
    let _min = number()?;
    let _average = number()?;
    Some(Rate {
        per_second: number()?,
        p50_ms,
        p99_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_whatever_the_command_was() {
        let output = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\
            \"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
            \"EVALSHA a,\",\" 1\",\"51020.41\",\"8.1\",\"1.5\",\"7.9\",\"12.0\",\"19.3\",\"30.2\"\n";
        let run = parse_csv(output).unwrap();
        assert_eq!(
            (run.per_second, run.p50_ms, run.p99_ms),
            (51020.41, 7.9, 19.3)
        );
        assert!(parse_csv("\"test\",\"rps\"\nError from server: NOSCRIPT").is_none());
    }

    #[tokio::test]
    async fn the_projects_own_script_grants_and_nothing_is_left_behind() {
        let redis = seckill_testkit::Redis::start().unwrap();
        let ceiling = Ceiling::new(&redis.url().into()).await.unwrap();
        let run = ceiling.run(1_000, 8).await.unwrap();
        assert!(run.per_second > 0.0, "{run:?}");
        let run = ceiling.evenly(1_000.0, Duration::from_millis(10)).await;
        assert!(run.unwrap().per_second > 0.0);
        let keys: u64 = redis::cmd("DBSIZE")
            .query_async(&mut ceiling.redis.clone())
            .await
            .unwrap();
        assert_eq!(keys, 0);
    }
}
