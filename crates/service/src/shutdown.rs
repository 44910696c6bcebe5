//! SIGTERM and SIGINT begin an orderly end; a process that cannot go on ends with status 1 in any case.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long the orderly end after a signal may take: whoever sent it waits longer before it sends SIGKILL,
/// Kubernetes 30 s if it is told nothing else.
const ORDERLY_END: Duration = Duration::from_secs(25);

/// A token that is cancelled by the first SIGTERM or SIGINT. The process then ends within 25 s, whatever it
/// waits for. Has to be called in a tokio runtime.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "shutting down");
        end_within(
            ORDERLY_END,
            "SIGTERM was not followed by an orderly end in time",
        );
        cancelled.cancel();
    });
    Ok(token)
}

/// How long the orderly end of a process that cannot go on may take: long enough to answer who waits.
const LAST_WORDS: Duration = Duration::from_secs(1);

static CANNOT_GO_ON: AtomicBool = AtomicBool::new(false);

/// Ends this process, because it cannot go on and its supervisor has to start another: in order, through
/// `stop`, if that takes no longer than a second, and with status 1. [`exit_code`] says so, too.
pub fn give_up(stop: &CancellationToken, why: &str) {
    CANNOT_GO_ON.store(true, Ordering::SeqCst);
    tracing::error!(why, "the process cannot go on and ends");
    eprintln!("the process cannot go on and ends: {why}");
    end_within(LAST_WORDS, why);
    stop.cancel();
}

/// Ends the process with status 1, unless it has ended before. Nothing is lost by it: what was not carried
/// out is carried out by the next process, as after a crash.
fn end_within(time: Duration, why: &str) {
    let why = why.to_owned();
    // A thread of its own: the runtime may be going down, and may wait for what is stuck.
    std::thread::spawn(move || {
        std::thread::sleep(time);
        eprintln!("the process ends at once: {why}");
        std::process::exit(1);
    });
}

/// The status of a process that ended in order.
#[must_use]
pub fn exit_code() -> ExitCode {
    if CANNOT_GO_ON.load(Ordering::SeqCst) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
