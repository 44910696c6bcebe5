//! What each setting that was read came to, and where it came from: for `--check-config`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// In the place of what nobody may see.
const REDACTED: &str = "(redacted)";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was not given.
    Default,
    /// An environment variable.
    Environment,
    /// This file: `CONFIG_FILE`, or what `NAME_FILE` names.
    File(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => f.write_str(path),
        }
    }
}

/// One setting, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub name: String,
    /// Its value, empty where there is none. Of a secret only that there is one, of a URL without who signs in.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

struct Read {
    value: String,
    origin: Origin,
    is_secret: bool,
}

/// Every setting that was read. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Noted(Arc<Mutex<BTreeMap<String, Read>>>);

impl Noted {
    pub(crate) fn note(&self, name: &str, value: String, origin: Origin) {
        let mut noted = self.lock();
        if value.is_empty() && noted.contains_key(name) {
            // Read again by who has no default for it.
            return;
        }
        let is_secret = noted.get(name).is_some_and(|read| read.is_secret);
        let read = Read {
            value,
            origin,
            is_secret,
        };
        noted.insert(name.to_owned(), read);
    }

    /// Whether a setting's value is shown.
    pub(crate) fn hide(&self, name: &str, is_secret: bool) {
        if let Some(read) = self.lock().get_mut(name) {
            read.is_secret = is_secret;
        }
    }

    pub(crate) fn effective(&self) -> Vec<Effective> {
        let noted = self.lock();
        let shown = noted.iter().map(|(name, read)| Effective {
            name: name.clone(),
            value: shown(name, read),
            origin: read.origin.clone(),
        });
        shown.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(name: &str, read: &Read) -> String {
    if name.ends_with("_URL") || name.ends_with("_ENDPOINT") {
        return without_login(&read.value);
    }
    if read.is_secret && !read.value.is_empty() {
        return REDACTED.to_owned();
    }
    read.value.clone()
}

/// A URL without what stands before its last `@`, and without what it asks for: either may be a password.
fn without_login(url: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    if query.contains('@') {
        // A password with a `?` in it.
        return REDACTED.to_owned();
    }
    let query = if query.is_empty() { "" } else { "?…" };
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{REDACTED}@{host}{query}"),
        None => format!("{scheme}{rest}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_the_login_and_the_query_are_not_shown() {
        for (url, shown) in [
            ("redis://a:6379/1", "redis://a:6379/1"),
            ("redis://:hunter2@a:6379", "redis://(redacted)@a:6379"),
            ("redis://u:hunt@er2@a", "redis://(redacted)@a"),
            (
                "postgres://h/d?password=hunter2&sslmode=require",
                "postgres://h/d?…",
            ),
            ("postgres://u:hunter2?@h/d", REDACTED),
            ("postgres://h/d?password=hunter2@", REDACTED),
            ("", ""),
        ] {
            assert_eq!(without_login(url), shown, "{url}");
        }
    }

    #[test]
    fn a_secret_stays_hidden_however_often_it_is_read() {
        let noted = Noted::default();
        noted.note("TOKEN", "hunter2".to_owned(), Origin::Environment);
        noted.hide("TOKEN", true);
        noted.note("TOKEN", "hunter2".to_owned(), Origin::Environment);
        assert_eq!(noted.effective()[0].value, REDACTED);
    }
}
