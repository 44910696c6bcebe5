//! Readiness: what a process still waits for, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::iter::successors;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A condition that waiting does not mend.
#[derive(Debug, thiserror::Error)]
#[error("{condition}")]
pub struct Unmet {
    condition: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

/// The named conditions under which a process is ready. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Health {
    problems: Arc<Mutex<BTreeMap<&'static str, String>>>,
    /// Who has to be heard of again, and until when.
    beats: Arc<Mutex<BTreeMap<&'static str, Instant>>>,
    /// Where conditions are only tried, and not waited for.
    trial: Option<Trial>,
}

#[derive(Debug, Clone)]
struct Trial {
    patience: Duration,
    met: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Health {
    /// Starts not ready: `starting` is a problem until it is resolved.
    #[must_use]
    pub fn starting() -> Self {
        let health = Self::default();
        health.problem("start", "starting");
        health
    }

    /// Waits for no condition: each is asked once, for as long as `patience`. One that is not met stays so, and
    /// its next questions are not asked.
    #[must_use]
    pub fn trying(patience: Duration) -> Self {
        let met = Arc::default();
        Self {
            trial: Some(Trial { patience, met }),
            ..Self::default()
        }
    }

    /// Every condition that was tried, and what is wrong with it.
    #[must_use]
    pub fn tried(&self) -> Vec<(&'static str, Option<String>)> {
        let problems = self.problems();
        let mut names: BTreeSet<_> = problems.keys().copied().collect();
        if let Some(trial) = &self.trial {
            names.extend(lock(&trial.met).iter());
        }
        let told = names
            .into_iter()
            .map(|name| (name, problems.get(name).cloned()));
        told.collect()
    }

    /// `name` keeps the process from being ready.
    pub fn problem(&self, name: &'static str, why: impl Into<String>) {
        let why = why.into();
        let before = lock(&self.problems).insert(name, why.clone());
        if before.is_none() {
            tracing::warn!(condition = name, why, "not ready");
        }
    }

    /// `name` no longer does.
    pub fn resolved(&self, name: &'static str) {
        if lock(&self.problems).remove(name).is_some() {
            tracing::info!(condition = name, "ready again");
        }
    }

    /// Sets or resolves `name` by a check's result.
    pub fn check<E: std::fmt::Display>(&self, name: &'static str, result: &Result<(), E>) {
        match result {
            Ok(()) => self.resolved(name),
            Err(error) => self.problem(name, error.to_string()),
        }
    }

    /// `name` is at work, and has to say so again within this time: a task that hangs, or whose thread does,
    /// can say nothing of itself.
    pub fn beat(&self, name: &'static str, again_within: Duration) {
        lock(&self.beats).insert(name, Instant::now() + again_within);
    }

    /// Asks until the answer is good; meanwhile `name` keeps the process from being ready, and its
    /// problem is the refusal with its causes.
    ///
    /// # Errors
    /// The first refusal that waiting does not mend, as `lasting` says.
    pub async fn wait_for<E: Error + Send + Sync + 'static>(
        &self,
        name: &'static str,
        lasting: impl Fn(&E) -> bool,
        ask: impl AsyncFn() -> Result<(), E>,
    ) -> Result<(), Unmet> {
        if let Some(trial) = &self.trial {
            self.attempt(trial, name, ask).await;
            return Ok(());
        }
        while let Err(refusal) = ask().await {
            if lasting(&refusal) {
                return Err(Unmet {
                    condition: name,
                    source: refusal.into(),
                });
            }
            self.problem(name, with_causes(&refusal));
            tokio::time::sleep(ASK_AGAIN).await;
        }
        self.resolved(name);
        Ok(())
    }

    async fn attempt<E: Error + 'static>(
        &self,
        trial: &Trial,
        name: &'static str,
        ask: impl AsyncFn() -> Result<(), E>,
    ) {
        if lock(&self.problems).contains_key(name) {
            return;
        }
        match tokio::time::timeout(trial.patience, ask()).await {
            Ok(Ok(())) => {
                lock(&trial.met).insert(name);
            }
            Ok(Err(refusal)) => self.problem(name, with_causes(&refusal)),
            Err(_) => {
                let seconds = trial.patience.as_secs();
                self.problem(name, format!("no answer within {seconds} s"));
            }
        }
    }

    /// What keeps the process from being ready; empty when it is.
    #[must_use]
    pub fn problems(&self) -> BTreeMap<&'static str, String> {
        let mut problems = lock(&self.problems).clone();
        let now = Instant::now();
        for (name, until) in lock(&self.beats).iter() {
            let late = now.saturating_duration_since(*until);
            if !late.is_zero() {
                let why = format!("not heard of in time, {} s late", late.as_secs());
                problems.entry(name).or_insert(why);
            }
        }
        problems
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let chain = successors(Some(error), |&error| error.source());
    let texts: Vec<String> = chain.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the store is away")]
    struct Away(#[source] io::Error);

    #[tokio::test]
    async fn what_may_come_is_waited_for_by_name_and_what_lasts_is_not() {
        let health = Health::default();
        let answers = RefCell::new(vec![Ok(()), Err(Away(io::Error::other("refused")))]);
        let seen = RefCell::new(Vec::new());
        let ask = async || {
            seen.borrow_mut().push(health.problems());
            answers.borrow_mut().pop().unwrap()
        };
        health.wait_for("redis", |_| false, ask).await.unwrap();
        let waited = BTreeMap::from([("redis", "the store is away: refused".to_owned())]);
        assert_eq!(*seen.borrow(), [BTreeMap::new(), waited]);
        assert!(health.problems().is_empty());

        let wrong = async || Err(Away(io::Error::other("evicts")));
        let refusal = health.wait_for("redis", |_| true, wrong).await.unwrap_err();
        assert_eq!(with_causes(&refusal), "redis: the store is away: evicts");
    }

    #[tokio::test]
    async fn a_trial_asks_everything_once_and_goes_on_where_something_is_wrong() {
        let health = Health::trying(Duration::from_millis(10));
        let wrong = async || Err(Away(io::Error::other("evicts")));
        let right = async || Ok::<_, Away>(());
        let mute = async || std::future::pending::<Result<(), Away>>().await;
        health.wait_for("redis", |_| true, wrong).await.unwrap();
        // What follows from it is not asked any more.
        health.wait_for("redis", |_| true, right).await.unwrap();
        health.wait_for("kafka", |_| true, right).await.unwrap();
        health.wait_for("kafka", |_| true, mute).await.unwrap();
        health.wait_for("mail", |_| true, right).await.unwrap();
        let evicts = Some("the store is away: evicts".to_owned());
        let mute = Some("no answer within 0 s".to_owned());
        let expected = [("kafka", mute), ("mail", None), ("redis", evicts)];
        assert_eq!(health.tried(), expected);
    }

    #[test]
    fn who_is_not_heard_of_in_time_is_a_problem_until_it_is() {
        let health = Health::default();
        health.beat("lag", Duration::from_secs(60));
        assert!(health.problems().is_empty());
        health.beat("lag", Duration::ZERO);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(health.problems().into_keys().collect::<Vec<_>>(), ["lag"]);
        health.beat("lag", Duration::from_secs(60));
        assert!(health.problems().is_empty());
    }

    #[test]
    fn ready_when_every_problem_is_resolved() {
        let health = Health::starting();
        health.problem("redis", "refused");
        health.resolved("start");
        assert_eq!(health.problems().into_keys().collect::<Vec<_>>(), ["redis"]);
        health.check("redis", &Ok::<(), String>(()));
        assert!(health.problems().is_empty());
    }
}
