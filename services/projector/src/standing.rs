//! The position of each fold of this process, and what it waits for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use seckill_domain::Offset;

use crate::metrics;

/// Why a fold is blocked until an operator acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A record of a schema that this version does not have.
    UnknownSchema,
    /// An operator's decision about a record was begun and not carried out.
    SkipPending,
    /// The log is not the one that was folded.
    AnotherLog,
    /// The log could not be read to find that out.
    LogUnreadable,
    /// A constraint of PostgreSQL refuses what the fold writes.
    Refused,
}

impl Cause {
    const ALL: [Self; 5] = [
        Self::UnknownSchema,
        Self::SkipPending,
        Self::AnotherLog,
        Self::LogUnreadable,
        Self::Refused,
    ];

    /// As the metric's label spells it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSchema => "unknown-schema",
            Self::SkipPending => "skip-pending",
            Self::AnotherLog => "another-log",
            Self::LogUnreadable => "log-unreadable",
            Self::Refused => "refused",
        }
    }
}

/// One fold.
#[derive(Debug, Clone)]
pub(crate) struct Stand {
    pub(crate) position: Offset,
    /// When it last moved, or began.
    pub(crate) moved: Instant,
    /// Before its first record it reads the log ahead, for decisions to skip one. A long log takes a while.
    pub(crate) reads_ahead: bool,
    /// Why it cannot go on.
    pub(crate) stops: Option<(Cause, String)>,
    /// The log did not have the record that was folded last: to be looked at before anything is folded.
    pub(crate) log_in_doubt: bool,
}

/// The folds of this process, by partition.
#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<BTreeMap<i32, Stand>>);

impl Standing {
    pub(crate) fn begins(&self, partition: i32, position: Offset) {
        let stand = Stand {
            position,
            moved: Instant::now(),
            reads_ahead: true,
            stops: None,
            log_in_doubt: false,
        };
        self.lock().insert(partition, stand);
        for cause in Cause::ALL {
            gauge(partition, cause, false);
        }
    }

    pub(crate) fn ends(&self, partition: i32) {
        let stopped = self.lock().remove(&partition).and_then(|stand| stand.stops);
        if let Some((cause, _)) = stopped {
            gauge(partition, cause, false);
        }
    }

    /// What is ahead was read.
    pub(crate) fn has_read_ahead(&self, partition: i32) {
        if let Some(stand) = self.lock().get_mut(&partition) {
            stand.reads_ahead = false;
        }
    }

    pub(crate) fn moved(&self, partition: i32, to: Offset) {
        if let Some(stand) = self.lock().get_mut(&partition) {
            stand.position = to;
            stand.moved = Instant::now();
        }
    }

    /// The fold cannot pass its position, and says why.
    pub(crate) fn stops(&self, partition: i32, cause: Cause, why: &str) {
        if let Some(stand) = self.lock().get_mut(&partition) {
            let known = stand.stops.replace((cause, why.to_owned()));
            let known = known.map(|(cause, _)| cause);
            if known != Some(cause) {
                let position = stand.position.get();
                tracing::error!(partition, position, why, "the fold stands still");
                if let Some(known) = known {
                    gauge(partition, known, false);
                }
                gauge(partition, cause, true);
            }
        }
    }

    pub(crate) fn goes_on(&self, partition: i32) {
        let mut folds = self.lock();
        let stopped = folds
            .get_mut(&partition)
            .and_then(|stand| stand.stops.take());
        if let Some((cause, _)) = stopped {
            tracing::info!(partition, "the fold goes on");
            gauge(partition, cause, false);
        }
    }

    /// Has the fold look whether its log is still the same, before it folds anything more.
    pub(crate) fn doubt_log(&self, partition: i32, in_doubt: bool) {
        if let Some(stand) = self.lock().get_mut(&partition) {
            stand.log_in_doubt = in_doubt;
        }
    }

    pub(crate) fn doubts_log(&self, partition: i32) -> bool {
        let folds = self.lock();
        folds
            .get(&partition)
            .is_some_and(|stand| stand.log_in_doubt)
    }

    /// Whether the fold of this partition cannot go on.
    pub(crate) fn stands_still(&self, partition: i32) -> bool {
        let folds = self.lock();
        folds
            .get(&partition)
            .is_some_and(|stand| stand.stops.is_some())
    }

    pub(crate) fn all(&self) -> BTreeMap<i32, Stand> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Stand>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gauge(partition: i32, cause: Cause, stands: bool) {
    let labels = [partition.to_string(), cause.as_str().to_owned()];
    metrics::FOLD_STANDS_STILL
        .with(labels)
        .set(f64::from(u8::from(stands)));
}

/// A view that has something to do and has not moved for this long is not ready.
pub(crate) const STALL: Duration = Duration::from_secs(10);
