//! The catalogue is fast because it is cached, and correct because cached data expire in time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use redis::AsyncCommands;
use reqwest::Method;
use seckill_domain::VoucherId;
use seckill_testkit::Service;
use seckill_tests::{
    Client, SaleTerms, World, arm, await_death, check_consistency, eventually, revive,
};
use serde_json::{Value, json};
use tokio::time::sleep;

const REQUESTS: usize = 10_000;
const AT_ONCE: usize = 1_000;
/// A limit that is longer than anything in this file takes.
const PATIENCE: Duration = Duration::from_secs(30);
const SHELF: &str = "cache:{shelf}";

fn card(world: &World, voucher: VoucherId) -> String {
    world.redis_name(&format!("cache:{{card:{voucher}}}"))
}

async fn page(client: &Client, path: &str) -> Result<Value> {
    let answer = client.send(client.request(Method::GET, path)).await?;
    anyhow::ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.body)
}

async fn status(client: &Client, voucher: VoucherId) -> Result<Value> {
    let page = page(client, &format!("/api/v1/vouchers/{voucher}")).await?;
    Ok(page["status"].clone())
}

async fn is_listed(client: &Client, voucher: VoucherId) -> Result<bool> {
    let page = page(client, "/api/v1/vouchers").await?;
    let vouchers = page["vouchers"].as_array().context("a list")?;
    Ok(vouchers
        .iter()
        .any(|sale| sale["voucher_id"] == voucher.get()))
}

/// How often a process has rebuilt entries of a kind.
async fn rebuilds(service: &Service, kind: &str) -> Result<u64> {
    let metrics = reqwest::get(format!("{}/metrics", service.admin_url())).await?;
    let text = metrics.text().await?;
    let name = format!("seckill_cache_rebuilds_total{{kind=\"{kind}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    Ok(value.map_or(Ok(0), str::parse)?)
}

/// Sends 10,000 requests to two processes with empty caches. Returns how long they took.
async fn stampede(clients: &[Client; 2], path: &str) -> Result<Duration> {
    let started = Instant::now();
    let requests = stream::iter(0..REQUESTS).map(|n| page(&clients[n % 2], path));
    let mut answers = requests.buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(started.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_requests_for_an_expired_card_are_one_rebuild() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let new = [
        world.stack.start_ingress(&[])?,
        world.stack.start_ingress(&[])?,
    ];
    let clients = [world.client_of(&new[0]), world.client_of(&new[1])];
    let mut redis = world.redis().await?;
    let () = redis.del(card(&world, voucher)).await?;
    let took = stampede(&clients, &format!("/api/v1/vouchers/{voucher}")).await?;
    let counts = (
        rebuilds(&new[0], "card").await?,
        rebuilds(&new[1], "card").await?,
    );
    println!("case stampede-mutex: requests={REQUESTS} rebuilds={counts:?} took={took:?}");
    assert_eq!(counts.0 + counts.1, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_requests_for_an_expired_shelf_are_one_rebuild_behind_them() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    eventually("the sale is listed", || is_listed(&world.client, voucher)).await?;
    let new = [
        world.stack.start_ingress(&[])?,
        world.stack.start_ingress(&[])?,
    ];
    let clients = [world.client_of(&new[0]), world.client_of(&new[1])];
    // The entry expired shortly before, and is kept for another eight seconds.
    let mut redis = world.redis().await?;
    let () = redis.pexpire(world.redis_name(SHELF), 8_000).await?;
    let took = stampede(&clients, "/api/v1/vouchers").await?;
    let counts = (
        rebuilds(&new[0], "shelf").await?,
        rebuilds(&new[1], "shelf").await?,
    );
    println!("case stampede-logical: requests={REQUESTS} rebuilds={counts:?} took={took:?}");
    // The entry is valid for a second, so a stampede that takes longer may rebuild it once in each second.
    assert!(
        (1..=1 + took.as_secs()).contains(&(counts.0 + counts.1)),
        "{counts:?} in {took:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_sale_is_closed_on_every_instance_also_if_the_projector_died_in_between()
-> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let second = world.stack.start_ingress(&[])?;
    let clients = [world.client.clone(), world.client_of(&second)];
    for client in &clients {
        eventually("it is open", || async {
            Ok(status(client, voucher).await? == "open")
        })
        .await?;
    }
    // From now on only a deletion removes the entry.
    let mut redis = world.redis().await?;
    let card = card(&world, voucher);
    eventually("the card is cached", || {
        let (mut redis, card) = (redis.clone(), card.clone());
        async move { Ok(redis.persist::<_, i64>(card).await? == 1) }
    })
    .await?;

    arm(&mut world.projector, "projector.after-settle", "kill")?;
    let close = format!("/admin/v1/vouchers/{voucher}/close");
    assert_eq!(
        world.client.admin_post(&close, &json!({})).await?.status,
        202
    );
    await_death(&mut world.projector, "projector.after-settle")?;
    let cached: String = redis.get(&card).await?;
    assert!(cached.contains("\"closed\":false"), "{cached}");

    revive(&mut world.projector)?;
    eventually("the old card is gone", || {
        let (mut redis, card) = (redis.clone(), card.clone());
        async move {
            let cached: Option<String> = redis.get(card).await?;
            Ok(!cached.unwrap_or_default().contains("\"closed\":false"))
        }
    })
    .await?;
    for client in &clients {
        eventually("it is closed", || async {
            Ok(status(client, voucher).await? == "closed")
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_leaves_the_shelf_with_its_last_payment_and_is_back_with_new_stock() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(1)).await?;
    let second = world.stack.start_ingress(&[])?;
    let clients = [world.client.clone(), world.client_of(&second)];
    for client in &clients {
        eventually("it is listed", || is_listed(client, voucher)).await?;
    }
    let order = world.client.order(voucher, 7, None, 1).await?;
    let order_id = order.order_id().context("an order")?.to_owned();
    world.until_status(7, &order_id, "unpaid").await?;
    for client in &clients {
        let sold_out = || async { Ok(status(client, voucher).await? == "sold_out") };
        eventually("nothing is left", sold_out).await?;
        assert!(is_listed(client, voucher).await?, "its unit may come back");
    }
    assert_eq!(world.client.pay(&order_id, "p-1", 1_000).await?.status, 202);
    for client in &clients {
        let gone = || async { Ok(!is_listed(client, voucher).await?) };
        eventually("it is off the shelf", gone).await?;
        assert_eq!(status(client, voucher).await?, "sold_out");
    }
    let all = world.client.admin_get("/admin/v1/vouchers").await?;
    assert_eq!(
        all.body["vouchers"][0]["voucher_id"],
        voucher.get(),
        "operators see it"
    );

    let stock = format!("/admin/v1/vouchers/{voucher}/stock");
    let restock = json!({ "delta": 1, "reason": "found one" });
    assert_eq!(world.client.admin_post(&stock, &restock).await?.status, 202);
    for client in &clients {
        eventually("it is back", || is_listed(client, voucher)).await?;
        eventually("it is open", || async {
            Ok(status(client, voucher).await? == "open")
        })
        .await?;
    }
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &[order]).await?;
    Ok(())
}

/// While the projector is stopped no outcome drops a copy, so the copy is used until it expires. The copy of a new sale
/// is made by the first request, so the measured age is never less than its lifetime. Of several measurements the
/// shortest counts, because a slow machine only makes them longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_stock_is_less_than_a_third_of_a_second_old_without_any_outcome() -> Result<()> {
    let mut world = World::start()?;
    let mut vouchers = Vec::new();
    for _ in 0..5 {
        vouchers.push(world.sale(SaleTerms::of(10)).await?);
    }
    let second = world.stack.start_ingress(&[])?;
    let looker = world.client_of(&second);
    world.projector.pause()?;
    let mut ages = Vec::new();
    for voucher in &vouchers {
        let path = format!("/api/v1/vouchers/{voucher}");
        assert_eq!(page(&looker, &path).await?["stock_left"], 10);
        let looked_at = Instant::now();
        let order = world.client.order(*voucher, 7, None, 1).await?;
        assert!(order.is_reserved(), "{order:?}");
        while page(&looker, &path).await?["stock_left"] != 9 {
            ensure!(looked_at.elapsed() < PATIENCE, "the page has never fewer");
            sleep(Duration::from_millis(5)).await;
        }
        ages.push(looked_at.elapsed());
    }
    println!("case copies-of-stock: ages={ages:?}");
    let quickest = ages.iter().min().context("ages")?;
    assert!(*quickest < Duration::from_millis(333), "{ages:?}");
    world.projector.resume()?;
    for voucher in vouchers {
        world.quiet(voucher).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_on_a_page_follows_and_pages_outlive_redis() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let path = format!("/api/v1/vouchers/{voucher}");
    let mut answers = Vec::new();
    for user in 1..=3 {
        let before = page(&world.client, &path).await?["stock_left"].clone();
        let order = world.client.order(voucher, user, None, 1).await?;
        assert!(order.is_reserved(), "{order:?}");
        answers.push(order);
        eventually("the page has fewer", || async {
            Ok(page(&world.client, &path).await?["stock_left"] != before)
        })
        .await?;
    }
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &answers).await?;

    world.stack.redis.kill()?;
    for path in [
        path.as_str(),
        "/api/v1/vouchers",
        "/api/v1/vouchers?limit=3",
    ] {
        page(&world.client, path).await?;
    }
    let shown = page(&world.client, &path).await?;
    assert_eq!(shown["stock_left"], 7, "{shown}");
    eventually("it is not open without Redis", || async {
        Ok(status(&world.client, voucher).await? == "closed")
    })
    .await
}
