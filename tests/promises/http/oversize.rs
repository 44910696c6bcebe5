//! Requests that are too large are refused with a reason, and all other requests are served meanwhile.

use anyhow::{Result, bail, ensure};
use seckill_tests::{Crowd, Raw, RawAnswer, SaleTerms, World, check_consistency};
use serde_json::Value;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A request, and the expected answer.
struct Case {
    name: &'static str,
    request: String,
    status: u16,
    /// Whether the body of the refusal says what to do. Refusals of heads have no body.
    explained: bool,
}

const fn case(name: &'static str, request: String, status: u16, explained: bool) -> Case {
    Case {
        name,
        request,
        status,
        explained,
    }
}

fn heads(line: &str) -> Vec<Case> {
    let of = |header: &str| format!("{line} HTTP/1.1\r\nHost: a\r\n{header}\r\n");
    let one = |size: usize| of(&format!("X: {}\r\n", "x".repeat(size)));
    let many = |count: usize| of(&"X: x\r\n".repeat(count));
    let long = |size: usize| {
        let query = "x".repeat(size);
        format!("{line}?x={query} HTTP/1.1\r\nHost: a\r\n\r\n")
    };
    vec![
        case("a header of 8 KiB", one(8 * KIB), 200, true),
        case("a header of 64 KiB", one(64 * KIB), 200, true),
        case("a header of 128 KiB", one(128 * KIB), 431, false),
        case("a header of 1 MiB", one(MIB), 431, false),
        case("90 headers", many(90), 200, true),
        case("100 headers", many(100), 431, false),
        case("100,000 headers", many(100_000), 431, false),
        case("a query of 32 KiB", long(32 * KIB), 200, true),
        case("a query of 64 KiB", long(64 * KIB), 400, false),
        case("a query of 1 MiB", long(MIB), 431, false),
    ]
}

fn bodies(line: &str, headers: &str) -> Vec<Case> {
    let of = |framing: &str, body: &str| {
        format!(
            "{line} HTTP/1.1\r\nHost: a\r\n{headers}Content-Type: application/json\r\n{framing}\r\n\r\n{body}"
        )
    };
    let sized = |size: usize| of(&format!("Content-Length: {size}"), &" ".repeat(size));
    let chunk = format!("{:x}\r\n{}\r\n", 32 * KIB, " ".repeat(32 * KIB));
    let chunked = |chunks: usize| {
        let chunks = chunk.repeat(chunks);
        of("Transfer-Encoding: chunked", &format!("{chunks}0\r\n\r\n"))
    };
    vec![
        case("a body of 64 KiB", sized(64 * KIB), 400, true),
        case(
            "a body of 64 KiB and a byte",
            sized(64 * KIB + 1),
            413,
            true,
        ),
        case("a body of 1 MiB", sized(MIB), 413, true),
        case("a body of 20 MiB", sized(20 * MIB), 413, true),
        case("64 KiB in chunks", chunked(2), 400, true),
        case("1 MiB in chunks", chunked(32), 413, true),
        case("20 MiB in chunks", chunked(640), 413, true),
        case(
            "a length of 2^64 - 1",
            of("Content-Length: 18446744073709551615", ""),
            400,
            true,
        ),
        case(
            "an expected body of 1 GiB",
            of("Expect: 100-continue\r\nContent-Length: 1073741824", ""),
            413,
            true,
        ),
    ]
}

/// Sends a request while the service reads it. Returns all answers until the end of the connection.
async fn send(url: &str, request: &str) -> Result<Vec<RawAnswer>> {
    let mut raw = Raw::to(url).await?;
    // A service that has already refused the request does not read the rest.
    raw.send(request).await.ok();
    raw.end().await.ok();
    raw.answers().await
}

impl Case {
    fn check(&self, answers: &[RawAnswer]) -> Result<()> {
        let [answer] = answers else {
            bail!("{}: {answers:?}", self.name);
        };
        ensure!(answer.status == self.status, "{}: {answer:?}", self.name);
        if self.explained && self.status != 200 {
            let problem: Value = serde_json::from_str(&answer.body)?;
            ensure!(
                problem["status"] == self.status,
                "{}: {answer:?}",
                self.name
            );
            ensure!(problem["detail"].is_string(), "{}: {answer:?}", self.name);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn is_refused_with_a_reason() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(100_000)).await?;
    let client = &world.client;
    let crowd = Crowd::come(std::slice::from_ref(client), voucher, 2..100_000);
    let order = format!("POST /api/v1/vouchers/{voucher}/orders");
    let restock = format!("POST /admin/v1/vouchers/{voucher}/stock");
    let admin = world.stack.setting("ADMIN_TOKEN");
    for (url, read, write, token) in [
        (
            &client.url,
            "GET /api/v1/vouchers",
            order,
            &*client.token(1)?,
        ),
        (&client.admin_url, "GET /livez", restock, admin),
    ] {
        let headers = format!("Authorization: Bearer {token}\r\n");
        for case in heads(read).into_iter().chain(bodies(&write, &headers)) {
            case.check(&send(url, &case.request).await?)?;
            crowd.flows(1).await?;
        }
    }
    ensure!(crowd.refused() == 0, "others were refused");
    let answers = crowd.leave().await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    ensure!(found.units == 100_000, "restocked: {found:?}");
    Ok(())
}
