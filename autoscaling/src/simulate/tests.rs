use std::slice::from_ref;

use proptest::prelude::*;

use super::{clairvoyant::clairvoyant, policies::*, *};
use crate::Policy;

fn ours() -> Ours {
    Ours::new(Policy::for_queue("q", 100_000))
}

/// Jobs of all lengths, alone, in bursts and in rows, within minutes or days.
fn wide_trace() -> impl Strategy<Value = Trace> {
    let service = prop_oneof![1u64..2_000, 1u64..400_000, 1u64..7_200_000];
    let group = (0.0..1.0f64, service, 1usize..40, prop_oneof![Just(0u64), 1u64..100_000]);
    let span = prop_oneof![60_000u64..3_600_000, 3_600_000u64..172_800_000];
    (proptest::collection::vec(group, 1..25), span).prop_map(|(groups, span)| {
        let jobs = groups.into_iter().flat_map(|(at, service, count, gap)| {
            let at = (at * span as f64) as u64;
            (0..count as u64).map(move |n| Job { at: at + n * gap, service })
        });
        Trace::new(jobs.collect())
    })
}

fn any_trace() -> impl Strategy<Value = Trace> {
    let job = (0u64..3_600_000, 0u64..400_000).prop_map(|(at, service)| Job { at, service });
    proptest::collection::vec(job, 1..60).prop_map(Trace::new)
}

fn exact() -> World {
    let base = World { boot_spread: 0.0, lag_ms: 0, noise: 0.0, ..World::default() };
    World { books_lag_ms: 0, order_ms: 0, ..base }
}

/// Every job begins exactly when it comes, so no schedule without wait is cheaper.
fn cheapest_of_all_bridgings(busy: &[(Millis, Millis)], world: &World) -> Millis {
    let gaps = busy.len() - 1;
    let cost = |mask: u32| {
        let (mut total, mut start) = (0, busy[0].0);
        for (n, (_, end)) in busy.iter().enumerate() {
            if n == gaps || mask >> n & 1 == 0 {
                total += (world.boot_ms + end - start).max(world.minimum_billed_ms);
                start = busy.get(n + 1).map_or(0, |next| next.0);
            }
        }
        total
    };
    (0..1u32 << gaps).map(cost).min().unwrap()
}

/// Runs take milliseconds each, not microseconds.
fn few() -> ProptestConfig {
    ProptestConfig::with_cases(48)
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn the_clairvoyant_bridges_or_ends_each_gap_as_the_best_of_all_choices_does(
        spans in proptest::collection::vec((1u64..300_000, 1u64..200_000), 1..8),
        boot_ms in prop_oneof![Just(0u64), 0u64..200_000],
        minimum_billed_ms in prop_oneof![Just(0u64), 1u64..600_000],
    ) {
        let world = World { boot_ms, minimum_billed_ms, ..exact() };
        let mut at = 0;
        let busy: Vec<_> = spans.iter().map(|(gap, work)| {
            at += gap + work;
            (at - work, at)
        }).collect();
        let jobs = busy.iter().map(|(from, to)| Job { at: *from, service: to - from });
        let cost = clairvoyant(&Trace::new(jobs.collect()), &world);
        prop_assert_eq!(cost, cheapest_of_all_bridgings(&busy, &world));
    }

    #[test]
    fn every_job_is_done_and_paid_for_under_every_policy_though_instances_are_lost(
        trace in any_trace(), seed in any::<u64>(), losses in 0.0..8.0, books in any::<bool>(),
    ) {
        let world = World { seed, losses_per_hour: losses, books, ..World::default() };
        let work: Millis = trace.jobs().iter().map(|job| job.service).sum();
        let mut all: Vec<Box<dyn Scaler>> = vec![
            Box::new(ours()),
            Box::new(Keda::new(1.0, false)),
            Box::new(Knative::new(0.7)),
            Box::new(Buildkite::new(600_000, 1)),
        ];
        for scaler in &mut all {
            let out = run(&trace, &world, scaler.as_mut());
            prop_assert_eq!(out.undone, 0);
            prop_assert!(out.cost >= work, "{} < {work}", out.cost);
            prop_assert!(u64::from(out.peak) * world.minimum_billed_ms <= out.cost);
        }
    }

    #[test]
    fn ours_kills_nothing_and_costs_at_most_twice_the_clairvoyant_where_boots_take_no_time(
        trace in wide_trace(), seed in any::<u64>(), minimum in 10_000u64..600_000,
        reuse in 0.0..1.0, books in any::<bool>(),
    ) {
        let world = World { boot_ms: 0, seed, minimum_billed_ms: minimum, books, ..exact() };
        let base = Policy::for_queue("q", 100_000);
        let policy = Policy { boot_ms: 0, minimum_billed_ms: minimum, reuse, ..base };
        let out = run(&trace, &world, &mut Ours::new(policy));
        prop_assert_eq!(out.killed, 0);
        let best = clairvoyant(&trace, &world);
        prop_assert!(out.cost <= 2 * best, "{} > 2 * {best}", out.cost);
    }

    #[test]
    fn the_same_seed_gives_the_same_run(trace in any_trace(), seed in any::<u64>()) {
        let world = World { seed, losses_per_hour: 1.0, ..World::default() };
        prop_assert_eq!(run(&trace, &world, &mut ours()), run(&trace, &world, &mut ours()));
    }
}

#[test]
fn the_clairvoyant_keeps_an_instance_where_the_minimum_bill_of_the_next_is_dearer_than_the_gap() {
    let world = World { boot_ms: 0, minimum_billed_ms: 60_000, ..exact() };
    let cost = |busy: &[(u64, u64)]| {
        let job = |(from, to): &(u64, u64)| Job { at: from * 1000, service: (to - from) * 1000 };
        clairvoyant(&Trace::new(busy.iter().map(job).collect()), &world) / 1000
    };
    assert_eq!(cost(&[(0, 60), (61, 62)]), 62);
    assert_eq!(cost(&[(0, 1), (50, 51), (100, 101)]), 101);
    assert_eq!(cost(&[(0, 1), (200, 201)]), 120);
    assert_eq!(cost(&[(0, 1), (0, 1)]), 120);
}

#[test]
fn somebody_must_be_there_for_a_job_of_no_time_too() {
    let world = World { boot_ms: 0, ..exact() };
    let trace = Trace::new((0..20).map(|n| Job { at: n * 3_600_000, service: 0 }).collect());
    let best = clairvoyant(&trace, &world);
    assert_eq!(best, 20 * world.minimum_billed_ms);
    let out = run(&trace, &world, named("ours=0", &world).unwrap().as_mut());
    assert!(out.cost >= best && out.cost <= 2 * best, "{} beside {best}", out.cost);
}

#[test]
fn ours_is_told_what_is_billed_at_least() {
    let hour = 3_600_000;
    let world = World { minimum_billed_ms: hour, ..exact() };
    // Ten minutes apart: an instance that is paid for by the hour serves six.
    let jobs = (0..60).map(|n| Job { at: n * 600_000, service: 60_000 });
    let trace = Trace::new(jobs.collect());
    let out = run(&trace, &world, named("ours=0", &world).unwrap().as_mut());
    let best = clairvoyant(&trace, &world);
    assert!(out.cost <= 2 * best, "{} beside {best}", out.cost);
}

#[test]
fn a_job_of_days_that_is_lost_once_is_done_again() {
    let trace = Trace::new(vec![Job { at: 0, service: 2 * 86_400_000 }]);
    let runs = (0..12).map(|seed| World { losses_per_hour: 0.01, seed, ..exact() });
    let runs = runs.map(|world| run(&trace, &world, &mut Static(1)));
    let lost: Vec<Outcome> = runs.filter(|out| out.lost > 0).collect();
    assert!(!lost.is_empty() && lost.iter().all(|out| out.undone == 0), "{lost:?}");
}

#[test]
fn a_loss_that_hardly_ever_comes_does_not_come() {
    let world = World { losses_per_hour: 1e-300, ..exact() };
    let trace = Trace::new(vec![Job { at: 0, service: 10_000 }]);
    assert_eq!(run(&trace, &world, &mut ours()).lost, 0);
}

/// A policy, and how often it looked.
struct Counted<S>(S, u64);

impl<S: Scaler> Scaler for Counted<S> {
    fn every_ms(&self) -> Millis {
        self.0.every_ms()
    }

    fn settles_ms(&self) -> Millis {
        self.0.settles_ms()
    }

    fn look(&mut self, view: &View<'_>) -> Order {
        self.1 += 1;
        self.0.look(view)
    }
}

#[test]
fn a_job_of_ten_years_is_not_looked_at_a_hundred_million_times() {
    let years = 3_650 * 86_400_000;
    let long = Job { at: 0, service: years };
    // In the middle of it there is another.
    let trace = Trace::new(vec![long, Job { at: years / 2, service: 10_000 }]);
    let policy = Policy { reuse: 0.0, ..Policy::for_queue("q", 100) };
    let mut seen = Counted(Ours::new(policy), 0);
    let out = run(&trace, &exact(), &mut seen);
    assert!((120_000..=125_000).contains(&out.waits[1]), "{:?}", out.waits);
    assert!((years + 360_000..years + 600_000).contains(&out.cost), "{}", out.cost - years);
    assert!(out.undone == 0 && seen.1 < 100_000, "{} looks", seen.1);
    // One that idles for a day is given up after a day, though nothing else happens for years.
    let day = 86_400_000;
    let mut idles = Counted(Buildkite::new(day, 1), 0);
    let out = run(&trace, &exact(), &mut idles);
    assert!((years + day..years + 2 * day + 3_600_000).contains(&out.cost), "{}", out.cost - years);
    assert!(out.undone == 0 && idles.1 < 100_000, "{} looks", idles.1);
}

#[test]
fn a_job_waits_for_a_look_and_a_boot_and_its_instance_is_paid_from_its_launch() {
    let trace = Trace::new(vec![Job { at: 1_000, service: 10_000 }]);
    let out = run(&trace, &exact(), &mut ours());
    assert_eq!(out.waits, [124_000], "from 1 s to the look at 5 s, and two minutes");
    // Launched at 5 s, at work until 135 s, and given up at the first look a boot after that.
    assert!((250_000..=262_000).contains(&out.cost), "{}", out.cost);
}

#[test]
fn target_tracking_leaves_one_message_waiting_for_ever_and_ours_does_not() {
    let trace = Trace::new(vec![Job { at: 1_000, service: 10_000 }]);
    let stuck = run(&trace, &exact(), &mut TargetTracking::new(1.0, true));
    assert_eq!((stuck.undone, stuck.cost), (1, 0), "a backlog of one is no more than the target");
    assert_eq!(run(&trace, &exact(), &mut ours()).undone, 0);
}

#[test]
fn work_on_a_lost_instance_is_done_again_and_paid_again() {
    let jobs = (0..200).map(|n| Job { at: n * 1_000, service: 600_000 });
    let trace = Trace::new(jobs.collect());
    let kept = run(&trace, &exact(), &mut Static(200));
    let lossy = World { losses_per_hour: 1.0, ..exact() };
    let lost = run(&trace, &lossy, &mut Static(200));
    assert!(kept.lost == 0 && lost.lost > 10, "{} lost", lost.lost);
    assert!(quantile(&lost.waits, 0.95) > quantile(&kept.waits, 0.95) + 100_000);
}

#[test]
fn scale_in_without_protection_kills_and_with_it_does_not() {
    let trace = Shape::Bursty.trace(2_000, 4 * 3_600_000, 3);
    let killed = |protected| run(&trace, &World::default(), &mut Keda::new(1.0, protected)).killed;
    assert!(killed(false) > 0);
    assert_eq!(killed(true), 0);
}

#[test]
fn a_job_that_meets_an_order_to_drain_ends_unless_it_is_cut_off() {
    // Each comes when the instance before it is about to go.
    let jobs = (0..400).map(|n| Job { at: n * 171_300, service: 20_000 });
    let trace = Trace::new(jobs.collect());
    let world = World { order_ms: 60_000, ..exact() };
    let whole = run(&trace, &world, &mut ours());
    assert!(whole.met > 0, "orders take a minute");
    assert_eq!((whole.killed, whole.undone), (0, 0));
    let cut = run(&trace, &World { grace_ms: Some(1_000), ..world }, &mut ours());
    assert!(cut.killed > 0 && cut.undone == 0, "{} killed", cut.killed);
}

#[test]
fn an_instance_that_was_ordered_to_drain_is_paid_for_until_that_is_heeded() {
    let trace = Trace::new(vec![Job { at: 0, service: 10_000 }]);
    let cost = |order_ms| run(&trace, &World { order_ms, ..exact() }, &mut ours()).cost;
    assert!((5_000..=40_000).contains(&(cost(30_000) - cost(0))), "{}", cost(30_000) - cost(0));
}

#[test]
fn what_comes_every_day_waits_less_where_it_is_predicted() {
    let minutes = 1440 + 11 * 60;
    // Ten at a time, and from nine o'clock on within an hour up to a hundred, a minute each.
    let jobs = (0..minutes).flat_map(|minute: u64| {
        let more = match minute % 1440 {
            of_day @ 540..600 => (of_day - 540) * 3 / 2,
            600..660 => 90,
            _ => 0,
        };
        (0..10 + more).map(move |_| Job { at: minute * 60_000, service: 60_000 })
    });
    let trace = Trace::new(jobs.collect());
    let waited = |prediction, warm| {
        let policy = Policy { prediction, warm, ..Policy::for_queue("q", 1_000) };
        let out = run(&trace, &exact(), &mut Ours::new(policy));
        assert_eq!((out.killed, out.undone), (0, 0));
        let last_day = trace.jobs().iter().zip(&out.waits).filter(|(job, _)| job.at > 86_400_000);
        last_day.map(|(_, wait)| u64::from(*wait)).sum::<u64>()
    };
    let (with, without) = (waited(1.0, 0.9), waited(0.0, 0.0));
    assert!(with < without, "{with} ms and {without} ms");
}

#[test]
fn never_more_instances_than_the_maximum() {
    let trace = Shape::DeadlineRush.trace(3_000, 3_600_000, 1);
    let world = World { max: 17, ..World::default() };
    assert_eq!(run(&trace, &world, &mut ours()).peak, 17);
}

#[test]
fn synthetic_traces_have_as_many_jobs_as_asked_and_their_shape() {
    let hour = 3_600_000;
    for (name, shape) in Shape::ALL {
        let trace = shape.trace(5_000, 24 * hour, 7);
        assert_eq!(trace.jobs().len(), 5_000, "{name}");
        assert_eq!(trace, shape.trace(5_000, 24 * hour, 7), "{name}");
    }
    let count = |shape: Shape, from: u64, to: u64| {
        let trace = shape.trace(5_000, 24 * hour, 7);
        trace.jobs().iter().filter(|job| (from * hour..to * hour).contains(&job.at)).count()
    };
    assert!(count(Shape::Diurnal, 10, 14) > 3 * count(Shape::Diurnal, 0, 4));
    assert!(count(Shape::DeadlineRush, 17, 21) > 2_000);
    let trace = Shape::HeavyTailed.trace(5_000, 24 * hour, 7);
    let mut services: Vec<Millis> = trace.jobs().iter().map(|job| job.service).collect();
    services.sort_unstable();
    let (all, top): (Millis, Millis) = (services.iter().sum(), services[4_500..].iter().sum());
    assert!(top * 5 > all * 2, "a tenth of the jobs takes {top} of {all} ms");
}

#[test]
fn a_trace_is_read_scaled_and_halved_and_a_bad_row_is_named() {
    let file = std::env::temp_dir().join(format!("trace-{}.csv", std::process::id()));
    let read = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Trace::read(&file, 60.0, 30.0)
    };
    let trace = read("arrival_seconds,service_seconds\n0,30\n60,90\n120,15\n180,3\n").unwrap();
    let job = |at, service| Job { at, service };
    let halves = trace.halves();
    assert_eq!(halves.0.jobs(), [job(0, 1_000), job(1_000, 3_000)]);
    assert_eq!(halves.1.jobs(), [job(0, 500), job(1_000, 100)]);
    let bad = read("arrival_seconds,service_seconds\n0,1\n5,-1\n").unwrap_err();
    assert!(bad.to_string().contains("row 2"), "{bad}");
    assert!(matches!(read("arrival_seconds,service_seconds\n1\n"), Err(TraceError::Rows { .. })));
    assert!(matches!(read("arrival_seconds,service_seconds\n"), Err(TraceError::Empty { .. })));
    let absent = Trace::read(std::path::Path::new("/no/such/trace.csv"), 1.0, 1.0);
    assert!(matches!(absent, Err(TraceError::File { .. })));
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_trace_without_a_heading_is_refused_and_not_read_from_its_second_job() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Trace::read(&path, 1.0, 1.0)
    };
    for text in ["5,3\n", "0,30\n60,90\n", "a,b\n1,2\n", "arrival_seconds\n1\n"] {
        let why = read(text).unwrap_err();
        let first = text.lines().next().unwrap();
        assert!(matches!(why, TraceError::Heading { .. }), "{why:?}");
        assert!(why.to_string().contains(first), "{why}");
    }
    for text in ["", "\n\n", "arrival_seconds,service_seconds\r\n"] {
        assert!(matches!(read(text), Err(TraceError::Empty { .. })), "{text:?}");
    }
    // Columns in another order, beside others, with the mark that some editors set before them.
    let trace = read("\u{feff}kind,service_seconds, arrival_seconds\r\nx,3,5\r\n").unwrap();
    assert_eq!(trace.jobs(), [Job { at: 0, service: 3_000 }]);
}

#[test]
fn quantiles_intervals_and_the_dominated() {
    let values: Vec<u32> = (1..=100).rev().collect();
    assert_eq!([0.0, 0.5, 0.95, 1.0].map(|q| quantile(&values, q)), [1, 50, 95, 100]);
    assert_eq!(quantile(&[], 0.5), 0);
    let interval = Interval::of(vec![3.0, 1.0, 2.0, 10.0]);
    assert_eq!((interval.low, interval.median, interval.high), (1.0, 2.5, 10.0));
    let point = |cost, p95| Point {
        cost: Interval::of(vec![cost]),
        p95: Interval::of(vec![p95]),
        ..Point::default()
    };
    let (good, bad) = (point(1.0, 50.0), point(2.0, 60.0));
    assert_eq!(dominated(from_ref(&bad), from_ref(&good)), [&bad]);
    assert!(dominated(from_ref(&good), &[bad.clone(), point(0.9, 51.0)]).is_empty());
    let lazy = Point { undone: Interval::of(vec![1.0]), ..point(0.5, 1.0) };
    assert!(dominated(from_ref(&good), &[lazy]).is_empty(), "it left a job undone");
    assert_eq!(front(&[bad.clone(), good.clone()]), [&good]);
    let all = [Point { name: clairvoyant::NAME.to_owned(), ..point(0.9, 0.0) }, good.clone()];
    assert_eq!(front(&all), [&good], "nobody can build the first");
}

#[test]
fn no_more_is_launched_or_in_flight_than_the_services_allow() {
    let jobs = (0..500).map(|n| Job { at: n, service: 60_000 });
    let trace = Trace::new(jobs.collect());
    let rate = Rate { burst: 50.0, per_second: 1.0 };
    let limits = Limits { in_flight: 40, launches: rate, ends: rate };
    let free = run(&trace, &exact(), &mut ours());
    let bound = run(&trace, &World { limits: Some(limits), ..exact() }, &mut ours());
    assert_eq!((free.peak_in_flight, free.throttled), (500, 0));
    assert_eq!((bound.peak_in_flight, bound.undone), (40, 0));
    assert!(bound.throttled > 0 && bound.peak < free.peak, "{} instances", bound.peak);
    // Forty at a time, a minute each: the last of five hundred waits for twelve before it.
    assert!(quantile(&bound.waits, 1.0) >= 720_000);
}

#[test]
fn a_trace_goes_on_after_days_without_a_job() {
    let job = |at| Job { at, service: 10_000 };
    let trace = Trace::new(vec![job(0), job(5 * 86_400_000), job(3 * 365 * 86_400_000)]);
    let outcome = run(&trace, &exact(), &mut ours());
    assert_eq!((outcome.undone, outcome.waits.len()), (0, 3));
    assert!(outcome.waits[2] >= 120_000 && outcome.cost >= 3 * 130_000, "{outcome:?}");
}

#[test]
fn a_job_that_is_lost_again_and_again_is_given_up() {
    let trace = Trace::new(vec![Job { at: 0, service: 86_400_000 }]);
    let world = World { losses_per_hour: 30.0, ..exact() };
    let outcome = run(&trace, &world, &mut ours());
    assert_eq!(outcome.undone, 1, "{outcome:?}");
}

#[test]
fn a_trace_of_hostile_numbers_is_refused_and_one_of_times_since_1970_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.csv");
    let read = |rows: &str| {
        std::fs::write(&path, format!("arrival_seconds,service_seconds\n{rows}")).unwrap();
        Trace::read(&path, 1.0, 1.0)
    };
    for rows in ["1,1e300", "0,1\n1e15,1", "0,-1", "NaN,1", "0,1e11", "0,1\n1e11,1"] {
        assert!(read(rows).is_err(), "{rows}");
    }
    let trace = read("1795000000,5\n1795000010,7").unwrap();
    assert_eq!(trace.jobs()[1], Job { at: 10_000, service: 7000 });
    // The row that is named is that of the file, in whatever order its rows are.
    let why = |rows: &str| read(rows).unwrap_err().to_string();
    assert!(why("1000,1\n1e12,1\n0,1").contains("row 2"), "{}", why("1000,1\n1e12,1\n0,1"));
    assert!(why("9e9,1\n5,1\n6,1").contains("row 1"), "{}", why("9e9,1\n5,1\n6,1"));
    let job = |at, service| Job { at, service };
    assert_eq!(read("7, 2\n 5,1 \r\n").unwrap().jobs(), [job(0, 1_000), job(2_000, 2_000)]);
}

#[test]
fn every_policy_comes_to_an_end_on_traces_and_worlds_at_their_limits() {
    let job = |at, service| Job { at, service };
    let traces = [
        vec![],
        vec![job(0, 0)],
        vec![job(7, 1); 300],
        vec![job(0, 1), job(0, 10_000_000), job(0, 0)],
    ];
    let (slow, blind) = (World { boot_ms: 7_200_000, ..exact() }, World { noise: 2.0, ..exact() });
    let now = World { boot_ms: 0, minimum_billed_ms: 0, lag_ms: 3_600_000, ..blind.clone() };
    for (jobs, world) in traces.iter().flat_map(|it| [(it, &slow), (it, &blind), (it, &now)]) {
        let trace = Trace::new(jobs.clone());
        for name in NAMES.into_iter().chain(["ours=1", "keda=1e-9", "knative=1e9", "static=1e300"])
        {
            let world = World { max: 500, ..world.clone() };
            let out = run(&trace, &world, named(name, &world).unwrap().as_mut());
            assert_eq!(out.waits.len(), trace.jobs().len(), "{name}");
            assert!(
                out.peak <= 500 && (out.undone == 0 || !name.starts_with("ours")),
                "{name}: {out:?}"
            );
        }
    }
}
