//! Operators who sign in at an identity provider.

use std::time::Instant;

use anyhow::{Context, Result};
use reqwest::StatusCode;
use seckill_testkit::ports::free_port;
use seckill_tests::identity_provider::{self, Key, Provider, url, wrong_tokens};
use seckill_tests::{SaleTerms, World, eventually, series};
use serde_json::{Value, json};

const AUDIENCE: &str = "the shop's operators";

const VIEWER: &[&str] = &["offline_access", "seckill-viewer"];

fn claims(issuer: &str, roles: &[&str]) -> Result<Value> {
    let mut claims = identity_provider::claims(issuer, AUDIENCE, "f00|7")?;
    claims["preferred_username"] = json!("kim");
    claims["realm_access"] = json!({ "roles": roles });
    Ok(claims)
}

fn world(issuer: &str) -> Result<World> {
    World::with(&[
        ("ADMIN_ISSUER", issuer),
        ("ADMIN_AUDIENCE", AUDIENCE),
        ("ADMIN_ROLES_CLAIM", "realm_access.roles"),
    ])
}

/// Status and problem of a request for the list of sales.
async fn look(world: &World, token: &str) -> Result<(StatusCode, String)> {
    let asked = reqwest::Client::new()
        .get(format!("{}/admin/v1/vouchers", world.client.admin_url))
        .bearer_auth(token);
    let answer = asked.send().await?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    let kind = body["type"].as_str().unwrap_or_default();
    let name = kind.rsplit('/').next().unwrap_or_default();
    Ok((status, name.to_owned()))
}

/// For how long the ingress has missed the provider of operators, or of buyers.
fn away_seconds(world: &World, who: &str) -> Result<f64> {
    let away = format!(r#"seckill_identity_provider_away_seconds{{who="{who}"}}"#);
    series(&world.ingress, &away)?.with_context(|| format!("no {away}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_provider_names_may_what_their_role_says_and_stands_in_the_audit() -> Result<()> {
    let (rsa, ec) = (Key::rsa("rsa")?, Key::ec("ec")?);
    let provider = Provider::start(0, &[&rsa, &ec])?;
    let world = world(provider.url())?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    world.until_carried_out().await?;
    let stock = format!(
        "{}/admin/v1/vouchers/{voucher}/stock",
        world.client.admin_url
    );
    for (key, roles, read, act) in [
        (&rsa, &["seckill-viewer"][..], 200, 403),
        (&ec, &["seckill-operator"], 200, 202),
        (&rsa, &["seckill-admin", "seckill-viewer"], 200, 202),
        // A role of the provider itself.
        (&ec, &["admin"], 403, 403),
        (&rsa, &[], 403, 403),
    ] {
        let token = key.token(&claims(provider.url(), roles)?)?;
        let (status, problem) = look(&world, &token).await?;
        assert_eq!(status, read, "{roles:?}");
        assert_eq!(problem == "forbidden", read == 403, "{problem}");
        let changed = reqwest::Client::new()
            .post(&stock)
            .bearer_auth(&token)
            .json(&json!({ "delta": 1, "reason": "count" }))
            .send()
            .await?;
        assert_eq!(changed.status(), act, "{roles:?}");
    }
    let sql = "SELECT actor FROM ops_audit WHERE command LIKE '%/stock %' ORDER BY id";
    let actors: Vec<String> = sqlx::query_scalar(sql)
        .fetch_all(&world.database().await?)
        .await?;
    assert_eq!(actors, ["kim (f00|7)", "kim (f00|7)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_wrong_in_one_respect_is_nobodys() -> Result<()> {
    let (rsa, ec) = (Key::rsa("rsa")?, Key::ec("ec")?);
    let provider = Provider::start(0, &[&rsa, &ec])?;
    let world = world(provider.url())?;
    for key in [&rsa, &ec] {
        let good = key.token(&claims(provider.url(), VIEWER)?)?;
        assert_eq!(look(&world, &good).await?.0, StatusCode::OK);
    }
    let (good, forged) = (
        claims(provider.url(), VIEWER)?,
        claims(provider.url(), &["seckill-admin"])?,
    );
    for (what, token) in wrong_tokens(&good, &forged, &rsa, &ec)? {
        let (status, problem) = look(&world, &token).await?;
        assert_eq!(
            (status.as_u16(), &*problem),
            (401, "unauthorized"),
            "{what}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_locks_out_nobody_whose_key_is_known() -> Result<()> {
    let (old, new, never) = (Key::rsa("old")?, Key::ec("new")?, Key::ec("never")?);
    let port = free_port()?;
    let issuer = url(port);
    // The ingress is ready without the provider.
    let world = world(&issuer)?;
    let token = |key: &Key| key.token(&claims(&issuer, VIEWER)?);
    let known = world.stack.setting("ADMIN_TOKEN").to_owned();
    assert_eq!(look(&world, &known).await?.0, StatusCode::OK);
    let away = look(&world, &token(&old)?).await?;
    assert_eq!((away.0.as_u16(), &*away.1), (503, "unavailable"));

    let provider = Provider::start(port, &[&old])?;
    let becomes = |what, key: &Key, status: StatusCode| {
        let (world, token) = (&world, token(key));
        async move {
            let token = token?;
            eventually(what, || async {
                Ok(look(world, &token).await?.0 == status)
            })
            .await
        }
    };
    becomes("the provider is there", &old, StatusCode::OK).await?;
    provider.rotate(&[&old, &new]);
    becomes("its new key is known", &new, StatusCode::OK).await?;

    let (asked, began) = (provider.asked(), Instant::now());
    for _ in 0..50 {
        let unknown = look(&world, &token(&never)?).await?.0;
        assert_eq!(unknown, StatusCode::UNAUTHORIZED);
    }
    let spans = usize::try_from(began.elapsed().as_secs() / 5)? + 1;
    let again = provider.asked() - asked;
    assert!(again <= spans, "{again} in {:?}", began.elapsed());

    drop(provider);
    becomes("it is away again", &never, StatusCode::SERVICE_UNAVAILABLE).await?;
    for key in [&old, &new] {
        assert_eq!(look(&world, &token(key)?).await?.0, StatusCode::OK);
    }

    let provider = Provider::start(port, &[&new])?;
    eventually("the key that was taken back is forgotten", || async {
        // This token makes the ingress ask the provider.
        look(&world, &token(&never)?).await?;
        Ok(look(&world, &token(&old)?).await?.0 == StatusCode::UNAUTHORIZED)
    })
    .await?;
    assert_eq!(look(&world, &token(&new)?).await?.0, StatusCode::OK);
    drop(provider);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_says_for_how_long_whose_provider_is_away_and_is_0_when_it_is_back() -> Result<()>
{
    let (key, never) = (Key::ec("ec")?, Key::ec("never")?);
    let port = free_port()?;
    let buyers = Provider::start(0, &[&key])?;
    let world = World::with(&[
        ("ADMIN_ISSUER", &url(port)),
        ("ADMIN_AUDIENCE", AUDIENCE),
        ("ADMIN_ROLES_CLAIM", "realm_access.roles"),
        ("BUYER_ISSUER", buyers.url()),
        ("BUYER_AUDIENCE", "the shop"),
    ])?;
    let token = |key: &Key| key.token(&claims(&url(port), VIEWER)?);
    // Longer than from one question to the next: it grows.
    let grows = || {
        eventually("it is away", || async {
            // Makes the ingress ask.
            look(&world, &token(&never)?).await?;
            Ok(away_seconds(&world, "operators")? > 5.0)
        })
    };
    let ends = || {
        eventually("it is back", || async {
            Ok(away_seconds(&world, "operators")? <= 0.0)
        })
    };
    // At the start, and again.
    for _ in 0..2 {
        grows().await?;
        let provider = Provider::start(port, &[&key])?;
        ends().await?;
        assert_eq!(look(&world, &token(&key)?).await?.0, StatusCode::OK);
        drop(provider);
    }
    assert!(buyers.asked() > 0, "theirs was asked");
    assert!(away_seconds(&world, "buyers")? <= 0.0, "and is there");
    Ok(())
}
