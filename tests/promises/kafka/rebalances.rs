//! Projectors start and end every second, and partitions move between them, while events are folded.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;
use seckill_testkit::Service;
use seckill_tests::{Crowd, SaleTerms, World, check_consistency};

/// The number of rounds. In each of them a projector starts or ends. There are more rounds if fewer rebalances than
/// this were seen.
const ROUNDS: usize = 24;
const REBALANCES: usize = 8;
const MOST_ROUNDS: usize = 120;
const PERIOD: Duration = Duration::from_secs(1);
/// How many projectors start before the first of them ends.
const GUESTS: usize = 3;
/// In one of this many rounds the projector is killed instead of stopped. The group then waits seven seconds for it,
/// and no partition moves meanwhile.
const KILLED_EVERY: usize = 24;

/// How often a projector was assigned a partition.
fn assignments(projector: &Service) -> Result<usize> {
    Ok(projector.output()?.matches("partition assigned").count())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: projectors come and go for half a minute"]
async fn projectors_come_and_go_every_second() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(50_000)).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..50_001);
    crowd.flows(20).await?;

    let mut guests: VecDeque<Service> = VecDeque::new();
    let mut ticks = tokio::time::interval(PERIOD);
    // The assignments of projectors that have ended, and the number of rounds in which a partition moved.
    let (mut killed, mut assigned, mut rebalances) = (0, 0, 0);
    let at_start = assignments(&world.projector)?;
    let mut known = at_start;
    let mut rounds = 0;
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && rebalances >= REBALANCES {
            break;
        }
        rounds = round + 1;
        ticks.tick().await;
        // A member learns of a rebalance with its next heartbeat, so a projector that stays for only one round would
        // never get a partition.
        if round % 2 == 0 || guests.len() < GUESTS {
            guests.push_back(Service::launch(world.stack.projector(&[])?)?);
        } else if let Some(mut leaving) = guests.pop_front() {
            if round % KILLED_EVERY == KILLED_EVERY - 1 {
                leaving.kill()?;
                killed += 1;
            } else {
                assert!(leaving.stop()?.success(), "it ends in order");
            }
            assigned += assignments(&leaving)?;
        }
        crowd.flows(1).await?;
        let staying: usize = guests.iter().map(assignments).sum::<Result<_>>()?;
        let in_all = assignments(&world.projector)? + staying + assigned;
        rebalances += usize::from(in_all > known);
        known = in_all;
    }
    let calm = Instant::now();
    let answers = crowd.leave().await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    let recovered_ms = calm.elapsed().as_millis();
    assigned += guests.iter().map(assignments).sum::<Result<usize>>()?;
    assert!(assigned > 0, "the others never had a partition");
    let hand_overs = assigned + assignments(&world.projector)? - at_start;
    assert!(
        rebalances >= REBALANCES,
        "partitions changed hands in {rebalances} of {rounds} rounds only"
    );
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(found.rejected, 0);
    println!(
        "case projectors come and go every second: rounds={rounds} rebalances={rebalances} killed={killed} \
         hand_overs={hand_overs} orders={} recovered_ms={recovered_ms}",
        found.unpaid
    );
    Ok(())
}
