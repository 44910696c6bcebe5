//! Where the output goes, and what stands in it.

use std::fs::File;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use seckill_testkit::{Database, fresh_database};
use serde_json::json;

use crate::{admin_api, ask_admin_api, seckillctl, stderr, stdout};

/// Where it is noted that a token was made.
static AUDIT: LazyLock<Database> = LazyLock::new(|| {
    let database = fresh_database().unwrap();
    let url = database.url();
    stdout(&seckillctl(&["db", "migrate"], &[("DATABASE_URL", &url)]));
    database
});

/// Every way to standard output: a report, help, and what is printed as it is.
const PRINTED: [&[&str]; 5] = [
    &["token", "--user", "7"],
    &["token", "--user", "7", "--output", "json"],
    &["completion", "bash"],
    &["--help"],
    &["sale", "create", "--help"],
];

fn printing_to(arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seckillctl"));
    command.args(arguments).env_clear();
    command.env("TOKEN_SECRET", "a secret of thirty-two characters");
    command.env("DATABASE_URL", AUDIT.url());
    command.stdout(stdout).stderr(stderr);
    command.spawn().unwrap().wait_with_output().unwrap()
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    for arguments in PRINTED {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = printing_to(arguments, writer, Stdio::piped());
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
        assert_eq!(stderr(&ended), "", "{arguments:?}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure_and_no_panic() {
    for arguments in PRINTED {
        let ended = printing_to(arguments, full(), Stdio::piped());
        let message = stderr(&ended);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(
            message.contains("standard output") && !message.contains("panicked"),
            "{arguments:?}: {message}"
        );
    }
}

#[test]
fn a_message_that_cannot_be_written_changes_no_exit_code() {
    for (arguments, code) in [
        (vec!["sale", "list"], 2),
        (vec!["sale", "show", "0"], 2),
        (vec!["token", "--user", "7"], 1),
    ] {
        let ended = printing_to(&arguments, full(), full());
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}");
    }
}

/// Lists one sale after another of these titles.
fn listed(titles: &[&str]) -> String {
    let sale = |title: &&str| {
        json!({
            "voucher_id": 17, "title": title, "price_cents": 4905, "currency": "EUR",
            "stock_left": 3, "max_quantity": 2, "opens_at": "2030-01-01T00:00:00Z",
            "closes_at": "2030-01-02T00:00:00Z", "status": "open",
        })
    };
    let sales: Vec<_> = titles.iter().map(sale).collect();
    let (url, server) = admin_api(200, &json!({ "next": null, "vouchers": sales }));
    let text = stdout(&ask_admin_api(&url, &["sale", "list"]));
    server.join().unwrap();
    text
}

/// A log may hold titles of a time when nobody looked at them.
#[test]
fn what_a_terminal_would_obey_is_shown_escaped() {
    let text = listed(&["Lamp\u{1b}[2J\u{9b}1m\r\nfake row\t\u{202e}gnirts\u{2028}"]);
    assert_eq!(text.lines().count(), 2, "{text}");
    let shown = r"Lamp\u{1b}[2J\u{9b}1m\r\nfake row\t\u{202e}gnirts\u{2028}";
    assert!(text.contains(shown), "{text}");
}

#[test]
fn a_message_of_the_admin_api_is_no_command_to_a_terminal() {
    let problem = json!({ "title": "Not\u{1b}[2J found", "detail": "no\u{7} sale" });
    let (url, server) = admin_api(404, &problem);
    let told = stderr(&ask_admin_api(&url, &["sale", "show", "17"]));
    server.join().unwrap();
    assert_eq!(told, "seckillctl: Not\\u{1b}[2J found: no\\u{7} sale\n");
}

/// Rules whose subjects differ in width stand before another column.
#[test]
fn columns_align_also_where_characters_are_wide() {
    let page = |status: &str| {
        json!({
            "voucher_id": 17, "title": "x", "price_cents": 4905, "currency": "EUR",
            "stock_left": 3, "max_quantity": 2, "opens_at": "2030-01-01T00:00:00Z",
            "closes_at": "2030-01-02T00:00:00Z", "status": status,
        })
    };
    // Columns of a terminal, as the Unicode standard has them: 4, 4 and 2 by 1, 2 and 2 each.
    let vouchers: Vec<_> = ["open", "開店", "🎫", "e\u{301}"].map(page).into();
    let (url, server) = admin_api(200, &json!({ "next": null, "vouchers": vouchers }));
    let text = stdout(&ask_admin_api(&url, &["sale", "list"]));
    server.join().unwrap();
    let left: Vec<_> = text.lines().skip(1).collect();
    assert!(left[0].starts_with("17  open    3"), "{text}");
    assert!(left[1].starts_with("17  開店    3"), "{text}");
    assert!(left[2].starts_with("17  🎫      3"), "{text}");
    assert!(left[3].starts_with("17  e\u{301}       3"), "{text}");
}
