//! Services that die, or stand still, exactly where a test tells them to.

use std::time::Duration;

use anyhow::{Result, ensure};
use seckill_testkit::Service;

use crate::world::eventually;

const DEATH_DEADLINE: Duration = Duration::from_secs(30);

const VARIABLE: &str = "SECKILL_FAILPOINTS";

/// Ends a service in order and starts it again, to do `action` (`kill` or `stop`) at a failpoint.
///
/// # Errors
/// When it does not end, or is not ready again.
pub fn arm(service: &mut Service, point: &str, action: &str) -> Result<()> {
    service.stop()?;
    service.restart(&[(VARIABLE, Some(&format!("{point}={action}")))])
}

/// Starts a service again that [`arm`] let die, to live this time.
///
/// # Errors
/// When it is not ready.
pub fn revive(service: &mut Service) -> Result<()> {
    service.restart(&[(VARIABLE, None)])
}

/// Waits until a service has died at a failpoint, and of nothing else.
///
/// # Errors
/// When it lives on, or died elsewhere; with the end of its log.
pub fn await_death(service: &mut Service, point: &str) -> Result<()> {
    service.wait_for_exit(DEATH_DEADLINE)?;
    let output = service.output()?;
    ensure!(
        output.contains(&format!("failpoint {point}: SIGKILL")),
        "it died of something else than {point}: {output}"
    );
    Ok(())
}

/// Waits until a service has stopped itself at a failpoint. `Service::resume` wakes it.
///
/// # Errors
/// When it does not get there in time.
pub async fn await_stop(service: &Service, point: &str) -> Result<()> {
    let line = format!("failpoint {point}: SIGSTOP");
    eventually(&line, || async { Ok(service.output()?.contains(&line)) }).await
}
