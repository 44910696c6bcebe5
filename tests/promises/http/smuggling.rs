//! Request smuggling: requests that two servers could split in different ways are refused and the connection is closed,
//! or they are split in the only way that the standard allows. No listener carries out a request that is hidden in
//! another one.

use anyhow::{Result, ensure};
use seckill_domain::VoucherId;
use seckill_tests::{Framing, NO_REQUESTS, Raw, RawAnswer, SaleTerms, World, check_consistency};
use serde_json::json;

/// Users from this number on belong to hidden requests.
const HIDDEN: u64 = 1_000_000;

/// The beginning of a request, up to and with its last complete header.
struct Target {
    name: &'static str,
    url: String,
    /// `POST /path`, without the version.
    line: String,
    headers: String,
}

fn targets(world: &World, voucher: VoucherId) -> Result<Vec<Target>> {
    let client = &world.client;
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let json = "Content-Type: application/json\r\n";
    let signature = client.signature(1, "")?;
    let of = |name, url: &str, line: &str, headers: String| Target {
        name,
        url: url.to_owned(),
        line: line.to_owned(),
        headers,
    };
    let buyer = bearer(&client.token(1)?);
    let admin = bearer(world.stack.setting("ADMIN_TOKEN"));
    Ok(vec![
        of(
            "an order",
            &client.url,
            &format!("POST /api/v1/vouchers/{voucher}/orders"),
            format!("{buyer}{json}"),
        ),
        of(
            "a list, which reads no body",
            &client.url,
            "GET /api/v1/orders",
            buyer.clone(),
        ),
        of(
            "nobody's order",
            &client.url,
            &format!("POST /api/v1/vouchers/{voucher}/orders"),
            json.to_owned(),
        ),
        of("no route", &client.url, "POST /nowhere", String::new()),
        of(
            "the webhook",
            &client.url,
            "POST /api/v1/payments/webhook",
            format!("X-Signature: {signature}\r\n{json}"),
        ),
        of(
            "a restock",
            &client.admin_url,
            &format!("POST /admin/v1/vouchers/{voucher}/stock"),
            format!("{admin}{json}"),
        ),
        of(
            "an order by its absolute address",
            &client.url,
            &format!("POST http://elsewhere/api/v1/vouchers/{voucher}/orders"),
            format!("{buyer}{json}"),
        ),
        of("a tunnel", &client.url, "CONNECT a:443", String::new()),
        of("metrics", &client.admin_url, "GET /metrics", String::new()),
    ])
}

/// A complete hidden request for the listener of a target. It must not be carried out.
fn hidden(world: &World, voucher: VoucherId, target: &Target, user: u64) -> Result<String> {
    let client = &world.client;
    if target.url == client.admin_url {
        let body = json!({ "delta": 1, "reason": "hidden" }).to_string();
        return Ok(format!(
            "POST /admin/v1/vouchers/{voucher}/stock HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            world.stack.setting("ADMIN_TOKEN"),
            body.len()
        ));
    }
    Ok(format!(
        "POST /api/v1/vouchers/{voucher}/orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n",
        client.token(user)?
    ))
}

/// Sends the request at once. Returns all answers until the end of the connection.
async fn send(url: &str, request: &str) -> Result<Vec<RawAnswer>> {
    let mut raw = Raw::to(url).await?;
    raw.send(request).await?;
    // The service may already have closed the connection.
    raw.end().await.ok();
    let mut answers = raw.answers().await?;
    answers.retain(|answer| answer.status != 100);
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_another_buyers_body_is_never_carried_out() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(1_000)).await?;
    let mut user = HIDDEN;
    for target in targets(&world, voucher)? {
        for framing in Framing::all() {
            user += 1;
            let hidden = hidden(&world, voucher, &target, user)?;
            let answers = send(
                &target.url,
                &framing.request(&target.line, &target.headers, &hidden),
            )
            .await?;
            let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
            ensure!(
                framing.fate().fits(&statuses),
                "{} in {}, {:?}: {answers:?}",
                framing.name,
                target.name,
                framing.fate()
            );
        }
        for line in NO_REQUESTS {
            user += 1;
            let request = format!("{line}{}", hidden(&world, voucher, &target, user)?);
            let answers = send(&target.url, &request).await?;
            let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
            ensure!(statuses == [400], "{line:?}: {answers:?}");
        }
    }
    let pool = world.database().await?;
    let of_hidden: Vec<i64> = sqlx::query_scalar("SELECT user_id FROM orders WHERE user_id <> 1")
        .fetch_all(&pool)
        .await?;
    ensure!(of_hidden.is_empty(), "carried out: {of_hidden:?}");
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &[]).await?;
    ensure!(found.units == 1_000, "restocked: {found:?}");

    // Show that the hidden requests would work: after a correct request they are carried out.
    // A tunnel has no end.
    let all = targets(&world, voucher)?.into_iter();
    for target in all.filter(|target| !target.line.starts_with("CONNECT")) {
        let first = format!(
            "{} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            target.line
        );
        let second = hidden(&world, voucher, &target, user)?;
        let answers = send(&target.url, &format!("{first}{second}")).await?;
        let last = answers.last().map(|answer| answer.status);
        ensure!(
            answers.len() == 2 && matches!(last, Some(202 | 409)),
            "{answers:?}"
        );
    }
    Ok(())
}
