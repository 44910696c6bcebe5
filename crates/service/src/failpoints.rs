//! Named failpoints: a test makes a process die, or wait, exactly between two lines.
//!
//! Compiled in only with the feature `failpoints`. `SECKILL_FAILPOINTS` holds
//! `name=action` pairs separated by `;`. Actions: `kill` (SIGKILL to this process), `stop` (SIGSTOP,
//! the first time only), or anything that the `fail` crate understands, such as `sleep(100)`.

/// Sets the points up that `SECKILL_FAILPOINTS` names.
///
/// # Errors
/// A message naming the pair that could not be understood.
#[cfg(feature = "failpoints")]
pub fn install() -> Result<(), String> {
    let points = match std::env::var("SECKILL_FAILPOINTS") {
        Ok(points) => points,
        Err(std::env::VarError::NotPresent) => return Ok(()),
        Err(error) => return Err(format!("SECKILL_FAILPOINTS: {error}")),
    };
    for point in points.split(';').filter(|p| !p.is_empty()) {
        let (name, action) = point
            .split_once('=')
            .ok_or_else(|| format!("SECKILL_FAILPOINTS: {point:?} is not name=action"))?;
        let point = name.to_owned();
        match action {
            "kill" => fail::cfg_callback(name, move || kill_self(&point))?,
            "stop" => {
                let once = std::sync::Once::new();
                fail::cfg_callback(name, move || once.call_once(|| stop_self(&point)))?;
            }
            _ => fail::cfg(name, action)?,
        }
    }
    Ok(())
}

/// Refuses a setting that this build does not follow: whoever set it would wait for something that never comes.
///
/// # Errors
/// When `SECKILL_FAILPOINTS` is set.
#[cfg(not(feature = "failpoints"))]
pub fn install() -> Result<(), String> {
    match std::env::var_os("SECKILL_FAILPOINTS") {
        None => Ok(()),
        Some(_) => Err(
            "SECKILL_FAILPOINTS is set, and this build has no failpoints; `cargo xtask test` builds services that have them"
                .to_owned(),
        ),
    }
}

#[cfg(feature = "failpoints")]
fn kill_self(point: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    eprintln!("failpoint {point}: SIGKILL");
    if let Err(error) = kill_process(getpid(), Signal::KILL) {
        eprintln!("failpoint {point}: {error}");
    }
    loop {
        std::thread::park();
    }
}

#[cfg(feature = "failpoints")]
fn stop_self(point: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    eprintln!("failpoint {point}: SIGSTOP");
    if let Err(error) = kill_process(getpid(), Signal::STOP) {
        eprintln!("failpoint {point}: {error}");
    }
    // The kernel may stop another thread first: this one must not get past the point meanwhile.
    std::thread::sleep(std::time::Duration::from_millis(50));
}
