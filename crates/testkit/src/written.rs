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
    check(file, expected, command, |actual| actual == expected)
}

/// The same for a JSON document, of which only the content counts. It is written with the members of each object in the
/// order of their names, whatever features the JSON library of a build has.
///
/// # Errors
/// As [`check_written`].
pub fn check_written_json(file: &str, expected: &Value, command: &str) -> Result<()> {
    let text = serde_json::to_string_pretty(&sorted(expected))? + "\n";
    check(file, &text, command, |actual| {
        serde_json::from_str::<Value>(actual).is_ok_and(|actual| actual == *expected)
    })
}

fn check(file: &str, expected: &str, command: &str, is_same: impl Fn(&str) -> bool) -> Result<()> {
    let path = workspace_root().join(file);
    if std::env::var_os("SECKILL_WRITE").is_some() {
        fs::write(&path, expected)?;
    }
    ensure!(
        is_same(&fs::read_to_string(&path)?),
        "{file} is not what the code says: SECKILL_WRITE=1 {command}"
    );
    Ok(())
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
