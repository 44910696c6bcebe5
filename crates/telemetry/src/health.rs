//! Readiness: what a process still waits for, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The named conditions under which a process is ready. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Health {
    problems: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Health {
    /// Starts not ready: `starting` is a problem until it is resolved.
    #[must_use]
    pub fn starting() -> Self {
        let health = Self::default();
        health.problem("start", "starting");
        health
    }

    /// `name` keeps the process from being ready.
    pub fn problem(&self, name: &'static str, why: impl Into<String>) {
        let why = why.into();
        let before = self.lock().insert(name, why.clone());
        if before.is_none() {
            tracing::warn!(condition = name, why, "not ready");
        }
    }

    /// `name` no longer does.
    pub fn resolved(&self, name: &'static str) {
        if self.lock().remove(name).is_some() {
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

    /// What keeps the process from being ready; empty when it is.
    #[must_use]
    pub fn problems(&self) -> BTreeMap<&'static str, String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
