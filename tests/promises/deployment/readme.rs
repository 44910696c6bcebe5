//! The commands of the README work, and show no secret.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use seckill_testkit::service::binary;
use seckill_testkit::workspace_root;
use seckill_tests::World;

/// The `sh` blocks of a section of README, one after the other.
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

/// The output of a shell that runs the commands of a section, on the world's own stack.
fn pasted(walk: &str, world: &World) -> Result<String> {
    let seckillctl = binary("seckillctl")?;
    let programs = seckillctl.parent().context("a directory")?.display();
    let path = std::env::var("PATH").unwrap_or_default();
    let directory = tempfile::tempdir()?;
    let mut bash = Command::new("bash");
    bash.args(["-e", "-u", "-o", "pipefail", "-c", walk])
        .current_dir(directory.path())
        .env_clear()
        .envs(world.stack.env())
        .env("PATH", format!("{programs}:{path}"))
        .env("INGRESS_URL", world.ingress.url())
        .env("INGRESS_ADMIN_URL", world.ingress.admin_url());
    let output = tokio::task::block_in_place(|| bash.output())?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{printed}\n{errors}");
    Ok(printed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_by_hand_ends_with_a_paid_order_and_balanced_books() -> Result<()> {
    let world = World::start()?;
    let sourced = ". target/local/env";
    let walk = blocks_of("A walk by hand")?;
    ensure!(walk.contains(sourced), "{walk}");
    // The world's own environment takes the place of the local stack's.
    let walk = walk.replace(sourced, ":");
    let printed = pasted(&walk, &world)?;
    let last = printed.lines().last().context("the ledger")?;
    let ledger: serde_json::Value = serde_json::from_str(last).with_context(|| printed.clone())?;
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

/// The names in the containers' commands that are replaced by those of the world.
const OF_CONTAINERS: [&str; 3] = [
    "docker compose exec -T ingress ",
    "docker compose --profile shop up --build --wait",
    "python3 -m venv .venv",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_for_containers_end_with_a_paid_order_that_a_consumer_has_heard_of()
-> Result<()> {
    let world = World::start()?;
    let walk = blocks_of("With containers")?;
    let commands = walk.lines().filter(|line| !line.starts_with(' '));
    ensure!(commands.count() <= 8, "{walk}");
    let port = seckill_testkit::ports::free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let shop = world.ingress.url();
    let _payments = seckill_testkit::Service::start(seckill_testkit::ServiceSpec {
        binary: "seckill-payment-simulator".to_owned(),
        env: [
            ("PAYMENT_SIMULATOR_LISTEN", listen.as_str()),
            ("INGRESS_URL", &shop),
            (
                "PAYMENT_WEBHOOK_SECRET",
                world.stack.setting("PAYMENT_WEBHOOK_SECRET"),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        admin_port: port,
        port: Some(port),
    })?;
    for of_containers in OF_CONTAINERS {
        ensure!(walk.contains(of_containers), "{of_containers}");
    }
    let (without_consumer, consumer) =
        walk.rsplit_once("\nKAFKA_BROKERS=").context("a consumer")?;
    let (before, after) = without_consumer
        .split_once("\n.venv/bin/pip ")
        .context("pip")?;
    ensure!(after.lines().count() == 1, "{after}");
    let mut walk = before.replace("http://127.0.0.1:8080", &shop);
    walk = walk.replace("http://127.0.0.1:8084", &format!("http://{listen}"));
    for of_containers in OF_CONTAINERS {
        walk = walk.replace(of_containers, "");
    }
    walk += "\necho \"$ORDER\"";
    let printed = pasted(&walk, &world)?;
    let order = printed
        .trim()
        .lines()
        .last()
        .context("an order")?
        .to_owned();
    world.until_status(42, &order, "paid").await?;
    ensure!(
        consumer.contains("examples/outcomes-python/consumer.py"),
        "tests/promises/kafka/consumers.rs runs it: {consumer}"
    );
    Ok(())
}

/// The arguments of these programs are visible to every user of the machine, with `ps`.
const PROGRAMS: [&str; 4] = ["curl ", "openssl ", "psql ", "redis-cli "];
const SECRETS: [&str; 6] = [
    "$TOKEN",
    "$ADMIN_TOKEN",
    "$PAYMENT_WEBHOOK_SECRET",
    "$TOKEN_SECRET",
    "$POSTGRES_PASSWORD",
    "$(seckillctl token",
];

/// The commands of a text, also those of several lines.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    joined.lines().map(str::to_owned).collect()
}

#[test]
fn no_command_in_readme_or_a_runbook_has_a_secret_among_its_arguments() -> Result<()> {
    let root = workspace_root();
    let mut pages = vec![root.join("README.md"), root.join("docker-compose.yml")];
    for directory in ["docs", "ops/runbooks", "ops/k8s"] {
        for entry in fs::read_dir(root.join(directory)).into_iter().flatten() {
            pages.push(entry?.path());
        }
    }
    let mut seen = 0;
    for page in pages.iter().filter(|page| page.is_file()) {
        let Ok(text) = fs::read_to_string(page) else {
            continue;
        };
        for command in commands(&text) {
            let program = PROGRAMS.iter().filter_map(|name| command.find(name)).min();
            let Some(begin) = program else { continue };
            seen += 1;
            let arguments = &command[begin..];
            let found = SECRETS.iter().find(|secret| arguments.contains(**secret));
            assert!(found.is_none(), "{}: {command}", page.display());
        }
    }
    assert!(seen > 5, "{seen}");
    Ok(())
}
