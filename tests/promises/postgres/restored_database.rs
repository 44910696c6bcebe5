//! PostgreSQL is restored without its last transactions. The log is folded again, also if no new record arrives.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use seckill_domain::VoucherId;
use seckill_tests::identity_provider::{Key, Provider};
use seckill_tests::{Answer, SaleTerms, World, arm, await_stop, check_consistency, eventually};
use serde_json::Value;
use sqlx::PgPool;

use crate::http::provider_buyers::{KIM, LEE, ask, order, settings, token};
use crate::http::sign_in::{OFTEN, Shop};

const TABLES: [&str; 10] = [
    "users",
    "provider_users",
    "voucher_ids",
    "sale_requests",
    "vouchers",
    "orders",
    "refunds",
    "stock_adjustments",
    "sale_reloads",
    "view_positions",
];

/// A table's columns, without those that PostgreSQL computes.
async fn columns(pool: &PgPool, table: &str) -> Result<String> {
    let columns = sqlx::query_scalar(
        "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
          WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER'",
    );
    Ok(columns.bind(table).fetch_one(pool).await?)
}

async fn back_up(pool: &PgPool) -> Result<()> {
    let mut transaction = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await?;
    sqlx::query("CREATE SCHEMA backup")
        .execute(&mut *transaction)
        .await?;
    for table in TABLES {
        let copy = format!("CREATE TABLE backup.{table} AS TABLE public.{table}");
        sqlx::query(&copy).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn restore(pool: &PgPool) -> Result<()> {
    let mut transaction = pool.begin().await?;
    let truncate = format!("TRUNCATE {}", TABLES.join(", "));
    sqlx::query(&truncate).execute(&mut *transaction).await?;
    for table in TABLES {
        let columns = columns(pool, table).await?;
        let fill = format!(
            "INSERT INTO public.{table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM backup.{table}"
        );
        sqlx::query(&fill).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_is_noticed_without_a_new_record() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    let mut answers = world.client.orders(voucher, 1..6).await;
    world.until_carried_out().await?;
    let pool = world.database().await?;
    back_up(&pool).await?;
    answers.extend(world.client.orders(voucher, 6..11).await);
    world.quiet(voucher).await?;
    world.until_carried_out().await?;

    restore(&pool).await?;
    let restored_at = Instant::now();
    eventually("all orders are back", || async {
        let count = sqlx::query_scalar("SELECT count(*) FROM orders");
        let count: i64 = count.fetch_one(&pool).await?;
        Ok(count == 10)
    })
    .await?;
    world.until_carried_out().await?;
    world.quiet(voucher).await?;
    let recovered_ms = restored_at.elapsed().as_millis();
    assert_eq!(
        check_consistency(&world, voucher, &answers).await?.unpaid,
        10
    );
    println!("case PostgreSQL restored from a backup: orders=10 recovered_ms={recovered_ms}");
    Ok(())
}

/// Signs in and orders. Returns the user and the order id.
async fn buy(shop: &Shop, email: &str, voucher: VoucherId) -> Result<(Value, String)> {
    let session = shop.sign_in(email).await?;
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let order = with_token(shop, &session, Method::POST, &path).await?;
    ensure!(order.is_reserved(), "{order:?}");
    let id = order.order_id().context("an order id")?.to_owned();
    Ok((session, id))
}

async fn with_token(shop: &Shop, session: &Value, method: Method, path: &str) -> Result<Answer> {
    let client = &shop.world.client;
    let token = session["token"].as_str().context("a token")?;
    let request = client.request(method, path).bearer_auth(token);
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_nobody_gets_an_id_that_somebody_else_had() -> Result<()> {
    let mut shop = Shop::open(&[OFTEN])?;
    let early = shop.world.sale(SaleTerms::of(20)).await?;
    let (ada, _) = buy(&shop, "ada@example.com", early).await?;
    shop.world.until_carried_out().await?;
    let pool = shop.world.database().await?;
    back_up(&pool).await?;
    let late = shop.world.sale(SaleTerms::of(20)).await?;
    let (bob, bobs_order) = buy(&shop, "bob@example.com", late).await?;
    let bobs_order = format!("/api/v1/orders/{bobs_order}");
    shop.world.quiet(late).await?;
    shop.world.until_carried_out().await?;

    // The projector is stopped, so that the lost sale is certainly not folded again yet.
    shop.world.projector.pause()?;
    restore(&pool).await?;
    let (sales, terms) = ("/admin/v1/vouchers", SaleTerms::of(20).body()?);
    let refused = shop.world.client.admin_post(sales, &terms).await?;
    assert!(refused.is_planned_503(), "{refused:?}");
    let carol = shop.sign_in("carol@example.com").await?;
    assert!(carol["user_id"] != bob["user_id"] && carol["user_id"] != ada["user_id"]);

    shop.world.projector.resume()?;
    // It is refused until the fold has caught up.
    let next = shop.world.sale(SaleTerms::of(20)).await?;
    assert!(next != early && next != late, "{next}");
    shop.world.quiet(late).await?;
    let bob_again = shop.sign_in("bob@example.com").await?;
    assert_eq!(bob_again["user_id"], bob["user_id"]);
    for (who, status) in [(&carol, 404), (&bob_again, 200), (&bob, 200)] {
        let found = with_token(&shop, who, Method::GET, &bobs_order).await?;
        assert_eq!(found.status, status, "{who}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_a_providers_buyers_are_who_they_were() -> Result<()> {
    let key = Key::ec("ec")?;
    let provider = Provider::start(0, &[&key])?;
    let world = World::with(&settings(provider.url()))?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    let [kim, lee, mia] = [KIM, LEE, "mia"].map(|sub| token(&key, provider.url(), sub));
    let (kim, lee, mia) = (kim?, lee?, mia?);
    let buys = async |token: &str| {
        let bought = order(&world.client, voucher, token).await?;
        ensure!(bought.is_reserved(), "{bought:?}");
        let id = bought.order_id().context("an order id")?;
        anyhow::Ok(format!("/api/v1/orders/{id}"))
    };
    let kims = buys(&kim).await?;
    world.until_carried_out().await?;
    let pool = world.database().await?;
    back_up(&pool).await?;
    let lees = buys(&lee).await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;

    restore(&pool).await?;
    // An ingress with an empty cache. The first buyer gets a new user id.
    let second = world.stack.start_ingress(&settings(provider.url()))?;
    let there = world.client_of(&second);
    assert!(order(&there, voucher, &mia).await?.is_reserved());
    world.quiet(voucher).await?;
    for (own, whose) in [(&kims, &kim), (&lees, &lee)] {
        for token in [&kim, &lee, &mia] {
            let status = if token == whose { 200 } else { 404 };
            for client in [&world.client, &there] {
                let found = ask(client, Method::GET, own, token).await?;
                assert_eq!(found.status, status, "{found:?}");
            }
        }
        let again = order(&there, voucher, whose).await?;
        assert_eq!(again.problem(), "already-ordered", "{again:?}");
    }
    Ok(())
}

/// Long enough to make and pay six orders.
const OPEN_FOR_SECONDS: i64 = 25;

/// PostgreSQL is restored without the last orders of a sale that is being removed from Redis: between the projector's
/// two checks, and between the two stores, for a closed sale and for one whose window is over. No request is answered
/// that such an order does not exist, and the sale ends with all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_while_a_sale_leaves_redis_loses_no_order_of_it() -> Result<()> {
    // Side by side, each over stores of its own.
    let cases = [
        ("projector.retire.before-redis", 3_600),
        ("projector.retire.after-redis", 3_600),
        ("projector.retire.after-redis", OPEN_FOR_SECONDS),
    ];
    let cases = cases.map(|(point, seconds)| tokio::spawn(restored_at(point, seconds)));
    for case in cases {
        case.await??;
    }
    Ok(())
}

async fn restored_at(point: &'static str, closes_in_seconds: i64) -> Result<()> {
    let mut world = tokio::task::block_in_place(|| World::with(&[("PROMISE_DEADLINE_MS", "500")]))?;
    let terms = SaleTerms {
        closes_in_seconds,
        ..SaleTerms::of(20)
    };
    let voucher = world.sale(terms).await?;
    let pool = world.database().await?;
    let mut answers = world.client.orders(voucher, 1..4).await;
    world.until_carried_out().await?;
    back_up(&pool).await?;
    answers.extend(world.client.orders(voucher, 4..7).await);
    for answer in &answers {
        let id = answer.order_id().context("an order id")?;
        world.client.pay(id, id, 1_000).await?;
    }
    world.quiet(voucher).await?;
    tokio::task::block_in_place(|| arm(&mut world.projector, point, "stop"))?;
    if closes_in_seconds != OPEN_FOR_SECONDS {
        let close = format!("/admin/v1/vouchers/{voucher}/close");
        let nothing = serde_json::json!({});
        let told = world.client.admin_post(&close, &nothing).await?;
        assert_eq!(told.status, 202, "{told:?}");
    }
    await_stop(&world.projector, point).await?;

    restore(&pool).await?;
    for (user, answer) in (1..).zip(&answers) {
        let path = format!("/api/v1/orders/{}", answer.order_id().context("an id")?);
        let found = world.client.get(user, &path).await?;
        ensure!(
            found.status == 200 || found.is_planned_503(),
            "{point}: {found:?}"
        );
    }
    world.projector.resume()?;
    let retired = "SELECT retired AND paid_units = 6 FROM vouchers WHERE voucher_id = $1";
    eventually("it has ended, with all its orders", || async {
        let row = sqlx::query_scalar(retired).bind(voucher.get());
        Ok(row.fetch_one(&pool).await?)
    })
    .await?;
    for (user, answer) in (1..).zip(&answers) {
        let id = answer.order_id().context("an order id")?;
        world.until_status(user, id, "paid").await?;
    }
    let late = world.client.order(voucher, 9, None, 1).await?;
    assert_eq!((late.status, late.problem()), (403, "ended"), "{point}");
    world.until_carried_out().await?;
    Ok(())
}
