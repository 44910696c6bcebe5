//! An ingress of a later version writes a record in the middle of a batch of orders. A projector of an earlier version,
//! which does not have its schema, stops before it. The later projector continues there. The earlier version is
//! imitated by this one without that schema.

use std::mem;

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::Service;
use seckill_testkit::service::run_binary;
use seckill_tests::{
    Answer, EXECUTE, SaleTerms, World, check_consistency, until_ready, until_unready,
};

use crate::kafka::same_end::all_come_to_the_same_end;

/// The setting that makes a process behave like an earlier version.
const EARLIER: (&str, &str) = ("SECKILL_FAILPOINTS", "eventlog.lacks.OrderCancelled=return");

/// Five orders before a cancellation and five after it. An earlier projector, which reads all of them at once, has
/// folded the first five.
struct Standing {
    world: World,
    voucher: VoucherId,
    cancelled: String,
    answers: Vec<Answer>,
    /// Partition and offset of the cancellation.
    place: String,
}

async fn standing() -> Result<Standing> {
    let mut world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    let first = world.client.order(voucher, 1, None, 1).await?;
    let cancelled = first.order_id().context("an order id")?.to_owned();
    world.quiet(voucher).await?;
    world.projector.stop()?;
    let mut answers = vec![first];
    answers.extend(world.client.orders(voucher, 2..7).await);
    let told = world.client.cancel(1, &cancelled).await?;
    ensure!(told.status == 202, "{told:?}");
    answers.extend(world.client.orders(voucher, 7..12).await);
    ensure!(
        answers.len() == 11 && answers.iter().all(Answer::is_reserved),
        "{answers:?}"
    );

    world.projector.relaunch(&[(EARLIER.0, Some(EARLIER.1))])?;
    until_unready(&world.projector, "unknown schema fingerprint").await?;
    let pool = world.database().await?;
    let (place, orders, skipped): (String, i64, i64) = sqlx::query_as(
        "SELECT partition || '/' || next_offset, (SELECT count(*) FROM orders),
                (SELECT count(*) FROM skipped_records)
           FROM view_positions WHERE view = 'orders' ORDER BY next_offset DESC LIMIT 1",
    )
    .fetch_one(&pool)
    .await?;
    ensure!(
        (orders, skipped) == (6, 0),
        "up to the cancellation, and nothing of it"
    );
    Ok(Standing {
        world,
        voucher,
        cancelled,
        answers,
        place,
    })
}

/// Starts the later projector beside the earlier one, and then ends the earlier one.
async fn rolled_forward(world: &mut World) -> Result<()> {
    let later = Service::launch(world.stack.projector(&[])?)?;
    let mut earlier = mem::replace(&mut world.projector, later);
    tokio::task::block_in_place(|| earlier.stop())?;
    until_ready(&world.projector).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_projector_did_not_know_is_folded_by_the_later_one() -> Result<()> {
    let Standing {
        mut world,
        voucher,
        cancelled,
        answers,
        ..
    } = standing().await?;
    rolled_forward(&mut world).await?;
    world.until_status(1, &cancelled, "cancelled").await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    all_come_to_the_same_end(&mut world, voucher, 0).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    ensure!(
        (found.unpaid, found.rejected, found.available) == (10, 0, 10),
        "{found:?}"
    );
    Ok(())
}

/// The decision is final: a projector that could read the record skips it too.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_skipped_for_an_earlier_projector_is_not_folded_by_the_later_one() -> Result<()> {
    let Standing {
        mut world,
        voucher,
        cancelled,
        answers,
        place,
    } = standing().await?;
    let mut earlier = world.stack.env().clone();
    earlier.insert(EARLIER.0.to_owned(), EARLIER.1.to_owned());
    let skip = [&["dlq", "skip", &*place][..], &EXECUTE].concat();
    tokio::task::block_in_place(|| run_binary("seckillctl", &skip, &earlier))?;
    rolled_forward(&mut world).await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    all_come_to_the_same_end(&mut world, voucher, 1).await?;
    world.until_status(1, &cancelled, "unpaid").await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    ensure!(
        (found.unpaid, found.rejected, found.available) == (11, 0, 9),
        "{found:?}"
    );
    Ok(())
}
