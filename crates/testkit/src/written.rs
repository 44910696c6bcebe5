//! Documents that the code writes and the repository keeps.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::workspace_root;

/// Compares a file of the repository with what the code says. With `SECKILL_WRITE` in the environment the file is
/// written before that; `command` is the one that does so.
///
/// # Errors
/// When they differ, or the file cannot be read or written.
pub fn check_written(file: &str, expected: &str, command: &str) -> Result<()> {
    let path = workspace_root().join(file);
    if std::env::var_os("SECKILL_WRITE").is_some() {
        fs::write(&path, expected)?;
    }
    let actual = fs::read_to_string(&path).unwrap_or_default();
    ensure!(
        actual == expected,
        "{file} is not what the code says: SECKILL_WRITE=1 {command}"
    );
    Ok(())
}

/// The same for a JSON document, with the members of each object in the order of their names, whatever features the
/// JSON library of a build has.
///
/// # Errors
/// As [`check_written`].
pub fn check_written_json(file: &str, expected: &Value, command: &str) -> Result<()> {
    let expected = serde_json::to_string_pretty(&sorted(expected))? + "\n";
    check_written(file, &expected, command)
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let by_name: BTreeMap<_, _> = members.iter().collect();
            let members = by_name.into_iter();
            Value::Object(members.map(|(name, v)| (name.clone(), sorted(v))).collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
