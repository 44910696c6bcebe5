//! One assigned partition, with its two workers. They start and end together.

use std::sync::Arc;

use seckill_eventlog::Assignment;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::context::ProjectorContext;
use crate::effects::Seen;
use crate::traces::Traces;
use crate::{effects, fold};

/// A running partition.
pub(crate) struct Partition {
    /// Cancelled when the partition is lost.
    pub(crate) stop: CancellationToken,
    /// Sales seen open go here, so that the effects worker can catch them up.
    pub(crate) seen: mpsc::Sender<Seen>,
}

impl Partition {
    /// Starts the workers of an assignment. They end when its records end, when `stop` is
    /// cancelled, or when the view went elsewhere and the partition has to be read anew.
    pub(crate) fn start(
        shared: &Arc<ProjectorContext>,
        assignment: Assignment,
        stop: CancellationToken,
    ) -> Self {
        let (seen_sender, seen) = mpsc::channel(1_024);
        let (folded_sender, folded) = watch::channel(assignment.start);
        let partition = assignment.partition;
        tracing::info!(
            partition,
            start = assignment.start.get(),
            "partition assigned"
        );

        let traces = Traces::default();
        let effects = effects::EffectsWorker::new(
            Arc::clone(shared),
            partition,
            traces.clone(),
            stop.clone(),
        );
        shared.tasks.spawn(effects.run(folded, seen));

        let fold = fold::FoldWorker::new(
            Arc::clone(shared),
            assignment,
            folded_sender,
            traces,
            stop.clone(),
        );
        let (own_stop, shared) = (stop.clone(), Arc::clone(shared));
        shared.clone().tasks.spawn(async move {
            let end = fold.run().await;
            own_stop.cancel();
            tracing::info!(partition, ?end, "partition ended");
            if let fold::End::Restart(position) = end {
                shared.consumer.restart(partition, position);
            }
        });
        Self {
            stop,
            seen: seen_sender,
        }
    }
}
