//! The binary as operators run it, against a real broker and database.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use seckill_testkit::{fresh_database, shared_kafka, unique_prefix};
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
fn missing_settings_are_usage_errors_that_name_them() {
    for (arguments, name) in [
        (vec!["topics", "check"], "KAFKA_BROKERS"),
        (vec!["db", "migrate"], "DATABASE_URL"),
        (vec!["sale", "list"], "ADMIN_TOKEN"),
        (vec!["token", "--user", "7"], "TOKEN_SECRET"),
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
    body: Value,
}

/// Answers one request with `status` and `body`.
fn admin_api(status: &str, body: &Value) -> (String, JoinHandle<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    let answer = format!("{head}Connection: close\r\n\r\n{body}");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            request.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            let found = lines.iter().filter_map(|line| line.split_once(": "));
            let mut found = found.filter(|(n, _)| n.eq_ignore_ascii_case(name));
            found
                .next()
                .map_or(String::new(), |(_, value)| value.to_owned())
        };
        let length = header("content-length").parse().unwrap_or(0);
        let mut content = vec![0; length];
        request.read_exact(&mut content).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        Request {
            authorization: header("authorization"),
            idempotency_key: header("idempotency-key"),
            line: lines.swap_remove(0),
            body: serde_json::from_slice(&content).unwrap_or(Value::Null),
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
fn a_sale_is_put_up_with_its_terms_and_an_hour_to_run() {
    let (url, server) = admin_api("202 Accepted", &json!({ "voucher_id": 17 }));
    let create = "sale create --title Machine --price-cents 4900 --stock 100 --hold-seconds 60 \
                  --opens-at 2030-01-01T23:30:00+01:00";
    let create: Vec<_> = create.split_whitespace().collect();
    let output = ask_admin_api(&url, &create);
    assert_eq!(stdout(&output), "sale 17 is scheduled\n");
    let request = server.join().unwrap();
    assert_eq!(request.line, "POST /admin/v1/vouchers HTTP/1.1");
    assert_eq!(request.authorization, "Bearer a token");
    assert_eq!(request.idempotency_key, "");
    assert_eq!(
        request.body,
        json!({
            "title": "Machine", "price_cents": 4900, "currency": "EUR", "stock": 100,
            "max_quantity": 1, "opens_at": "2030-01-01T23:30:00+01:00",
            "closes_at": "2030-01-02T00:30:00+01:00", "hold_seconds": 60,
        })
    );
}

#[test]
fn a_repeatable_sale_needs_its_times_and_sends_its_key() {
    let (url, server) = admin_api("202 Accepted", &json!({ "voucher_id": 17 }));
    let create = "sale create --title Machine --price-cents 4900 --stock 100 --idempotency-key k1";
    let mut create: Vec<_> = create.split_whitespace().collect();
    assert_eq!(ask_admin_api(&url, &create).status.code(), Some(2));

    create.extend(["--opens-at", "2030-01-01T00:00:00Z"]);
    create.extend(["--closes-at", "2030-01-02T00:00:00Z"]);
    create.push("--require-sale-token");
    stdout(&ask_admin_api(&url, &create));
    let request = server.join().unwrap();
    assert_eq!(request.idempotency_key, "k1");
    assert_eq!(request.body["requires_sale_token"], true);
}

#[test]
fn a_shrink_is_a_negative_change_and_its_refusal_is_told() {
    let problem = json!({ "title": "Stock committed", "detail": "3 units are free", "free": 3 });
    let (url, server) = admin_api("409 Conflict", &problem);
    let output = ask_admin_api(&url, &["sale", "shrink", "17", "5", "--reason", "broken"]);
    assert_eq!(output.status.code(), Some(1));
    let message = "seckillctl: Stock committed: 3 units are free\n";
    assert_eq!(stderr(&output), message);
    let request = server.join().unwrap();
    assert_eq!(request.line, "POST /admin/v1/vouchers/17/stock HTTP/1.1");
    assert_eq!(request.body, json!({ "delta": -5, "reason": "broken" }));
}

/// The ingress would refuse it, by the same rule: it is not even asked.
#[test]
fn what_no_sale_can_have_is_a_usage_error_that_names_the_argument() {
    let sale = "sale create --title Lamp --price-cents 1 --stock 1 --opens-at 2030-01-01T00:00:00Z";
    for (argument, value) in [
        ("--title", "two\nlines"),
        ("--title", " "),
        ("--price-cents", "100000000001"),
        ("--stock", "1000000001"),
        ("--max-quantity", "1001"),
        ("--hold-seconds", "86401"),
        ("--opens-at", "1970-01-01T00:30:00+01:00"),
        ("--closes-at", "9999-12-31T23:59:59-01:00"),
    ] {
        let mut create: Vec<_> = sale.split_whitespace().collect();
        match create.iter().position(|word| *word == argument) {
            Some(at) => create[at + 1] = value,
            None => create.extend([argument, value]),
        }
        refused_by_name(&create, argument);
    }
    refused_by_name(
        &["sale", "restock", "17", "1", "--reason", "\u{1b}[2J"],
        "--reason",
    );
    refused_by_name(
        &["sale", "shrink", "17", "1000000001", "--reason", "x"],
        "<UNITS>",
    );
}

fn refused_by_name(arguments: &[&str], argument: &str) {
    let output = ask_admin_api("http://127.0.0.1:1", arguments);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains(argument), "{arguments:?}: {message}");
}

#[test]
fn a_sale_that_is_not_there_has_its_own_exit_code() {
    let problem = json!({ "title": "Not found", "detail": "no sale 17" });
    let (url, server) = admin_api("404 Not Found", &problem);
    let output = ask_admin_api(&url, &["sale", "show", "17"]);
    assert_eq!(output.status.code(), Some(3));
    let request = server.join().unwrap();
    assert_eq!(request.line, "GET /admin/v1/vouchers/17/ledger HTTP/1.1");
}

#[test]
fn a_ledger_is_shown_also_while_redis_does_not_serve_the_sale() {
    let ledger = json!({
        "initial": 100, "adjusted": 5, "available": 90, "held": null, "unpaid": 10, "paid": 5,
        "redis_available": null, "in_flight": null, "drift": null, "consistent": false,
    });
    let (url, server) = admin_api("200 OK", &ledger);
    let shown = stdout(&ask_admin_api(&url, &["sale", "show", "17"]));
    assert!(shown.contains("unpaid              10"), "{shown}");
    assert!(shown.contains("drift               unknown"), "{shown}");
    server.join().unwrap();
}

#[test]
fn sales_are_listed_a_page_at_a_time() {
    let page = json!({ "next": 17, "vouchers": [{
        "voucher_id": 17, "title": "Machine", "price_cents": 4905, "currency": "EUR",
        "stock_left": 3, "max_quantity": 2, "opens_at": "2030-01-01T00:00:00Z",
        "closes_at": "2030-01-02T00:00:00Z", "status": "open",
    }]});
    let (url, server) = admin_api("200 OK", &page);
    let arguments = ["sale", "list", "--limit", "1", "--before", "18"];
    let listed = stdout(&ask_admin_api(&url, &arguments));
    assert!(
        listed.contains("17  open    3     49.05 EUR  2"),
        "{listed}"
    );
    assert!(listed.ends_with("older sales: --before 17\n"), "{listed}");
    let request = server.join().unwrap();
    assert_eq!(
        request.line,
        "GET /admin/v1/vouchers?limit=1&before=18 HTTP/1.1"
    );
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
