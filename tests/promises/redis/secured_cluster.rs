//! A Redis Cluster over TLS whose nodes announce host names, and whose users may use only the commands that the project
//! needs.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use seckill_testkit::stack::secret;
use seckill_testkit::tls::{Authority, text};
use seckill_testkit::{RedisCluster, TestStack, unique_prefix, workspace_root};
use seckill_tests::{Interruption, Trade, World, readiness};

const NODE_TIMEOUT_MS: u32 = 1_500;

/// The file with users that operators install, with passwords and the deployment's prefix. The test itself signs in as
/// the default user.
fn users(prefix: &str, password: &str) -> Result<String> {
    let file = std::fs::read_to_string(workspace_root().join("ops/redis/users.acl"))?;
    ensure!(file.contains("user default off\n"), "{file}");
    Ok(file
        .replace("user default off", "user default on nopass ~* &* +@all")
        .replace("resetpass", &format!("resetpass >{password}"))
        .replace('~', &format!("~{prefix}"))
        .replace(&format!("~{prefix}* "), "~* "))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a failover takes seconds"]
async fn a_cluster_over_tls_with_users_of_few_rights_sells_and_fails_over() -> Result<()> {
    let (authority, prefix, password) = (Authority::new()?, unique_prefix(), secret());
    let certificate = authority.issue_for_name_alone("redis")?;
    let acl = certificate.key.with_extension("acl");
    std::fs::write(&acl, users(&prefix, &password)?)?;
    let (own, key) = (text(&certificate.certificate), text(&certificate.key));
    let (ca, acl) = (text(&authority.ca()), text(&acl));
    let mut redis = RedisCluster::with(
        NODE_TIMEOUT_MS,
        &[
            "--tls-cert-file",
            &own,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
            "--aclfile",
            &acl,
            "--masteruser",
            "seckill-replica",
            "--masterauth",
            &password,
            "--cluster-announce-hostname",
            "localhost",
            "--cluster-preferred-endpoint-type",
            "hostname",
        ],
    )?;
    let stack = TestStack::builder()
        .setting("REDIS_URL", &redis.url())
        .setting("TOPIC_PREFIX", &prefix)
        .setting("PROMISE_DEADLINE_MS", "1000")
        .start()?;
    let url = format!("rediss+cluster://seckill:{password}@{}", redis.tls_hosts());
    let settings = [("REDIS_URL", url.as_str()), ("REDIS_SSL_CA_LOCATION", &ca)];
    let world = World::on(stack, &settings)?;
    let trade = Trade::begin(&world).await?;
    let (owner, _) = redis.first_owner(&world.sale_key(trade.voucher, "sale"))?;
    let outage = Interruption::begins("cluster over TLS: failover");
    redis.node_mut(owner).kill()?;
    let answers = outage
        .until_reopened(&world.client, trade.voucher, 50_000)
        .await?;
    ensure!(!answers.is_empty(), "nobody came");
    trade.crowd.flows(50).await?;
    trade.end(&world).await?;
    for service in [&world.ingress, &world.projector, &world.timeout] {
        let log = service.output()?;
        ensure!(!log.contains(&password), "{log}");
        let denied = log
            .lines()
            .find(|line| line.contains("NOPERM") || line.contains("permissions"));
        ensure!(denied.is_none(), "{denied:?}");
        ensure!(readiness(service)?.0 == 200, "{}", service.log_tail());
    }
    nothing_was_refused_and_little_is_allowed(&redis, owner, &prefix)
}

fn nothing_was_refused_and_little_is_allowed(
    redis: &RedisCluster,
    dead: usize,
    prefix: &str,
) -> Result<()> {
    for number in (0..6).filter(|number| *number != dead) {
        let refused = redis.node(number).cli(&["ACL", "LOG"])?;
        ensure!(refused.is_empty(), "{refused}");
    }
    let survivor = redis.node((dead + 1) % 3);
    let own_key = format!("{prefix}cache:x");
    for (command, allowed) in [
        (&["GET", &own_key][..], true),
        (&["GET", "another's"], false),
        (&["FLUSHALL"], false),
        (&["CONFIG", "SET", "maxmemory", "1"], false),
    ] {
        let said = survivor.cli(&[&["ACL", "DRYRUN", "seckill"], command].concat());
        let said = said.unwrap_or_else(|error| error.to_string());
        ensure!((said == "OK") == allowed, "{command:?}: {said}");
    }
    Ok(())
}

/// The commands that scripts call, in files and in code.
fn called(directory: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            called(&path, found)?;
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for call in ["redis.call('", "redis.pcall('"] {
            let names = text
                .split(call)
                .skip(1)
                .filter_map(|rest| rest.split('\'').next());
            found.extend(names.map(str::to_lowercase));
        }
    }
    Ok(())
}

#[test]
fn the_users_of_redis_may_do_whatever_a_script_does() -> Result<()> {
    let root = workspace_root();
    let mut commands = BTreeSet::new();
    for directory in ["crates/stock/scripts", "crates/ephemeral", "services"] {
        called(&root.join(directory), &mut commands)?;
    }
    ensure!(commands.len() > 20, "{commands:?}");
    let file = std::fs::read_to_string(root.join("ops/redis/users.acl"))?;
    let user = file.lines().find(|line| line.starts_with("user seckill "));
    let rules: BTreeSet<&str> = user.unwrap_or_default().split(' ').collect();
    for command in commands {
        ensure!(rules.contains(format!("+{command}").as_str()), "{command}");
    }
    Ok(())
}
