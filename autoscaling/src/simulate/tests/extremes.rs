//! Traces and worlds at their limits.

use super::{
    super::{policies::*, *},
    exact, ours,
};
use crate::Policy;

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
fn never_more_instances_than_the_maximum() {
    let trace = Shape::DeadlineRush.trace(3_000, 3_600_000, 1);
    let world = World { max: 17, ..World::default() };
    assert_eq!(run(&trace, &world, &mut ours()).peak, 17);
}
