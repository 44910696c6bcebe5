//! Settings and arguments: a program names all mistakes together and ends with status 2, and no variable or argument
//! makes a program panic.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use seckill_testkit::ports::free_port;
use seckill_testkit::service::binary;
use seckill_testkit::wait::wait_for;
use seckill_testkit::{fresh_database, http};

const PATIENCE: Duration = Duration::from_secs(30);

/// Not UTF-8.
const GARBAGE: &[u8] = b"caf\xe9\xff";

/// Invalid settings of the stores.
const WRONG_STORES: [(&str, &str); 4] = [
    ("KAFKA_BROKERS", "http://kafka:9092"),
    ("REDIS_URL", "localhost:6379"),
    ("DATABASE_URL", "mysql://shop:hunter2@localhost/shop"),
    ("TOPIC_PREFIX", "a shop/"),
];

const WRONG_INGRESS: [(&str, &str); 6] = [
    ("ADMIN_TOKEN", "short"),
    ("INGRESS_LISTEN", "8080"),
    ("PAYMENT_PAGE_URL", "ftp://pay.example"),
    ("SMTP_URL", "http://shop:hunter2@mail.example"),
    ("TRUSTED_PROXIES", "the proxy"),
    ("RUST_LOG", "info,seckill=[loud"),
];

/// Valid settings of stores that do not exist.
const GOOD: [(&str, &str); 6] = [
    ("KAFKA_BROKERS", "127.0.0.1:9"),
    ("REDIS_URL", "redis://127.0.0.1:9"),
    ("DATABASE_URL", "postgres://shop@127.0.0.1:9/shop"),
    ("ADMIN_TOKEN", "an admin token of its own, long enough"),
    ("TOKEN_SECRET", "a token secret of its own, long enough"),
    (
        "PAYMENT_WEBHOOK_SECRET",
        "a webhook secret of its own, long enough",
    ),
];

/// The services, and the setting of each for its admin listener.
const SERVICES: [(&str, &str); 4] = [
    ("seckill-ingress", "INGRESS_ADMIN_LISTEN"),
    ("seckill-projector", "PROJECTOR_ADMIN_LISTEN"),
    ("seckill-timeout", "TIMEOUT_ADMIN_LISTEN"),
    ("seckill-payment-simulator", "PAYMENT_SIMULATOR_LISTEN"),
];

fn command(program: &str, settings: &[(&str, &str)]) -> Result<Command> {
    let mut command = Command::new(binary(program)?);
    command.env_clear().envs(settings.iter().copied());
    Ok(command)
}

/// The standard error of a program that refuses to run because of its settings.
fn refused(mut command: Command) -> Result<String> {
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output()?;
    let told = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(2), "{command:?}: {told}");
    assert!(!told.contains("panicked"), "{command:?}: {told}");
    Ok(told)
}

fn all_are_named(told: &str, names: &[&str]) {
    for name in names {
        let lines = told
            .lines()
            .filter(|line| line.contains(&format!("- {name}")));
        assert_eq!(lines.count(), 1, "{name}: {told}");
    }
    assert!(!told.contains("hunter2"), "a password is told: {told}");
}

#[test]
fn every_wrong_setting_is_named_at_once() -> Result<()> {
    let stores = WRONG_STORES.map(|(name, _)| name);
    let of_ingress = WRONG_INGRESS.map(|(name, _)| name);
    let settings = [&WRONG_STORES[..], &WRONG_INGRESS[..]].concat();
    let told = refused(command("seckill-ingress", &settings)?)?;
    all_are_named(&told, &stores);
    all_are_named(&told, &of_ingress);
    all_are_named(&told, &["TOKEN_SECRET", "PAYMENT_WEBHOOK_SECRET"]);

    let settings = [
        &WRONG_STORES[..],
        &[("RUST_LOG", "[loud"), ("EVENT_PARTITIONS", "0")],
    ]
    .concat();
    for service in ["seckill-projector", "seckill-timeout"] {
        let told = refused(command(service, &settings)?)?;
        all_are_named(&told, &stores);
        all_are_named(&told, &["RUST_LOG", "EVENT_PARTITIONS"]);
    }
    let settings = [
        ("INGRESS_URL", "nowhere"),
        ("PAYMENT_SIMULATOR_LISTEN", "8084"),
    ];
    let told = refused(command("seckill-payment-simulator", &settings)?)?;
    all_are_named(
        &told,
        &[
            "INGRESS_URL",
            "PAYMENT_SIMULATOR_LISTEN",
            "PAYMENT_WEBHOOK_SECRET",
        ],
    );
    Ok(())
}

#[test]
fn a_command_names_all_that_it_cannot_use_at_once() -> Result<()> {
    let needs: [(&[&str], &[&str]); 4] = [
        (
            &["reconcile"],
            &["KAFKA_BROKERS", "TOPIC_PREFIX", "REDIS_URL", "DATABASE_URL"],
        ),
        (
            &["topics", "lag"],
            &["KAFKA_BROKERS", "TOPIC_PREFIX", "DATABASE_URL"],
        ),
        (
            &["rebuild", "orders", "status"],
            &["KAFKA_BROKERS", "TOPIC_PREFIX", "DATABASE_URL"],
        ),
        (
            &["dlq", "list"],
            &["KAFKA_BROKERS", "TOPIC_PREFIX", "DATABASE_URL"],
        ),
    ];
    for (arguments, names) in needs {
        let mut seckillctl = command("seckillctl", &WRONG_STORES)?;
        seckillctl.args(arguments);
        all_are_named(&refused(seckillctl)?, names);
    }
    let mut sales = command("seckillctl", &[("INGRESS_ADMIN_URL", "nowhere")])?;
    sales.args(["sale", "list"]);
    all_are_named(&refused(sales)?, &["INGRESS_ADMIN_URL", "ADMIN_TOKEN"]);
    Ok(())
}

#[test]
fn mistakes_in_the_settings_file_are_named_with_the_settings() -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "REDIS_URL=nowhere\nnonsense\n")?;
    let path = file.path().to_str().context("a path")?;
    let told = refused(command("seckill-timeout", &[("CONFIG_FILE", path)])?)?;
    all_are_named(&told, &["REDIS_URL", "KAFKA_BROKERS", "DATABASE_URL"]);
    assert!(told.contains("line 2 is not NAME=value"), "{told}");

    let told = refused(command("seckill-timeout", &[("CONFIG_FILE", "/nowhere")])?)?;
    all_are_named(
        &told,
        &["/nowhere", "REDIS_URL", "KAFKA_BROKERS", "DATABASE_URL"],
    );
    Ok(())
}

#[test]
fn a_setting_of_ours_that_is_not_utf8_is_named() -> Result<()> {
    for (service, listen) in SERVICES {
        let mut started = command(service, &GOOD)?;
        started.env(listen, OsStr::from_bytes(GARBAGE));
        let told = refused(started)?;
        all_are_named(&told, &[listen]);
        assert!(told.contains("UTF-8"), "{told}");
    }
    Ok(())
}

/// Adds variables and arguments that the program does not know and that are not valid text.
fn with_garbage(command: &mut Command) -> &mut Command {
    let mut name = OsString::from("NOT_OURS_");
    name.push(OsStr::from_bytes(GARBAGE));
    let file = OsStr::from_bytes(GARBAGE);
    command
        .env(name, "x")
        .env("NOT_OURS", file)
        .env("LANG", file)
}

/// Sets variables to empty texts, as templates of deployments do. They count as not set.
fn with_empty_files(command: &mut Command) -> &mut Command {
    for (name, _) in GOOD {
        command.env(format!("{name}_FILE"), "");
    }
    command
        .env("CONFIG_FILE", "")
        .env("SMTP_URL", "")
        .env("SMTP_URL_FILE", "")
}

#[test]
fn what_is_not_ours_or_empty_is_ignored() -> Result<()> {
    for (service, listen) in SERVICES {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut started = command(service, &GOOD)?;
        started
            .env(listen, address.to_string())
            .env("INGRESS_LISTEN", "127.0.0.1:0");
        with_empty_files(with_garbage(&mut started)).arg(OsStr::from_bytes(GARBAGE));
        let mut process = started.stdout(Stdio::null()).spawn()?;
        let lives = wait_for(service, PATIENCE, || {
            anyhow::ensure!(process.try_wait()?.is_none(), "{service} has ended");
            let answer = http::get(address, "/livez");
            Ok(answer.is_ok_and(|(status, _)| status == 200).then_some(()))
        });
        process.kill()?;
        process.wait()?;
        lives?;
    }
    Ok(())
}

#[test]
fn a_command_takes_what_is_not_text_where_it_may_stand() -> Result<()> {
    let database = fresh_database()?;
    let url = database.url();
    for arguments in [&["db", "migrate"][..], &["token", "--user", "7"]] {
        let mut noted = command("seckillctl", &GOOD)?;
        with_empty_files(with_garbage(&mut noted)).args(arguments);
        noted
            .env("USER", OsStr::from_bytes(GARBAGE))
            .env("DATABASE_URL", &url);
        let Output { status, stderr, .. } = noted.output()?;
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    }

    // A path need not be valid text; other arguments have to be.
    let directory = tempfile::tempdir()?;
    let file = directory.path().join(OsStr::from_bytes(GARBAGE));
    let settings =
        format!("TOKEN_SECRET=a token secret of its own, long enough\nDATABASE_URL={url}\n");
    std::fs::write(&file, settings)?;
    let mut token = command("seckillctl", &[])?;
    token
        .args(["token", "--user", "7", "--env-file"])
        .arg(&file);
    let Output { status, stderr, .. } = token.output()?;
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));

    let mut wrong = command("seckillctl", &GOOD)?;
    wrong
        .args(["token", "--user"])
        .arg(OsStr::from_bytes(GARBAGE));
    assert!(refused(wrong)?.contains("UTF-8"));
    Ok(())
}
