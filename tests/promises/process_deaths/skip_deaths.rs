//! The command that decides to skip a record is killed between every two of its steps, and so is the projector that
//! carries out the decision. The worst result is a fold that waits.

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::service::run_binary;
use seckill_tests::{
    Answer, EXECUTE, ForeignProducer, SaleTerms, World, await_death, check_consistency, eventually,
    revive, until_unready,
};

use crate::kafka::same_end::all_come_to_the_same_end;
use crate::kafka::skipped_records::of_unknown_schema;

const FAILPOINTS: &str = "SECKILL_FAILPOINTS";

/// A fold that has stopped before a record of an unknown schema, between two orders.
struct Standing {
    world: World,
    voucher: VoucherId,
    place: String,
    answers: Vec<Answer>,
}

async fn standing() -> Result<Standing> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let mut answers = world.client.orders(voucher, 1..2).await;
    world.quiet(voucher).await?;
    let foreign = ForeignProducer::of(&world)?;
    let offset = foreign.write_as(voucher, &of_unknown_schema()).await?;
    let place = format!("{}/{offset}", foreign.home_of(voucher));
    answers.extend(world.client.orders(voucher, 2..3).await);
    until_unready(&world.projector, "unknown schema fingerprint").await?;
    Ok(Standing {
        world,
        voucher,
        place,
        answers,
    })
}

impl Standing {
    fn skip(&self) -> Result<String> {
        self.world.execute(&["dlq", "skip", &self.place])
    }

    fn skip_dies_at(&self, point: &str) -> Result<()> {
        let mut environment = self.world.stack.env().clone();
        environment.insert(FAILPOINTS.to_owned(), format!("{point}=kill"));
        let command = [&["dlq", "skip", &*self.place][..], &EXECUTE].concat();
        let died = tokio::task::block_in_place(|| run_binary("seckillctl", &command, &environment));
        let died = format!("{:#}", died.err().context("it lives")?);
        ensure!(
            died.contains(&format!("failpoint {point}: SIGKILL")),
            "{died}"
        );
        Ok(())
    }

    /// Whether the decision is recorded in PostgreSQL, and whether it is marked there as being in the log.
    async fn noted(&self) -> Result<Option<bool>> {
        let pool = self.world.database().await?;
        let noted = sqlx::query_scalar("SELECT in_log FROM skipped_records");
        Ok(noted.fetch_optional(&pool).await?)
    }

    async fn orders(&self) -> Result<i64> {
        let pool = self.world.database().await?;
        let orders = sqlx::query_scalar("SELECT count(*) FROM orders");
        Ok(orders.fetch_one(&pool).await?)
    }

    /// Restarts the projector, which dies at `point`.
    async fn projector_dies_at(&mut self, point: &str) -> Result<()> {
        let projector = &mut self.world.projector;
        projector.stop()?;
        projector.relaunch(&[(FAILPOINTS, Some(&format!("{point}=kill")))])?;
        await_death(projector, point)
    }

    /// Checks that the orders behind the record are decided, and that every fold skips the record.
    async fn ends_well(mut self) -> Result<()> {
        let orders = i64::try_from(self.answers.len())?;
        eventually("the orders behind it are decided", || async {
            Ok(self.orders().await? == orders)
        })
        .await?;
        self.world.quiet(self.voucher).await?;
        self.world.until_carried_out().await?;
        all_come_to_the_same_end(&mut self.world, self.voucher, 1).await?;
        let found = check_consistency(&self.world, self.voucher, &self.answers).await?;
        ensure!(found.unpaid == orders && found.rejected == 0, "{found:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skip_that_died_before_its_note_can_be_repeated() -> Result<()> {
    let standing = standing().await?;
    standing.skip_dies_at("seckillctl.skip.before-noting")?;
    ensure!(standing.noted().await?.is_none());
    standing.skip()?;
    standing.ends_well().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skip_that_died_before_its_event_can_be_repeated() -> Result<()> {
    let standing = standing().await?;
    standing.skip_dies_at("seckillctl.skip.after-noting")?;
    until_unready(&standing.world.projector, "is not in the log").await?;
    ensure!((standing.noted().await?, standing.orders().await?) == (Some(false), 1));
    standing.skip()?;
    standing.ends_well().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skip_that_died_before_the_ack_can_be_repeated() -> Result<()> {
    let standing = standing().await?;
    standing.skip_dies_at("seckillctl.skip.after-produce")?;
    ensure!((standing.noted().await?, standing.orders().await?) == (Some(false), 1));
    standing.skip()?;
    standing.ends_well().await
}

/// The command need not be repeated then, because a fold that starts finds the decision in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_skip_that_died_after_the_ack_is_found_in_the_log() -> Result<()> {
    let mut standing = standing().await?;
    standing.skip_dies_at("seckillctl.skip.after-ack")?;
    ensure!((standing.noted().await?, standing.orders().await?) == (Some(false), 1));
    standing
        .projector_dies_at("projector.before-noting-skips")
        .await?;
    ensure!(standing.noted().await? == Some(false));
    revive(&mut standing.world.projector)?;
    standing.ends_well().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skip_that_died_after_the_release_of_the_fold_can_be_repeated() -> Result<()> {
    let standing = standing().await?;
    standing.skip_dies_at("seckillctl.skip.after-finish")?;
    standing.skip()?;
    standing.ends_well().await
}

/// It dies at each point on its way past the record, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_dies_around_the_skipped_record_passes_it_once() -> Result<()> {
    let mut standing = standing().await?;
    standing.world.projector.stop()?;
    standing.skip()?;
    standing.projector_dies_at("projector.before-apply").await?;
    ensure!((standing.noted().await?, standing.orders().await?) == (Some(true), 1));
    standing.projector_dies_at("projector.after-commit").await?;
    ensure!(standing.orders().await? == 2);
    standing
        .projector_dies_at("projector.after-dead-letter")
        .await?;
    revive(&mut standing.world.projector)?;
    standing.ends_well().await
}
