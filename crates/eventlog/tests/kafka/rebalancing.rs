use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use seckill_eventlog::{Assignment, ConsumerHandle};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::harness::{Log, PARTITIONS, SOON, View, eventually};

/// A process that applies whatever it is given to a view that it shares with others.
struct Process {
    handle: ConsumerHandle,
    /// Partitions that it has read a record of.
    seen: Arc<Mutex<HashSet<i32>>>,
}

impl Process {
    fn start(log: &Log, view: &Arc<View>) -> Self {
        let (assignments, handle) = log.consume(16, Arc::clone(view) as Arc<_>);
        let seen = Arc::default();
        tokio::spawn(apply_all(assignments, Arc::clone(view), Arc::clone(&seen)));
        Self { handle, seen }
    }

    fn seen(&self) -> HashSet<i32> {
        self.seen.lock().unwrap().clone()
    }
}

async fn apply_all(
    mut assignments: UnboundedReceiver<Assignment>,
    view: Arc<View>,
    seen: Arc<Mutex<HashSet<i32>>>,
) {
    while let Some(mut assignment) = assignments.recv().await {
        let (view, seen) = (Arc::clone(&view), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Some(record) = assignment.records.recv().await {
                view.apply(&record);
                seen.lock().unwrap().insert(record.partition);
            }
        });
    }
}

/// Writes 100 records into every partition, and waits until the view has all that was written.
async fn write_and_wait(log: &Log, view: &View, written: &mut i64) {
    let mut partitions = HashSet::new();
    for voucher in 1..=60 {
        partitions.insert(log.write(voucher, 10).await);
        *written += 10;
    }
    assert_eq!(partitions.len(), usize::try_from(PARTITIONS).unwrap());
    eventually(|| view.total() >= *written).await;
    assert_eq!(view.total(), *written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_wander_between_processes_without_a_hole() {
    let log = Log::create().await;
    let view = View::at(&[]);
    let mut written = 0;
    let first = Process::start(&log, &view);
    write_and_wait(&log, &view, &mut written).await;
    assert_eq!(first.seen().len(), 4);

    let second = Process::start(&log, &view);
    let deadline = Instant::now() + SOON;
    while second.seen().is_empty() && Instant::now() < deadline {
        write_and_wait(&log, &view, &mut written).await;
    }
    let moved = second.seen();
    assert!(!moved.is_empty() && moved.len() < 4, "shared: {moved:?}");

    first.handle.shutdown().await.unwrap();
    write_and_wait(&log, &view, &mut written).await;
    let deadline = Instant::now() + SOON;
    while second.seen().len() < 4 && Instant::now() < deadline {
        write_and_wait(&log, &view, &mut written).await;
    }
    assert_eq!(
        second.seen().len(),
        4,
        "all of them, from the first's last position on"
    );
    second.handle.shutdown().await.unwrap();
}
