//! `rebuild orders`

use std::process::{Child, Stdio};
use std::time::Duration;

use seckill_domain::{Event, EventBody, OrderExpired, OrderPaid, PaymentId, Timestamp};
use serde_json::Value;

use crate::harness::{CliWorld, Ran, euros, event, order, reserved, scheduled, user, voucher};

const EXECUTE: [&str; 6] = ["--execute", "--yes", "--reason", "why", "--actor", "kim"];
/// By which the tables are compared here, past the code under test.
const HASH: &str = "SELECT md5(string_agg(t, '|' ORDER BY t)) FROM (
    SELECT o::text FROM orders o UNION ALL SELECT (to_jsonb(v) - 'loaded' - 'retired')::text FROM vouchers v
    UNION ALL SELECT r::text FROM refunds r UNION ALL SELECT a::text FROM stock_adjustments a
    UNION ALL SELECT concat(topic, partition, next_offset) FROM view_positions WHERE view = 'orders') AS x (t)";

async fn rebuild(world: &CliWorld, arguments: &[&str]) -> Ran {
    world
        .run(&[&["rebuild", "orders"], arguments].concat())
        .await
}

async fn execute(world: &CliWorld, command: &str) -> Value {
    let arguments = [&["rebuild", "orders", command][..], &EXECUTE].concat();
    world.json(&arguments).await
}

/// Of the tables in this schema.
async fn hash(world: &CliWorld, schema: &str) -> String {
    let mut transaction = world.sql.begin().await.unwrap();
    let path = format!("SET LOCAL search_path = {schema}");
    sqlx::query(&path).execute(&mut *transaction).await.unwrap();
    let hash: Option<String> = sqlx::query_scalar(HASH)
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    hash.expect("rows")
}

fn paid(number: u64) -> Event {
    let order_id = order(voucher(17), number);
    let body = OrderPaid {
        order_id,
        payment_id: PaymentId::new(format!("p{number}")).unwrap(),
        amount: euros(100),
        paid_at: Timestamp::from_micros(1),
    };
    event(order_id.voucher_id(), EventBody::OrderPaid(body))
}

fn expired(number: u64) -> Event {
    let order_id = order(voucher(17), number);
    let pay_by = Timestamp::from_micros(1);
    event(
        order_id.voucher_id(),
        EventBody::OrderExpired(OrderExpired { order_id, pay_by }),
    )
}

/// Two sales, orders in every state, every event twice, and one dead letter; folded.
async fn world() -> CliWorld {
    let world = CliWorld::new(2).await;
    let mut events = vec![scheduled(voucher(17)), scheduled(voucher(18))];
    for n in 1..=4 {
        events.push(reserved(order(voucher(17), n), user(n.cast_signed())));
    }
    events.push(reserved(order(voucher(18), 1), user(1)));
    events.extend([paid(1), expired(2), paid(2)]);
    for event in &events {
        world.write(event, None).await;
        world.write(event, None).await;
    }
    world.write_garbage(voucher(17)).await;
    world.fold().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_planned_and_then_loaded_and_proven() {
    let world = world().await;
    let before = hash(&world, "public").await;
    let plan = rebuild(&world, &["start"]).await;
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    assert!(
        plan.stdout.contains("21 records to fold"),
        "{}",
        plan.stdout
    );
    assert_eq!(rebuild(&world, &["verify"]).await.code, Some(3));
    let unconfirmed = ["start", "--execute", "--reason", "x", "--actor", "kim"];
    assert_eq!(rebuild(&world, &unconfirmed).await.code, Some(4));

    let done = execute(&world, "start").await;
    assert_eq!(done["load"]["events"], 21);
    assert_eq!(done["load"]["skipped"], 1);
    assert_eq!(done["proof"]["sales"], 2);
    assert_eq!(done["proof"]["orders"], 5);
    assert_eq!(done["proof"]["differing"], serde_json::json!([]));
    assert_eq!(hash(&world, "rebuild_1").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_follows_goes_live_comes_back_and_is_dropped() {
    let world = world().await;
    sqlx::query("UPDATE vouchers SET loaded = true, retired = voucher_id = 18")
        .execute(&world.sql)
        .await
        .unwrap();
    execute(&world, "start").await;
    // The live fold goes on; the copy follows.
    world.write(&paid(3), None).await;
    world.fold().await;
    let verified = world.json(&["rebuild", "orders", "verify"]).await;
    assert_eq!(verified["proof"]["differing"], serde_json::json!([]));
    world
        .write(&reserved(order(voucher(18), 2), user(2)), None)
        .await;
    world.fold().await;
    let after = hash(&world, "public").await;

    let promoted = execute(&world, "promote").await;
    assert_eq!(promoted["executed"], true);
    assert_eq!(hash(&world, "public").await, after);
    assert_eq!(hash(&world, "retired_1").await, after);
    let flags = "SELECT count(*) FROM vouchers WHERE loaded AND retired = (voucher_id = 18)";
    let carried: i64 = sqlx::query_scalar(flags)
        .fetch_one(&world.sql)
        .await
        .unwrap();
    assert_eq!(carried, 2, "what Redis was told is carried over");
    assert_eq!(
        rebuild(&world, &["start"]).await.code,
        Some(4),
        "one at a time"
    );

    // The same fold goes on in the new tables, and the old ones catch up before they come back.
    world.write(&expired(4), None).await;
    world.fold().await;
    let newest = hash(&world, "public").await;
    assert_ne!(newest, after);
    execute(&world, "rollback").await;
    assert_eq!(hash(&world, "public").await, newest);
    assert_eq!(hash(&world, "rebuild_1").await, newest);
    execute(&world, "promote").await;
    world.write(&paid(4), None).await;
    world.fold().await;
    execute(&world, "prune").await;
    let status = world.json(&["rebuild", "orders", "status"]).await;
    assert_eq!(status["rebuilds"][0]["phase"], "pruned");
    let check = world.json(&["rebuild", "orders", "check"]).await;
    assert_eq!(check["differing"], serde_json::json!([]));
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^(rebuild|retired)_'";
    let left: i64 = sqlx::query_scalar(schemas)
        .fetch_one(&world.sql)
        .await
        .unwrap();
    assert_eq!(left, 0);
    assert_eq!(
        world.audit().await.len(),
        5,
        "start, promote, rollback, promote, prune"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_found_and_printed_and_is_not_promoted() {
    let world = world().await;
    let wrong = order(voucher(17), 3).to_string();
    let sql = format!("UPDATE orders SET amount_cents = 1 WHERE order_id = '{wrong}'");
    sqlx::query(&sql).execute(&world.sql).await.unwrap();

    let check = rebuild(&world, &["check"]).await;
    assert_eq!(check.code, Some(1));
    assert!(check.stdout.contains(&wrong), "{}", check.stdout);
    let unread = world.run_unread(&["rebuild", "orders", "check"]).await;
    assert_eq!(unread.code, Some(1), "the verdict stands, read or not");
    let started = rebuild(&world, &[&["start"][..], &EXECUTE].concat()).await;
    assert_eq!(started.code, Some(1), "{}", started.stderr);
    assert!(started.stdout.contains(&wrong), "{}", started.stdout);
    assert!(started.stdout.contains("amount"), "{}", started.stdout);
    let refused = rebuild(&world, &[&["promote"][..], &EXECUTE].concat()).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    let miscounted = [&["promote", "--accept-differences", "2"][..], &EXECUTE].concat();
    assert_eq!(rebuild(&world, &miscounted).await.code, Some(1));

    let known = [&["promote", "--accept-differences", "1"][..], &EXECUTE].concat();
    let promoted = rebuild(&world, &known).await;
    assert_eq!(promoted.code, Some(0), "{}", promoted.stderr);
    let amount: i64 =
        sqlx::query_scalar("SELECT amount_cents FROM orders WHERE order_id = $1::uuid")
            .bind(&wrong)
            .fetch_one(&world.sql)
            .await
            .unwrap();
    assert_eq!(amount, 100, "the log's own");
    assert_eq!(rebuild(&world, &["check"]).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_twice_goes_on_where_it_was() {
    const BUYERS: i64 = 30_000;
    let world = CliWorld::new(2).await;
    let mut sale = scheduled(voucher(17));
    if let EventBody::SaleScheduled(scheduled) = &mut sale.body {
        scheduled.terms.stock = BUYERS;
    }
    world.write(&sale, None).await;
    let events = (1..=BUYERS).map(|n| reserved(order(voucher(17), n.unsigned_abs()), user(n)));
    world.write_all(events).await;
    world.fold().await;
    let before = hash(&world, "public").await;

    for least in [1, 20_001] {
        let mut running = start_in_background(&world);
        until_position(&world, least, &mut running).await;
        running.kill().unwrap();
        running.wait().unwrap();
    }
    let plan = rebuild(&world, &["start"]).await;
    assert!(plan.stdout.contains("rebuild 1 goes on"), "{}", plan.stdout);
    let done = execute(&world, "start").await;
    assert!(done["load"]["events"].as_i64().unwrap() < BUYERS, "{done}");
    assert_eq!(done["proof"]["differing"], serde_json::json!([]));
    assert_eq!(hash(&world, "rebuild_1").await, before);
    execute(&world, "abort").await;
    assert_eq!(hash(&world, "public").await, before);
    let new = rebuild(&world, &["start"]).await;
    assert!(new.stdout.contains("a new rebuild"), "{}", new.stdout);
}

fn start_in_background(world: &CliWorld) -> Child {
    let arguments = [&["rebuild", "orders", "start"][..], &EXECUTE].concat();
    let mut command = world.command(&arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Waits until the copy has come so far.
async fn until_position(world: &CliWorld, least: i64, running: &mut Child) {
    let sql = "SELECT max(next_offset) FROM rebuild_1.view_positions";
    loop {
        let reached: Result<Option<i64>, _> = sqlx::query_scalar(sql).fetch_one(&world.sql).await;
        if reached.ok().flatten().is_some_and(|at| at >= least) {
            return;
        }
        let ended = running.try_wait().unwrap();
        assert!(ended.is_none(), "it ended before it was at {least}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_have_what_is_needed_is_refused() {
    let world = world().await;
    for sql in [
        "UPDATE view_positions SET next_offset = next_offset + 1",
        "INSERT INTO rebuilds (id, topic, phase, frozen_ends) VALUES (1, 'another', 'aborted', '{}')",
    ] {
        sqlx::query(sql).execute(&world.sql).await.unwrap();
    }
    let refused = rebuild(&world, &["start"]).await;
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("the log was cut"),
        "{}",
        refused.stderr
    );
}

/// Tables that were live keep the count of the decisions that were made about their partition's records.
#[tokio::test(flavor = "multi_thread")]
async fn tables_go_back_also_after_a_decision_to_skip_a_record() {
    let world = world().await;
    execute(&world, "start").await;
    sqlx::query("UPDATE view_positions SET skip_decisions = 2 WHERE view = 'orders'")
        .execute(&world.sql)
        .await
        .unwrap();
    execute(&world, "promote").await;
    let order = reserved(order(voucher(17), 9), user(9));
    world.write(&order, None).await;
    world.fold().await;
    execute(&world, "rollback").await;
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM orders WHERE user_id = 9")
        .fetch_one(&world.sql)
        .await
        .unwrap();
    assert_eq!(there, 1, "the tables that went back have what came since");
}
