//! The figures of the autoscaler on a recorded trace, one JSON object a line:
//! (settings of ours are `readiness reuse delayed_off_boots`)
//! `cargo run --release --no-default-features --example figures -- TRACE [PICTURE]`.
//!
//! Arrival times are divided by 60 and service times by 30. Settings are chosen on the first half
//! of the rows and reported on the rest, each over ten seeds.

use std::{path::Path, process::ExitCode, time::Instant};

use flotilla_autoscaling::{
    Count, Instance, Memory, Observed, Policy, QueueSeen, State, decide,
    simulate::{
        Interval, Ours, Outcome, Point, Scaler, Shape, Trace, World,
        clairvoyant::clairvoyant,
        dominated, front,
        policies::{Buildkite, Keda, Knative, Static, TargetTracking},
        run, svg, table,
    },
};
use serde_json::{Value, json};

const SEEDS: u64 = 10;
/// What may be spent, relative to the clairvoyant schedule.
const BUDGET: f64 = 1.34;
/// The part of it that is spent on the first half, since the rest is other traffic.
const ROOM: f64 = 0.95;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: figures TRACE [PICTURE]: a CSV file of arrival_seconds,service_seconds");
        return ExitCode::from(2);
    };
    let picture = arguments.next().unwrap_or_else(|| "front.svg".to_owned());
    match figures(Path::new(&path), &picture) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn figures(path: &Path, picture: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (first, rest) = Trace::read(path, 60.0, 30.0)?.halves();
    let tuned = front_on(&first);
    let chosen = Chosen::on(&tuned).ok_or("no setting stays within the budget")?;
    let ours: Vec<(Setting, Point)> = tuned.iter().map(|(it, _)| (*it, it.point(&rest))).collect();
    let points: Vec<Point> = ours.iter().map(|(_, point)| point.clone()).collect();
    let others = others(&rest);
    let all: Vec<Point> = points.iter().chain(&others).cloned().collect();
    eprint!("{}", table(&all));
    std::fs::write(picture, svg(&all))?;
    report(&chosen, &ours, &others, picture);
    simulate_million();
    decide_us();
    Ok(())
}

/// A setting of ours.
#[derive(Clone, Copy, PartialEq)]
struct Setting {
    readiness: f64,
    reuse: f64,
    off: f64,
}

/// What there is to choose from.
fn settings() -> Vec<Setting> {
    let mut all = Vec::new();
    for readiness in [0.0, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95] {
        for (reuse, off) in [(0.2, 0.5), (0.0, 0.25), (0.0, 0.5)] {
            all.push(Setting { readiness, reuse, off });
        }
    }
    all
}

/// Our front: the settings that none beats on this trace.
fn front_on(trace: &Trace) -> Vec<(Setting, Point)> {
    let all: Vec<(Setting, Point)> =
        settings().into_iter().map(|it| (it, it.point(trace))).collect();
    let points: Vec<Point> = all.iter().map(|(_, point)| point.clone()).collect();
    let best: Vec<String> = front(&points).into_iter().map(|it| it.name.clone()).collect();
    all.into_iter().filter(|(_, point)| best.contains(&point.name)).collect()
}

impl Setting {
    fn policy(self) -> Policy {
        let Self { readiness, reuse, off } = self;
        Policy { readiness, reuse, delayed_off_boots: off, ..Policy::for_queue("q", 100_000) }
    }

    fn name(self) -> String {
        format!("ours {} {} {}", self.readiness, self.reuse, self.off)
    }

    fn point(self, trace: &Trace) -> Point {
        point(&self.name(), trace, || Box::new(Ours::new(self.policy())))
    }
}

fn point(name: &str, trace: &Trace, scaler: impl Fn() -> Box<dyn Scaler>) -> Point {
    let runs: Vec<Outcome> = (1..=SEEDS)
        .map(|seed| run(trace, &World { seed, ..World::default() }, scaler().as_mut()))
        .collect();
    Point::of(name, &runs, clairvoyant(trace, &World::default()))
}

/// The settings that the first half recommends.
struct Chosen {
    p95_60s: Setting,
    slo: Setting,
}

impl Chosen {
    /// Those that wait least of all that stay within the budget.
    fn on(tuned: &[(Setting, Point)]) -> Option<Self> {
        let within = |budget: f64| {
            let fitting = tuned.iter().filter(|(_, point)| point.cost.high <= budget);
            let best = fitting.min_by(|a, b| a.1.p95.median.total_cmp(&b.1.p95.median));
            best.map(|(setting, _)| *setting)
        };
        Some(Self { p95_60s: within(BUDGET * ROOM)?, slo: within(BUDGET)? })
    }
}

fn report(chosen: &Chosen, ours: &[(Setting, Point)], others: &[Point], picture: &str) {
    let of = |setting: Setting| {
        let found = ours.iter().find(|(it, _)| *it == setting);
        found.map(|(_, point)| point.clone()).unwrap_or_default()
    };
    let points: Vec<Point> = ours.iter().map(|(_, point)| point.clone()).collect();
    let killed = points.iter().map(|it| it.killed.high).fold(0.0, f64::max);
    line("killed", killed, "jobs", 0.0, json!({ "settings": points.len(), "seeds": SEEDS }));
    let zero = points.iter().filter(|it| it.p50.median == 0.0);
    let zero = zero.min_by(|a, b| a.cost.median.total_cmp(&b.cost.median));
    let zero = zero.cloned().unwrap_or_else(|| none("no setting has a median wait of zero"));
    line("cost_at_p50_zero", zero.cost.median, "ratio", 1.30, detail(&zero));
    let within = of(chosen.p95_60s);
    let missed = within.p95.median >= 60.0;
    let value = if missed { MISSED } else { within.cost.median };
    line("cost_at_p95_60s", value, "ratio", BUDGET, detail(&within));
    let beaten: Vec<&str> = dominated(&points, others).iter().map(|it| it.name.as_str()).collect();
    let shown = json!({ "beaten": beaten, "ours": points.iter().map(detail).collect::<Vec<_>>(),
        "others": others.iter().map(detail).collect::<Vec<_>>(), "picture": picture });
    line("dominated_points", beaten.len() as f64, "points", 0.0, shown);
    let slo = of(chosen.slo);
    line("share_over_slo_300s", slo.late.median, "share", 0.0, detail(&slo));
}

/// A cost that no policy has, for a condition that is not met.
const MISSED: f64 = 1e9;

fn none(why: &str) -> Point {
    let cost = Interval { low: MISSED, median: MISSED, high: MISSED };
    Point { name: why.to_owned(), cost, ..Point::default() }
}

fn detail(point: &Point) -> Value {
    let of = |it: Interval| json!([it.low, it.median, it.high]);
    json!({ "setting": point.name, "cost": of(point.cost), "p50_s": of(point.p50),
        "p95_s": of(point.p95), "p99_s": of(point.p99), "share_over_300s": of(point.late),
        "killed": of(point.killed) })
}

fn line(bench: &str, value: f64, unit: &str, target: f64, detail: Value) {
    println!(
        "{}",
        json!({ "bench": format!("autoscaling.{bench}"), "value": value, "unit": unit,
            "better": "lower", "target": target, "detail": detail })
    );
}

/// What others offer that can be built, over the settings that their users choose from.
fn others(trace: &Trace) -> Vec<Point> {
    let mut all = Vec::new();
    let mut add = |name: String, scaler: &dyn Fn() -> Box<dyn Scaler>| {
        all.push(point(&name, trace, scaler));
    };
    // Without protection a job that takes longer than it is to the next scale-in is never done.
    for target in [0.1, 0.5, 1.0, 2.0, 5.0] {
        add(format!("target tracking {target}, protected"), &|| {
            Box::new(TargetTracking::new(target, true))
        });
    }
    for length in [0.8, 1.0, 2.0, 5.0] {
        for (protected, word) in [(true, "idle only"), (false, "any pod")] {
            add(format!("KEDA {length} {word}"), &|| Box::new(Keda::new(length, protected)));
        }
    }
    for idle in [60, 120, 300, 600] {
        add(format!("buildkite idle {idle} s"), &|| Box::new(Buildkite::new(idle * 1000, 1)));
    }
    for utilization in [0.7, 0.8, 0.9, 1.0] {
        add(format!("Knative {utilization}"), &|| Box::new(Knative::new(utilization)));
    }
    for size in [2_000, 4_000, 6_000] {
        add(format!("static {size}"), &|| Box::new(Static(size)));
    }
    all
}

fn simulate_million() {
    let trace = Shape::Diurnal.trace(1_000_000, 86_400_000, 1);
    let start = Instant::now();
    let policy = Policy { readiness: 0.7, reuse: 0.0, ..Policy::for_queue("q", 100_000) };
    let out = run(&trace, &World::default(), &mut Ours::new(policy));
    let seconds = start.elapsed().as_secs_f64();
    let detail = json!({ "trace": "diurnal, one day", "looks_every_s": 5, "peak": out.peak });
    line("simulate_million_s", seconds, "s", 5.0, detail);
}

/// The median of many: one decision on a group of 1,000 instances, a fifth of them booting.
fn decide_us() {
    let states = [State::Idle, State::Busy, State::Busy, State::Idle, State::Booting];
    let instances = (0..1_000u32).map(|n| instance(n, states[n as usize % 5])).collect();
    let queue = QueueSeen { in_flight: Some(Count::exact(390)), ..QueueSeen::empty("q") };
    let seen = Observed {
        queues: vec![queue],
        instances: Some(instances),
        desired: Some(1_000),
        ..Observed::empty_group()
    };
    let policy = Policy { readiness: 0.7, reuse: 0.0, ..Policy::for_queue("q", 2_000) };
    let mut memory = Memory::default();
    for look in 0..2_000 {
        memory = decide(&seen, &policy, &memory, look * 5_000).memory;
    }
    let mut times: Vec<f64> = (0..1_000)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(decide(std::hint::black_box(&seen), &policy, &memory, 20_000_000));
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let detail = json!({ "instances": 1_000, "p99_us": times[990], "runs": times.len() });
    line("decide_us", times[500], "us", 50.0, detail);
}

fn instance(number: u32, state: State) -> Instance {
    Instance {
        id: format!("i-{number:04}"),
        state,
        since: 0,
        launched_at: u64::from(number) * 997,
        ready_at: (state != State::Booting).then_some(u64::from(number) * 997 + 120_000),
        slots: 1,
        busy_slots: u32::from(state == State::Busy),
        kind: "c7g.large".to_owned(),
        spot: false,
    }
}
