//! Redis: the masters and their settings.

use seckill_stock::{MasterFacts, RedisShape};

use super::{Findings, State, Stores, causes};

/// The first version that understands `#!lua`, with which the scripts begin.
const MAJOR_VERSION_MIN: u32 = 7;

pub(super) async fn look(stores: &Stores) -> Findings {
    let mut findings = Findings::of("redis");
    let mend = "REDIS_URL: docs/configuration.md";
    let servers = match stores.stock.servers().await {
        Ok(servers) => servers,
        Err(error) => {
            findings.wrong("masters", causes(&error), mend);
            return findings;
        }
    };
    for server in servers {
        match server.told {
            Ok(facts) => about(&server.address, &facts, &mut findings),
            Err(error) => {
                findings.wrong(
                    &format!("answer of {}", server.address),
                    causes(&error),
                    mend,
                );
            }
        }
    }
    findings
}

fn about(address: &str, facts: &MasterFacts, findings: &mut Findings) {
    let MasterFacts {
        version,
        shape,
        replicas,
        eviction,
        refuses_writes,
        ..
    } = facts;
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    findings.judge(
        major.is_some_and(|major: u32| major >= MAJOR_VERSION_MIN),
        State::Wrong,
        &format!("version of {address}"),
        version,
        "7.0 or later",
    );
    let shape = match shape {
        RedisShape::Alone => "alone",
        RedisShape::Sentinel => "with Sentinel",
        RedisShape::Cluster => "a Cluster's master",
    };
    findings.ok("shape", format!("{shape}, {replicas} replicas"));
    let writes = refuses_writes.as_deref().unwrap_or("taken");
    let mend = "what it says: room on its disk, its replicas, or who is master";
    findings.judge(
        refuses_writes.is_none(),
        State::Wrong,
        "writes",
        writes,
        mend,
    );
    let set = |name: &str, value: &str| command(address, name, value);
    findings.judge(
        eviction == "noeviction",
        State::Wrong,
        "maxmemory-policy",
        eviction,
        &set("maxmemory-policy", "noeviction"),
    );
    persistence(facts, findings, &set);
    copies(facts, findings, &set);
}

fn persistence(facts: &MasterFacts, findings: &mut Findings, set: &dyn Fn(&str, &str) -> String) {
    let told = |name| facts.setting(name).unwrap_or("not told");
    let appends = told("appendonly");
    let mend = set("appendonly", "yes");
    // Lost data are loaded again from PostgreSQL, but the sales take no orders meanwhile.
    findings.judge(appends != "no", State::Risk, "appendonly", appends, &mend);
    if appends == "yes" {
        let fsync = told("appendfsync");
        let mend = set("appendfsync", "everysec");
        findings.judge(fsync != "no", State::Risk, "appendfsync", fsync, &mend);
    }
}

/// Checks what a master may do that was cut off, and what the other masters do when one is missing.
fn copies(facts: &MasterFacts, findings: &mut Findings, set: &dyn Fn(&str, &str) -> String) {
    let mut setting = |state, name, is_right: fn(&str) -> bool, value| {
        if let Some(told) = facts.setting(name) {
            findings.judge(is_right(told), state, name, told, &set(name, value));
        }
    };
    if facts.shape == RedisShape::Cluster {
        let name = "cluster-require-full-coverage";
        setting(State::Risk, name, |told| told == "no", "no");
        let short = |told: &str| told.parse().is_ok_and(|ms: u64| ms <= 15_000);
        setting(State::Risk, "cluster-node-timeout", short, "5000");
    } else if facts.shape == RedisShape::Sentinel || facts.replicas > 0 {
        // Until the master notices that they are missing, it takes orders that are rejected later.
        setting(
            State::Wrong,
            "min-replicas-to-write",
            |told| told != "0",
            "1",
        );
    }
}

fn command(address: &str, name: &str, value: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "6379"));
    format!("redis-cli -h {host} -p {port} CONFIG SET {name} {value}")
}
