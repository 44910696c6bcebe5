//! Rebuilds the order book: folds the log into a second set of tables.

mod check;
mod load;
mod progress;
mod report;
mod states;
mod switch;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use seckill_domain::{LogBatch, Offset};
use seckill_eventlog::{EventStream, OffsetRange};
use seckill_orderbook::{Orderbook, RebuildLock, RebuildPhase, RebuildRecord, Shadow, View};
use seckill_rebuild::{Copy, EventFeed, FeedError, RebuildError};

use crate::act::Act;
use crate::commands::db::connect_with;
use crate::failure::Failure;
use crate::log::Log;
use crate::output::{Output, Report};
use crate::settings::{Need, Settings};

/// Connections to the live tables: for the lock, a snapshot, the exchange, and other queries at the same time.
const LIVE_CONNECTIONS: u32 = 5;
/// Connections to the copy. More connections than the database has processors are not faster.
const COPY_CONNECTIONS: u32 = 4;

/// How often the command tries to get the lock of the rebuilds, within two seconds.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What to do with a rebuild.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The tables of the order book: sales, orders, refunds, adjustments, reloads.
    #[command(subcommand)]
    Orders(Orders),
    /// Publish the state of every order again to the compacted topic of states.
    ///
    /// For a topic that was made after the first orders, was deleted, or was not written to by an earlier version.
    /// The services stay up; consumers recognise what they know by its version.
    #[command(
        after_help = "Example: seckillctl rebuild states --execute --reason 'the topic is new'"
    )]
    States(#[command(flatten)] Act),
}

const AFTER_HELP: &str = "\
Examples:
  seckillctl rebuild orders start                                  # the plan
  seckillctl rebuild orders start --execute --reason 'order 17 looks wrong'
  seckillctl rebuild orders verify
  seckillctl rebuild orders promote --execute --reason 'proven'
  seckillctl rebuild orders rollback --execute --reason 'reports are slow'
  seckillctl rebuild orders prune --execute --reason 'a week has passed'";

/// A rebuild writes into a schema of its own and publishes nothing; the services stay up.
#[derive(Debug, Subcommand)]
#[command(after_help = AFTER_HELP)]
pub(crate) enum Orders {
    /// Fold the log into new tables up to the positions of the live ones, follow these, and compare the two.
    ///
    /// After an interruption of any kind the same command continues the work.
    #[command(after_help = AFTER_HELP)]
    Start(#[command(flatten)] Act),
    /// Show the rebuilds, and how far the open one is behind the live tables.
    Status,
    /// Fold the copy exactly up to the positions of the live tables, and compare the two, sale by sale.
    Verify,
    /// Fold the log in memory, and compare the live tables with it. Needs no copy, and writes nothing.
    Check,
    /// Compare again, and replace the live tables with the copy. Orders keep coming in.
    Promote(Promote),
    /// Undo a promotion: bring the former tables up to date and make them live again.
    Rollback(#[command(flatten)] Act),
    /// Drop the copy. The live tables stay as they are.
    Abort(#[command(flatten)] Act),
    /// Drop the former tables after a promotion. A rollback is not possible after that.
    Prune(#[command(flatten)] Act),
}

/// Whether to promote.
#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// Promote although this number of sales differ, which `verify` has printed, because the live tables are wrong.
    #[arg(long, value_name = "SALES", default_value_t = 0)]
    accept_differences: usize,
    #[command(flatten)]
    act: Act,
}

pub(crate) async fn run(
    command: Command,
    settings: &Settings,
    output: Output,
) -> Result<Report, Failure> {
    settings.check(&[Need::Kafka, Need::Database])?;
    let site = Site {
        log: Log::open(settings)?,
        live: connect_with(settings, LIVE_CONNECTIONS)?,
    };
    let command = match command {
        Command::Orders(command) => command,
        Command::States(act) => return states::run(&site, &act).await,
    };
    let reads_the_log = !matches!(
        command,
        Orders::Status | Orders::Abort(_) | Orders::Prune(_)
    );
    if reads_the_log {
        site.refuse_other_logs().await?;
    }
    match command {
        Orders::Start(act) => load::start(&site, &act, output).await,
        Orders::Status => report::status(&site).await,
        Orders::Verify => load::verify(&site, output).await,
        Orders::Check => check::run(&site, output).await,
        Orders::Promote(promote) => switch::promote(&site, &promote, output).await,
        Orders::Rollback(act) => switch::rollback(&site, &act).await,
        Orders::Abort(act) => switch::abort(&site, &act).await,
        Orders::Prune(act) => switch::prune(&site, &act).await,
    }
}

/// The log, and the live tables.
struct Site {
    log: Log,
    live: Orderbook,
}

/// Events of one partition for a fold.
struct Feed(EventStream);

impl EventFeed for Feed {
    fn partition(&self) -> i32 {
        self.0.partition
    }

    async fn next(&mut self) -> Result<LogBatch, FeedError> {
        Ok(self.0.next().await?)
    }
}

impl Site {
    fn topic(&self) -> &str {
        &self.log.topics.events
    }

    fn partitions(&self) -> Vec<i32> {
        (0..self.log.partitions).collect()
    }

    async fn live_positions(&self) -> Result<Vec<(i32, Offset)>, Failure> {
        let partitions = self.partitions();
        let positions = self.live.positions(self.topic(), &partitions, View::Orders);
        let positions = positions.await;
        Ok(positions.context("cannot read the live tables' positions")?)
    }

    /// The rebuild that has a copy of the tables, if there is one.
    async fn open_rebuild(&self) -> Result<Option<RebuildRecord>, Failure> {
        let all = self.live.rebuilds(self.topic()).await;
        let all = all.context("cannot read the rebuilds: has `seckillctl db migrate` been run?")?;
        Ok(all.into_iter().find(|record| record.phase.is_open()))
    }

    /// The open rebuild, if it is in one of these phases.
    async fn rebuild_in(&self, phases: &[RebuildPhase]) -> Result<RebuildRecord, Failure> {
        let open = self.open_rebuild().await?;
        let found = open.filter(|record| phases.contains(&record.phase));
        found.ok_or_else(|| {
            let names: Vec<_> = phases.iter().map(|phase| phase.as_str()).collect();
            Failure::NotFound(format!(
                "no rebuild is {}: see `seckillctl rebuild orders status`",
                names.join(" or ")
            ))
        })
    }

    /// Refuses a log that lacks folded records, because tables that are folded from it would lack orders.
    async fn refuse_other_logs(&self) -> Result<(), Failure> {
        let accepted = self.live.accepted_logs(self.topic()).await;
        let accepted = accepted
            .context("cannot read the accepted logs: has `seckillctl db migrate` been run?")?;
        accepted.last().map_or(Ok(()), |log| {
            Err(Failure::Refused(format!(
                "partition {} was folded up to {} from a log that is gone from {} on (`topics accept`): tables \
                 that are folded from the one that is there would lack orders; nothing was done",
                log.partition,
                log.stood_at.get(),
                log.from.get()
            )))
        })
    }

    /// The lock that allows to change a rebuild's tables, as long as the value is kept. Tries several times, because
    /// PostgreSQL may not have noticed yet that an earlier command has ended.
    async fn lock(&self) -> Result<RebuildLock, Failure> {
        for _ in 0..LOCK_ATTEMPTS {
            let lock = self.live.lock_rebuilds().await;
            if let Some(lock) = lock.context("cannot lock the rebuilds")? {
                return Ok(lock);
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(Failure::Refused(
            "another seckillctl is at work on a rebuild; nothing was done".into(),
        ))
    }

    fn shadow(&self, record: &RebuildRecord) -> Result<Shadow, Failure> {
        let shadow = self.live.shadow(self.topic(), record, COPY_CONNECTIONS);
        Ok(shadow.ok_or_else(|| anyhow!("rebuild {} has no tables any more", record.id))?)
    }

    /// The copy, with feeds from the log.
    async fn copy(&self, shadow: Shadow) -> Result<Copy<Feed>, Failure> {
        let folds = shadow.folds(&self.partitions()).await;
        let folds = folds.context("cannot read the copy's positions")?;
        let starts = folds.iter().map(|f| (f.partition(), f.position()));
        let streams = self.log.events(starts.collect()).await?;
        let feeds = streams.into_iter().map(Feed).collect();
        let live = self.live.clone();
        Ok(Copy::new(shadow, live, self.topic(), folds, feeds))
    }

    /// The offsets between two positions, for every partition. Refuses a log that no longer has their records.
    async fn ranges(
        &self,
        from: &[(i32, Offset)],
        to: &[(i32, Offset)],
    ) -> Result<Vec<OffsetRange>, Failure> {
        let held = self.log.event_ranges().await?;
        let from: HashMap<i32, Offset> = from.iter().copied().collect();
        let mut ranges = Vec::new();
        for (partition, to) in to.iter().copied() {
            let zero = Offset::new(0);
            let from = from.get(&partition).copied().unwrap_or(zero);
            let held = held.iter().find(|s| s.partition == partition);
            let (first, end) = held.map_or((zero, zero), |s| (s.from, s.to));
            if to > from && (first > from || end < to) {
                return Err(Failure::Refused(format!(
                    "partition {partition} of {} has records {} to {}, and {} to {} are needed: the \
                     log was cut, or DATABASE_URL belongs to another one; nothing was done",
                    self.topic(),
                    first.get(),
                    end.get(),
                    from.get(),
                    to.get()
                )));
            }
            ranges.push(OffsetRange {
                partition,
                from,
                to: to.max(from),
            });
        }
        Ok(ranges)
    }
}

fn failed(error: RebuildError) -> Failure {
    Failure::Failed(anyhow!(error))
}
