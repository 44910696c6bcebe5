//! What the documents name is there: the test of every step in ARCHITECTURE.md and of every threat in
//! docs/security.md, the type of every term in docs/glossary.md.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The lines of the section's first table, without its head.
fn rows(page: &str) -> Vec<&str> {
    let section = page.split("## What if it dies here?").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let is_row = |line: &&str| line.starts_with("| ");
    let table = section.lines().skip_while(|line| !is_row(line));
    table.take_while(is_row).skip(2).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
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
        for (module, test) in tests(row) {
            assert!(
                is_promise(&root, module, test),
                "no {module}::{test}: {row}"
            );
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

/// Whether a module of `tests/promises` has this test, itself or in its folder. Documents name modules without their
/// rooms, as no two have one name.
fn is_promise(root: &Path, module: &str, test: &str) -> bool {
    let promises = root.join("tests/promises");
    let of_module = files(&promises).into_iter().filter(|file| {
        let inside = file.strip_prefix(&promises).unwrap().with_extension("");
        inside.iter().any(|part| part == module)
    });
    of_module
        .map(|file| std::fs::read_to_string(file).unwrap())
        .any(|code| has_test(&code, test))
}

/// A file that no `mod` names would be tests that never run.
#[test]
fn every_promise_stands_in_one_room_and_is_run() {
    let promises = Path::new(env!("CARGO_MANIFEST_DIR")).join("promises");
    let entries = |folder: &Path| -> BTreeSet<String> {
        let names = std::fs::read_dir(folder).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let mut rooms = entries(&promises);
    assert!(rooms.remove("main.rs"));
    let main = std::fs::read_to_string(promises.join("main.rs")).unwrap();
    assert!(rooms.len() >= 6, "{rooms:?}");
    let mut room_of = BTreeMap::new();
    for room in rooms {
        let folder = promises.join(&room);
        assert!(folder.is_dir(), "{room} stands outside the rooms");
        assert!(main.contains(&format!("\nmod {room};\n")), "{room}");
        let code = std::fs::read_to_string(folder.join("mod.rs")).unwrap();
        let names = entries(&folder);
        let modules = names.iter().filter_map(|name| name.strip_suffix(".rs"));
        let folders = names
            .iter()
            .filter(|name| folder.join(name).join("mod.rs").is_file());
        let modules = modules.filter(|name| *name != "mod");
        for module in modules.chain(folders.map(String::as_str)) {
            let declaration = format!("mod {module};");
            let is_run = code.lines().any(|line| line.ends_with(&declaration));
            assert!(is_run, "{room}/mod.rs has no {declaration}");
            let other = room_of.insert(module.to_owned(), room.clone());
            assert!(other.is_none(), "{module} is in {room} and {other:?}");
        }
    }
    assert!(room_of.len() >= 90, "{} modules", room_of.len());
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

#[test]
fn every_technique_leads_to_a_rung_a_file_and_a_test_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/oversell-lab/techniques.md")).unwrap();
    let lab = std::fs::read_to_string(root.join("docs/oversell-lab/README.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() >= 20, "{} rows", rows.len());
    for row in &rows[2..] {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, _, rung, _, instead, test] = cells[..] else {
            panic!("{row}");
        };
        assert!(rung == "–" || lab.contains(&format!("{rung}: ")), "{rung}");
        let file = instead.trim_end_matches('`').rsplit('`').next().unwrap();
        assert!(root.join(file).is_file(), "{file}");
        let (module, name) = test.trim_matches('`').split_once("::").unwrap();
        assert!(is_promise(&root, module, name), "{test}");
    }
}

/// What a translation has to keep: headings by their level, code, links and figures.
fn bones(page: &str) -> BTreeMap<&'static str, Vec<String>> {
    let parts: Vec<&str> = page.split("\n```").collect();
    let blocks = parts.iter().skip(1).step_by(2);
    let prose: String = parts.iter().copied().step_by(2).collect();
    let spans = prose.split('`').skip(1).step_by(2);
    let links = prose.split("](").skip(1);
    let links = links.filter_map(|link| link.split(')').next());
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let figures = prose.split(|c: char| !(c.is_ascii_digit() || ",.".contains(c)));
    let figures = figures.map(|figure| figure.trim_matches([',', '.']));
    let mut bones = BTreeMap::from([
        ("blocks", blocks.map(ToString::to_string).collect()),
        ("code", spans.map(str::to_owned).collect::<Vec<_>>()),
        (
            "links",
            links
                .filter(|link| !link.starts_with("README"))
                .map(str::to_owned)
                .collect(),
        ),
        (
            "headings",
            headings
                .map(|line| line.chars().take_while(|c| *c == '#').collect())
                .collect(),
        ),
        (
            "figures",
            figures
                .filter(|figure| !figure.is_empty())
                .map(str::to_owned)
                .collect(),
        ),
    ]);
    // Another language may put them into another order.
    for kept in ["code", "links", "figures"] {
        bones.entry(kept).and_modify(|list| list.sort_unstable());
    }
    bones
}

#[test]
fn the_chinese_pages_are_in_step_with_the_english_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for directory in ["", "docs/oversell-lab"] {
        let read = |name: &str| std::fs::read_to_string(root.join(directory).join(name)).unwrap();
        let (english, chinese) = (bones(&read("README.md")), bones(&read("README.zh-CN.md")));
        assert!(english["blocks"].len() >= 5 && english["figures"].len() >= 15);
        for (kept, expected) in english {
            assert_eq!(chinese[kept], expected, "{directory}: {kept}");
        }
    }
}

/// The names like `file::test` in a page, without `file.rs::test` and paths.
fn named_tests(page: &str) -> Vec<(&str, &str)> {
    let is_name = |text: &&str| {
        text.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let code = page
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let pairs = code.filter_map(|code| code.split_once("::"));
    pairs
        .filter(|(file, test)| is_name(file) && is_name(test))
        .collect()
}

#[test]
fn every_promise_that_the_documents_name_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let page = std::fs::read_to_string(&path).unwrap();
        for (file, test) in named_tests(&page) {
            let is_there = is_promise(&root, file, test);
            assert!(is_there, "{}: {file}::{test}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 30, "{seen} names");
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
