//! The traces of what a partition has folded, for the effects that follow from it. They are kept in memory
//! only: after a restart outcomes begin traces of their own, and nothing else depends on them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use seckill_domain::{Offset, TraceParent};
use seckill_eventlog::Record;
use seckill_service::traces::{self, Kind, Span};

/// Records whose effects may be outstanding; of more, the oldest are forgotten.
const KEPT: usize = 16_384;

/// Of one partition; its workers have clones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces(Arc<Mutex<VecDeque<(Offset, TraceParent)>>>);

/// The records of a batch that somebody traces: what each follows from, and its fold's own context.
pub(crate) struct Folding {
    began: SystemTime,
    records: usize,
    traced: Vec<(Offset, TraceParent, TraceParent)>,
}

impl Traces {
    /// Notes the records of a batch before it is folded: their effects may be read at once afterwards.
    pub(crate) fn fold(&self, records: &[Record]) -> Folding {
        let mut traced = Vec::new();
        let mut known = self.lock();
        if let Some(first) = records.first() {
            // A batch that is folded again.
            let before = known.partition_point(|(offset, _)| *offset < first.offset);
            known.truncate(before);
        }
        for record in records {
            let Some(cause) = record.trace() else {
                continue;
            };
            let mut context = cause;
            if traces::wants(cause) {
                context = traces::child(cause);
                traced.push((record.offset, cause, context));
            }
            known.push_back((record.offset, context));
        }
        let surplus = known.len().saturating_sub(KEPT);
        known.drain(..surplus);
        Folding {
            began: SystemTime::now(),
            records: records.len(),
            traced,
        }
    }

    /// The trace of the record that stands there, if it was folded here.
    pub(crate) fn of(&self, offset: Offset) -> Option<TraceParent> {
        let known = self.lock();
        let found = known.binary_search_by_key(&offset, |(offset, _)| *offset);
        found.ok().map(|at| known[at].1)
    }

    /// Of these offsets, the contexts that somebody traces.
    pub(crate) fn wanted(&self, offsets: impl Iterator<Item = Offset>) -> Vec<TraceParent> {
        let known = offsets.filter_map(|offset| self.of(offset));
        known.filter(|trace| traces::wants(*trace)).collect()
    }

    /// Everything below is carried out.
    pub(crate) fn forget_before(&self, offset: Offset) {
        let mut known = self.lock();
        let done = known.partition_point(|(known, _)| *known < offset);
        known.drain(..done);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Offset, TraceParent)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folding {
    /// Sends a span for each traced record: the batch is committed.
    pub(crate) fn end(self, partition: i32) {
        let causes = self.traced.iter().map(|(_, cause, _)| *cause);
        for (offset, cause, context) in &self.traced {
            Span::new("fold", Kind::Consumer, *context, Some(*cause), self.began)
                .with("messaging.system", "kafka")
                .with("messaging.destination.partition.id", partition.to_string())
                .with("messaging.kafka.offset", offset.get())
                .with("messaging.batch.message_count", self.records as i64)
                .linked(causes.clone())
                .end();
        }
    }
}
