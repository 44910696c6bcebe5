//! The clocks of PostgreSQL, Redis and this machine.

use std::time::Duration;

use seckill_domain::Timestamp;
use seckill_stores::clocks::{Clocks, Reading, Skew, SkewError, StoreClocks};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Findings, Stores, causes};

const MEND: &str = "chronyc makestep on the machine that is wrong";

pub(super) async fn look(stores: &Stores) -> Findings {
    let mut findings = Findings::of("clocks");
    let clocks = StoreClocks {
        orderbook: stores.orderbook.clone(),
        stock: stores.stock.clone(),
    };
    let origin = Instant::now();
    // Connect before the measurement, because making a connection takes time.
    let _ = tokio::join!(clocks.database(), clocks.redis());
    let database = match Reading::take(origin, clocks.database()).await {
        Ok(reading) => reading,
        Err(error) => {
            findings.wrong("postgresql", causes(&error), "see postgresql");
            return findings;
        }
    };
    match Reading::take(origin, clocks.redis()).await {
        Ok(redis) => {
            let skew = Skew::worst(&database, &redis);
            judge(
                &mut findings,
                "postgresql against redis",
                skew,
                stores.grace,
            );
        }
        Err(error) => findings.wrong("redis", causes(&error), "see redis"),
    }
    let micros = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000);
    let here = Reading {
        clock: Timestamp::from_micros(micros.unwrap_or(0)),
        asked: origin.elapsed(),
        answered: origin.elapsed(),
    };
    let skew = Some(Skew::between(&database, &here));
    judge(
        &mut findings,
        "postgresql against this machine",
        skew,
        stores.grace,
    );
    findings
}

fn judge(findings: &mut Findings, what: &str, skew: Option<Skew>, grace: Duration) {
    let Some(skew) = skew else { return };
    let apart = format!(
        "{} ms apart, known to ±{} ms",
        skew.ahead_us / 1_000,
        skew.uncertainty.as_millis()
    );
    match skew.check(grace) {
        Ok(()) => findings.ok(what, apart),
        Err(SkewError::Apart { .. }) => findings.wrong(what, apart, MEND),
        Err(SkewError::Unknown { .. }) => findings.wrong(what, apart, "a quicker way to them"),
    }
}
