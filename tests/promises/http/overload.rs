//! Overload: new orders are refused early and at low cost, payments and questions about orders are still answered, and
//! the number of accepted orders does not fall.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::TestStack;
use seckill_tests::{Answer, Line, Raw, SaleTerms, World, check_consistency, eventually, metrics};
use tokio::task::JoinSet;

const LARGE: SaleTerms = SaleTerms::of(200_000);
/// A buyer who has ordered before the crowd comes.
const EARLY: u64 = 1;
/// A buyer who orders after the overload.
const LATE: u64 = 3;
const FIRST_OF_CROWD: u64 = 1_000;

fn is_overloaded(answer: &Answer) -> bool {
    answer.is_planned_503() && answer.problem() == "overloaded"
}

/// Sends orders at fixed intervals, without waiting for earlier answers, until there are `enough`.
async fn crowd(world: &World, voucher: VoucherId, seen: &Seen) -> Result<Vec<Answer>> {
    let mut orders = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut answers = Vec::new();
    let mut users = FIRST_OF_CROWD..;
    while !seen.enough.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (client, user) = (world.client.clone(), users.next().unwrap_or_default());
        orders.spawn(async move { client.order(voucher, user, None, 1).await });
        while let Some(answer) = orders.try_join_next() {
            let answer = answer??;
            let refused = u64::from(is_overloaded(&answer));
            seen.refused.fetch_add(refused, Ordering::Relaxed);
            answers.push(answer);
        }
    }
    while let Some(answer) = orders.join_next().await {
        answers.push(answer??);
    }
    Ok(answers)
}

/// The counters that a crowd and its test share.
#[derive(Default)]
struct Seen {
    refused: AtomicU64,
    enough: AtomicBool,
}

impl Seen {
    async fn one_more_refused(&self) -> Result<()> {
        let before = self.refused.load(Ordering::Relaxed);
        eventually("an order is refused at the door", || async {
            Ok(self.refused.load(Ordering::Relaxed) > before)
        })
        .await
    }
}

/// Sends two orders over one connection, which are both refused before their bodies are read. The body comes after the
/// head, so a server that does not read it would take it for the next request.
async fn keeps_its_connection(world: &World, voucher: VoucherId) -> Result<bool> {
    let mut connection = Raw::to(&world.client.url).await?;
    let body = r#"{"quantity":1}"#;
    let head = format!(
        "POST /api/v1/vouchers/{voucher}/orders HTTP/1.1\r\nHost: shop\r\n\
         Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        world.client.token(2)?,
        body.len()
    );
    for _ in 0..2 {
        connection.send(&head).await?;
        connection.send(body).await?;
        let answer = connection.answer().await?.context("no answer")?;
        let refused = answer.status == 503 && answer.body.contains("/problems/overloaded");
        ensure!(refused && !answer.closes(), "{answer:?}");
    }
    Ok(true)
}

/// The number of requests that the ingress has refused early, by class.
fn refused(world: &World, class: &str) -> Result<u64> {
    let metrics = metrics(&world.ingress)?;
    let of_class = format!("class=\"{class}\"");
    let lines = metrics.lines().filter(|line| {
        line.starts_with("seckill_admission_refused_total{") && line.contains(&of_class)
    });
    let mut sum = None;
    for line in lines {
        let number = line.rsplit(' ').next().context("a metric has a number")?;
        sum = Some(sum.unwrap_or(0) + number.parse::<u64>()?);
    }
    sum.with_context(|| format!("nothing is counted of {class}"))
}

/// Redis hangs and the queue of orders is full. New orders are refused, and their connections stay usable. Meanwhile a
/// payment is accepted and the status of its order is answered. When Redis is back, orders are accepted again.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_hanging_redis_orders_are_refused_and_the_rest_goes_on() -> Result<()> {
    let (world, wire) = World::over_a_wire(TestStack::builder()).await?;
    let voucher = world.sale(LARGE).await?;
    let early = world.client.order(voucher, EARLY, None, 1).await?;
    let order_id = early.order_id().context("no order")?.to_owned();
    world.until_status(EARLY, &order_id, "unpaid").await?;

    wire.set(Line::Holds);
    let seen = Seen::default();
    let meanwhile = async {
        seen.one_more_refused().await?;
        let paid = world.client.pay(&order_id, "p-1", 1_000).await?;
        assert_eq!(paid.status, 202, "{paid:?}");
        world.until_status(EARLY, &order_id, "paid").await?;
        eventually("a connection outlives refusals", || {
            keeps_its_connection(&world, voucher)
        })
        .await?;
        seen.one_more_refused().await?;
        assert!(refused(&world, "orders")? > 0);
        assert_eq!(refused(&world, "payments")?, 0);
        assert_eq!(refused(&world, "reads")?, 0);
        wire.set(Line::Delays(Duration::ZERO));
        eventually("orders are taken again", || async {
            let answer = world.client.order(voucher, LATE, None, 1).await?;
            Ok(answer.is_reserved() || answer.problem() == "already-ordered")
        })
        .await?;
        seen.enough.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (mut answers, ()) = tokio::try_join!(crowd(&world, voucher, &seen), meanwhile)?;
    for answer in &answers {
        assert!(
            answer.status == 202 || answer.is_planned_503(),
            "{answer:?}"
        );
    }
    answers.push(early);
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}
