//! The rooms of a crate import each other in one direction.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::files;

/// The rooms (top-level modules) of a crate, each with those that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The code without comments, and without its modules of tests, which are at the end of a file.
fn without_tests(code: &str) -> String {
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The first names of all paths that begin with `crate::`, also of those in braces.
fn imported(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(is_name).collect()
    };
    let mut names = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let Some(group) = path.strip_prefix('{') else {
            names.insert(name(path));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            if depth == 0 && begins {
                names.insert(name(&group[at..]));
            }
            begins = c == ',';
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    names
}

/// What the rooms of a crate import from one another. `lib.rs` and `main.rs` are no rooms: they are above all.
fn imports(source: &Path) -> Imports {
    let mut rooms = Imports::new();
    for file in files(source) {
        let inside = file.strip_prefix(source).unwrap();
        let first = inside.components().next().unwrap().as_os_str();
        let room = first.to_str().unwrap().trim_end_matches(".rs").to_owned();
        let is_test = inside.components().any(|part| part.as_os_str() == "tests")
            || ["tests.rs", "samples.rs"]
                .iter()
                .any(|name| inside.ends_with(name));
        if is_test || ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let code = without_tests(&std::fs::read_to_string(&file).unwrap());
        rooms.entry(room).or_default().extend(imported(&code));
    }
    for (room, others) in &mut rooms {
        others.remove(room);
    }
    rooms
}

/// The rooms that are in circles or between two: what is left when rooms that import no other, and rooms that no
/// other imports, are taken away again and again.
fn in_circles(mut rooms: Imports) -> Imports {
    loop {
        let known: BTreeSet<String> = rooms.keys().cloned().collect();
        for others in rooms.values_mut() {
            others.retain(|other| known.contains(other));
        }
        let imported: BTreeSet<String> = rooms.values().flatten().cloned().collect();
        rooms.retain(|room, others| !others.is_empty() && imported.contains(room));
        if rooms.len() == known.len() {
            return rooms;
        }
    }
}

/// Of the large crates so many rooms at least are seen: where none is seen, there is no circle either.
const LEAST_ROOMS: [(&str, usize); 8] = [
    ("services/ingress/src", 15),
    ("services/timeout/src", 5),
    ("crates/domain/src", 10),
    ("crates/eventlog/src", 5),
    ("crates/orderbook/src", 7),
    ("crates/stock/src", 3),
    ("crates/service/src", 8),
    ("ops/seckillctl/src", 8),
];

/// The source directories of all crates: each line `"DIRECTORY",` of the workspace's members.
fn sources(root: &Path) -> Vec<PathBuf> {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, members) = manifest.split_once("members = [\n").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let directories = members.split('"').skip(1).step_by(2);
    let sources = directories.map(|directory| root.join(directory).join("src"));
    sources.filter(|source| source.is_dir()).collect()
}

#[test]
fn no_rooms_of_a_crate_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = sources(&root);
    assert!(sources.len() > 20, "{sources:?}");
    for (source, least) in LEAST_ROOMS {
        assert!(sources.contains(&root.join(source)), "{source}");
        let rooms = imports(&root.join(source));
        assert!(rooms.len() >= least, "{source}: {} rooms", rooms.len());
    }
    let mut imports_seen = 0;
    for source in sources {
        let rooms = imports(&source);
        imports_seen += rooms.values().map(BTreeSet::len).sum::<usize>();
        let circles = in_circles(rooms);
        assert!(circles.is_empty(), "{}: {circles:?}", source.display());
    }
    assert!(imports_seen > 300, "only {imports_seen} imports are seen");
}

#[test]
fn a_circle_of_imports_is_found_however_it_is_written() {
    let code = "use crate::{gate::{Gate, limits}, http};\n// crate::no_comment\nfn f() -> crate::orders::Order {}\n\
        #[cfg(test)]\nmod tests {\n    use crate::in_a_test;\n}\n";
    let names = imported(&without_tests(code));
    assert_eq!(names, ["gate", "http", "orders"].map(str::to_owned).into());
    let rooms = |of: &[(&str, &[&str])]| -> Imports {
        let room = |(name, others): &(&str, &[&str])| {
            let others = others.iter().map(|other| (*other).to_owned());
            ((*name).to_owned(), others.collect())
        };
        of.iter().map(room).collect()
    };
    let line = rooms(&[("a", &["b", "c", "Root"]), ("b", &["c"]), ("c", &[])]);
    assert!(in_circles(line).is_empty());
    let circle = rooms(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &[])]);
    assert_eq!(in_circles(circle).len(), 3);
}
