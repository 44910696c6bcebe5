//! Settings from the environment and, where `CONFIG_FILE` names one, a file of `NAME=value`
//! lines; the environment wins. Every setting may also be given as `NAME_FILE`, the path of a
//! file that holds its value. All mistakes are reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::path::Path;
use std::str::FromStr;

use crate::effective::{Effective, Noted, Origin};

/// An HMAC key or a token that is shorter can be guessed.
pub const SECRET_MIN_BYTES: usize = 32;

/// Where settings are read from, and what is wrong with that.
#[derive(Clone, Default)]
pub struct Source {
    /// As the operating system has them: a path need not be UTF-8, and a value that is not is a mistake only
    /// if somebody reads it.
    values: BTreeMap<String, OsString>,
    mistakes: Vec<String>,
    /// The file that `CONFIG_FILE` names, and which of the values are its own.
    file: Option<(String, BTreeSet<String>)>,
    noted: Noted,
}

impl Source {
    /// The environment over `CONFIG_FILE`. A file that cannot be read is reported with the mistakes in the
    /// settings themselves. Variables whose names are not UTF-8 are none of ours.
    #[must_use]
    pub fn load() -> Self {
        let file = std::env::var_os("CONFIG_FILE").filter(|path| !path.is_empty());
        let mut source = file.map_or_else(Self::default, |path| Self::from_file(Path::new(&path)));
        let ours =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        for (name, value) in ours {
            if let Some((_, names)) = &mut source.file {
                names.remove(&name);
            }
            source.values.insert(name, value);
        }
        source
    }

    /// Every setting that was read from here so far, by name, as it may be shown.
    #[must_use]
    pub fn effective(&self) -> Vec<Effective> {
        self.noted.effective()
    }

    /// A file of `NAME=value` lines; empty lines and lines that begin with `#` are skipped. One that cannot
    /// be read, or has another kind of line, is reported with the mistakes in the settings themselves.
    #[must_use]
    pub fn from_file(path: &Path) -> Self {
        let mut source = Self::default();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                source.mistakes.push(format!("{}: {error}", path.display()));
                return source;
            }
        };
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((name, value)) = line.split_once('=') {
                let (name, value) = (name.trim().to_owned(), value.trim().into());
                source.values.insert(name, value);
            } else {
                let mistake = format!("{}: line {number} is not NAME=value", path.display());
                source.mistakes.push(mistake);
            }
        }
        let names = source.values.keys().cloned().collect();
        source.file = Some((path.display().to_string(), names));
        source
    }

    /// What stands for a setting; an empty value is none.
    fn get(&self, name: &str) -> Result<Option<String>, String> {
        let file = format!("{name}_FILE");
        if let Some(path) = self.set(&file) {
            return std::fs::read_to_string(path)
                .map(|text| Some(text.trim_end_matches(['\r', '\n']).to_owned()))
                .map_err(|e| format!("{file}: {}: {e}", Path::new(path).display()));
        }
        let text = |value: &OsStr| {
            let text = value.to_str().map(str::to_owned);
            text.ok_or_else(|| format!("{name} is not UTF-8"))
        };
        self.set(name).map(text).transpose()
    }

    fn origin(&self, name: &str) -> Origin {
        if let Some(path) = self.set(&format!("{name}_FILE")) {
            return Origin::File(Path::new(path).display().to_string());
        }
        match &self.file {
            Some((path, names)) if names.contains(name) => Origin::File(path.clone()),
            _ => Origin::Environment,
        }
    }

    fn set(&self, name: &str) -> Option<&OsStr> {
        let value = self.values.get(name)?;
        (!value.is_empty()).then_some(value)
    }
}

/// Names without values: some are secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("names", &self.values.keys())
            .field("mistakes", &self.mistakes)
            .finish()
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Source {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter().map(|(n, v)| (n.into(), v.into()));
        Self {
            values: pairs.collect(),
            ..Self::default()
        }
    }
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the settings cannot be used:\n  - {}", .0.join("\n  - "))]
pub struct SettingsError(pub Vec<String>);

/// A value that is never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// Reads settings and remembers every mistake; a setting with a mistake reads as `None`.
#[derive(Debug)]
pub struct Reader<'a> {
    source: &'a Source,
    errors: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Starts reading.
    #[must_use]
    pub fn new(source: &'a Source) -> Self {
        Self {
            source,
            errors: source.mistakes.clone(),
        }
    }

    /// A setting that has to be there.
    pub fn required<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        if text.is_none() {
            self.errors.push(format!("{name} is not set"));
        }
        self.parse(name, &text?)
    }

    /// A setting that may be missing.
    pub fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<Option<T>> {
        match self.text(name)? {
            None => Some(None),
            Some(text) => self.parse(name, &text).map(Some),
        }
    }

    /// A setting with a default.
    pub fn or<T>(&mut self, name: &str, default: T) -> Option<T>
    where
        T: FromStr<Err: Display> + Display,
    {
        let given = self.optional(name)?;
        if given.is_none() {
            let default = default.to_string();
            self.source.noted.note(name, default, Origin::Default);
        }
        Some(given.unwrap_or(default))
    }

    /// The value of a setting that was read is never shown.
    pub fn hide(&mut self, name: &str) {
        self.source.noted.hide(name, true);
    }

    /// The value of a setting that was read as a secret may be shown: it was only to be kept out of errors.
    pub fn show(&mut self, name: &str) {
        self.source.noted.hide(name, false);
    }

    /// A secret of at least `min_bytes` bytes that has to be there.
    pub fn secret(&mut self, name: &str, min_bytes: usize) -> Option<Secret> {
        let secret: Option<String> = self.required(name);
        self.hide(name);
        let secret = secret?;
        if secret.len() < min_bytes {
            self.refuse(name, &format!("is shorter than {min_bytes} bytes"));
            return None;
        }
        Some(Secret(secret))
    }

    /// A secret that may be missing, of at least `min_bytes` bytes.
    pub fn optional_secret(&mut self, name: &str, min_bytes: usize) -> Option<Option<Secret>> {
        match self.text(name)? {
            None => Some(None),
            Some(_) => self.secret(name, min_bytes).map(Some),
        }
    }

    /// `value`, which was read as `name`, if `check` finds nothing wrong with it.
    pub fn accept<T, E: Display>(
        &mut self,
        name: &str,
        value: Option<T>,
        check: impl FnOnce(&T) -> Result<(), E>,
    ) -> Option<T> {
        let value = value?;
        match check(&value) {
            Ok(()) => Some(value),
            Err(error) => {
                self.refuse(name, &format!("cannot be used: {error}"));
                None
            }
        }
    }

    /// The settings that are given and whose names begin with `prefix`, once each however they are given.
    #[must_use]
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let given = self.source.values.keys();
        let given =
            given.filter(|name| name.starts_with(prefix) && self.source.set(name).is_some());
        let names = given.map(|name| name.strip_suffix("_FILE").unwrap_or(name).to_owned());
        let names: BTreeSet<String> = names.collect();
        names.into_iter().collect()
    }

    /// Records a mistake found outside.
    pub fn refuse(&mut self, name: &str, why: &str) {
        self.errors.push(format!("{name} {why}"));
    }

    /// The configuration, if nothing was wrong.
    ///
    /// # Errors
    /// Every mistake.
    pub fn finish<T>(self, config: Option<T>) -> Result<T, SettingsError> {
        match config {
            Some(config) if self.errors.is_empty() => Ok(config),
            _ => Err(SettingsError(self.errors)),
        }
    }

    fn text(&mut self, name: &str) -> Option<Option<String>> {
        let text = self
            .source
            .get(name)
            .map_err(|e| self.errors.push(e))
            .ok()?;
        let origin = match text {
            Some(_) => self.source.origin(name),
            None => Origin::Default,
        };
        let shown = text.clone().unwrap_or_default();
        self.source.noted.note(name, shown, origin);
        Some(text)
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, name: &str, text: &str) -> Option<T> {
        text.parse()
            .map_err(|e| self.refuse(name, &format!("cannot be used: {e}")))
            .ok()
    }
}

#[cfg(test)]
mod tests;
