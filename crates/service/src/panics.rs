//! A panic anywhere ends the process.

/// The status that a Rust program ends with when its first thread panics.
const STATUS: i32 = 101;

/// From now on a panic in any thread or task is logged and ends the process with status 101, so that
/// its supervisor starts a new one. Otherwise only that thread or task would be gone: a process that
/// looks alive, and no longer reads, writes or answers.
///
/// `is_caught` says of the calling thread whether its panics are awaited where it is now, as when it
/// reads bytes that anybody may have written: these go on to whoever catches them.
pub fn end_the_process(is_caught: fn() -> bool) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if is_caught() {
            return;
        }
        report(panic);
        tracing::error!(%panic, "a panic ends the process");
        std::process::exit(STATUS);
    }));
}
