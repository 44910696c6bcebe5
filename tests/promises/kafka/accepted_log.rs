//! A view that an operator has had accept another log than the one it was folded from: what was decided and
//! what was promised stands, and the sales sell again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis::AsyncCommands;
use seckill_domain::VoucherId;
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_testkit::kafka::run_kafka_configs;
use seckill_testkit::stack::Builder;
use seckill_testkit::{KafkaCluster, TestStack};
use seckill_tests::{
    Answer, ForeignProducer, Runbook, SaleTerms, World, check_consistency_without_log, copies_of,
    eventually, leader_of, outcomes, until_ready, until_unready,
};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::kafka::another_log::made_anew;
use crate::process_deaths::killed_commands::killed_when;

const PRICE_CENTS: i64 = 1_000;
const ACT: [&str; 6] = ["--execute", "--yes", "--reason", "x", "--actor", "kim"];
/// Buyers whose orders were promised, and lost before they were folded.
const UNFOLDED: std::ops::Range<u64> = 51..54;

/// A sale with orders that a log decided which is gone, and orders that another one has acknowledged.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) voucher: VoucherId,
    pub(crate) answers: Vec<Answer>,
}

impl Scene {
    async fn begin(stores: Builder) -> Result<Self> {
        let mut scene = Self::opens(stores).await?;
        scene.goes_on().await?;
        Ok(scene)
    }

    /// The first four buyers of a sale of forty units. All of it is folded and carried out.
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

    /// What the lost log decided: two more buyers, one of the six has paid and one has cancelled. Three more are
    /// promised an order that is not folded. Projector and ingress have ended.
    async fn goes_on(&mut self) -> Result<()> {
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

    /// The other log grows past where the view stands: Redis still serves the sale.
    async fn sells_on(&mut self) -> Result<()> {
        let (world, voucher) = (&mut self.world, self.voucher);
        world.ingress.restart(&[])?;
        let promised = world.client.orders(voucher, 11..26).await;
        ensure!(promised.iter().all(Answer::is_reserved), "{promised:?}");
        // An order of before is paid, and one of now.
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

    /// The partition stands still within a second of its assignment, and takes no orders.
    async fn stands_still(&mut self) -> Result<()> {
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

    fn brokers(&mut self) -> Result<&mut KafkaCluster> {
        let brokers = self.world.stack.kafka_cluster.as_mut();
        brokers.context("its brokers")
    }

    fn allows_unclean_elections(&self, allowed: bool) -> Result<()> {
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

    /// Where the fold stands in the sale's partition.
    async fn position(&self) -> Result<i64> {
        let sql = "SELECT next_offset FROM view_positions WHERE view = 'orders' AND partition = $1";
        let position = sqlx::query_scalar(sql).bind(self.partition()?);
        Ok(position.fetch_one(&self.world.database().await?).await?)
    }

    /// How many records the log has.
    async fn records(&self) -> Result<usize> {
        let setting = |name| self.world.stack.setting(name);
        let settings = KafkaSettings::new(setting("KAFKA_BROKERS"), "test");
        let topic = Topics::new(setting("TOPIC_PREFIX")).events;
        let records = read_all(&settings, &topic, Duration::from_secs(30)).await?;
        Ok(records.len())
    }

    async fn rows(&self) -> Result<Vec<String>> {
        let pool = self.world.database().await?;
        let sql = "SELECT o::text FROM orders AS o UNION ALL SELECT v::text FROM vouchers AS v
                   UNION ALL SELECT p::text FROM view_positions AS p ORDER BY 1";
        Ok(sqlx::query_scalar(sql).fetch_all(&pool).await?)
    }

    /// What the runbook says for a log whose lost records are gone for good.
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

    /// Everything is as if the log had never been lost, for buyers and in the books.
    async fn is_back(&mut self) -> Result<()> {
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
        // An order of before goes on, and so does the sale.
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

    /// What was decided stands, and the sale sells; nobody has ordered in between.
    async fn sells_again(&mut self) -> Result<()> {
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

    /// What compares with the log says what the log lacks, and takes nothing of it away.
    async fn tools_know(&self) -> Result<()> {
        let (world, before) = (&self.world, self.rows().await?);
        let run = |line: &[&str]| tokio::task::block_in_place(|| world.stack.seckillctl(line));
        let compared = run(&["reconcile"])?;
        ensure!(compared.contains("0 differences in 1 sales"), "{compared}");
        ensure!(compared.contains("the log is another one"), "{compared}");
        let refused = run(&["rebuild", "orders", "check"]).err();
        let refused = format!("{:#}", refused.context("it folds what is not there")?);
        ensure!(refused.contains("would lack orders"), "{refused}");
        ensure!(self.rows().await? == before, "they have changed rows");

        // What is wrong with an order of since is repaired, and nothing else.
        let pool = world.database().await?;
        sqlx::query("UPDATE orders SET amount_cents = 1 WHERE status = 'paid' AND user_id = 11")
            .execute(&pool)
            .await?;
        let mended = run(&[&["reconcile"][..], &ACT].concat())?;
        ensure!(mended.contains("0 differences are left"), "{mended}");
        ensure!(self.rows().await? == before, "{mended}");
        Ok(())
    }

    /// Consumers that know what they have seen by its id, and a sale by its version, miss nothing.
    async fn told(&self) -> Result<()> {
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

fn order_of(answer: &Answer) -> Result<&str> {
    answer.order_id().with_context(|| format!("{answer:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_accepts_a_log_that_was_made_anew_and_keeps_what_was_decided() -> Result<()> {
    let mut scene = Scene::begin(TestStack::builder()).await?;
    made_anew(&scene.world).await?;
    scene.sells_on().await?;
    scene.stands_still().await?;
    let said = scene.accept()?;
    ensure!(said.contains("The fold goes on at 0."), "{said}");
    ensure!(said.contains("3 orders, written once more"), "{said}");
    scene.is_back().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_accepts_a_log_that_was_cut_and_grew_again_and_keeps_what_was_decided() -> Result<()>
{
    let mut scene = Scene::begin(TestStack::builder().private_kafka()).await?;
    let partition = scene.partition()?;
    let topic = Topics::new(scene.world.stack.setting("TOPIC_PREFIX")).events;
    let broker = scene.world.stack.kafka.as_mut().context("its broker")?;
    // What was not folded, the cancellation, the payment, and orders among them.
    let end = broker.restart_without_last(&topic, partition, 7)?;
    scene.sells_on().await?;
    scene.stands_still().await?;
    let said = scene.accept()?;
    ensure!(
        said.contains(&format!("The fold goes on at {end}.")),
        "{end}: {said}"
    );
    scene.is_back().await
}

/// Nothing was written since: the view's position lies beyond the log, and the client does not ask again.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_stands_beyond_the_end_of_a_cut_log_accepts_it() -> Result<()> {
    let mut scene = Scene::begin(TestStack::builder().private_kafka()).await?;
    let partition = scene.partition()?;
    let topic = Topics::new(scene.world.stack.setting("TOPIC_PREFIX")).events;
    let broker = scene.world.stack.kafka.as_mut().context("its broker")?;
    let end = broker.restart_without_last(&topic, partition, 7)?;
    scene.world.ingress.relaunch(&[])?;
    scene.world.projector.relaunch(&[])?;
    until_unready(&scene.world.projector, "it was cut or made anew").await?;
    let said = scene.accept()?;
    ensure!(
        said.contains(&format!("The fold goes on at {end}.")),
        "{end}: {said}"
    );
    scene.world.projector.relaunch(&[])?;
    scene.sells_again().await
}

/// One of the partition's two copies was away for the last records, and leads when the other one dies: somebody
/// has allowed that.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: three brokers"]
async fn a_view_accepts_a_log_that_an_unclean_election_has_cut_and_keeps_what_was_decided()
-> Result<()> {
    let brokers = KafkaCluster::start(3)?;
    let stores = TestStack::builder().kafka_cluster(brokers).topic_copies(2);
    let mut scene = Scene::opens(stores).await?;
    scene.allows_unclean_elections(true)?;
    let (leader, follower) = copies_of(&scene.world, scene.voucher)?;
    scene.brokers()?.kill(follower)?;
    let kept = scene.position().await?;
    scene.goes_on().await?;
    scene.brokers()?.kill(leader)?;
    scene.brokers()?.restart(follower)?;
    eventually("the copy that lacks records leads", || async {
        Ok(leader_of(&scene.world, scene.voucher)? == Some(follower))
    })
    .await?;
    scene.brokers()?.restart(leader)?;
    // While they are allowed no service starts.
    scene.allows_unclean_elections(false)?;
    // It may have given its clients up.
    let timeout = &mut scene.world.timeout;
    if timeout.exit_status()?.is_some() {
        timeout.relaunch(&[])?;
    }
    scene.sells_on().await?;
    scene.stands_still().await?;
    let said = scene.accept()?;
    ensure!(
        said.contains(&format!("The fold goes on at {kept}.")),
        "{kept}: {said}"
    );
    scene.is_back().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_that_was_killed_before_its_commit_is_given_again() -> Result<()> {
    let mut scene = Scene::begin(TestStack::builder()).await?;
    made_anew(&scene.world).await?;
    scene.sells_on().await?;
    scene.stands_still().await?;
    let before = scene.records().await?;
    // It comes to the transaction and not through it: somebody has the position's row.
    let pool = scene.world.database().await?;
    let mut lock = pool.begin().await?;
    sqlx::query("SELECT FROM view_positions FOR UPDATE")
        .execute(&mut *lock)
        .await?;
    let partition = scene.partition()?.to_string();
    let accept = [&["topics", "accept", "--partition", &partition][..], &ACT].concat();
    killed_when(&scene.world, &accept, "http://127.0.0.1:1", || async {
        Ok(scene.records().await? == before + 3)
    })
    .await?;
    lock.rollback().await?;
    until_unready(&scene.world.projector, "is another one than was folded").await?;

    let said = scene.accept()?;
    ensure!(said.contains("0 orders, written once more"), "{said}");
    ensure!(
        scene.records().await? >= before + 3,
        "they stand in the log"
    );
    scene.is_back().await
}
