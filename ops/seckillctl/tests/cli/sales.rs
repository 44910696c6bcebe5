//! `sale`: what it asks of the admin API, and what it prints.

use serde_json::json;

use crate::{admin_api, ask_admin_api, stderr, stdout};

#[test]
fn a_sale_is_put_up_with_its_terms_and_an_hour_to_run() {
    let (url, server) = admin_api(202, &json!({ "voucher_id": 17 }));
    let create = "sale create --title Machine --price-cents 4900 --stock 100 --hold-seconds 60 \
                  --opens-at 2030-01-01T23:30:00+01:00";
    let create: Vec<_> = create.split_whitespace().collect();
    let output = ask_admin_api(&url, &create);
    assert_eq!(stdout(&output), "sale 17 is scheduled\n");
    let request = server.join().unwrap();
    assert_eq!(request.line, "POST /admin/v1/vouchers");
    assert_eq!(request.authorization, "Bearer a token");
    let key = &request.idempotency_key;
    assert_eq!(
        stderr(&output),
        format!(
            "to repeat this: --idempotency-key {key} --opens-at 2030-01-01T23:30:00+01:00 \
             --closes-at 2030-01-02T00:30:00+01:00\n"
        )
    );
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
    let (url, server) = admin_api(202, &json!({ "voucher_id": 17 }));
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
    let (url, server) = admin_api(409, &problem);
    let output = ask_admin_api(&url, &["sale", "shrink", "17", "5", "--reason", "broken"]);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    let message = "\nseckillctl: Stock committed: 3 units are free\n";
    assert!(told.ends_with(message), "{told}");
    let request = server.join().unwrap();
    assert_eq!(request.line, "POST /admin/v1/vouchers/17/stock");
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
    let (url, server) = admin_api(404, &problem);
    let output = ask_admin_api(&url, &["sale", "show", "17"]);
    assert_eq!(output.status.code(), Some(3));
    let request = server.join().unwrap();
    assert_eq!(request.line, "GET /admin/v1/vouchers/17/ledger");
}

#[test]
fn a_ledger_is_shown_also_while_redis_does_not_serve_the_sale() {
    let ledger = json!({
        "initial": 100, "adjusted": 5, "available": 90, "held": null, "unpaid": 10, "paid": 5,
        "redis_available": null, "in_flight": null, "drift": null, "consistent": false,
    });
    let (url, server) = admin_api(200, &ledger);
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
    let (url, server) = admin_api(200, &page);
    let arguments = ["sale", "list", "--limit", "1", "--before", "18"];
    let listed = stdout(&ask_admin_api(&url, &arguments));
    assert!(listed.contains("17  open    3     €49.05  2"), "{listed}");
    assert!(listed.ends_with("older sales: --before 17\n"), "{listed}");
    let request = server.join().unwrap();
    assert_eq!(request.line, "GET /admin/v1/vouchers?limit=1&before=18");
}

#[test]
fn who_asks_and_why_and_under_which_key_goes_along_and_the_key_is_told_first() {
    let commands: [&[&str]; 4] = [
        &["restock", "17", "1", "--reason", "Kiste gefunden, größer"],
        &["shrink", "17", "1", "--reason", "Kiste gefunden, größer"],
        &["close", "17", "--reason", "Kiste gefunden, größer"],
        &[
            "create",
            "--title",
            "x",
            "--price-cents",
            "1",
            "--stock",
            "1",
            "--reason",
            "Kiste gefunden, größer",
        ],
    ];
    for command in commands {
        let (url, server) = admin_api(202, &json!({ "voucher_id": 17 }));
        let arguments = [&["sale"], command, &["--actor", "Åsa", "--output", "json"]].concat();
        let output = ask_admin_api(&url, &arguments);
        let answer: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        let request = server.join().unwrap();
        assert_eq!(request.operator, "Åsa");
        let reason = request.body["reason"].as_str().unwrap_or(&request.reason);
        assert_eq!(reason, "Kiste gefunden, größer", "{command:?}");
        assert_eq!(answer["idempotency_key"], request.idempotency_key.as_str());
        assert!(stderr(&output).contains(&request.idempotency_key));
    }
    // Also where nobody answers: then it is needed most.
    let lost = ask_admin_api("http://127.0.0.1:1", &["sale", "close", "17"]);
    assert!(stderr(&lost).starts_with("to repeat this: --idempotency-key "));
}

#[test]
fn a_repetition_sends_the_key_it_was_given() {
    let (url, server) = admin_api(202, &json!({ "event_id": "e" }));
    let restock = "sale restock 17 5 --reason x --idempotency-key k1";
    let restock: Vec<_> = restock.split_whitespace().collect();
    stdout(&ask_admin_api(&url, &restock));
    assert_eq!(server.join().unwrap().idempotency_key, "k1");
    for bad in ["", "a b", "clé"] {
        let key = format!("--idempotency-key={bad}");
        let refused = ask_admin_api("http://127.0.0.1:1", &["sale", "close", "17", &key]);
        assert_eq!(refused.status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn prices_have_the_decimals_of_their_currency() {
    let sale = |currency: &str| {
        json!({
            "voucher_id": 17, "title": "x", "price_cents": 4900, "currency": currency,
            "stock_left": 3, "max_quantity": 2, "opens_at": "2030-01-01T00:00:00Z",
            "closes_at": "2030-01-02T00:00:00Z", "status": "open",
        })
    };
    let vouchers: Vec<_> = ["EUR", "JPY", "KWD", "CLF", "QQQ"].map(sale).into();
    let (url, server) = admin_api(200, &json!({ "next": null, "vouchers": vouchers }));
    let listed = stdout(&ask_admin_api(&url, &["sale", "list"]));
    server.join().unwrap();
    let shown = ["€49.00", "¥4900", "KWD 4.900", "CLF 0.4900", "QQQ 4900"];
    for (line, price) in listed.lines().skip(1).zip(shown) {
        let mut columns = line.split("  ").filter(|column| !column.is_empty());
        assert_eq!(columns.nth(3).map(str::trim), Some(price), "{listed}");
    }
}
