//! The state that a consumer's handle and its thread share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use seckill_domain::Offset;
use tokio::sync::watch;

use crate::kafka::progress::Verdict;

/// A command from the handle to the thread.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Command {
    Restart { partition: i32, offset: Offset },
    Commit { partition: i32, next: Offset },
}

/// What handle and thread both see.
pub(crate) struct ConsumerState {
    started: Instant,
    last_poll_ms: AtomicU64,
    stopping: AtomicBool,
    verdict: watch::Sender<Verdict>,
    thread: OnceLock<Thread>,
}

impl ConsumerState {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            last_poll_ms: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            verdict: watch::Sender::new(Verdict::Fine),
            thread: OnceLock::new(),
        }
    }

    /// The consumer runs on this thread.
    pub(crate) fn runs_here(&self) {
        self.thread.get_or_init(std::thread::current);
    }

    /// There is something to do for the consumer's thread.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    pub(crate) fn judge(&self, verdict: Verdict) {
        self.verdict.send_if_modified(|before| {
            let changed = *before != verdict;
            *before = verdict;
            changed
        });
    }

    pub(crate) fn is_doubtful(&self) -> bool {
        *self.verdict.borrow() != Verdict::Fine
    }

    pub(crate) async fn until_stuck(&self) {
        let mut verdict = self.verdict.subscribe();
        // The sender is a field of this struct, so it still exists.
        let _ = verdict.wait_for(|verdict| *verdict == Verdict::Stuck).await;
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn beat(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_poll_ms.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn last_poll(&self) -> Instant {
        self.started + Duration::from_millis(self.last_poll_ms.load(Ordering::Relaxed))
    }
}
