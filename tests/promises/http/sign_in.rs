//! A person who signs in has the same user id at every instance, tokens are renewed less and less often, and a sign-out
//! applies to every instance.

mod attacks;
mod sessions;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use jsonwebtoken::dangerous::insecure_decode;
use redis::AsyncCommands;
use reqwest::Method;
use seckill_testkit::{MailSink, TestStack};
use seckill_tests::{
    Answer, Client, SaleTerms, World, check_consistency, eventually, until_answered,
};
use serde_json::{Value, json};

/// Allows many codes, for tests that are not about the limits.
pub(crate) const OFTEN: (&str, &str) = ("SIGN_IN_LIMITS", "100/1/1");

/// A world whose buyers get their codes by mail.
pub(crate) struct Shop {
    pub(crate) world: World,
    pub(crate) mail: MailSink,
}

impl Shop {
    pub(crate) fn open(settings: &[(&str, &str)]) -> Result<Self> {
        let mail = MailSink::start()?;
        let url = mail.url();
        let mut all = vec![("SMTP_URL", url.as_str())];
        all.extend_from_slice(settings);
        let world = World::over(TestStack::builder(), &all)?;
        Ok(Self { world, mail })
    }

    fn client(&self) -> &Client {
        &self.world.client
    }

    /// Asks for a code and reads the mail.
    async fn code(&self, email: &str) -> Result<String> {
        let envelope = email.to_lowercase();
        let before = self.mail.mails_to(&envelope)?.len();
        let answer = until_answered(|| ask_code(self.client(), email)).await?;
        ensure!(answer.status == 204, "{answer:?}");
        eventually("the mail is there", || async {
            Ok(self.mail.mails_to(&envelope)?.len() > before)
        })
        .await?;
        let mails = self.mail.mails_to(&envelope)?;
        let code = mails.last().and_then(|mail| mail.number(6));
        Ok(code.context("a mail without a code")?.to_owned())
    }

    pub(crate) async fn sign_in(&self, email: &str) -> Result<Value> {
        let code = self.code(email).await?;
        let answer = until_answered(|| try_code(self.client(), email, &code)).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.body)
    }
}

async fn ask_code(client: &Client, email: &str) -> Result<Answer> {
    let request = client.request(Method::POST, "/api/v1/sign-in/codes");
    client.send(request.json(&json!({ "email": email }))).await
}

async fn try_code(client: &Client, email: &str, code: &str) -> Result<Answer> {
    let request = client.request(Method::POST, "/api/v1/sign-in");
    client
        .send(request.json(&json!({ "email": email, "code": code })))
        .await
}

async fn sign_out(client: &Client, token: &str) -> Result<Answer> {
    let request = client.request(Method::POST, "/api/v1/sign-out");
    client.send(request.bearer_auth(token)).await
}

/// The status of a call that needs a token, and the renewed token.
async fn call(client: &Client, token: &str) -> Result<(u16, Option<String>)> {
    let request = client.request(Method::GET, "/api/v1/orders");
    let response = request.bearer_auth(token).send().await?;
    let renewed = response.headers().get("x-renewed-token");
    let renewed = renewed.map(|value| value.to_str().map(str::to_owned));
    Ok((response.status().as_u16(), renewed.transpose()?))
}

fn text<'a>(body: &'a Value, member: &str) -> Result<&'a str> {
    body[member]
        .as_str()
        .with_context(|| format!("{member} in {body}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_with_the_mailed_code_can_buy_and_is_the_same_user_next_time() -> Result<()> {
    let shop = Shop::open(&[OFTEN])?;
    let voucher = shop.world.sale(SaleTerms::of(1)).await?;
    let ada = shop.sign_in("Ada@Example.com").await?;
    let order = shop
        .client()
        .request(Method::POST, &format!("/api/v1/vouchers/{voucher}/orders"))
        .bearer_auth(text(&ada, "token")?);
    let order = shop.client().send(order).await?;
    assert!(order.is_reserved(), "{order:?}");
    shop.world.quiet(voucher).await?;

    let again = shop.sign_in("ada@example.com").await?;
    assert_eq!(again["user_id"], ada["user_id"]);
    let bob = shop.sign_in("bob@example.com").await?;
    assert_ne!(bob["user_id"], ada["user_id"]);
    let path = format!("/api/v1/orders/{}", text(&order.body, "order_id")?);
    for (who, status) in [(&again, 200), (&bob, 404)] {
        let request = shop.client().request(Method::GET, &path);
        let answer = shop.client().send(request.bearer_auth(text(who, "token")?));
        assert_eq!(answer.await?.status, status);
    }
    check_consistency(&shop.world, voucher, &[order]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_at_once_for_one_address_send_one_mail() -> Result<()> {
    let shop = Shop::open(&[])?;
    let second = shop.world.stack.start_ingress(&[])?;
    let clients = [shop.client().clone(), shop.world.client_of(&second)];
    let requests = (0..1_000).map(|n| {
        let client = &clients[n % 2];
        until_answered(move || ask_code(client, "ada@example.com"))
    });
    let mut sent = 0;
    for answer in join_all(requests).await {
        let answer = answer?;
        match answer.status {
            204 => sent += 1,
            429 => assert_eq!(answer.problem(), "rate-limited"),
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!(sent, 1);
    // A later mail to another address has arrived, so none of the thousand mails is still under way.
    shop.code("bob@example.com").await?;
    assert_eq!(shop.mail.mails_to("ada@example.com")?.len(), 1);

    let request = shop
        .client()
        .request(Method::POST, "/api/v1/sign-in/codes")
        .json(&json!({ "email": "ada@example.com" }));
    let response = request.send().await?;
    let header = |name: &str| response.headers()[name].to_str().map(str::to_owned);
    let wait_s: u64 = header("retry-after")?.parse()?;
    assert!((1..=60).contains(&wait_s), "{wait_s}");
    assert!(header("ratelimit")?.contains("r=0"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_once_and_for_five_attempts() -> Result<()> {
    let shop = Shop::open(&[OFTEN])?;
    let (client, ada) = (shop.client(), "ada@example.com");
    let answered = |email, code| until_answered(move || try_code(client, email, code));
    let code = loop {
        let code = shop.code(ada).await?;
        let at_once = try_join_all((0..3).map(|_| try_code(client, ada, &code))).await?;
        let good = at_once.iter().filter(|answer| answer.status == 200).count();
        // A store that stalls may have used the code up without anybody's being told.
        if good == 0 && at_once.iter().any(Answer::is_planned_503) {
            continue;
        }
        assert_eq!(good, 1, "{at_once:?}");
        break code;
    };
    assert_eq!(answered(ada, &code).await?.status, 401);

    let code = shop.code(ada).await?;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    assert_eq!(answered("bob@example.com", &code).await?.status, 401);
    for guess in try_join_all((0..5).map(|_| answered(ada, wrong))).await? {
        assert_eq!((guess.status, guess.problem()), (401, "unauthorized"));
    }
    assert_eq!(answered(ada, &code).await?.status, 401);

    let mut redis = shop.world.redis().await?;
    let code = shop.code(ada).await?;
    let keys: Vec<String> = redis.keys(shop.world.redis_name("sign-in:*:code")).await?;
    assert_eq!(keys.len(), 1, "{keys:?}");
    // A hash may contain "ada", and no letter beyond "f".
    assert!(!keys[0].contains("example"), "{keys:?}");
    let life_ms: i64 = redis.pttl(&keys[0]).await?;
    assert!((1..=300_000).contains(&life_ms), "{life_ms}");
    let () = redis.del(&keys[0]).await?;
    assert_eq!(answered(ada, &code).await?.status, 401, "expired");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_address_or_of_no_allowed_domain_is_told_so() -> Result<()> {
    let shop = Shop::open(&[("SIGN_IN_ALLOWED_DOMAINS", "uni.example, alumni.example")])?;
    for email in [
        "",
        "ada",
        "ada@example.com",
        "ada@uni.example\r\nBcc: eve@example.com",
        "ada@mail.uni.example",
    ] {
        let answer = ask_code(shop.client(), email).await?;
        assert_eq!((answer.status, answer.problem()), (400, "invalid-request"));
        assert_eq!(answer.body["errors"][0]["field"], "email", "{answer:?}");
    }
    shop.sign_in("ada@alumni.example").await?;
    let answer = try_code(shop.client(), "ada@uni.example", "12345").await?;
    assert_eq!(answer.body["errors"][0]["field"], "code", "{answer:?}");
    Ok(())
}

/// The same session, `seconds` later.
fn aged(client: &Client, token: &str, seconds: u64) -> Result<String> {
    let mut claims = insecure_decode::<Value>(token)?.claims;
    for claim in ["iat", "exp"] {
        let at = claims[claim].as_u64().context("a time")?;
        claims[claim] = json!(at - seconds);
    }
    client.sign(&claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_are_counted_across_processes_and_end_after_ten() -> Result<()> {
    let shop = Shop::open(&[("TOKEN_LIFE_SECONDS", "4000")])?;
    let second = shop.world.stack.start_ingress(&[])?;
    let clients = [shop.client().clone(), shop.world.client_of(&second)];
    let signed_in = shop.sign_in("ada@example.com").await?;
    let mut token = text(&signed_in, "token")?.to_owned();
    // Seconds that have passed of 4,000, and whether a request renews the token then.
    let steps = [
        (0, true),
        (900, false),
        (1_100, true),
        (1_900, false),
        (2_100, true),
    ];
    let late = [(3_000, true); 7];
    let end = [(3_000, false), (3_900, false)];
    let all = steps.into_iter().chain(late).chain(end);
    for (place, (seconds, renews)) in all.enumerate() {
        let old = aged(&clients[0], &token, seconds)?;
        let (status, renewed) = call(&clients[place % 2], &old).await?;
        assert_eq!(status, 200, "step {place}");
        assert_eq!(renewed.is_some(), renews, "step {place}");
        token = renewed.unwrap_or(token);
    }
    let expired = aged(&clients[0], &token, 4_001)?;
    assert_eq!(call(&clients[0], &expired).await?, (401, None));
    // A token that was signed elsewhere is valid, and is never renewed.
    let foreign = clients[0].token(7)?;
    assert_eq!(call(&clients[0], &foreign).await?, (200, None));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_is_out_everywhere_also_after_redis_and_a_process_are_lost() -> Result<()> {
    let shop = Shop::open(&[OFTEN])?;
    let mut second = shop.world.stack.start_ingress(&[])?;
    let (here, there) = (shop.client(), shop.world.client_of(&second));
    let first = text(&shop.sign_in("ada@example.com").await?, "token")?.to_owned();
    let other = text(&shop.sign_in("ada@example.com").await?, "token")?.to_owned();
    let (_, renewed) = call(&there, &first).await?;
    let renewed = renewed.context("the first request renews")?;
    let foreign = here.token(7)?;

    for token in [&renewed, &foreign] {
        assert_eq!(sign_out(here, token).await?.status, 204);
        assert_eq!(call(here, token).await?.0, 401);
        assert_eq!(sign_out(here, token).await?.status, 204, "once more");
    }
    let out_there = || async {
        let mut out = true;
        for token in [&first, &renewed, &foreign] {
            out &= call(&there, token).await?.0 == 401;
        }
        Ok(out)
    };
    eventually("the other instance knows", out_there).await?;
    assert_eq!(call(&there, &other).await?.0, 200, "another session");
    assert_eq!(sign_out(here, "x.y.z").await?.status, 401);

    let mut redis = shop.world.redis().await?;
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await?;
    second.restart(&[])?;
    assert_eq!(call(&there, &first).await?.0, 401, "a new process");
    assert_eq!(call(&there, &other).await?.0, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_token_stays_good_and_codes_wait() -> Result<()> {
    let mut shop = Shop::open(&[OFTEN])?;
    let signed_in = shop.sign_in("ada@example.com").await?;
    let code = shop.code("bob@example.com").await?;
    shop.world.stack.redis.kill()?;
    assert_eq!(
        call(shop.client(), text(&signed_in, "token")?).await?.0,
        200
    );
    for answer in [
        ask_code(shop.client(), "eve@example.com").await?,
        try_code(shop.client(), "bob@example.com", &code).await?,
    ] {
        assert_eq!((answer.status, answer.problem()), (503, "unavailable"));
    }
    shop.world.stack.redis.restart()?;
    eventually("a code is mailed again", || async {
        Ok(shop.code("eve@example.com").await.is_ok())
    })
    .await
}

/// A mail server that refuses unknown recipients and quotes them in its answer.
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
