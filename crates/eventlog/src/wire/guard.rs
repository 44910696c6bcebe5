//! Reading bytes from unknown writers with libraries that may panic on some bytes.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IS_READING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread reads a record's bytes at this moment. A panic is then caught, and is the
/// record's fault and not the process's: a panic hook that ends the process has to ask this first.
#[must_use]
pub fn catches_panics() -> bool {
    IS_READING.get()
}

/// What `read` returns, or the message it panicked with.
pub(crate) fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    let before = IS_READING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(read));
    IS_READING.set(before);
    result.map_err(|panic| message_of(panic.as_ref()))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_the_guard_is_gone_after_it() {
        assert_eq!(guarded(|| (catches_panics(), 7)), Ok((true, 7)));
        let short: Result<(), _> = guarded(|| panic!("byte 3"));
        assert_eq!(short, Err("byte 3".to_owned()));
        let made: Result<(), _> = guarded(|| panic!("byte {}", 1 + 3));
        assert_eq!(made, Err("byte 4".to_owned()));
        assert!(!catches_panics());
    }

    #[test]
    fn a_guard_within_a_guard_leaves_the_outer_one_in_place() {
        let outer = guarded(|| {
            let inner: Result<(), _> = guarded(|| panic!("inner"));
            (inner.is_err(), catches_panics())
        });
        assert_eq!(outer, Ok((true, true)));
    }
}
