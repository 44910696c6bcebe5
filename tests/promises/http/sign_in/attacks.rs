//! Attackers who flood the sign-in, guess codes or use a victim's address affect only themselves. Others sign in as
//! before.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use reqwest::Method;
use seckill_testkit::TestStack;
use seckill_tests::{Client, World, eventually};
use serde_json::json;

use super::{OFTEN, Shop};

/// With this setting, requests can name the address of their client.
const BEHIND_A_PROXY: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.1");
const UNLIMITED: (&str, &str) = ("SIGN_IN_CLIENT_PER_MINUTE", "0");
const ADA: &str = "ada@example.com";

/// A browser: an address and a cookie.
struct Visitor<'a> {
    client: &'a Client,
    from: String,
    cookie: Option<String>,
}

/// The status, the name of a problem, and `Retry-After`.
type Told = (u16, String, Option<u64>);

impl<'a> Visitor<'a> {
    fn new(client: &'a Client, from: &str) -> Self {
        Self {
            client,
            from: from.to_owned(),
            cookie: None,
        }
    }

    async fn post(&mut self, path: &str, body: serde_json::Value) -> Result<Told> {
        let mut request = self.client.request(Method::POST, path).json(&body);
        request = request.header("x-forwarded-for", &self.from);
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let response = request.send().await?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        if let Some(cookie) = header("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        let wait = header("retry-after").map(|wait| wait.parse()).transpose()?;
        let status = response.status().as_u16();
        let body: serde_json::Value = response.json().await.unwrap_or_default();
        let problem = body["type"].as_str().unwrap_or_default();
        let problem = problem.rsplit('/').next().unwrap_or_default();
        Ok((status, problem.to_owned(), wait))
    }

    async fn ask(&mut self, email: &str) -> Result<Told> {
        let body = json!({ "email": email });
        self.post("/api/v1/sign-in/codes", body).await
    }

    async fn attempt(&mut self, email: &str, code: &str) -> Result<Told> {
        let body = json!({ "email": email, "code": code });
        self.post("/api/v1/sign-in", body).await
    }

    /// Asks for a code, and reads it from the mail.
    async fn code(&mut self, shop: &Shop, email: &str) -> Result<String> {
        let before = shop.mail.mails_to(email)?.len();
        let told = self.ask(email).await?;
        ensure!(told.0 == 204, "{told:?}");
        eventually("the mail is there", || async {
            Ok(shop.mail.mails_to(email)?.len() > before)
        })
        .await?;
        let mails = shop.mail.mails_to(email)?;
        let mail = mails.last().context("a mail")?;
        let code = mail.number(6).or_else(|| mail.number(10));
        Ok(code.context("a mail without a code")?.to_owned())
    }
}

/// A wrong code of the same length.
fn wrong(code: &str) -> String {
    let digit = if code.starts_with('0') { '1' } else { '0' };
    format!("{digit}{}", &code[1..])
}

/// Sends many requests at once, each for another mail address, and each from another IP address of the same /64.
async fn flood(client: &Client, requests: usize) -> Result<Vec<Told>> {
    let asked = (0..requests).map(|n| async move {
        let mut bot = Visitor::new(client, &format!("2001:db8:0:1::{n:x}"));
        bot.ask(&format!("victim{n}@example.com")).await
    });
    join_all(asked).await.into_iter().collect()
}

/// The number of requests that a client may have made since then: sixty, and one more for each second.
fn a_minutes(since: Instant) -> Result<RangeInclusive<usize>> {
    Ok(60..=61 + usize::try_from(since.elapsed().as_secs())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_has_sixty_codes_a_minute_also_from_all_addresses_of_its_network() -> Result<()>
{
    let shop = Shop::open(&[BEHIND_A_PROXY])?;
    let second = shop.world.stack.start_ingress(&[BEHIND_A_PROXY])?;
    let there = shop.world.client_of(&second);
    let began = Instant::now();
    let told = [
        flood(&shop.world.client, 600).await?,
        flood(&there, 600).await?,
    ]
    .concat();
    for (status, problem, wait) in told.iter().filter(|told| told.0 != 204) {
        assert_eq!((*status, problem.as_str()), (429, "rate-limited"));
        assert!(
            wait.is_some_and(|wait| (1..=60).contains(&wait)),
            "{wait:?}"
        );
    }
    let sent = told.iter().filter(|told| told.0 == 204).count();
    let a_minutes = a_minutes(began)?;
    assert!(a_minutes.contains(&sent), "{sent}: not in {a_minutes:?}");
    for (client, from) in [
        (&shop.world.client, "203.0.113.1"),
        (&there, "2001:db8:0:2::1"),
    ] {
        let mut buyer = Visitor::new(client, from);
        let email = format!("buyer{}@example.com", from.len());
        let code = buyer.code(&shop, &email).await?;
        assert_eq!(buyer.attempt(&email, &code).await?.0, 200);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_fills_the_queue_of_mails_does_not_keep_others_out() -> Result<()> {
    // A mail server that accepts connections and never answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("smtp://{}", silent.local_addr()?);
    let settings = [("SMTP_URL", url.as_str()), BEHIND_A_PROXY, UNLIMITED];
    let world = World::over(TestStack::builder(), &settings)?;
    let told = flood(&world.client, 1_200).await?;
    let full = told.iter().filter(|told| told.0 == 503).count();
    assert!(full > 100, "{full}: the queue was not filled");
    for n in 1..=20 {
        let mut buyer = Visitor::new(&world.client, &format!("203.0.113.{n}"));
        let told = buyer.ask(&format!("buyer{n}@example.com")).await?;
        assert_eq!(told.0, 204, "{told:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_burn_only_their_own_attempts_and_replace_nobodys_code() -> Result<()> {
    let shop = Shop::open(&[BEHIND_A_PROXY, OFTEN])?;
    let client = &shop.world.client;
    let mut ada = Visitor::new(client, "203.0.113.1");
    let code = ada.code(&shop, ADA).await?;
    let mut stranger = Visitor::new(client, "203.0.113.2");
    for round in 0..2 {
        for _ in 0..6 {
            let told = stranger.attempt(ADA, &wrong(&code)).await?;
            assert_eq!((told.0, told.1.as_str()), (401, "unauthorized"), "{round}");
        }
        // The stranger has another challenge and a newer code.
        stranger.code(&shop, ADA).await?;
    }
    let told = stranger.attempt(ADA, &code).await?;
    assert_eq!(told.0, 401, "the right code with another's challenge");
    assert_eq!(ada.attempt(ADA, &wrong(&code)).await?.0, 401);
    assert_eq!(ada.attempt(ADA, &code).await?.0, 200);
    assert_eq!(ada.attempt(ADA, &code).await?.0, 401, "it is used up");

    // A client that sends no cookie back can sign in, unless a stranger has asked for a newer code.
    let code = ada.code(&shop, ADA).await?;
    ada.cookie = None;
    assert_eq!(ada.attempt(ADA, &wrong(&code)).await?.0, 401);
    assert_eq!(ada.attempt(ADA, &code).await?.0, 200);
    let code = ada.code(&shop, ADA).await?;
    for _ in 0..5 {
        assert_eq!(ada.attempt(ADA, &wrong(&code)).await?.0, 401);
    }
    // Another device has none of these cookies, so its attempts are counted separately.
    let mut phone = Visitor::new(client, "203.0.113.3");
    assert_eq!(phone.attempt(ADA, &code).await?.0, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_does_not_block_an_address_and_an_alias_is_no_other_address() -> Result<()> {
    let shop = Shop::open(&[BEHIND_A_PROXY])?;
    let client = &shop.world.client;
    let mut stranger = Visitor::new(client, "203.0.113.2");
    stranger.code(&shop, ADA).await?;
    for alias in [
        ADA,
        "ADA@example.com",
        "ada+1@example.com",
        "ada+2+3@example.com",
    ] {
        assert_eq!(stranger.ask(alias).await?.0, 429, "{alias}");
    }
    let mut ada = Visitor::new(client, "203.0.113.1");
    let code = ada.code(&shop, ADA).await?;
    assert_eq!(ada.attempt(ADA, &code).await?.0, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_has_sixty_attempts_a_minute_whatever_addresses_it_tries() -> Result<()> {
    let shop = Shop::open(&[BEHIND_A_PROXY])?;
    let client = &shop.world.client;
    let began = Instant::now();
    let guesses = (0..200).map(|n| async move {
        let mut bot = Visitor::new(client, "203.0.113.2");
        bot.attempt(&format!("victim{n}@example.com"), "123456")
            .await
    });
    let told: Vec<Told> = join_all(guesses).await.into_iter().collect::<Result<_>>()?;
    let limited = told.iter().filter(|told| told.1 == "rate-limited").count();
    let refused = told.iter().filter(|told| told.0 == 401).count();
    assert_eq!(limited + refused, 200, "{told:?}");
    let a_minutes = a_minutes(began)?;
    assert!(
        a_minutes.contains(&refused),
        "{refused}: not in {a_minutes:?}"
    );
    let mut ada = Visitor::new(client, "203.0.113.1");
    let code = ada.code(&shop, ADA).await?;
    assert_eq!(ada.attempt(ADA, &code).await?.0, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_guessed_at_gets_codes_that_cannot_be_guessed() -> Result<()> {
    let shop = Shop::open(&[BEHIND_A_PROXY, OFTEN])?;
    let client = &shop.world.client;
    for n in 0..4 {
        let mut bot = Visitor::new(client, &format!("203.0.113.{n}"));
        let code = bot.code(&shop, ADA).await?;
        assert_eq!(code.len(), 6, "round {n}");
        for _ in 0..5 {
            assert_eq!(bot.attempt(ADA, &wrong(&code)).await?.0, 401);
        }
    }
    let mut ada = Visitor::new(client, "198.51.100.1");
    let code = ada.code(&shop, ADA).await?;
    assert_eq!(code.len(), 10);
    assert_eq!(ada.attempt(ADA, &wrong(&code)).await?.0, 401);
    assert_eq!(ada.attempt(ADA, &code).await?.0, 200);
    assert_eq!(ada.code(&shop, "bob@example.com").await?.len(), 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_one_buyer_where_that_is_wanted() -> Result<()> {
    for (wanted, is_one) in [("true", true), ("false", false)] {
        let shop = Shop::open(&[("SIGN_IN_MAILBOX_IS_ONE_USER", wanted), OFTEN])?;
        let first = shop.sign_in("a.da+1@gmail.com").await?;
        let second = shop.sign_in("ada+2@googlemail.com").await?;
        assert_eq!(first["user_id"] == second["user_id"], is_one, "{wanted}");
        let other = shop.sign_in("bob@gmail.com").await?;
        assert_ne!(first["user_id"], other["user_id"]);
    }
    Ok(())
}
