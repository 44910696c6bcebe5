//! The audit records what operators do, with data that they cannot choose themselves. Failed attempts and sign-ins are
//! counted, and logged with their addresses.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder, StatusCode};
use seckill_domain::VoucherId;
use seckill_tests::{ForeignProducer, SaleTerms, World, eventually, series};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http::sign_in::Shop;

const KIMS: &str = "a token of kim and as long as 32 bytes";
const KNOWN: (&str, &str) = ("ADMIN_TOKENS", "kim=a token of kim and as long as 32 bytes");

type Row = (String, String, Option<String>, Option<String>);

async fn rows(world: &World) -> Result<Vec<Row>> {
    let sql = "SELECT actor, command, origin, login FROM ops_audit ORDER BY id";
    Ok(sqlx::query_as(sql)
        .fetch_all(&world.database().await?)
        .await?)
}

/// Every operation of the operators' document that changes something, by its method and path.
async fn changing(world: &World) -> Result<Vec<(Method, String)>> {
    let url = format!("{}/openapi.json", world.client.admin_url);
    let document: Value = reqwest::get(url).await?.json().await?;
    let paths = document["paths"].as_object().context("paths")?;
    let mut found = Vec::new();
    for (path, operations) in paths {
        for method in operations.as_object().context("operations")?.keys() {
            if !["get", "head", "parameters"].contains(&method.as_str()) {
                found.push((method.to_uppercase().parse()?, path.clone()));
            }
        }
    }
    Ok(found)
}

/// The path of an operation, about this sale or this record.
fn named(path: &str, [voucher, partition, offset]: [&str; 3]) -> String {
    path.replace("{voucher_id}", voucher)
        .replace("{partition}", partition)
        .replace("{offset}", offset)
}

/// A record under the key of no sale, which the fold has passed over: its partition and its offset.
async fn a_readable_letter(world: &World, voucher: VoucherId) -> Result<(String, String)> {
    let foreign = ForeignProducer::of(world)?;
    let offset = foreign.misfile_restock(voucher).await?;
    let partition = foreign.home_of(voucher);
    let path = format!("/admin/v1/skipped-records/{partition}/{offset}");
    eventually("the record is passed over", || async {
        Ok(world.client.admin_get(&path).await?.status == 200)
    })
    .await?;
    Ok((partition.to_string(), offset.to_string()))
}

fn request(world: &World, method: &Method, path: &str, body: &Value) -> RequestBuilder {
    let url = format!("{}{path}", world.client.admin_url);
    reqwest::Client::new()
        .request(method.clone(), url)
        .json(body)
}

fn counted(world: &World, metric: &str) -> Result<f64> {
    series(&world.ingress, metric)?.with_context(|| format!("no {metric}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_that_changes_something_is_on_record_with_where_it_came_from() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let sale = json!({
        "title": "Lamp", "price_cents": 999, "currency": "EUR", "stock": 1, "max_quantity": 1,
        "opens_at": "2026-05-01T10:00:00Z", "closes_at": "2999-01-01T00:00:00Z", "hold_seconds": 60,
    });
    let bodies: BTreeMap<&str, Value> = [
        ("/admin/v1/vouchers", sale),
        (
            "/admin/v1/vouchers/{voucher_id}/stock",
            json!({ "delta": 1, "reason": "count" }),
        ),
        ("/admin/v1/vouchers/{voucher_id}/close", json!({})),
        (
            "/admin/v1/skipped-records/{partition}/{offset}/redrive",
            json!({}),
        ),
    ]
    .into();
    let (partition, offset) = a_readable_letter(&world, voucher).await?;
    let mut noted = rows(&world).await?.len();
    // A closed sale accepts no changes, so closing comes last.
    let mut operations = changing(&world).await?;
    operations.sort_by_key(|(_, path)| path.ends_with("/close"));
    assert_eq!(operations.len(), bodies.len(), "{operations:?}");
    world.until_carried_out().await?;
    for (method, path) in operations {
        let body = bodies
            .get(path.as_str())
            .with_context(|| format!("a body for {path}"))?;
        let path = named(&path, [&voucher.to_string(), &partition, &offset]);
        let answer = request(&world, &method, &path, body)
            .bearer_auth(world.stack.setting("ADMIN_TOKEN"))
            .header("x-operator", "kim")
            .send()
            .await?;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{path}");
        let rows = rows(&world).await?;
        noted += 1;
        assert_eq!(rows.len(), noted, "{path}");
        let (actor, command, origin, login) = rows.last().context("a row")?;
        assert_eq!(
            (actor.as_str(), origin.as_deref()),
            ("kim", Some("127.0.0.1"))
        );
        assert!(
            command.starts_with(&format!("{method} {path} ")),
            "{command}"
        );
        assert!(login.as_deref().is_some_and(|login| !login.is_empty()));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_token_it_is_stands_in_the_audit_and_nobody_can_say_otherwise() -> Result<()> {
    let world = World::with(&[KNOWN])?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let path = format!("/admin/v1/vouchers/{voucher}/stock");
    let body = json!({ "delta": 1, "reason": "count" });
    let ask = |operator: Option<&'static str>| {
        let request = request(&world, &Method::POST, &path, &body).bearer_auth(KIMS);
        match operator {
            Some(name) => request.header("x-operator", name),
            None => request,
        }
    };
    for operator in [None, Some("kim")] {
        assert_eq!(ask(operator).send().await?.status(), StatusCode::ACCEPTED);
        assert_eq!(rows(&world).await?.last().context("a row")?.0, "kim");
    }
    let before = rows(&world).await?.len();
    assert_eq!(
        ask(Some("lee")).send().await?.status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(rows(&world).await?.len(), before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_what_their_role_says_and_what_was_refused_is_not_on_record() -> Result<()>
{
    let token = |name: &str| format!("a token of {name} and as long as 32 bytes");
    let hashed = |name: &str| hex::encode(Sha256::digest(token(name)));
    let (viewer, operator, admin) = (hashed("vic"), hashed("olga"), token("ann"));
    let tokens = format!("vic:viewer=sha256:{viewer},olga:operator=sha256:{operator},ann={admin}");
    let world = World::with(&[("ADMIN_TOKENS", &tokens)])?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let stock = format!("/admin/v1/vouchers/{voucher}/stock");
    let count = json!({ "delta": 1, "reason": "count" });
    let ledger = format!("/admin/v1/vouchers/{voucher}/ledger");
    let sale = json!({
        "title": "Lamp", "price_cents": 999, "currency": "EUR", "stock": 1, "max_quantity": 1,
        "opens_at": "2026-05-01T10:00:00Z", "closes_at": "2999-01-01T00:00:00Z", "hold_seconds": 60,
    });
    world.until_carried_out().await?;
    for (name, read, act, put_up) in [
        ("vic", 200, 403, 403),
        ("olga", 200, 202, 403),
        ("ann", 200, 202, 202),
        ("eve", 401, 401, 401),
    ] {
        for (method, path, body, expected) in [
            (Method::GET, ledger.as_str(), &json!({}), read),
            (Method::POST, &stock, &count, act),
            (Method::POST, "/admin/v1/vouchers", &sale, put_up),
        ] {
            let before = rows(&world).await?.len();
            let asked = request(&world, &method, path, body).bearer_auth(token(name));
            let answer = asked.send().await?;
            assert_eq!(answer.status(), expected, "{name} {method} {path}");
            let problem: Value = answer.json().await?;
            let kind = problem["type"].as_str().unwrap_or_default();
            match expected {
                401 => assert!(kind.ends_with("/unauthorized"), "{problem}"),
                403 => assert!(kind.ends_with("/forbidden"), "{problem}"),
                _ => assert_eq!(kind, "", "{problem}"),
            }
            let rows = rows(&world).await?;
            assert_eq!(
                rows.len() - before,
                usize::from(expected == 202),
                "{rows:?}"
            );
            if expected == 202 {
                assert_eq!(rows.last().context("a row")?.0, name);
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_admin_call_is_counted_and_logged_with_its_address_and_without_its_token()
-> Result<()> {
    let world = World::start()?;
    let metric = "seckill_admin_refused_total";
    assert!(
        counted(&world, metric)?.abs() < 0.5,
        "it is there before it counts"
    );
    let operations = changing(&world).await?;
    for (method, path) in &operations {
        let path = named(path, ["7", "0", "7"]);
        let request =
            request(&world, method, &path, &json!({})).bearer_auth("a guess, of some length");
        assert_eq!(
            request.send().await?.status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    assert!((counted(&world, metric)? - operations.len() as f64).abs() < 0.5);
    let log = world.ingress.output()?;
    let lines = log
        .lines()
        .filter(|line| line.contains("without an admin token"));
    let lines: Vec<_> = lines.filter(|line| line.contains("127.0.0.1")).collect();
    assert!(!lines.is_empty(), "{log}");
    assert!(!log.contains("a guess, of some length"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_is_on_record_with_the_address_and_who_fails_is_counted_and_logged()
-> Result<()> {
    let shop = Shop::open(&[])?;
    let signed_in = shop.sign_in("ada@example.com").await?;
    let rows: Vec<(i64, String, String)> =
        sqlx::query_as("SELECT user_id, address, trace_id FROM sign_ins")
            .fetch_all(&shop.world.database().await?)
            .await?;
    let [(user, address, trace)] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!(
        (json!(user), address.as_str()),
        (signed_in["user_id"].clone(), "127.0.0.1")
    );
    assert_eq!(trace.len(), 32, "{trace}");

    let guess = json!({ "email": "ada@example.com", "code": "000000" });
    let request = shop.world.client.request(Method::POST, "/api/v1/sign-in");
    assert_eq!(
        shop.world.client.send(request.json(&guess)).await?.status,
        401
    );
    let metric = r#"seckill_sign_ins_total{answer="unauthorized"}"#;
    assert!((counted(&shop.world, metric)? - 1.0).abs() < 0.5);
    eventually("the log says so", || async {
        let log = shop.world.ingress.output()?;
        let mut lines = log.lines().filter(|line| line.contains("not signed in"));
        Ok(lines.any(|line| line.contains("127.0.0.1") && !line.contains("ada@")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_an_operator_makes_is_on_record_and_ends_within_a_day() -> Result<()> {
    let world = World::start()?;
    let mine = [
        "token", "--user", "7", "--actor", "kim", "--reason", "a call",
    ];
    let token = world.seckillctl(&mine)?;
    let token = token.trim();
    let orders = world.client.request(Method::GET, "/api/v1/orders");
    let answer = orders.bearer_auth(token).send().await?;
    assert_eq!(answer.status(), StatusCode::OK);
    for too_long in ["25h", "86401s"] {
        let refused = world.seckillctl(&["token", "--user", "7", "--ttl", too_long]);
        assert!(refused.is_err(), "{too_long}: {refused:?}");
    }
    let rows = rows(&world).await?;
    let [(actor, command, ..)] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!(actor, "kim");
    assert!(command.starts_with("token --user 7"), "{command}");
    assert!(!command.contains(token), "{command}");
    Ok(())
}
