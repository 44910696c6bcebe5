use super::*;
use crate::throughput::measured::{HttpRun, PacedRun};

fn rate(per_second: f64) -> Rate {
    Rate {
        per_second,
        p50_ms: 10.0,
        p99_ms: 20.0,
    }
}

fn run(per_second: f64) -> HttpRun {
    HttpRun {
        vouchers: 1,
        accepted: rate(per_second),
        answers: BTreeMap::new(),
        settled_after_seconds: 0.5,
        carried_per_second: per_second,
        cpu_us_per_order: BTreeMap::from([("java".to_owned(), 2.0)]),
    }
}

fn round(http: f64, ceiling: f64) -> Round {
    Round {
        http: vec![run(http)],
        paced: LOADS
            .map(|of_the_peak| PacedRun {
                of_the_peak,
                offered_per_second: of_the_peak * http,
                run: run(of_the_peak * http),
            })
            .to_vec(),
        ceiling: rate(ceiling),
        stores: StoreRates {
            produced_per_second: 2.0 * http,
            consumed_per_second: 4.0 * http,
            copied_per_second: 5.0 * http,
        },
        stores_when_busy: StoreLatencies {
            reserve: rate(http),
            produce: rate(http),
        },
        sold_out: vec![rate(3.0 * http)],
        strangers: rate(4.0 * ceiling),
    }
}

fn machine() -> Machine {
    Machine {
        cpu: "a processor".to_owned(),
        cores: 2,
        kernel: "6.1".to_owned(),
        load_average: "0.1".to_owned(),
        postgresql: "15".to_owned(),
        redis: "7.0".to_owned(),
        fsync: "on".to_owned(),
        append_only: "yes, everysec".to_owned(),
        optimised: true,
    }
}

fn of_rounds(rounds: Vec<Round>) -> Report {
    let options = ThroughputOptions {
        seconds: 5,
        connections: 512,
        vouchers: vec![1],
        rounds: rounds.len(),
        quick: false,
        output: Output::Table,
    };
    Report::new(&options, machine(), rounds)
}

#[test]
fn a_fold_that_fell_behind_is_told_in_the_first_line() {
    let mut late = round(10.0, 20.0);
    late.paced[4].run.settled_after_seconds = 6.3;
    let report = of_rounds(vec![round(10.0, 20.0), late]);
    let first = report.table();
    let first = first.lines().next().unwrap();
    assert!(
        first.contains("fell behind in 1 of 12 runs") && first.contains("6.3 s"),
        "{first}"
    );
    let report = of_rounds(vec![round(10.0, 20.0)]);
    assert_eq!(report.behind(), None);
}

#[test]
fn medians_of_odd_and_even_numbers() {
    assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
    assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    assert_eq!(median([].into_iter()), 0.0);
}

#[test]
fn the_ratio_is_the_median_of_the_rounds_own_ratios() {
    let rounds = vec![round(10.0, 20.0), round(30.0, 40.0), round(20.0, 100.0)];
    let report = of_rounds(rounds);
    let of = |ratio: f64, ratio_min: f64, ratio_max: f64| Ratio {
        ratio,
        ratio_min,
        ratio_max,
    };
    assert_eq!(report.medians[0].ratio, of(0.5, 0.2, 0.75));
    assert_eq!(report.sold_out[0].ratio, of(0.375, 0.15, 0.5625));
    assert_eq!(report.medians[0].accepted.per_second, 20.0);
    assert_eq!(report.ceiling.per_second, 40.0);
    assert_eq!(report.paced[1].offered_per_second, 10.0);
    assert_eq!(report.paced[1].accepted.per_second, 10.0);
    assert_eq!(report.stores.copied_per_second, 100.0);
    let table = report.table();
    for line in [
        "accepted orders, 1 sale(s) ",
        "at 70 % of the first line, evenly",
        "Kafka writes 40 records and reads 80, PostgreSQL copies 100 orders",
        "sold out, 1 sale(s)",
        "java",
    ] {
        assert!(table.contains(line), "{line}: {table}");
    }
}
