//! No secret where others may read it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;
use reqwest::Method;
use seckill_testkit::{TestStack, workspace_root};
use seckill_tests::{World, eventually};
use serde_json::json;

/// What `ps` would show of these is known to everybody on the machine.
const PROGRAMS: [&str; 4] = ["curl ", "openssl ", "psql ", "redis-cli "];
const SECRETS: [&str; 6] = [
    "$TOKEN",
    "$ADMIN_TOKEN",
    "$PAYMENT_WEBHOOK_SECRET",
    "$TOKEN_SECRET",
    "$POSTGRES_PASSWORD",
    "$(seckillctl token",
];

/// Also of commands that go on over several lines.
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

/// A mail server that quotes whom it does not know.
fn refusing() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("smtp://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines();
            let say = |line: &str| (&stream).write_all(format!("{line}\r\n").as_bytes());
            let _ = say("220 here");
            while let Some(Ok(line)) = lines.next() {
                let _ = match line.strip_prefix("RCPT TO:") {
                    Some(to) => say(&format!("550 5.1.1 {to}: no such mailbox")),
                    None => say("250 ok"),
                };
            }
        }
    });
    Ok(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_a_mail_server_refuses_is_not_in_the_log() -> Result<()> {
    let url = refusing()?;
    let world = World::over(TestStack::builder(), &[("SMTP_URL", &url)])?;
    let asked = json!({ "email": "no.such.person@example.com" });
    let request = world.client.request(Method::POST, "/api/v1/sign-in/codes");
    assert_eq!(world.client.send(request.json(&asked)).await?.status, 204);
    eventually("the log says why", || async {
        Ok(world.ingress.output()?.contains("a mail was not sent"))
    })
    .await?;
    let log = world.ingress.output()?;
    assert!(log.contains("550"), "{log}");
    assert!(!log.contains("no.such.person"), "{log}");
    Ok(())
}
