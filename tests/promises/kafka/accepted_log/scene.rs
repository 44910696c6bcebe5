//! A sale whose log was replaced by another one, and the checks before and after that.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis::AsyncCommands;
use seckill_domain::VoucherId;
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_testkit::KafkaCluster;
use seckill_testkit::kafka::run_kafka_configs;
use seckill_testkit::stack::Builder;
use seckill_tests::{
    Answer, ForeignProducer, Runbook, SaleTerms, World, check_consistency_without_log, eventually,
    outcomes, until_ready, until_unready,
};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const PRICE_CENTS: i64 = 1_000;
pub(super) const ACT: [&str; 6] = ["--execute", "--yes", "--reason", "x", "--actor", "kim"];
/// Buyers whose orders were promised and then lost before they were folded.
const UNFOLDED: std::ops::Range<u64> = 51..54;

/// A sale with orders that a lost log has decided, and orders that the new log has acknowledged.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) voucher: VoucherId,
    pub(crate) answers: Vec<Answer>,
}

impl Scene {
    pub(super) async fn begin(stores: Builder) -> Result<Self> {
        let mut scene = Self::opens(stores).await?;
        scene.goes_on().await?;
        Ok(scene)
    }

    /// Starts a sale of forty units with four orders, which are folded and carried out.
    pub(crate) async fn opens(stores: Builder) -> Result<Self> {
        let world = World::over(stores, &[])?;
        let voucher = world.sale(SaleTerms::of(40)).await?;
        let answers = world.client.orders(voucher, 1..5).await;
        world.quiet(voucher).await?;
        world.until_carried_out().await?;
        Ok(Self {
            world,
            voucher,
            answers,
        })
    }

    /// Makes the records that will be lost: two more orders, a payment and a cancellation. Three more orders are
    /// promised and not folded. The projector and the ingress are stopped then.
    pub(super) async fn goes_on(&mut self) -> Result<()> {
        let (world, voucher, answers) = (&mut self.world, self.voucher, &mut self.answers);
        answers.extend(world.client.orders(voucher, 5..7).await);
        eventually("a payment is taken", || async {
            let first = order_of(&answers[0])?;
            let paid = world.client.pay(first, "p1", PRICE_CENTS).await?;
            Ok(paid.status == 202)
        })
        .await?;
        world
            .until_status(1, order_of(&answers[0])?, "paid")
            .await?;
        world.client.cancel(2, order_of(&answers[1])?).await?;
        world
            .until_status(2, order_of(&answers[1])?, "cancelled")
            .await?;
        world.quiet(voucher).await?;
        world.until_carried_out().await?;
        world.projector.stop()?;
        for user in UNFOLDED {
            let promised = world.client.order(voucher, user, None, 1).await?;
            ensure!(promised.is_reserved(), "{promised:?}");
            answers.push(promised);
        }
        let (redis, outbox) = (world.redis().await?, world.sale_key(voucher, "outbox"));
        eventually("no event is pending", || {
            let mut redis = redis.clone();
            let outbox = outbox.clone();
            // One field says which load made it.
            async move { Ok(redis.hlen::<_, usize>(outbox).await? == 1) }
        })
        .await?;
        world.ingress.stop().map(drop)
    }

    pub(crate) fn partition(&self) -> Result<i32> {
        Ok(ForeignProducer::of(&self.world)?.home_of(self.voucher))
    }

    /// The other log grows beyond the view's position. Redis still serves the sale.
    pub(super) async fn sells_on(&mut self) -> Result<()> {
        let (world, voucher) = (&mut self.world, self.voucher);
        world.ingress.restart(&[])?;
        let promised = world.client.orders(voucher, 11..26).await;
        ensure!(promised.iter().all(Answer::is_reserved), "{promised:?}");
        // An earlier order is paid, and a new one.
        world
            .client
            .pay(order_of(&self.answers[2])?, "p3", PRICE_CENTS)
            .await?;
        world
            .client
            .pay(order_of(&promised[0])?, "p11", PRICE_CENTS)
            .await?;
        self.answers.extend(promised);
        Ok(())
    }

    /// Checks that the fold stops within a second of its assignment, and that no orders are accepted.
    pub(super) async fn stands_still(&mut self) -> Result<()> {
        let (partition, before) = (self.partition()?, self.rows().await?);
        self.world.projector.relaunch(&[])?;
        until_unready(&self.world.projector, "is another one than was folded").await?;
        let output = self.world.projector.output()?;
        let last = |what: &str| -> Result<OffsetDateTime> {
            let lines = output
                .lines()
                .filter_map(|l| serde_json::from_str::<Value>(l).ok());
            let mut lines = lines.filter(|l| l["message"] == what && l["partition"] == partition);
            let line = lines
                .next_back()
                .with_context(|| format!("{what}: {output}"))?;
            let time = line["timestamp"].as_str().unwrap_or_default();
            Ok(OffsetDateTime::parse(time, &Rfc3339)?)
        };
        let took = last("the fold stands still")? - last("partition assigned")?;
        ensure!(took < time::Duration::SECOND, "it took {took}");
        let (world, voucher) = (&self.world, self.voucher);
        eventually("the sale is shut", || async {
            Ok(world.client.ledger(voucher).await?["redis_available"].is_null())
        })
        .await?;
        let refused = world.client.order(voucher, 90, None, 1).await?;
        ensure!(refused.status == 503, "{refused:?}");
        ensure!(self.rows().await? == before, "something was folded");
        Ok(())
    }

    pub(super) fn brokers(&mut self) -> Result<&mut KafkaCluster> {
        let brokers = self.world.stack.kafka_cluster.as_mut();
        brokers.context("its brokers")
    }

    pub(super) fn allows_unclean_elections(&self, allowed: bool) -> Result<()> {
        let topic = Topics::new(self.world.stack.setting("TOPIC_PREFIX")).events;
        let brokers = self.world.stack.setting("KAFKA_BROKERS");
        tokio::task::block_in_place(|| {
            run_kafka_configs(&format!(
                "kafka-configs --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic} \
                 --add-config unclean.leader.election.enable={allowed}"
            ))
        })
        .map(drop)
    }

    /// The position of the fold in the sale's partition.
    pub(super) async fn position(&self) -> Result<i64> {
        let sql = "SELECT next_offset FROM view_positions WHERE view = 'orders' AND partition = $1";
        let position = sqlx::query_scalar(sql).bind(self.partition()?);
        Ok(position.fetch_one(&self.world.database().await?).await?)
    }

    /// The number of records in the log.
    pub(super) async fn records(&self) -> Result<usize> {
        let setting = |name| self.world.stack.setting(name);
        let settings = KafkaSettings::new(setting("KAFKA_BROKERS"), "test");
        let topic = Topics::new(setting("TOPIC_PREFIX")).events;
        let records = read_all(&settings, &topic, Duration::from_secs(30)).await?;
        Ok(records.len())
    }

    pub(super) async fn rows(&self) -> Result<Vec<String>> {
        let pool = self.world.database().await?;
        let sql = "SELECT o::text FROM orders AS o UNION ALL SELECT v::text FROM vouchers AS v
                   UNION ALL SELECT p::text FROM view_positions AS p ORDER BY 1";
        Ok(sqlx::query_scalar(sql).fetch_all(&pool).await?)
    }

    /// Runs the command of the runbook for a log whose lost records cannot be restored.
    pub(crate) fn accept(&self) -> Result<String> {
        let partition = format!("--partition {}", self.partition()?);
        let runbook = Runbook::read("fold-stands-still.md")?.with("--partition 3", &partition)?;
        let blocks = runbook.blocks().into_iter();
        let accepts: Vec<_> = blocks
            .filter(|block| block.contains("topics accept"))
            .collect();
        ensure!(!accepts.is_empty(), "the runbook accepts no log");
        let run = |block: &String| runbook.run_block(&self.world, block);
        tokio::task::block_in_place(|| accepts.iter().map(run).collect())
    }

    /// Checks that everything is as if the log had never been lost, for buyers and in the stores.
    pub(super) async fn is_back(&mut self) -> Result<()> {
        let (world, voucher) = (&self.world, self.voucher);
        until_ready(&world.projector).await?;
        world.until_served(voucher).await?;
        for (user, order, status) in [
            (1, 0, "paid"),
            (2, 1, "cancelled"),
            (3, 2, "paid"),
            (4, 3, "unpaid"),
            (51, 6, "unpaid"),
            (53, 8, "unpaid"),
            (11, 9, "paid"),
            (12, 10, "unpaid"),
        ] {
            let order = order_of(&self.answers[order])?;
            world.until_status(user, order, status).await?;
        }
        // An earlier order can be paid, and the sale goes on.
        world
            .client
            .pay(order_of(&self.answers[3])?, "p4", PRICE_CENTS)
            .await?;
        world
            .until_status(4, order_of(&self.answers[3])?, "paid")
            .await?;
        let again = world.client.order(voucher, 2, None, 1).await?;
        ensure!(
            again.is_reserved(),
            "who cancelled may order again: {again:?}"
        );
        let twice = world.client.order(voucher, 1, None, 1).await?;
        ensure!(twice.problem() == "already-ordered", "{twice:?}");
        world.until_status(2, order_of(&again)?, "unpaid").await?;
        self.answers.push(again);
        world.quiet(voucher).await?;
        world.until_carried_out().await?;
        let found = check_consistency_without_log(world, voucher, &self.answers).await?;
        ensure!(
            (found.paid, found.unpaid, found.rejected) == (4, 20, 0),
            "{found:?}"
        );
        self.tools_know().await?;
        self.told().await
    }

    /// Checks that decisions stay and that the sale sells. Nobody has ordered in between.
    pub(super) async fn sells_again(&mut self) -> Result<()> {
        let (world, voucher) = (&self.world, self.voucher);
        until_ready(&world.projector).await?;
        world.until_served(voucher).await?;
        world
            .until_status(1, order_of(&self.answers[0])?, "paid")
            .await?;
        world
            .until_status(51, order_of(&self.answers[6])?, "unpaid")
            .await?;
        let later = world.client.order(voucher, 90, None, 1).await?;
        ensure!(later.is_reserved(), "{later:?}");
        world.until_status(90, order_of(&later)?, "unpaid").await?;
        self.answers.push(later);
        world.quiet(voucher).await?;
        world.until_carried_out().await?;
        let found = check_consistency_without_log(world, voucher, &self.answers).await?;
        ensure!(
            (found.paid, found.unpaid, found.rejected) == (1, 8, 0),
            "{found:?}"
        );
        self.told().await
    }

    /// Checks that the tools that compare with the log report what the log lacks, and remove nothing of it.
    pub(super) async fn tools_know(&self) -> Result<()> {
        let (world, before) = (&self.world, self.rows().await?);
        let run = |line: &[&str]| tokio::task::block_in_place(|| world.stack.seckillctl(line));
        let compared = run(&["reconcile"])?;
        ensure!(compared.contains("0 differences in 1 sales"), "{compared}");
        ensure!(compared.contains("the log is another one"), "{compared}");
        let refused = run(&["rebuild", "orders", "check"]).err();
        let refused = format!("{:#}", refused.context("it folds what is not there")?);
        ensure!(refused.contains("would lack orders"), "{refused}");
        ensure!(self.rows().await? == before, "they have changed rows");

        // An error in an order after the change of logs is repaired, and nothing else.
        let pool = world.database().await?;
        sqlx::query("UPDATE orders SET amount_cents = 1 WHERE status = 'paid' AND user_id = 11")
            .execute(&pool)
            .await?;
        let mended = run(&[&["reconcile"][..], &ACT].concat())?;
        ensure!(mended.contains("0 differences are left"), "{mended}");
        ensure!(self.rows().await? == before, "{mended}");
        Ok(())
    }

    /// Checks that consumers miss nothing if they recognise outcomes by their ids and sales by their versions.
    pub(super) async fn told(&self) -> Result<()> {
        let told = outcomes(&self.world, self.voucher).await?;
        let mut by_id = std::collections::HashMap::new();
        for outcome in &told {
            let before = by_id.insert(outcome.event_id, &outcome.outcome);
            ensure!(
                before.is_none_or(|before| *before == outcome.outcome),
                "two outcomes under one id: {before:?} and {outcome:?}"
            );
        }
        Ok(())
    }
}

pub(super) fn order_of(answer: &Answer) -> Result<&str> {
    answer.order_id().with_context(|| format!("{answer:?}"))
}
