//! A million jobs an hour, as SCALE.md tells: a line of JSON for each run.
//! `cargo run --release --no-default-features -p flotilla-autoscaling --example scale`

use std::time::Instant;

use flotilla_autoscaling::{
    Policy,
    simulate::{
        Job, Limits, Ours, Outcome, Rate, Shape, Trace, World, clairvoyant::clairvoyant, quantile,
        run,
    },
};
use serde_json::json;

const JOBS: usize = 1_000_000;
const HOUR_MS: u64 = 3_600_000;

fn main() {
    let account = Limits::of_a_new_account();
    let raised = Limits {
        launches: Rate { burst: 10_000.0, per_second: 20.0 },
        ends: Rate { burst: 1_000.0, per_second: 50.0 },
        ..account
    };
    let steady = Shape::HeavyTailed.trace(JOBS, HOUR_MS, 1);
    show("no limits", &steady, None);
    show("a new account", &steady, Some(account));
    show("tenfold launches", &steady, Some(raised));
    let rush = Shape::DeadlineRush.trace(JOBS, HOUR_MS, 1);
    show("deadline rush, no limits", &rush, None);
    show("deadline rush, a new account", &rush, Some(account));
    let long = slower(&steady, 30);
    show("jobs of 10 minutes, no limits", &long, None);
    show("jobs of 10 minutes, in flight limited", &long, Some(only_in_flight(account)));
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

fn show(name: &str, trace: &Trace, limits: Option<Limits>) {
    let world = World { limits, max: 1_000_000, ..World::default() };
    let policy = Policy { readiness: 0.5, reuse: 0.0, ..Policy::for_queue("q", 1_000_000) };
    let start = Instant::now();
    let out = run(trace, &world, &mut Ours::new(policy));
    let took = start.elapsed().as_secs_f64();
    println!("{}", line(name, trace, &world, &out, took));
}

fn line(name: &str, trace: &Trace, world: &World, out: &Outcome, took: f64) -> serde_json::Value {
    let wait = |part| f64::from(quantile(&out.waits, part)) / 1000.0;
    let work: u64 = trace.jobs().iter().map(|job| job.service).sum();
    json!({
        "run": name,
        "peak_instances": out.peak,
        "peak_in_flight": out.peak_in_flight,
        "p50_wait_s": wait(0.5),
        "p95_wait_s": wait(0.95),
        "cost": out.cost as f64 / clairvoyant(trace, world) as f64,
        "instance_hours": (out.cost as f64 / 3.6e6).round(),
        "busy_instances_on_average": (work as f64 / HOUR_MS as f64).round(),
        "put_off": out.throttled,
        "killed": out.killed,
        "undone": out.undone,
        "simulated_in_s": (took * 10.0).round() / 10.0,
    })
}
