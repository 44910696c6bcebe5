//! The numbers of `seckillctl sale report` are those of the log, the rows and the stock in Redis.

use anyhow::{Context, Result};
use seckill_domain::VoucherId;
use seckill_testkit::service::run_binary;
use seckill_tests::{SaleTerms, World};
use serde_json::{Value, json};

/// The output of the command, with these arguments after the id.
pub(crate) fn report(world: &World, voucher: VoucherId, output: &[&str]) -> Result<String> {
    let mut env = world.stack.env().clone();
    env.insert("INGRESS_ADMIN_URL".to_owned(), world.ingress.admin_url());
    let id = voucher.to_string();
    let command = [&["sale", "report", &id], output].concat();
    tokio::task::block_in_place(|| run_binary("seckillctl", &command, &env))
}

/// Long enough to pay also on a slow machine, and short enough to wait for its end.
const HOLD_SECONDS: u32 = 10;

/// A sale of three units, of which the third order takes the last. One order is paid twice, one is cancelled and then
/// paid, one expires, and one takes the unit of the cancelled one and is paid. A unit is added.
async fn trade(world: &World) -> Result<(VoucherId, Value)> {
    let terms = SaleTerms {
        hold_seconds: HOLD_SECONDS,
        ..SaleTerms::of(3)
    };
    let voucher = world.sale(terms).await?;
    let buy = |user| async move {
        let answer = world.client.order(voucher, user, None, 1).await?;
        let id = answer.order_id().with_context(|| format!("{answer:?}"))?;
        let order = world.until_status(user, id, "unpaid").await?;
        anyhow::Ok((id.to_owned(), order))
    };
    let (first, _) = buy(1).await?;
    let (second, _) = buy(2).await?;
    let (third, last_unit) = buy(3).await?;
    world.client.pay(&first, "p1", 1_000).await?;
    world.client.cancel(2, &second).await?;
    world.until_status(1, &first, "paid").await?;
    world.until_status(2, &second, "cancelled").await?;
    world.quiet(voucher).await?;
    let (fourth, _) = buy(4).await?;
    world.client.pay(&fourth, "p4", 1_000).await?;
    world.until_status(4, &fourth, "paid").await?;
    world.client.pay(&first, "p1-again", 1_000).await?;
    world.client.pay(&second, "p2", 1_000).await?;
    world.until_status(3, &third, "expired").await?;
    let stock = format!("/admin/v1/vouchers/{voucher}/stock");
    let one_more = json!({ "delta": 1, "reason": "found" });
    world.client.admin_post(&stock, &one_more).await?;
    seckill_tests::eventually("the added unit is folded", || async {
        Ok(world.client.ledger(voucher).await?["adjusted"] == 1)
    })
    .await?;
    world.quiet(voucher).await?;
    Ok((voucher, last_unit))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_reported_with_its_orders_its_end_its_refunds_and_its_drift() -> Result<()> {
    let world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
    let (voucher, last_unit) = trade(&world).await?;
    let found: Value = serde_json::from_str(&report(&world, voucher, &["--output", "json"])?)?;
    let expected = json!({
        "units": 4, "paid_units": 2, "sell_through_percent": 50.0,
        "admitted": 4, "paid": 2, "unpaid": 0, "overdue": 0, "expired": 1, "cancelled": 1, "rejected": 0,
        "refunds": [
            { "reason": "already-paid", "payments": 1, "amount_cents": 1_000, "currency": "EUR" },
            { "reason": "order-cancelled", "payments": 1, "amount_cents": 1_000, "currency": "EUR" },
        ],
        "drift": 0, "consistent": true,
    });
    for (name, value) in expected.as_object().context("no members")? {
        assert_eq!(&found[name], value, "{name}: {found}");
    }
    assert_eq!(found["sold_out_at"], last_unit["reserved_at"], "{found}");
    let after_ms = found["sold_out_after_ms"]
        .as_i64()
        .context("never sold out")?;
    assert!(after_ms > 0, "{found}");
    // An order does not expire before the grace is over, which is a second.
    let late = &found["expiry_late_ms"];
    assert!(late["max"].as_i64() >= Some(1_000), "{found}");
    assert_eq!(late["median"], late["max"], "of one order: {found}");

    // The operators' page gets its numbers from the same code.
    let path = format!("/admin/v1/vouchers/{voucher}/report");
    let page = world.client.admin_get(&path).await?.body;
    for name in ["units", "paid_units", "refunds", "sold_out_at"] {
        assert_eq!(page[name], found[name], "{name}: {page}");
    }
    for name in [
        "admitted",
        "paid",
        "unpaid",
        "expired",
        "cancelled",
        "rejected",
    ] {
        assert_eq!(page["orders"][name], found[name], "{name}: {page}");
    }
    let change = json!({ "delta": 1, "accepted": true, "reason": "found" });
    for (name, value) in change.as_object().context("no members")? {
        assert_eq!(&page["changes"][0][name], value, "{page}");
    }

    let text = report(&world, voucher, &[])?;
    for line in [
        "4, of which 2 paid (50 %)",
        "1 of already-paid: ",
        "increase(seckill_orders_total[",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_with_units_left_has_not_sold_out_and_says_what_is_unpaid() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(2)).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    world
        .until_status(1, answer.order_id().context("no order")?, "unpaid")
        .await?;
    world.quiet(voucher).await?;
    // Change the database so that it differs from Redis by one unit.
    let pool = world.database().await?;
    sqlx::query("UPDATE vouchers SET adjusted = adjusted + 1, stock_left = stock_left + 1")
        .execute(&pool)
        .await?;
    let found: Value = serde_json::from_str(&report(&world, voucher, &["--output", "json"])?)?;
    for (name, value) in [
        ("admitted", json!(1)),
        ("unpaid", json!(1)),
        ("overdue", json!(0)),
        ("sold_out_at", Value::Null),
        ("sold_out_after_ms", Value::Null),
        ("refunds", json!([])),
        ("drift", json!(1)),
    ] {
        assert_eq!(found[name], value, "{name}: {found}");
    }
    assert_eq!(found["first_order_at"], found["last_order_at"], "{found}");
    let nobody = report(&world, VoucherId::new(voucher.get() + 1)?, &[]);
    let error = format!("{:#}", nobody.expect_err("no such sale"));
    assert!(error.contains("has no sale"), "{error}");
    Ok(())
}
