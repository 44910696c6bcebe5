//! The sign-out of buyers who sign in at an identity provider.

use anyhow::{Context, Result};
use reqwest::Method;
use seckill_tests::identity_provider::{Key, Provider, claims};
use seckill_tests::{Client, World, eventually};
use serde_json::{Value, json};

use super::{AUDIENCE, KIM, LEE, ask, look, settings, users};

/// A time in the past, so that it is certain which of two events was first.
const AGO: u64 = 60;

/// Makes tokens of sessions at the provider that were made and begun a given time ago, or in the future if that is
/// negative.
struct Tokens<'a> {
    key: &'a Key,
    issuer: &'a str,
}

impl Tokens<'_> {
    fn token(&self, sub: &str, change: impl FnOnce(&mut Value, u64)) -> Result<String> {
        let mut claims = claims(self.issuer, AUDIENCE, sub)?;
        let now = claims["iat"].as_u64().context("iat")?;
        change(&mut claims, now);
        self.key.token(&claims)
    }
}

async fn out(client: &Client, path: &str, token: &str) -> Result<()> {
    let answer = ask(client, Method::POST, path, token).await?;
    assert_eq!(answer.status, 204, "{answer:?}");
    Ok(())
}

async fn is_out(client: &Client, token: &str) -> Result<()> {
    eventually("the session is over", || async {
        Ok(look(client, token).await? == 401)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_ends_the_providers_session_and_without_one_the_token_on_every_instance()
-> Result<()> {
    let key = Key::ec("ec")?;
    let provider = Provider::start(0, &[&key])?;
    let world = World::with(&settings(provider.url()))?;
    let mut second = world.stack.start_ingress(&settings(provider.url()))?;
    let (here, there) = (&world.client, world.client_of(&second));
    let tokens = Tokens {
        key: &key,
        issuer: provider.url(),
    };
    let of = |sid: &'static str, since: u64| {
        tokens.token(KIM, move |claims, now| {
            claims["sid"] = json!(sid);
            claims["iat"] = json!(now - since);
        })
    };
    let alone =
        |since: u64| tokens.token(KIM, move |claims, now| claims["iat"] = json!(now - since));
    let (first, refreshed, other) = (of("s-1", AGO)?, of("s-1", 0)?, of("s-2", AGO)?);
    let (one, another) = (alone(AGO)?, alone(AGO + 1)?);
    for token in [&first, &refreshed, &other, &one, &another] {
        for client in [here, &there] {
            assert_eq!(look(client, token).await?, 200);
        }
    }
    for token in [&first, &one] {
        out(here, "/api/v1/sign-out", token).await?;
        out(here, "/api/v1/sign-out", token).await?;
    }
    for token in [&first, &refreshed, &one] {
        assert_eq!(look(here, token).await?, 401, "here at once");
        is_out(&there, token).await?;
    }
    second.restart(&[])?;
    assert_eq!(
        look(&there, &of("s-1", 1)?).await?,
        401,
        "what the provider makes of it later, too"
    );
    for token in [&other, &another] {
        for client in [here, &there] {
            assert_eq!(look(client, token).await?, 200, "another one");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_everywhere_ends_what_the_provider_goes_on_with_and_not_a_new_sign_in()
-> Result<()> {
    let key = Key::rsa("rsa")?;
    let provider = Provider::start(0, &[&key])?;
    let world = World::with(&settings(provider.url()))?;
    let client = &world.client;
    let tokens = Tokens {
        key: &key,
        issuer: provider.url(),
    };
    // A later token of a session still has the beginning of that session. The provider's clock may be slightly fast.
    let refreshed = |sub: &str| {
        tokens.token(sub, |claims, now| {
            claims["auth_time"] = json!(now - AGO);
            claims["iat"] = json!(now + AGO);
        })
    };
    let signed_in_again =
        |sub: &str| tokens.token(sub, |claims, now| claims["auth_time"] = json!(now + AGO));
    let plain = |sub: &str| tokens.token(sub, |_, _| {});
    for sub in [KIM, LEE] {
        assert_eq!(look(client, &plain(sub)?).await?, 200);
    }
    out(client, "/api/v1/sign-out/everywhere", &plain(KIM)?).await?;
    let lee = users(&world).await?[LEE].to_string();
    assert_eq!(look(client, &plain(LEE)?).await?, 200);
    world.execute(&["session", "end", "--user", &lee])?;
    is_out(client, &refreshed(LEE)?).await?;
    for sub in [KIM, LEE] {
        assert_eq!(look(client, &refreshed(sub)?).await?, 401, "{sub}");
        assert_eq!(look(client, &signed_in_again(sub)?).await?, 200, "{sub}");
    }
    Ok(())
}
