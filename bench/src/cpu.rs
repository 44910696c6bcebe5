//! CPU time and memory of the stack's processes, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// `USER_HZ`, the unit of `/proc/<pid>/stat`: 100 on every Linux architecture.
const TICKS_PER_SECOND: f64 = 100.0;
/// As the kernel has them: at most 15 characters.
const PROCESSES: [&str; 7] = [
    "java",
    "postgres",
    "redis-server",
    "seckill-bench",
    "seckill-ingress",
    "seckill-project",
    "seckill-timeout",
];

/// CPU time by process name, of all processes of that name on this machine.
pub(crate) type CpuTimes = BTreeMap<String, f64>;

/// Each process with its name and its CPU seconds so far.
pub(crate) type Processes = BTreeMap<String, (String, f64)>;

/// The stack's processes by their ids; empty where there is no `/proc`.
pub(crate) fn processes() -> Processes {
    named(&PROCESSES)
}

fn named(names: &[&str]) -> Processes {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Processes::new();
    };
    let process = |entry: fs::DirEntry| {
        // Not every entry is a process, and `self` is one that stands there by its id too.
        let id = entry.file_name().into_string().ok()?;
        id.parse::<u32>().ok()?;
        // A process may end while it is looked at.
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, ticks) = parse_stat(&stat)?;
        let used = (name.to_owned(), ticks / TICKS_PER_SECOND);
        names.contains(&name).then_some((id, used))
    };
    entries.flatten().filter_map(process).collect()
}

/// The seconds that were used between two looks by the processes that were there at the second.
pub(crate) fn used_between(before: &Processes, after: &Processes) -> CpuTimes {
    let mut used = CpuTimes::new();
    for (id, (name, seconds)) in after {
        let earlier = before.get(id).map_or(0.0, |(_, seconds)| *seconds);
        *used.entry(name.clone()).or_default() += seconds - earlier;
    }
    used
}

/// Bytes of memory that all processes of a name have resident; 0 where there is no `/proc`.
pub(crate) fn resident_bytes(name: &str) -> u64 {
    let of_process = |id: &String| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    let processes = processes();
    let named = processes.iter().filter(|(_, (other, _))| other == name);
    named.filter_map(|(id, _)| of_process(id)).sum()
}

/// The name, and user and system time in ticks: fields 2, 14 and 15 of proc(5)'s `stat`. The name
/// stands in parentheses and may hold anything, so fields are counted from behind it.
fn parse_stat(stat: &str) -> Option<(&str, f64)> {
    let (head, fields) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((name, user + system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 1 0 9";
        assert_eq!(parse_stat(stat), Some(("a (b) c", 300.0)));
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn the_process_that_looks_counts_once() {
        let stat = fs::read_to_string("/proc/self/stat").expect("a Linux machine");
        let (name, _) = parse_stat(&stat).expect("a process");
        let found = named(&[name]);
        let own = found.keys().filter(|id| {
            let id = id.as_str();
            id == "self" || id == "thread-self" || id == std::process::id().to_string()
        });
        assert_eq!(own.count(), 1, "{found:?}");
    }

    #[test]
    fn only_what_was_used_in_between_counts() {
        let of = |id: &str, seconds| (id.to_owned(), ("java".to_owned(), seconds));
        let before = Processes::from([of("1", 1.5), of("2", 90.0)]);
        let after = Processes::from([of("1", 4.0), of("3", 0.5)]);
        let expected = CpuTimes::from([("java".to_owned(), 3.0)]);
        assert_eq!(used_between(&before, &after), expected);
    }
}
