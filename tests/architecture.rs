//! What the documents name is there: the test of every step in ARCHITECTURE.md and of every threat in
//! docs/security.md, the type of every term in docs/glossary.md.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;

/// The lines of the section's first table, without its head.
fn rows(page: &str) -> Vec<&str> {
    let section = page.split("## What if it dies here?").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let is_row = |line: &&str| line.starts_with("| ");
    let table = section.lines().skip_while(|line| !is_row(line));
    table.take_while(is_row).skip(2).collect()
}

/// `file::test`, as the last column has them.
fn tests(row: &str) -> Vec<(&str, &str)> {
    let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
    let names = last.split(", ").map(|name| name.trim_matches('`'));
    names
        .map(|name| name.split_once("::").unwrap_or_else(|| panic!("{row}")))
        .collect()
}

#[test]
fn every_step_between_two_stores_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let rows = rows(&page);
    assert!(rows.len() >= 20, "{} rows", rows.len());
    for row in rows {
        for (file, test) in tests(row) {
            let path = root.join(format!("tests/promises/{file}.rs"));
            let code = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
            let there = code.contains(&format!("async fn {test}()"));
            assert!(there, "{test} is not in {}", path.display());
        }
    }
}

/// Whether a file has a test of this name.
fn has_test(code: &str, name: &str) -> bool {
    let definition = code.find(&format!("fn {name}("));
    definition.is_some_and(|at| {
        let before = code[..at].rsplit("\n\n").next().unwrap_or_default();
        before.contains("test]") || before.contains("test(")
    })
}

#[test]
fn every_threat_has_a_defence_and_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let tables = page.split("| Threat | Defence | Test |\n").skip(1);
    let is_row = |line: &&str| line.starts_with('|');
    let rows = tables.flat_map(|table| table.lines().take_while(is_row).skip(1));
    let mut seen = 0;
    for row in rows {
        seen += 1;
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(
            cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()),
            "{row}"
        );
        for (file, test) in tests(row) {
            let code = std::fs::read_to_string(root.join(file));
            let code = code.unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(has_test(&code, test), "{test} is not in {file}");
        }
    }
    assert!(seen >= 50, "{seen} rows");
}

/// Name and file of each type in the last column of a row of the glossary.
fn types(row: &str) -> Vec<(&str, &str)> {
    let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
    last.split(", ")
        .map(|link| {
            let (name, path) = link.split_once("`](../").unwrap_or_else(|| panic!("{row}"));
            (name.trim_start_matches("[`"), path.trim_end_matches(')'))
        })
        .collect()
}

#[test]
fn every_term_of_the_glossary_names_a_type_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/glossary.md")).unwrap();
    let is_term = |line: &&str| {
        line.starts_with("| ") && !line.starts_with("| Term ") && !line.starts_with("| --- ")
    };
    let terms: Vec<&str> = page.lines().filter(is_term).collect();
    assert!(terms.len() >= 30, "{} terms", terms.len());
    for term in terms {
        for (name, file) in types(term) {
            let code = std::fs::read_to_string(root.join(file));
            let code = code.unwrap_or_else(|error| panic!("{file}: {error}"));
            let kinds = ["struct", "enum", "static"];
            let is_there = kinds.iter().any(|kind| {
                let definition = format!("{kind} {name}");
                code.match_indices(&definition).any(|(at, _)| {
                    let after = code[at + definition.len()..].chars().next();
                    !after.is_some_and(|next| next.is_alphanumeric() || next == '_')
                })
            });
            assert!(is_there, "{name} is not in {file}: {term}");
        }
    }
}

/// A rebuild has no effects because nothing that it is made of, all the way down, could have one.
#[test]
fn a_rebuild_depends_on_nothing_that_publishes_or_reaches_redis() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--package", "seckill-rebuild", "--edges", "normal"])
        .args([
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--locked",
            "--offline",
        ])
        .output()
        .unwrap();
    assert!(tree.status.success(), "{tree:?}");
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names: Vec<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
    assert!(names.contains(&"seckill-orderbook") && names.contains(&"sqlx"));
    let effects = [
        "seckill-eventlog",
        "seckill-stock",
        "seckill-ephemeral",
        "rdkafka",
        "redis",
    ];
    for name in effects {
        assert!(!names.contains(&name), "seckill-rebuild depends on {name}");
    }
}
