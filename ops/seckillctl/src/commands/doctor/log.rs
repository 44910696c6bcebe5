//! Checks whether the log is the one that was folded, and whether this version can read the next record.

use seckill_eventlog::{Log as Found, ReadError};

use super::{Findings, Stores, causes};

pub(super) async fn look(stores: &Stores) -> Findings {
    let mut findings = Findings::of("log");
    match read(stores, &mut findings).await {
        Ok(()) => {}
        // Other rows of the table show the cause.
        Err(error) => findings.wrong("answer", format!("{error:#}"), "see kafka and postgresql"),
    }
    findings
}

async fn read(stores: &Stores, findings: &mut Findings) -> anyhow::Result<()> {
    let (log, topic) = (&stores.log, &stores.log.topics.events);
    let numbers: Vec<i32> = (0..log.partitions).collect();
    let positions = stores.orderbook.fold_positions(topic, &numbers).await?;
    let records = log.record_reader()?;
    let mut is_right = true;
    for (partition, position) in positions {
        if let Found::Other(why) = records
            .log_of(partition, position.next, position.last)
            .await?
        {
            is_right = false;
            let mend = format!(
                "the log of before, or `seckillctl topics accept --partition {partition}`: \
                 ops/runbooks/fold-stands-still.md"
            );
            findings.wrong(&format!("partition {partition}"), why, mend);
            continue;
        }
        let next = match records.first_from(partition, position.next).await {
            Err(ReadError::NotInLog { .. }) => None,
            next => next?,
        };
        let Some(record) = next else { continue };
        if let Err(error) = record.event(log.partitions)
            && error.is_not_known_yet()
        {
            is_right = false;
            let at = format!("{partition}/{}", record.offset.get());
            let mend = format!(
                "the version that wrote it, or `seckillctl dlq skip {at}`: ops/runbooks/dead-letters.md"
            );
            let found = format!("{at} cannot be read by this version: {}", causes(&error));
            findings.wrong("schemas", found, mend);
        }
    }
    if is_right {
        findings.ok("identity", "the log is the one that was folded");
        findings.ok("schemas", "this version reads what is to be folded next");
    }
    Ok(())
}
