//! CPU time of the stack's processes, from `/proc`.

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

/// CPU seconds by process name, of all processes of that name on this machine.
pub(super) type CpuSeconds = BTreeMap<String, f64>;

/// CPU seconds used so far; empty where there is no `/proc`.
pub(super) fn used() -> CpuSeconds {
    let mut used = CpuSeconds::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return used;
    };
    for entry in entries.flatten() {
        // A process may end while it is looked at.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some((name, ticks)) = parse_stat(&stat)
            && PROCESSES.contains(&name)
        {
            *used.entry(name.to_owned()).or_default() += ticks / TICKS_PER_SECOND;
        }
    }
    used
}

/// What was used between two looks.
pub(super) fn between(before: &CpuSeconds, after: &CpuSeconds) -> CpuSeconds {
    let used = |(name, seconds): (&String, &f64)| {
        let earlier = before.get(name).copied().unwrap_or(0.0);
        (name.clone(), (seconds - earlier).max(0.0))
    };
    after.iter().map(used).collect()
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
    fn only_what_was_used_in_between_counts() {
        let of = |seconds| CpuSeconds::from([("java".to_owned(), seconds)]);
        assert_eq!(between(&of(1.5), &of(4.0)), of(2.5));
        assert_eq!(between(&CpuSeconds::new(), &of(4.0)), of(4.0));
    }
}
