//! A million jobs an hour, as SCALE.md tells: a line of JSON for each run, of figures the median over
//! seeds between the least and the most.
//! `cargo run --release --no-default-features -p flotilla-autoscaling --example scale`

use std::time::Instant;

use flotilla_autoscaling::{
    Policy,
    simulate::{
        Interval, Job, Limits, Ours, Outcome, Rate, Shape, Trace, World, clairvoyant::clairvoyant,
        quantile, run,
    },
};
use serde_json::json;

const JOBS: usize = 1_000_000;
const HOUR_MS: u64 = 3_600_000;
const SEEDS: u64 = 10;

fn main() {
    let account = Limits::of_a_new_account();
    let raised = Limits {
        launches: Rate { burst: 10_000.0, per_second: 20.0 },
        ends: Rate { burst: 1_000.0, per_second: 50.0 },
        ..account
    };
    let steady = |seed| Shape::HeavyTailed.trace(JOBS, HOUR_MS, seed);
    show("no limits", steady, None);
    show("a new account", steady, Some(account));
    show("tenfold launches", steady, Some(raised));
    let rush = |seed| Shape::DeadlineRush.trace(JOBS, HOUR_MS, seed);
    show("deadline rush, no limits", rush, None);
    show("deadline rush, a new account", rush, Some(account));
    let long = |seed| slower(&steady(seed), 30);
    show("jobs of 10 minutes, no limits", long, None);
    show("jobs of 10 minutes, in flight limited", long, Some(only_in_flight(account)));
}

/// The same arrivals, each job so many times as long.
fn slower(trace: &Trace, times: u64) -> Trace {
    let jobs = trace.jobs().iter();
    Trace::new(jobs.map(|job| Job { service: job.service * times, ..*job }).collect())
}

fn only_in_flight(limits: Limits) -> Limits {
    let any = Rate { burst: 1e9, per_second: 1e9 };
    Limits { launches: any, ends: any, ..limits }
}

fn show(name: &str, trace: impl Fn(u64) -> Trace, limits: Option<Limits>) {
    let policy = Policy { readiness: 0.5, reuse: 0.0, ..Policy::for_queue("q", 1_000_000) };
    let start = Instant::now();
    let runs = (1..=SEEDS).map(|seed| {
        let (trace, world) =
            (trace(seed), World { limits, max: 1_000_000, seed, ..World::default() });
        let out = run(&trace, &world, &mut Ours::new(policy.clone()));
        let cost = out.cost as f64 / clairvoyant(&trace, &world) as f64;
        (out, cost)
    });
    let runs: Vec<(Outcome, f64)> = runs.collect();
    println!("{}", line(name, &runs, start.elapsed().as_secs_f64()));
}

fn line(name: &str, runs: &[(Outcome, f64)], took: f64) -> serde_json::Value {
    let over = |figure: &dyn Fn(&Outcome) -> f64| {
        let Interval { low, median, high } =
            Interval::of(runs.iter().map(|(out, _)| figure(out)).collect());
        json!([low, median, high])
    };
    let wait = |part| over(&|out: &Outcome| f64::from(quantile(&out.waits, part)) / 1000.0);
    let Interval { low, median, high } = Interval::of(runs.iter().map(|(_, cost)| *cost).collect());
    json!({
        "run": name,
        "peak_instances": over(&|out| f64::from(out.peak)),
        "peak_in_flight": over(&|out| out.peak_in_flight as f64),
        "p50_wait_s": wait(0.5),
        "p95_wait_s": wait(0.95),
        "cost": [low, median, high],
        "put_off": over(&|out| out.throttled as f64),
        "killed": over(&|out| out.killed as f64),
        "undone": over(&|out| out.undone as f64),
        "run_in_s": (took * 10.0).round() / 10.0,
    })
}
