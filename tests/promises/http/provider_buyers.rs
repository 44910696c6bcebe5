//! Buyers who sign in at an identity provider.

mod sessions;

use std::collections::HashMap;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use reqwest::Method;
use seckill_domain::VoucherId;
use seckill_testkit::TestStack;
use seckill_testkit::ports::free_port;
use seckill_tests::identity_provider::{Key, Provider, claims, url, wrong_tokens};
use seckill_tests::{Answer, Client, SaleTerms, World, eventually};
use serde_json::json;

pub(crate) const AUDIENCE: &str = "https://shop.example/api";
pub(crate) const KIM: &str = "auth0|5f7c8ec7c33c6c004bbafe82";
pub(crate) const LEE: &str = "Lee Ōkami / 李";

pub(crate) fn settings(issuer: &str) -> [(&str, &str); 2] {
    [("BUYER_ISSUER", issuer), ("BUYER_AUDIENCE", AUDIENCE)]
}

/// The token of a buyer who has just signed in at the provider.
pub(crate) fn token(key: &Key, issuer: &str, sub: &str) -> Result<String> {
    key.token(&claims(issuer, AUDIENCE, sub)?)
}

pub(crate) async fn ask(
    client: &Client,
    method: Method,
    path: &str,
    token: &str,
) -> Result<Answer> {
    let request = client.request(method, path).bearer_auth(token);
    client.send(request).await
}

pub(crate) async fn order(client: &Client, voucher: VoucherId, token: &str) -> Result<Answer> {
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    ask(client, Method::POST, &path, token).await
}

/// The status of a request for the buyer's own orders.
async fn look(client: &Client, token: &str) -> Result<u16> {
    let answer = ask(client, Method::GET, "/api/v1/orders", token).await?;
    Ok(answer.status)
}

fn id_of(order: &Answer) -> Result<String> {
    let id = order.order_id().with_context(|| format!("{order:?}"))?;
    Ok(id.to_owned())
}

/// The user id of each `sub`.
async fn users(world: &World) -> Result<HashMap<String, i64>> {
    let sql = "SELECT sub, user_id FROM provider_users";
    let rows: Vec<(String, i64)> = sqlx::query_as(sql)
        .fetch_all(&world.database().await?)
        .await?;
    Ok(rows.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_with_any_subject_buys_pays_and_sees_their_order_and_gets_no_second_one()
-> Result<()> {
    let (rsa, ec) = (Key::rsa("rsa")?, Key::ec("ec")?);
    let provider = Provider::start(0, &[&rsa, &ec])?;
    let world = World::with(&settings(provider.url()))?;
    let second = world.stack.start_ingress(&settings(provider.url()))?;
    let (here, there) = (&world.client, world.client_of(&second));
    let voucher = world.sale(SaleTerms::of(9)).await?;
    let (kim, again) = (
        token(&rsa, provider.url(), KIM)?,
        token(&ec, provider.url(), KIM)?,
    );
    let lee = token(&ec, provider.url(), LEE)?;

    let bought = order(here, voucher, &kim).await?;
    assert!(bought.is_reserved(), "{bought:?}");
    let order_id = id_of(&bought)?;
    let refused = order(&there, voucher, &again).await?;
    assert_eq!(
        (refused.status, refused.problem()),
        (409, "already-ordered")
    );
    assert_eq!(refused.order_id(), Some(&*order_id), "it is theirs");
    let own = format!("/api/v1/orders/{order_id}");
    let is = |status: &'static str| {
        let (here, own, kim) = (here, own.clone(), kim.clone());
        eventually(status, move || {
            let (own, kim) = (own.clone(), kim.clone());
            async move { Ok(ask(here, Method::GET, &own, &kim).await?.body["status"] == status) }
        })
    };
    is("unpaid").await?;
    assert_eq!(world.client.pay(&order_id, "p-1", 1_000).await?.status, 202);
    is("paid").await?;
    let list = ask(&there, Method::GET, "/api/v1/orders", &again).await?;
    assert_eq!(
        list.body["orders"].as_array().map(Vec::len),
        Some(1),
        "{list:?}"
    );

    assert_eq!(ask(&there, Method::GET, &own, &lee).await?.status, 404);
    assert!(order(&there, voucher, &lee).await?.is_reserved());
    // Tokens with the deployment's own key are still valid.
    assert!(world.client.order(voucher, 7, None, 1).await?.is_reserved());
    let users = users(&world).await?;
    assert_eq!(users.len(), 2, "{users:?}");
    assert_ne!(users[KIM], users[LEE]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_wrong_in_one_respect_buys_and_shows_nothing() -> Result<()> {
    let (rsa, ec) = (Key::rsa("rsa")?, Key::ec("ec")?);
    let provider = Provider::start(0, &[&rsa, &ec])?;
    let world = World::with(&settings(provider.url()))?;
    let voucher = world.sale(SaleTerms::of(9)).await?;
    let good = claims(provider.url(), AUDIENCE, KIM)?;
    for key in [&rsa, &ec] {
        assert_eq!(look(&world.client, &key.token(&good)?).await?, 200);
    }
    let forged = claims(provider.url(), AUDIENCE, LEE)?;
    let mut wrong = wrong_tokens(&good, &forged, &rsa, &ec)?;
    for (what, sub) in [
        ("of an empty subject", json!("")),
        ("of one that is too long", json!("x".repeat(256))),
        ("of one that PostgreSQL cannot keep", json!("a\0b")),
        ("of a number", json!(7)),
    ] {
        let mut claims = good.clone();
        claims["sub"] = sub;
        wrong.push((what, rsa.token(&claims)?));
    }
    for (what, token) in &wrong {
        for answer in [
            order(&world.client, voucher, token).await?,
            ask(&world.client, Method::GET, "/api/v1/orders", token).await?,
            ask(
                &world.client,
                Method::POST,
                "/api/v1/sign-out/everywhere",
                token,
            )
            .await?,
        ] {
            assert_eq!(
                (answer.status, answer.problem()),
                (401, "unauthorized"),
                "{what}"
            );
        }
    }
    assert_eq!(users(&world).await?.len(), 1, "nobody else became a user");
    // All units are there, and kim is not signed out.
    assert!(
        order(&world.client, voucher, &rsa.token(&good)?)
            .await?
            .is_reserved()
    );
    let ledger = world.quiet(voucher).await?;
    assert_eq!(ledger["unpaid"], 1, "{ledger}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_new_subjects_at_two_instances_at_once_are_a_hundred_users() -> Result<()> {
    let key = Key::ec("ec")?;
    let provider = Provider::start(0, &[&key])?;
    let world = World::with(&settings(provider.url()))?;
    let second = world.stack.start_ingress(&settings(provider.url()))?;
    let (here, there) = (&world.client, &world.client_of(&second));
    let voucher = world.sale(SaleTerms::of(200)).await?;
    let tokens = (0..100).map(|n| token(&key, provider.url(), &format!("buyer {n}")));
    let tokens: Vec<String> = tokens.collect::<Result<_>>()?;

    let at_once = tokens.iter().map(|token| async move {
        let (one, other) = tokio::join!(order(here, voucher, token), order(there, voucher, token));
        anyhow::Ok([one?, other?])
    });
    let answers = try_join_all(at_once).await?;
    for pair in &answers {
        let mut statuses = pair.each_ref().map(|answer| answer.status);
        statuses.sort_unstable();
        assert_eq!(statuses, [202, 409], "{pair:?}");
        assert_eq!(
            pair[0].order_id(),
            pair[1].order_id(),
            "one and the same order"
        );
    }
    world.quiet(voucher).await?;
    assert_eq!(users(&world).await?.len(), 100);
    let sql =
        "SELECT count(*), count(DISTINCT user_id) FROM orders JOIN provider_users USING (user_id)
                WHERE voucher_id = $1";
    let counted: (i64, i64) = sqlx::query_as(sql)
        .bind(voucher.get())
        .fetch_one(&world.database().await?)
        .await?;
    assert_eq!(counted, (100, 100));
    for (token, pair) in tokens.iter().zip(&answers) {
        let own = format!("/api/v1/orders/{}", id_of(&pair[0])?);
        for client in [here, there] {
            assert_eq!(ask(client, Method::GET, &own, token).await?.status, 200);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_token_is_no_buyers_and_a_buyers_is_no_operators() -> Result<()> {
    let key = Key::rsa("rsa")?;
    let provider = Provider::start(0, &[&key])?;
    let mut all = settings(provider.url()).to_vec();
    all.extend([
        ("ADMIN_ISSUER", provider.url()),
        ("ADMIN_AUDIENCE", "operators"),
    ]);
    let world = World::with(&all)?;
    let token = |audience: &str| {
        let mut claims = claims(provider.url(), audience, KIM)?;
        claims["roles"] = json!(["seckill-admin"]);
        key.token(&claims)
    };
    let sales = format!("{}/admin/v1/vouchers", world.client.admin_url);
    for (audience, buyer, operator) in [("operators", 401, 200), (AUDIENCE, 200, 401)] {
        let token = token(audience)?;
        assert_eq!(look(&world.client, &token).await?, buyer, "{audience}");
        let answer = reqwest::Client::new().get(&sales).bearer_auth(&token);
        assert_eq!(answer.send().await?.status(), operator, "{audience}");
    }
    let same = [
        settings(provider.url()).as_slice(),
        &[
            ("ADMIN_ISSUER", provider.url()),
            ("ADMIN_AUDIENCE", AUDIENCE),
        ],
    ]
    .concat();
    let refused = world
        .stack
        .start_ingress(&same)
        .err()
        .context("it started")?;
    assert!(
        format!("{refused:#}").contains("BUYER_AUDIENCE"),
        "{refused:#}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_keeps_out_nobody_whose_key_is_known() -> Result<()> {
    let (old, new, never) = (Key::rsa("old")?, Key::ec("new")?, Key::ec("never")?);
    let port = free_port()?;
    let issuer = url(port);
    // The ingress is ready without the provider, and buyers with the deployment's own tokens can order.
    let world = World::with(&settings(&issuer))?;
    let voucher = world.sale(SaleTerms::of(9)).await?;
    assert!(world.client.order(voucher, 7, None, 1).await?.is_reserved());
    let token = |key: &Key| token(key, &issuer, KIM);
    let client = &world.client;
    let away = order(client, voucher, &token(&old)?).await?;
    assert!(away.is_planned_503(), "{away:?}");
    let becomes = |what, key: &Key, status: u16| {
        let token = token(key);
        async move {
            let token = token?;
            eventually(what, || async { Ok(look(client, &token).await? == status) }).await
        }
    };
    let provider = Provider::start(port, &[&old])?;
    becomes("the provider is there", &old, 200).await?;
    let seen = token(&old)?;
    assert_eq!(look(client, &seen).await?, 200);
    provider.rotate(&[&old, &new]);
    becomes("its new key is known", &new, 200).await?;
    assert_eq!(look(client, &token(&never)?).await?, 401);

    drop(provider);
    becomes("it is away again", &never, 503).await?;
    for key in [&old, &new] {
        assert_eq!(look(client, &token(key)?).await?, 200);
    }
    assert!(order(client, voucher, &seen).await?.is_reserved());

    let provider = Provider::start(port, &[&new])?;
    eventually("the key that was taken back is forgotten", || async {
        // This token makes the ingress ask the provider. Tokens that it has already accepted do not.
        look(client, &token(&never)?).await?;
        Ok(look(client, &seen).await? == 401)
    })
    .await?;
    assert_eq!(look(client, &token(&new)?).await?, 200);
    drop(provider);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_token_speaks_for_a_buyer_of_the_provider() -> Result<()> {
    let key = Key::ec("ec")?;
    let provider = Provider::start(0, &[&key])?;
    let world = World::with(&settings(provider.url()))?;
    assert_eq!(
        look(&world.client, &token(&key, provider.url(), KIM)?).await?,
        200
    );
    let kim = u64::try_from(users(&world).await?[KIM])?;
    for (user, status) in [(kim, 401), (kim + (1 << 51), 200), (7, 200)] {
        assert_eq!(
            look(&world.client, &world.client.token(user)?).await?,
            status,
            "{user}"
        );
    }
    // A `sub` that looks like one of the deployment's user ids is still a user of the provider only.
    let seven = token(&key, provider.url(), "7")?;
    let voucher = world.sale(SaleTerms::of(9)).await?;
    assert!(world.client.order(voucher, 7, None, 1).await?.is_reserved());
    assert!(order(&world.client, voucher, &seven).await?.is_reserved());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgresql_is_away_buyers_who_are_known_order_with_whatever_token() -> Result<()> {
    let key = Key::rsa("rsa")?;
    let provider = Provider::start(0, &[&key])?;
    let stores = TestStack::builder().private_postgres();
    let mut world = World::over(stores, &settings(provider.url()))?;
    let voucher = world.sale(SaleTerms::of(9)).await?;
    assert_eq!(
        look(&world.client, &token(&key, provider.url(), KIM)?).await?,
        200
    );

    world
        .stack
        .postgres
        .as_mut()
        .context("its own server")?
        .kill()?;
    let mut renewed = claims(provider.url(), AUDIENCE, KIM)?;
    renewed["exp"] = json!(renewed["exp"].as_u64().context("exp")? + 1);
    let known = order(&world.client, voucher, &key.token(&renewed)?).await?;
    assert!(known.is_reserved(), "{known:?}");
    let lee = token(&key, provider.url(), LEE)?;
    let unknown = order(&world.client, voucher, &lee).await?;
    assert!(unknown.is_planned_503(), "{unknown:?}");

    world
        .stack
        .postgres
        .as_mut()
        .context("its own server")?
        .restart()?;
    eventually("who was not known orders", || async {
        Ok(order(&world.client, voucher, &lee).await?.is_reserved())
    })
    .await?;
    world.quiet(voucher).await?;
    Ok(())
}
