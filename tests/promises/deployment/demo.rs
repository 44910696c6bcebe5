//! The demo of the README, on a stack with limits on the number of orders.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use seckill_testkit::Service;
use seckill_testkit::service::binary;
use seckill_tests::World;

/// `host:port` of a service's health and metrics.
fn admin(service: &Service) -> Result<String> {
    let url = service.admin_url();
    Ok(url.strip_prefix("http://").context(url.clone())?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: orders lapse"]
async fn under_limits_every_promise_is_kept_and_refusals_name_their_limit() -> Result<()> {
    let limits = [
        ("RATE_LIMIT_GLOBAL_PER_SECOND", "20"),
        ("RATE_LIMIT_USER_PER_SECOND", "5"),
    ];
    let world = World::with(&limits)?;
    let mut demo = Command::new(binary("seckill-demo")?);
    demo.args(["--units", "60", "--buyers", "1200", "--connections", "64"])
        .env("INGRESS_URL", world.ingress.url())
        .env("INGRESS_ADMIN_URL", world.ingress.admin_url())
        .env("PROJECTOR_ADMIN_LISTEN", admin(&world.projector)?)
        .env("TIMEOUT_ADMIN_LISTEN", admin(&world.timeout)?);
    for name in [
        "KAFKA_BROKERS",
        "REDIS_URL",
        "DATABASE_URL",
        "TOPIC_PREFIX",
        "EVENT_PARTITIONS",
        "ADMIN_TOKEN",
        "TOKEN_SECRET",
        "PAYMENT_WEBHOOK_SECRET",
        "RATE_LIMIT_GLOBAL_PER_SECOND",
    ] {
        demo.env(name, world.stack.setting(name));
    }
    let output = tokio::task::spawn_blocking(move || demo.output()).await??;
    let (said, shown) = (
        String::from_utf8(output.stderr)?,
        String::from_utf8(output.stdout)?,
    );
    ensure!(output.status.success(), "{said}{shown}");
    assert!(!shown.contains('✘'), "{shown}");
    for line in [
        "Let in, at 20 clicks a second",
        "429 by the user limit",
        "429 by the global limit",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    Ok(())
}
