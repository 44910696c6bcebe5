//! For commands that change something. By default they only print a plan. With `--execute` they ask for a confirmation,
//! make the change, and record it in `ops_audit`.

use std::fs;
use std::io::{BufRead, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use seckill_domain::{Actor, Reason};
use seckill_orderbook::AuditEntry;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output::tell;

/// After a pause, the rate may be higher until this much time is made up for.
const CATCH_UP: Duration = Duration::from_millis(50);

/// Whether to make the change, who makes it, and why.
#[derive(Debug, Args)]
pub(crate) struct Act {
    /// Make the change; without this, only the plan is printed.
    #[arg(long, requires = "reason")]
    execute: bool,
    /// Don't ask for a confirmation.
    #[arg(long, requires = "execute")]
    yes: bool,
    /// The reason, for the audit.
    #[arg(long, value_name = "TEXT", value_parser = Reason::written)]
    reason: Option<Reason>,
    /// The name of the operator, for the audit [default: the value of USER].
    #[arg(long, value_name = "NAME", value_parser = Actor::written)]
    actor: Option<Actor>,
}

/// A confirmed permission to make the change, with the data for the audit.
#[derive(Debug)]
pub(crate) struct Warrant {
    pub(crate) actor: Actor,
    pub(crate) reason: Reason,
    command: String,
    origin: String,
}

impl Act {
    /// Whether the change is to be made, and not only planned.
    pub(crate) const fn executes(&self) -> bool {
        self.execute
    }

    /// The last line of a plan, or of a change that was made.
    pub(crate) fn closing(&self, executed: bool) -> &'static str {
        match (executed, self.execute) {
            (true, _) => "",
            (false, true) => "\nthere was nothing to do",
            (false, false) => "\nnothing was done: --execute does it",
        }
    }

    /// None if only the plan was asked for, or there is nothing to do. Otherwise asks the operator to type `phrase`,
    /// which names the change and its size.
    pub(crate) fn warrant(
        &self,
        phrase: &str,
        affected: usize,
    ) -> Result<Option<Warrant>, Failure> {
        let (true, Some(reason)) = (self.execute && affected > 0, &self.reason) else {
            return Ok(None);
        };
        let actor = self.actor.clone().or_else(user).ok_or_else(|| {
            let needed = "--actor is needed: USER names nobody, and the audit wants a name";
            Failure::Usage(needed.into())
        })?;
        if !self.yes {
            let stdin = std::io::stdin();
            if !stdin.is_terminal() {
                return Err(Failure::Refused(
                    "not confirmed, and standard input is no terminal to ask: --yes confirms"
                        .into(),
                ));
            }
            tell(format_args!("Type \"{phrase}\" to go on: "));
            confirm(phrase, &mut stdin.lock())?;
        }
        Ok(Some(Warrant::new(actor, reason.clone())))
    }
}

/// The name in USER, if it is a valid name for the audit.
pub(crate) fn user() -> Option<Actor> {
    let name = std::env::var_os("USER")?.into_string().ok()?;
    Actor::written(&name).ok()
}

/// The account and the machine on which this runs, for example `kim@ops-1`. They are read from the system, not from
/// variables.
fn origin() -> String {
    let uid = fs::metadata("/proc/self").map(|process| process.uid());
    let uid = uid.map_or_else(|_| "?".to_owned(), |uid| uid.to_string());
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|account| {
        let mut fields = account.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}@{}", name.unwrap_or(uid), machine.trim())
}

/// The command line without the program's name. Bytes that are not UTF-8 are replaced by a mark.
fn arguments() -> String {
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    arguments.collect::<Vec<_>>().join(" ")
}

fn confirm(phrase: &str, answers: &mut impl BufRead) -> Result<(), Failure> {
    let mut answer = String::new();
    let read = answers.read_line(&mut answer);
    read.context("cannot read the confirmation")?;
    if answer.trim() == phrase {
        Ok(())
    } else {
        Err(Failure::Refused("not confirmed; nothing was done".into()))
    }
}

impl Warrant {
    pub(crate) fn new(actor: Actor, reason: Reason) -> Self {
        Self {
            actor,
            reason,
            command: arguments(),
            origin: origin(),
        }
    }

    /// The row for the audit.
    pub(crate) fn entry(&self, affected: usize) -> AuditEntry<'_> {
        AuditEntry {
            actor: self.actor.as_str(),
            command: &self.command,
            reason: self.reason.as_str(),
            origin: Some(&self.origin),
            affected: i64::try_from(affected).unwrap_or(i64::MAX),
            voucher_id: None,
            trace: None,
        }
    }
}

/// Spreads records over time.
#[derive(Debug)]
pub(crate) struct Throttle {
    period: Duration,
    due: Instant,
}

impl Throttle {
    /// `per_second` records a second, at least 1.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            period: Duration::from_secs(1) / per_second.max(1),
            due: Instant::now(),
        }
    }

    /// Waits until the next record may be sent.
    pub(crate) async fn turn(&mut self) {
        let now = Instant::now();
        tokio::time::sleep_until(self.due).await;
        // After a pause, do not send everything at once that was not sent during the pause.
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        self.due = self.due.max(earliest) + self.period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(execute: bool, yes: bool) -> Act {
        Act {
            execute,
            yes,
            reason: Reason::written("because").ok(),
            actor: Actor::written("kim").ok(),
        }
    }

    #[test]
    fn a_plan_needs_no_confirmation_and_gives_no_right() {
        assert!(act(false, false).warrant("x 1", 1).unwrap().is_none());
        assert!(act(true, true).warrant("x 0", 0).unwrap().is_none());
        let warrant = act(true, true).warrant("x 2", 2).unwrap().unwrap();
        let entry = warrant.entry(2);
        assert_eq!(
            (entry.actor, entry.reason, entry.affected),
            ("kim", "because", 2)
        );
        assert!(entry.origin.unwrap().contains('@'));
    }

    #[test]
    fn only_the_phrase_itself_confirms() {
        assert!(confirm("redrive 2", &mut "redrive 2\n".as_bytes()).is_ok());
        for answer in ["", "y\n", "redrive 3\n"] {
            let refused = confirm("redrive 2", &mut answer.as_bytes());
            assert!(matches!(refused, Err(Failure::Refused(_))), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_throttle_does_not_make_up_for_a_long_pause() {
        let mut throttle = Throttle::new(1000);
        throttle.due -= Duration::from_secs(60);
        let start = Instant::now();
        for _ in 0..300 {
            throttle.turn().await;
        }
        let spent = start.elapsed();
        assert!(
            spent >= Duration::from_millis(300) - 2 * CATCH_UP,
            "{spent:?}"
        );
    }
}
