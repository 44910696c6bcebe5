//! What README tells a newcomer to paste does what it says.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use seckill_testkit::service::binary;
use seckill_testkit::workspace_root;
use seckill_tests::World;

/// The `sh` blocks of a section of README, as they are pasted one after the other.
fn blocks_of(heading: &str) -> Result<String> {
    let text = fs::read_to_string(workspace_root().join("README.md"))?;
    let begin = format!("\n## {heading}\n");
    let (_, rest) = text.split_once(&begin).context("no such section")?;
    let section = rest.split("\n## ").next().unwrap_or(rest);
    let blocks = section
        .split("\n```")
        .filter_map(|part| part.strip_prefix("sh\n"));
    Ok(blocks.collect::<Vec<_>>().join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_by_hand_ends_with_a_paid_order_and_balanced_books() -> Result<()> {
    let world = World::start()?;
    let sourced = ". target/local/env";
    let walk = blocks_of("A walk by hand")?;
    ensure!(walk.contains(sourced), "{walk}");
    // The world's own environment takes the place of the local stack's.
    let walk = walk.replace(sourced, ":");
    let seckillctl = binary("seckillctl")?;
    let programs = seckillctl.parent().context("a directory")?.display();
    let path = std::env::var("PATH").unwrap_or_default();
    let directory = tempfile::tempdir()?;
    let mut bash = Command::new("bash");
    bash.args(["-e", "-u", "-o", "pipefail", "-c", &walk])
        .current_dir(directory.path())
        .env_clear()
        .envs(world.stack.env())
        .env("PATH", format!("{programs}:{path}"))
        .env("INGRESS_URL", world.ingress.url())
        .env("INGRESS_ADMIN_URL", world.ingress.admin_url());
    let output = tokio::task::block_in_place(|| bash.output())?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{printed}\n{errors}");
    let last = printed.lines().last().context("the ledger")?;
    let ledger: serde_json::Value = serde_json::from_str(last).context(printed.to_string())?;
    assert!(
        ledger["paid"] == 1 && ledger["consistent"] == true,
        "{printed}"
    );
    let mut events = printed.lines().filter(|line| line.starts_with("data:"));
    let paid = events
        .next_back()
        .is_some_and(|event| event.contains("\"paid\""));
    assert!(paid, "the stream ends with the payment: {printed}");
    Ok(())
}
