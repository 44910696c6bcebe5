//! Requests in the form of other clients, gateways and serializers: each is understood, or is refused with a text that
//! says what to change.

use anyhow::{Result, ensure};
use reqwest::Method;
use seckill_domain::VoucherId;
use seckill_tests::{Raw, RawAnswer, SaleTerms, World, check_consistency};
use serde_json::Value;

/// The head of an order of one unit, with the given request target and headers.
fn order_head(world: &World, user: u64, target: &str, more: &str) -> Result<String> {
    let token = world.client.token(user)?;
    Ok(format!(
        "POST {target} HTTP/1.1\r\nHost: shop.example\r\nAuthorization: bEaReR  {token}\r\n{more}\r\n"
    ))
}

async fn ask(world: &World, request: impl AsRef<[u8]>) -> Result<RawAnswer> {
    let mut raw = Raw::to(&world.ingress.url()).await?;
    raw.send(request).await?;
    let answer = raw.answer().await?;
    answer.ok_or_else(|| anyhow::anyhow!("the connection ended"))
}

fn order_path(voucher: VoucherId) -> String {
    format!("/api/v1/vouchers/{voucher}/orders")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_understood_however_a_client_or_a_gateway_puts_it() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let path = order_path(voucher);
    let json = "Content-Type: application/json\r\n";

    // The name of the scheme may be in upper or lower case, and several spaces may follow it.
    let plain = order_head(&world, 1, &path, "Content-Length: 0\r\n")?;
    // Some frameworks name a content type although they send no body.
    let typed = order_head(&world, 2, &path, &format!("{json}Content-Length: 0\r\n"))?;
    // Clients of proxies and some gateways send the whole URL.
    let whole = format!("http://shop.example{path}");
    let absolute = order_head(&world, 3, &whole, "Content-Length: 0\r\n")?;
    // In chunks, with an extension and a trailer.
    let chunked = order_head(
        &world,
        4,
        &path,
        &format!("{json}Transfer-Encoding: chunked\r\n"),
    )? + "5;x=y\r\n{\"qua\r\n8\r\nntity\":1\r\n1\r\n}\r\n0\r\nX-Sum: 1\r\n\r\n";
    for request in [plain, typed, absolute, chunked] {
        let answer = ask(&world, &request).await?;
        ensure!(answer.status == 202, "{request}\n{answer:?}");
    }

    // The body is sent only after `100 Continue`.
    let mut raw = Raw::to(&world.ingress.url()).await?;
    let more = format!("{json}Content-Length: 15\r\nExpect: 100-continue\r\n");
    raw.send(order_head(&world, 5, &path, &more)?).await?;
    let go_on = raw.answer().await?;
    ensure!(
        go_on.as_ref().is_some_and(|answer| answer.status == 100),
        "{go_on:?}"
    );
    raw.send("{\"quantity\": 1}").await?;
    let answer = raw.answer().await?;
    ensure!(
        answer.as_ref().is_some_and(|answer| answer.status == 202),
        "{answer:?}"
    );

    let ledger = world.quiet(voucher).await?;
    ensure!(ledger["unpaid"] == 5, "{ledger}");
    check_consistency(&world, voucher, &[]).await.map(drop)
}

/// Health checks of load balancers, which use HTTP/1.0 or send no `Host` header.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancers_check_is_answered_without_a_host_and_by_http_1_0() -> Result<()> {
    let world = World::start()?;
    for (url, path) in [
        (world.ingress.url(), "/api/v1/vouchers"),
        (world.ingress.url(), "/"),
        (world.ingress.admin_url(), "/livez"),
        (world.ingress.admin_url(), "/readyz"),
        (world.projector.admin_url(), "/readyz"),
        (world.timeout.admin_url(), "/metrics"),
    ] {
        for version in ["1.0", "1.1"] {
            let mut raw = Raw::to(&url).await?;
            let host = if version == "1.1" {
                "Host: x\r\nConnection: close\r\n"
            } else {
                ""
            };
            raw.send(format!("GET {path} HTTP/{version}\r\n{host}\r\n"))
                .await?;
            let answers = raw.answers().await?;
            ensure!(answers.len() == 1, "{path} {version}: {answers:?}");
            ensure!(answers[0].status == 200, "{path} {version}: {answers:?}");
        }
    }
    Ok(())
}

async fn pays(world: &World, body: &[u8]) -> Result<(u16, Value)> {
    let text = String::from_utf8_lossy(body).into_owned();
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let signature = world.client.signature(u64::try_from(now)?, &text)?;
    let request = world
        .client
        .request(Method::POST, "/api/v1/payments/webhook")
        .header("content-type", "application/json")
        .header("x-signature", signature)
        .body(text);
    let answer = world.client.send(request).await?;
    Ok((answer.status, answer.body))
}

/// If a payment is refused because of its format, its money is not recorded. So everything that can be understood is
/// accepted, and otherwise the answer names the member.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_read_as_other_serializers_write_it_or_its_member_is_named() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let placed = world.client.order(voucher, 1, None, 1).await?;
    let order = placed.order_id().unwrap_or_default();
    let body = |amount: &str| {
        format!(
            "{{\"payment_id\":\"p\",\"order_id\":\"{order}\",\"amount_cents\":{amount},\"currency\":\"EUR\",\
             \"paid_at\":\"2026-05-01T10:05:00Z\",\"meta\":{{\"\\ud83d\\ude00\":[null,1e300]}}}}"
        )
    };
    for wrong in [
        "\"1000\"",
        "1000.0",
        "null",
        "-1",
        "1e30",
        "true",
        "[1000]",
        "9223372036854775808",
    ] {
        let (status, told) = pays(&world, body(wrong).as_bytes()).await?;
        ensure!(status == 400, "{wrong}: {told}");
        ensure!(
            told["errors"][0]["field"] == "amount_cents",
            "{wrong}: {told}"
        );
    }
    let twice = body("1000").replacen('{', "{\"amount_cents\":1,", 1);
    let (status, told) = pays(&world, twice.as_bytes()).await?;
    ensure!(
        status == 400 && told.to_string().contains("amount_cents"),
        "{told}"
    );

    // With a byte order mark before it and white space around it.
    let odd = format!("\u{feff}\r\n{}\r\n\t ", body("1000"));
    let (status, told) = pays(&world, odd.as_bytes()).await?;
    ensure!(status == 202, "{told}");
    world.until_status(1, order, "paid").await?;
    check_consistency(&world, voucher, &[placed])
        .await
        .map(drop)
}
