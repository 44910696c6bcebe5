//! The measured part of docs/performance.md is what its JSON says.
//! `SECKILL_WRITE=1 cargo test -p seckill-bench --test page` writes it anew.

use std::fs;

use seckill_bench::throughput::page::page;
use seckill_bench::throughput::report::Report;
use seckill_testkit::{check_written, workspace_root};

const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- Written by `SECKILL_WRITE=1 cargo test -p seckill-bench --test page` from performance/*.json. -->\n";
const END: &str = "<!-- The end of what is written from performance/*.json. -->\n";

#[test]
fn the_performance_page_is_what_the_json_says() {
    let folder = workspace_root().join("docs/performance");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    let runs: Vec<(String, Report)> = files
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let run = serde_json::from_str(&fs::read_to_string(path).unwrap());
            (
                name,
                run.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            )
        })
        .collect();
    assert!(
        runs.len() >= 2,
        "one run says nothing about the next: {files:?}"
    );
    let page = page(&runs);

    let text = fs::read_to_string(workspace_root().join(PAGE)).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("where the measured part begins");
    let (_, after) = rest.split_once(END).expect("where the measured part ends");
    let text = format!("{before}{BEGIN}\n{}\n{END}{after}", page.text);
    for (file, expected) in [
        (PAGE, text),
        ("docs/performance/throughput.svg", page.throughput),
        ("docs/performance/latency.svg", page.latency),
    ] {
        check_written(file, &expected, "cargo test -p seckill-bench --test page").unwrap();
    }
}
