//! A crowd that is refused by an instance which remembers that the sale is sold out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::Service;
use seckill_tests::{Answer, Client, SaleTerms, World, check_consistency, eventually, series};
use tokio::task::JoinSet;

/// Buyers at a time. An instance remembers only where several ask at once.
const BUYERS: usize = 16;
/// The first of the crowd's user ids.
const CROWD: u64 = 1_000_000;

/// Buyers who ask one instance for two units of a sale of one, each once.
struct RefusedCrowd {
    stop: Arc<AtomicBool>,
    buyers: JoinSet<Result<()>>,
}

impl RefusedCrowd {
    fn come(client: &Client, voucher: VoucherId) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut buyers = JoinSet::new();
        for buyer in (0..).take(BUYERS) {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            buyers.spawn(async move {
                for user in (CROWD + buyer..).step_by(BUYERS) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let answer = client.order(voucher, user, None, 2).await?;
                    ensure!(answer.problem() == "sold-out", "{answer:?}");
                }
                Ok(())
            });
        }
        Self { stop, buyers }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When a buyer had another answer than `sold-out`.
    async fn leave(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.buyers.join_all().await.into_iter().collect()
    }
}

fn remembered(service: &Service) -> Result<usize> {
    let refused = series(service, "seckill_sold_out_remembered_total")?;
    Ok(refused.unwrap_or(0))
}

/// Asks until the unit that comes back is this buyer's.
async fn gets_the_unit(client: &Client, voucher: VoucherId, user: u64) -> Result<Answer> {
    let key = format!("key-{user}");
    loop {
        let answer = client.order(voucher, user, Some(&key), 1).await?;
        if answer.status == 202 {
            return Ok(answer);
        }
        ensure!(answer.problem() == "sold-out", "{answer:?}");
    }
}

/// Each round a unit comes back while one instance refuses a crowd from memory. Whoever gets it, at whichever of the two,
/// asks the other one in the next moment.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_told_of_an_order_is_never_told_by_another_instance_that_it_is_sold_out()
-> Result<()> {
    let world = World::start()?;
    let second = world.stack.start_ingress(&[])?;
    let clients = [world.client_of(&second), world.client.clone()];
    let terms = SaleTerms {
        stock: 1,
        max_quantity: 2,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let mut answers = vec![gets_the_unit(&clients[0], voucher, 1).await?];
    let crowd = RefusedCrowd::come(&world.client, voucher);
    for round in 0..20 {
        let before = remembered(&world.ingress)?;
        eventually("the crowd is refused from memory", || async {
            Ok(remembered(&world.ingress)? > before + 20)
        })
        .await?;
        let (holder, next) = (round + 1, round + 2);
        let held = answers
            .last()
            .and_then(Answer::order_id)
            .context("no order")?;
        let held = held.to_owned();
        eventually("the order is cancelled", || async {
            Ok(clients[1].cancel(holder, &held).await?.status == 202)
        })
        .await?;

        let turn = usize::try_from(round % 2)?;
        let (here, there) = (&clients[turn], &clients[1 - turn]);
        let got = gets_the_unit(here, voucher, next).await?;
        let other_key = there.order(voucher, next, Some("another"), 1).await?;
        ensure!(
            (other_key.problem(), other_key.order_id()) == ("already-ordered", got.order_id()),
            "{other_key:?}"
        );
        let key = format!("key-{next}");
        let same_key = there.order(voucher, next, Some(&key), 1).await?;
        ensure!(same_key.order_id() == got.order_id(), "{same_key:?}");

        // So is the one before, whose order has ended.
        let key = format!("key-{holder}");
        let ended = clients[1].order(voucher, holder, Some(&key), 1).await?;
        ensure!(ended.order_id() == Some(&*held), "{ended:?}");
        answers.push(got);
    }
    crowd.leave().await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.unpaid, found.available), (1, 0));
    Ok(())
}
