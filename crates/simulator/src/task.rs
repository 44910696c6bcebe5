//! Processes as futures without wakers: the simulation chooses one of them at random and polls it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The owner of a task. Tasks with the same owner end together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) process: usize,
    /// The partition assignment it works for, if any.
    pub(crate) assignment: Option<u64>,
    /// Whether the task ends by itself.
    pub(crate) transient: bool,
}

pub(crate) struct Task {
    pub(crate) owner: Owner,
    pub(crate) future: Pin<Box<dyn Future<Output = ()>>>,
}

impl Task {
    /// Runs the task up to its next pause. False if it has ended.
    pub(crate) fn resume(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.future.as_mut().poll(&mut context).is_pending()
    }
}

struct Pause(bool);

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Lets other tasks run.
pub(crate) async fn pause() {
    Pause(false).await;
}

/// The same, `times` times.
pub(crate) async fn pause_for(times: usize) {
    for _ in 0..times {
        pause().await;
    }
}
