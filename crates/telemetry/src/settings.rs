//! Settings from the environment and, where `CONFIG_FILE` names one, a file of `NAME=value`
//! lines; the environment wins. Every setting may also be given as `NAME_FILE`, the path of a
//! file that holds its value. All mistakes are reported at once.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;
use std::str::FromStr;

/// Where settings are read from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    values: BTreeMap<String, String>,
}

impl Source {
    /// The environment over `CONFIG_FILE`.
    ///
    /// # Errors
    /// When `CONFIG_FILE` cannot be read or has a line that is not `NAME=value`.
    pub fn load() -> Result<Self, SettingsError> {
        let mut source = match std::env::var("CONFIG_FILE") {
            Ok(path) => Self::from_file(Path::new(&path))?,
            Err(_) => Self::default(),
        };
        source.values.extend(std::env::vars());
        Ok(source)
    }

    /// A file of `NAME=value` lines; empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// When it cannot be read or has another kind of line.
    pub fn from_file(path: &Path) -> Result<Self, SettingsError> {
        let fail = |what: String| SettingsError(vec![format!("{}: {what}", path.display())]);
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        let mut source = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| fail(format!("line {} is not NAME=value", number + 1)))?;
            source
                .values
                .insert(name.trim().to_owned(), value.trim().to_owned());
        }
        Ok(source)
    }

    fn get(&self, name: &str) -> Result<Option<String>, String> {
        if let Some(path) = self.values.get(&format!("{name}_FILE")) {
            return std::fs::read_to_string(path)
                .map(|text| Some(text.trim_end_matches(['\r', '\n']).to_owned()))
                .map_err(|e| format!("{name}_FILE: {path}: {e}"));
        }
        Ok(self.values.get(name).filter(|v| !v.is_empty()).cloned())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Source {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let values = pairs
            .into_iter()
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        Self { values }
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
    pub const fn new(source: &'a Source) -> Self {
        Self {
            source,
            errors: Vec::new(),
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
    pub fn or<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Option<T> {
        Some(self.optional(name)?.unwrap_or(default))
    }

    /// A secret of at least `min_bytes` bytes that has to be there.
    pub fn secret(&mut self, name: &str, min_bytes: usize) -> Option<Secret> {
        let secret: String = self.required(name)?;
        if secret.len() < min_bytes {
            self.refuse(name, &format!("is shorter than {min_bytes} bytes"));
            return None;
        }
        Some(Secret(secret))
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
        self.source.get(name).map_err(|e| self.errors.push(e)).ok()
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, name: &str, text: &str) -> Option<T> {
        text.parse()
            .map_err(|e| self.refuse(name, &format!("cannot be used: {e}")))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_named_at_once() {
        let source = Source::from_iter([("PORT", "eighty"), ("SECRET", "short")]);
        let mut reader = Reader::new(&source);
        let port: Option<u16> = reader.required("PORT");
        let brokers: Option<String> = reader.required("KAFKA_BROKERS");
        let secret = reader.secret("SECRET", 16);
        let SettingsError(errors) = reader
            .finish(port.zip(brokers).zip(secret))
            .expect_err("three mistakes");
        assert_eq!(errors.len(), 3, "{errors:?}");
        for name in ["PORT", "KAFKA_BROKERS", "SECRET"] {
            assert!(
                errors.iter().any(|e| e.starts_with(name)),
                "{name}: {errors:?}"
            );
        }
    }

    #[test]
    fn a_secret_may_come_from_a_file_and_is_not_printed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        let source = Source::from_iter([("TOKEN_SECRET_FILE", file.path().to_str().unwrap())]);
        let mut reader = Reader::new(&source);
        let secret = reader.secret("TOKEN_SECRET", 16).unwrap();
        assert_eq!(secret.expose(), "0123456789abcdef");
        assert!(!format!("{secret:?}").contains("0123"));
    }

    #[test]
    fn defaults_fill_what_is_missing_or_empty() {
        let source = Source::from_iter([("EMPTY", "")]);
        let mut reader = Reader::new(&source);
        assert_eq!(reader.or("EMPTY", 5), Some(5));
        assert_eq!(reader.optional::<u16>("MISSING"), Some(None));
        assert!(reader.finish(Some(())).is_ok());
    }
}
