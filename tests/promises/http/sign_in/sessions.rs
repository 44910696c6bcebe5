//! All sessions of a user end together, when the user or an operator ends them, or when the user is blocked. Open
//! streams end with them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::{Method, Response};
use seckill_tests::{Client, EXECUTE, SaleTerms, World, eventually};
use serde_json::Value;

use super::{OFTEN, Shop};

/// Sessions are read again every second, and streams every five.
const SECONDS: Duration = Duration::from_secs(20);
const ADA: &str = "ada@example.com";

fn token(signed_in: &Value) -> Result<&str> {
    signed_in["token"].as_str().context("a token")
}

/// The status of a call that needs a token.
async fn status(client: &Client, method: Method, path: &str, token: &str) -> Result<u16> {
    let request = client.request(method, path).bearer_auth(token);
    Ok(client.send(request).await?.status)
}

async fn orders(client: &Client, token: &str) -> Result<u16> {
    status(client, Method::GET, "/api/v1/orders", token).await
}

/// A stream of an order that does not end by itself, after its first event.
async fn stream(client: &Client, order_id: &str, token: &str) -> Result<Response> {
    let path = format!("/api/v1/orders/{order_id}/events");
    let mut stream = client
        .request(Method::GET, &path)
        .bearer_auth(token)
        .send()
        .await?;
    ensure!(stream.status() == 200, "{stream:?}");
    stream.chunk().await?.context("a first event")?;
    Ok(stream)
}

async fn ends_in_time(mut stream: Response) -> Result<()> {
    let begun = Instant::now();
    while tokio::time::timeout(SECONDS, stream.chunk())
        .await??
        .is_some()
    {
        ensure!(begun.elapsed() < SECONDS, "the stream goes on");
    }
    Ok(())
}

async fn order(client: &Client, path: &str, token: &str) -> Result<String> {
    let request = client.request(Method::POST, path).bearer_auth(token);
    let order = client.send(request).await?;
    Ok(order
        .order_id()
        .with_context(|| format!("{order:?}"))?
        .to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_everywhere_is_out_on_every_device_and_instance_and_may_come_back()
-> Result<()> {
    let shop = Shop::open(&[OFTEN])?;
    let mut second = shop.world.stack.start_ingress(&[])?;
    let (here, there) = (&shop.world.client, shop.world.client_of(&second));
    let voucher = shop.world.sale(SaleTerms::of(2)).await?;
    let (phone, laptop) = (shop.sign_in(ADA).await?, shop.sign_in(ADA).await?);
    let bob = shop.sign_in("bob@example.com").await?;
    let (phone, laptop) = (token(&phone)?, token(&laptop)?);
    let foreign = here.token(user_of(phone)?)?;
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let followed = stream(&there, &order(here, &path, laptop).await?, laptop).await?;

    let everywhere = "/api/v1/sign-out/everywhere";
    assert_eq!(status(here, Method::POST, everywhere, phone).await?, 204);
    for token in [phone, laptop] {
        assert_eq!(orders(here, token).await?, 401, "here at once");
    }
    assert_eq!(
        status(here, Method::POST, everywhere, phone).await?,
        401,
        "a thief's token, too"
    );
    let again = shop.sign_in(ADA).await?;
    assert_eq!(orders(here, token(&again)?).await?, 200);
    eventually("the other instance knows", || async {
        Ok(orders(&there, phone).await? == 401 && orders(&there, laptop).await? == 401)
    })
    .await?;
    ends_in_time(followed).await?;
    assert_eq!(
        orders(&there, &foreign).await?,
        401,
        "a token from elsewhere"
    );
    assert_eq!(orders(&there, token(&again)?).await?, 200, "a new session");
    assert_eq!(orders(&there, token(&bob)?).await?, 200, "somebody else");

    let mut redis = shop.world.redis().await?;
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await?;
    second.restart(&[])?;
    assert_eq!(orders(&there, laptop).await?, 401, "a new process");
    assert_eq!(orders(&there, token(&again)?).await?, 200);
    Ok(())
}

fn user_of(token: &str) -> Result<u64> {
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(token)?.claims;
    Ok(claims["sub"].as_str().context("a user")?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_all_sessions_of_a_user_and_that_is_on_record() -> Result<()> {
    let world = World::start()?;
    let (theirs, others) = (world.client.token(7)?, world.client.token(8)?);
    let plan = world.seckillctl(&["session", "end", "--user", "7"])?;
    assert!(plan.contains("--execute does it"), "{plan}");
    assert_eq!(orders(&world.client, &theirs).await?, 200);
    world.execute(&["session", "end", "--user", "7"])?;
    eventually("the sessions are over", || async {
        Ok(orders(&world.client, &theirs).await? == 401)
    })
    .await?;
    assert_eq!(orders(&world.client, &others).await?, 200);
    let rows: Vec<(String, String, String)> =
        sqlx::query_as("SELECT actor, command, reason FROM ops_audit ORDER BY id")
            .fetch_all(&world.database().await?)
            .await?;
    let [(actor, command, reason)] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert!(command.starts_with("session end --user 7"), "{command}");
    assert_eq!([reason.as_str(), actor.as_str()], [EXECUTE[3], EXECUTE[5]]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_has_no_session_and_no_stream_left_within_seconds() -> Result<()> {
    let shop = Shop::open(&[OFTEN])?;
    let client = &shop.world.client;
    let voucher = shop.world.sale(SaleTerms::of(2)).await?;
    let signed_in = shop.sign_in(ADA).await?;
    let (ada, user) = (token(&signed_in)?, signed_in["user_id"].to_string());
    let bob = shop.sign_in("bob@example.com").await?;
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let order_id = order(client, &path, ada).await?;
    let followed = stream(client, &order_id, ada).await?;
    let bobs = order(client, &path, token(&bob)?).await?;
    let mut bobs = stream(client, &bobs, token(&bob)?).await?;
    shop.world.execute(&["risk", "block", "--user", &user])?;
    eventually("the rule holds", || async {
        Ok(orders(client, ada).await? == 403)
    })
    .await?;
    ends_in_time(followed).await?;
    let own = format!("/api/v1/orders/{order_id}");
    for (method, path) in [
        (Method::GET, own.clone()),
        (Method::GET, format!("{own}/events")),
        (Method::POST, format!("{own}/cancel")),
        (
            Method::GET,
            format!("/api/v1/vouchers/{voucher}/sale-token"),
        ),
        (Method::POST, path.clone()),
    ] {
        assert_eq!(status(client, method, &path, ada).await?, 403, "{path}");
    }
    let refused = shop
        .sign_in(ADA)
        .await
        .err()
        .context("a blocked user signed in")?;
    assert!(refused.to_string().contains("user-blocked"), "{refused:#}");
    assert_eq!(orders(client, token(&bob)?).await?, 200);
    let next = tokio::time::timeout(SECONDS, bobs.chunk()).await??;
    assert!(next.is_some(), "somebody else's stream goes on");

    shop.world.execute(&["risk", "unblock", "--user", &user])?;
    eventually("the rule is gone", || async {
        Ok(orders(client, ada).await? == 200)
    })
    .await
}
