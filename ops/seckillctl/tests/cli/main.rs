//! The binary as operators run it, against a real broker and database.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod https;
mod output;
mod sales;
mod schemas;

use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use seckill_testkit::{fresh_database, http_server, shared_kafka, unique_prefix};
use serde_json::{Value, json};

const UNKNOWN_ORDER: &str = "00000000-4000-8000-8000-000000000001";

fn seckillctl(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seckillctl"))
        .args(arguments)
        .env_clear()
        .envs(settings.iter().copied())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", stderr(output));
    text
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn topics_are_made_once_and_another_number_of_partitions_is_named() {
    let (brokers, prefix) = (shared_kafka().unwrap(), unique_prefix());
    let with_partitions = |partitions| {
        [
            ("KAFKA_BROKERS", brokers.as_str()),
            ("TOPIC_PREFIX", prefix.as_str()),
            ("EVENT_PARTITIONS", partitions),
        ]
    };
    let check = seckillctl(&["topics", "check"], &with_partitions("4"));
    assert_eq!(check.status.code(), Some(1));
    assert!(stderr(&check).contains("is missing"), "{}", stderr(&check));

    for _ in 0..2 {
        let create = ["topics", "create", "--replication", "1", "--output", "json"];
        let made: Value =
            serde_json::from_str(&stdout(&seckillctl(&create, &with_partitions("4")))).unwrap();
        assert_eq!(made["partitions"], 4);
        assert_eq!(made["events"], format!("{prefix}seckill.order-events.v1"));
    }
    stdout(&seckillctl(&["topics", "check"], &with_partitions("4")));

    for command in ["check", "create"] {
        let refused = seckillctl(&["topics", command], &with_partitions("5"));
        assert_eq!(refused.status.code(), Some(1), "{command}");
        let message = stderr(&refused);
        assert!(message.contains("has 4 partitions"), "{message}");
    }
}

#[test]
fn a_migrated_database_can_be_migrated_again_and_asked_for_orders() {
    let database = fresh_database().unwrap();
    // From a file, which is then the only source: the environment names another database.
    let file = std::env::temp_dir().join(format!("{}env", unique_prefix()));
    std::fs::write(&file, format!("DATABASE_URL={}\n", database.url())).unwrap();
    let environment = [("DATABASE_URL", "postgres://127.0.0.1:1/elsewhere")];
    let file_name = file.to_str().unwrap();
    for _ in 0..2 {
        let migrate = ["db", "migrate", "--env-file", file_name];
        stdout(&seckillctl(&migrate, &environment));
    }
    std::fs::remove_file(&file).unwrap();

    let settings = [("DATABASE_URL", database.url())];
    let settings = settings.each_ref().map(|(n, v)| (*n, v.as_str()));
    let missing = seckillctl(&["order", "show", UNKNOWN_ORDER], &settings);
    assert_eq!(missing.status.code(), Some(3));
    assert!(stderr(&missing).contains(UNKNOWN_ORDER));
}

#[test]
fn risk_rules_are_planned_then_carried_out_and_noted() {
    let database = fresh_database().unwrap();
    let settings = [("DATABASE_URL", database.url()), ("USER", "kim".to_owned())];
    let settings = settings.each_ref().map(|(n, v)| (*n, v.as_str()));
    let run = |line: &str| stdout(&seckillctl(&line.split(' ').collect::<Vec<_>>(), &settings));
    run("db migrate");
    let block = "risk block --address 203.0.113.77/24";
    assert!(run(block).contains("--execute does it"));
    assert_eq!(run("risk list").lines().count(), 1, "only the headers");

    let execute = "--execute --yes --reason scripts";
    run(&format!("{block} {execute}"));
    run(&format!("risk set --users-per-address 20 {execute}"));
    run(&format!("risk set --page-ms-min 300 {execute}"));
    run(&format!("risk block --page-not-seen {execute}"));
    let again = run(&format!("{block} {execute}"));
    assert!(again.contains("there was nothing to do"), "{again}");
    let rules: Value = serde_json::from_str(&run("risk list --output json")).unwrap();
    let expected = json!({ "rules": [
        { "rule": "address-blocked", "subject": "203.0.113.0/24", "value": 0 },
        { "rule": "crowded-address", "subject": "*", "value": 20 },
        { "rule": "impossible-timing", "subject": "*", "value": 300 },
        { "rule": "page-not-seen", "subject": "*", "value": 0 },
    ] });
    assert_eq!(rules, expected);

    run(&format!("risk unblock --address 203.0.113.0/24 {execute}"));
    run(&format!("risk set --users-per-address 0 {execute}"));
    run(&format!("risk set --page-ms-min 0 {execute}"));
    run(&format!("risk unblock --page-not-seen {execute}"));
    assert_eq!(run("risk list").lines().count(), 1);
    for incomplete in ["block", "set"] {
        let nobody = seckillctl(&["risk", incomplete], &settings);
        assert_eq!(nobody.status.code(), Some(2));
    }
}

#[test]
fn a_token_is_on_record_before_anybody_has_it_and_good_for_a_day_at_most() {
    let database = fresh_database().unwrap();
    let url = database.url();
    let secret = ("TOKEN_SECRET", "a secret of thirty-two characters");
    let settings = [("DATABASE_URL", url.as_str()), secret, ("USER", "kim")];
    let token = ["token", "--user", "7", "--ttl", "24h", "--reason", "a test"];
    let unnoted = seckillctl(&token, &settings);
    assert_eq!(unnoted.status.code(), Some(1), "{}", stderr(&unnoted));
    assert_eq!(String::from_utf8_lossy(&unnoted.stdout), "");
    stdout(&seckillctl(&["db", "migrate"], &settings));
    let made = stdout(&seckillctl(&token, &settings));
    let rows = audited(&url);
    let [(actor, command, reason, origin, login)] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!((actor.as_str(), reason.as_str()), ("kim", "a test"));
    assert!(command.starts_with("token --user 7 --ttl 24h"), "{command}");
    assert!(!command.contains(made.trim()), "{command}");
    // Whatever USER says.
    let origin = origin.as_deref().unwrap_or_default();
    assert!(
        origin.contains('@') && !origin.starts_with("kim@"),
        "{origin}"
    );
    assert!(login.as_deref().is_some_and(|login| !login.is_empty()));
    let long = seckillctl(&["token", "--user", "7", "--ttl", "25h"], &settings);
    assert_eq!(long.status.code(), Some(2), "{}", stderr(&long));
    assert_eq!(audited(&url).len(), 1);
}

type AuditRow = (String, String, String, Option<String>, Option<String>);

fn audited(url: &str) -> Vec<AuditRow> {
    let read = async {
        let pool = sqlx::PgPool::connect(url).await.unwrap();
        let sql = "SELECT actor, command, reason, origin, login FROM ops_audit ORDER BY id";
        sqlx::query_as(sql).fetch_all(&pool).await.unwrap()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(read)
}

#[test]
fn missing_settings_are_usage_errors_that_name_them() {
    for (arguments, name) in [
        (vec!["topics", "check"], "KAFKA_BROKERS"),
        (vec!["db", "migrate"], "DATABASE_URL"),
        (vec!["sale", "list"], "ADMIN_TOKEN"),
        (vec!["token", "--user", "7"], "TOKEN_SECRET"),
        (vec!["token", "--user", "7"], "DATABASE_URL"),
        (vec!["session", "end", "--user", "7"], "DATABASE_URL"),
        (vec!["sale", "list", "--env-file", "/nowhere"], "/nowhere"),
    ] {
        let output = seckillctl(&arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
    }
}

/// What the admin API was asked.
struct Request {
    line: String,
    authorization: String,
    idempotency_key: String,
    operator: String,
    reason: String,
    body: Value,
}

/// Answers one request with `status` and `body`.
fn admin_api(status: u16, body: &Value) -> (String, JoinHandle<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = body.to_string();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let request = http_server::Request::read(&stream).unwrap();
        http_server::answer(&stream, status, &body).unwrap();
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        Request {
            line: format!("{} {}", request.method, request.path),
            authorization: header("authorization"),
            idempotency_key: header("idempotency-key"),
            operator: header("x-operator"),
            reason: header("x-reason"),
            body: serde_json::from_slice(&request.body).unwrap_or(Value::Null),
        }
    });
    (url, server)
}

fn ask_admin_api(url: &str, arguments: &[&str]) -> Output {
    seckillctl(
        arguments,
        &[("INGRESS_ADMIN_URL", url), ("ADMIN_TOKEN", "a token")],
    )
}

#[test]
fn an_ingress_that_does_not_answer_is_named() {
    let output = ask_admin_api("http://127.0.0.1:1", &["sale", "list"]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.contains("http://127.0.0.1:1"), "{message}");
}

#[test]
fn completion_needs_no_settings_and_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&seckillctl(&["completion", shell], &[]));
        for word in ["timeline", "redrive", "to-topic"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
