//! A page of one rung.

use std::collections::BTreeMap;

use seckill_bench::machine::Machine;

use super::*;
use crate::chart;
use crate::plan::Load;

fn outcome(scenario: Scenario, verdict: Verdict, sold: i64) -> Outcome {
    Outcome {
        scenario,
        verdict,
        stock: 2,
        clicks: 8,
        sold,
        oversold: (sold - 2).max(0),
        unkept: 0,
        undersold: 0,
        lost: 0,
        duplicates: 0,
        errors: BTreeMap::from([("died".to_owned(), 1)]),
        accepted_per_second: 123.4,
        p50_ms: 1.0,
        p99_ms: 2.0,
        database_trips_per_order: 3.0,
        redis_trips_per_order: 0.0,
    }
}

fn report(race: Verdict) -> Report {
    let outcomes = vec![
        outcome(Scenario::Race, race, 8),
        outcome(Scenario::Death, Verdict::Safe, 2),
    ];
    let loads = [100.0, 300.0, 123.4].map(|accepted_per_second| Outcome {
        accepted_per_second,
        ..outcome(Scenario::Load, Verdict::Safe, 3)
    });
    let machine = Machine {
        cpu: "a processor".to_owned(),
        cores: 2,
        kernel: "6".to_owned(),
        load_average: "0.1".to_owned(),
        postgresql: "15".to_owned(),
        redis: "7".to_owned(),
        fsync: "on".to_owned(),
        append_only: "yes, everysec".to_owned(),
        optimised: true,
    };
    let load = Load {
        stock: 2,
        buyers: 8,
        concurrency: 8,
        stop_after_s: 1,
        pause_ms: 500,
        steady_s: 2,
    };
    let rungs = vec![RungReport {
        outcomes,
        loads: loads.to_vec(),
        ..RungReport::new("naive")
    }];
    Report {
        machine: Some(machine),
        load,
        rungs,
    }
}

#[test]
fn the_page_shows_what_was_run_and_what_depends_on_timing() {
    let page = page(&report(Verdict::Oversells));
    let row = "| 1 `naive` | **oversells** (8 of 2) | – | *safe* | – | – | – | – |";
    assert!(page.contains(row), "{page}");
    let speed = "| 1 `naive` | a row | 123 (100–300) |";
    assert!(page.contains(speed), "{page}");
    assert!(
        page.contains("| race | oversells | 8 of 2 | 6 | 0 | 0 | 0 | 0 | 1 died |"),
        "{page}"
    );
    assert!(!page.contains("`mutex`"), "{page}");
}

#[test]
fn every_rung_has_its_text_in_chinese() {
    for rung in rungs::all() {
        let name = rung.card.name;
        let (title, story) = (CHINESE.card)(&rung.card).unwrap_or_default();
        assert!(!title.is_empty() && !story.is_empty(), "{name}");
        let code = |text: &str| text.matches('`').count();
        assert_eq!(code(story), code(rung.card.story), "{name}");
    }
    assert_eq!(chinese_cards::CARDS.len(), rungs::all().len());
}

#[test]
fn only_what_the_card_does_not_say_is_a_surprise() {
    let naive = rungs::all()[0];
    let surprises_of = |race| surprises(&naive, &report(race).rungs[0]);
    assert_eq!(surprises_of(Verdict::Oversells), [""; 0]);
    let surprises = surprises_of(Verdict::Safe);
    assert_eq!(surprises, ["naive in race: safe, expected oversells"]);
}

#[test]
fn the_chart_has_a_bar_of_the_right_colour() {
    let colours = |race| {
        let svg = chart::throughput(&report(race));
        assert!(
            svg.contains(">naive</text>") && svg.contains(">123</text>"),
            "{svg}"
        );
        svg.matches("#c0562f").count()
    };
    // One is the legend's.
    assert_eq!(colours(Verdict::Safe), 1);
    assert_eq!(colours(Verdict::Oversells), 2);
}
