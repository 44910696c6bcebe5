//! Wrong data that were written into a store without the services are found, named and repaired. Orders that are only
//! under way are not reported.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use seckill_tests::{
    Crowd, EXECUTE, Injection, SaleTerms, Victim, World, check_consistency, eventually,
};
use serde_json::Value;

pub(crate) const PRICE_CENTS: i64 = 1_000;
const SETUP_LANES: usize = 8;
const ATTEMPTS: u32 = 20;

/// The kinds of differences, by sale.
pub(crate) type Found = BTreeMap<i64, BTreeSet<String>>;

/// The report of `seckillctl reconcile`, in JSON.
pub(crate) async fn reconcile(world: &World, arguments: &[&str]) -> Result<Value> {
    let all = [&["reconcile", "--output", "json"], arguments].concat();
    Ok(serde_json::from_str(&world.seckillctl(&all)?)?)
}

/// Repairs what is wrong.
pub(crate) async fn repair(world: &World, arguments: &[&str]) -> Result<Value> {
    reconcile(world, &[arguments, &["--allow-removal"], &EXECUTE].concat()).await
}

pub(crate) fn found(report: &Value) -> Result<Found> {
    let mut found = Found::new();
    for difference in report["differences"].as_array().context("no list")? {
        let voucher = difference["voucher_id"].as_i64().context("no id")?;
        let kind = difference["kind"].as_str().context("no kind")?;
        found.entry(voucher).or_default().insert(kind.to_owned());
    }
    Ok(found)
}

/// The alarms of the consistency check, by invariant.
pub(crate) async fn alarms(world: &World) -> Result<BTreeMap<String, u64>> {
    let url = format!("{}/metrics", world.projector.admin_url());
    let text = reqwest::get(url).await?.text().await?;
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("seckill_audit_violations{invariant=\"")?;
        let (invariant, value) = rest.split_once("\"} ")?;
        Some((invariant.to_owned(), value.parse().ok()?))
    });
    Ok(lines.filter(|(_, sales)| *sales > 0).collect())
}

/// Makes sales with the orders that injections need, and waits until they are decided and carried out.
pub(crate) async fn victims(world: &World, count: usize) -> Result<Vec<Victim>> {
    // The orders must not expire during the test, because injections need live ones.
    let terms = SaleTerms {
        hold_seconds: 86_400,
        ..SaleTerms::of(1_000)
    };
    let sales = stream::iter(0..count).map(|_| async {
        let voucher = insist(|| world.sale(terms)).await?;
        insist(|| Victim::of(world, voucher, PRICE_CENTS)).await
    });
    let victims: Vec<Victim> = sales.buffer_unordered(SETUP_LANES).try_collect().await?;
    for victim in &victims {
        world.quiet(victim.voucher).await?;
    }
    world.until_carried_out().await?;
    Ok(victims)
}

/// Repeats a request, because the services may refuse it on a busy machine.
async fn insist<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> Result<T> {
    for _ in 0..ATTEMPTS {
        if let Ok(done) = attempt().await {
            return Ok(done);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    attempt().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a sale for each, and a load"]
async fn each_wrong_thing_is_found_named_and_repaired() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let victims = victims(&world, Injection::ALL.len() + 1).await?;
    let clean = reconcile(&world, &[]).await?;
    ensure!(found(&clean)?.is_empty(), "nothing is wrong yet: {clean:#}");

    let (pool, mut redis) = (world.database().await?, world.redis().await?);
    for (injection, victim) in Injection::ALL.iter().zip(&victims) {
        injection.inject(&pool, &mut redis, victim).await?;
    }
    let plan = reconcile(&world, &[]).await?;
    let wrong = found(&plan)?;
    for (injection, victim) in Injection::ALL.iter().zip(&victims) {
        let kinds = wrong.get(&victim.voucher.get());
        ensure!(
            kinds.is_some_and(|kinds| kinds.contains(injection.kind())),
            "{injection:?} in {}: {plan:#}",
            victim.voucher
        );
    }
    ensure!(
        wrong.len() == Injection::ALL.len(),
        "a false alarm: {plan:#}"
    );

    // Repair only one sale. The others stay as they are.
    let first = victims[0].voucher.to_string();
    let done = repair(&world, &["--voucher", &*first]).await?;
    ensure!(done["rows_written"] == 1, "{done:#}");
    let left = found(&reconcile(&world, &[]).await?)?;
    ensure!(left.len() == Injection::ALL.len() - 1, "{left:?}");

    let done = repair(&world, &[]).await?;
    ensure!(done["executed"] == true, "{done:#}");
    ensure!(done["left"] == serde_json::json!([]), "{done:#}");
    let left = reconcile(&world, &[]).await?;
    ensure!(found(&left)?.is_empty(), "not repaired: {left:#}");
    for victim in &victims {
        world.quiet(victim.voucher).await?;
        check_consistency(&world, victim.voucher, &[]).await?;
    }
    let audited: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT actor, reason, affected FROM ops_audit WHERE command LIKE 'reconcile%'",
    )
    .fetch_all(&pool)
    .await?;
    ensure!(audited.len() >= 3, "{audited:?}");
    ensure!(
        audited.iter().all(|(actor, ..)| actor == "kim"),
        "{audited:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_no_difference_and_a_lost_unit_is_seen_within_seconds() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = insist(|| world.sale(SaleTerms::of(20_000))).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001);
    crowd.flows(100).await?;
    for _ in 0..3 {
        let report = reconcile(&world, &[]).await?;
        ensure!(found(&report)?.is_empty(), "a false alarm: {report:#}");
        crowd.flows(50).await?;
    }
    ensure!(
        alarms(&world).await?.is_empty(),
        "{:?}",
        alarms(&world).await?
    );

    let mut redis = world.redis().await?;
    let sale = world.sale_key(voucher, "sale");
    let injected_at = std::time::Instant::now();
    let _: i64 = redis::cmd("HINCRBY")
        .arg(&[&*sale, "stock", "1"])
        .query_async(&mut redis)
        .await?;
    eventually("the consistency check sees it", || async {
        Ok(alarms(&world).await?.contains_key("redis-stock"))
    })
    .await?;
    let seen_after = injected_at.elapsed();
    eventually("the operators read what it is", || async {
        let listed = world.client.admin_get("/admin/v1/findings").await?.body;
        let first = &listed["findings"][0];
        Ok(first["voucher_id"] == voucher.get() && first["invariant"] == "redis-stock")
    })
    .await?;
    println!(
        "a unit too many was seen after {} ms",
        seen_after.as_millis()
    );
    ensure!(seen_after.as_secs() < 5, "{seen_after:?}");

    let done = repair(&world, &[]).await?;
    let corrected = serde_json::json!([voucher.get()]);
    ensure!(done["corrected"] == corrected, "no reload: {done:#}");

    let first = "SELECT user_id FROM orders WHERE voucher_id = $1 ORDER BY reserved_offset LIMIT 1";
    let buyer: i64 = sqlx::query_scalar(first)
        .bind(voucher.get())
        .fetch_one(&world.database().await?)
        .await?;
    let holds = world.sale_key(voucher, "holds");
    let lost: i64 = redis::cmd("HDEL")
        .arg(&[&*holds, &buyer.to_string()])
        .query_async(&mut redis)
        .await?;
    ensure!(lost == 1, "buyer {buyer} had a hold");
    let done = repair(&world, &[]).await?;
    ensure!(done["differences"][0]["kind"] == "missing-hold", "{done:#}");
    ensure!(done["corrected"] == corrected, "no reload: {done:#}");
    crowd.flows(1).await?;
    eventually("the consistency check finds nothing", || async {
        Ok(alarms(&world).await?.is_empty())
    })
    .await?;
    eventually("the operators read that nothing is wrong", || async {
        let listed = world.client.admin_get("/admin/v1/findings").await?.body;
        Ok(listed["findings"] == serde_json::json!([]))
    })
    .await?;
    let answers = crowd.leave().await?;
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}
