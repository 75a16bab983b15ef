//! Our front: chosen on one trace, reported on another.

use std::thread;

use flotilla_autoscaling::{
    Policy,
    simulate::{Ours, Outcome, Point, Scaler, Trace, World, clairvoyant::clairvoyant, run},
};

use super::peers::{self, Peer};

/// Runs of each setting.
pub(super) const SEEDS: u64 = 10;
/// The trace that a setting is reported on is other traffic than the one it is chosen on. So what
/// a peer comes this near to there is left out, and so is what saves no more wait than this over a
/// cheaper setting.
const NEAR: f64 = 1.04;
const NEAR_SECONDS: f64 = 2.0;
/// For how many boots an idle level is kept.
const OFF: [f64; 4] = [0.25, 0.5, 1.0, 2.0];
/// The same where nothing is on the front with these: on a steady load it costs little, and after a
/// rush it would be paid for.
const OFF_LATE: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0];

/// A setting of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Setting {
    pub(super) readiness: f64,
    pub(super) reuse: f64,
    pub(super) off: f64,
}

/// A place on the front.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    /// The setting.
    pub(super) setting: Setting,
    /// Where it is on the trace that it was chosen on.
    pub(super) tuned: Point,
    /// Where it is on the other.
    pub(super) point: Point,
}

/// A front and what it is measured against, on the same trace.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) ours: Vec<Chosen>,
    pub(super) others: Vec<Point>,
}

impl Front {
    /// Chooses the settings on `first` and runs them, and all peers, on `rest`. What a peer comes
    /// near to on either half of `first` alone is left out: it would be luck on the rest, too. Where
    /// that leaves none, those are told that are left without peers.
    pub(super) fn of(first: &Trace, rest: &Trace) -> Self {
        // Nobody knows the rest's peak when a group's size is chosen.
        let peers = peers::all(peak(first));
        let on = |trace: &Trace| places(&peers, |(name, begin): &Peer| point(name, trace, begin));
        let (early, late) = first.halves();
        let tried = Tried { theirs: on(first), parts: [early, late].map(|it| (on(&it), it)) };
        let kept = tried.kept(first);
        let points = places(&kept, |(it, _)| it.point(rest));
        let chosen = |((setting, tuned), point)| Chosen { setting, tuned, point };
        Self { ours: kept.into_iter().zip(points).map(chosen).collect(), others: on(rest) }
    }
}

/// What others do where settings are chosen: on all of the trace, and on each half of it.
struct Tried {
    theirs: Vec<Point>,
    parts: [(Vec<Point>, Trace); 2],
}

impl Tried {
    /// The settings to be reported: there are always some.
    fn kept(&self, first: &Trace) -> Vec<(Setting, Point)> {
        let kept = [&OFF[..], &OFF_LATE].into_iter().map(|offs| self.chosen(first, offs));
        let mut kept = kept.skip_while(Vec::is_empty);
        kept.next().unwrap_or_else(|| choose(first, &OFF, &[]))
    }

    /// Those that no peer comes near to, of those that keep idle levels for so long.
    fn chosen(&self, first: &Trace, offs: &[f64]) -> Vec<(Setting, Point)> {
        let mut kept = choose(first, offs, &self.theirs);
        for (theirs, part) in &self.parts {
            let ours = places(&kept, |(it, _)| it.point(part));
            let mut ours = ours.iter();
            kept.retain(|_| {
                ours.next().is_some_and(|it| !theirs.iter().any(|peer| near(peer, it)))
            });
        }
        kept
    }
}

/// The settings to be reported, the cheapest first, with their places here.
fn choose(first: &Trace, offs: &[f64], theirs: &[Point]) -> Vec<(Setting, Point)> {
    let settings = Setting::all(offs);
    let tuned = places(&settings, |it| it.point(first));
    let mut all: Vec<(Setting, Point)> = settings.into_iter().zip(tuned).collect();
    all.sort_by(|(_, a), (_, b)| {
        let cost = a.cost.median.total_cmp(&b.cost.median);
        cost.then(a.p95.median.total_cmp(&b.p95.median))
    });
    let mut least = f64::INFINITY;
    all.retain(|(_, it)| {
        let kept = wait(it) < least && !theirs.iter().any(|peer| near(peer, it));
        if kept {
            least = it.p95.median;
        }
        kept
    });
    all
}

/// The p95 wait, with what is too little of a difference to tell.
fn wait(of: &Point) -> f64 {
    of.p95.median * NEAR + NEAR_SECONDS.min(of.p95.median)
}

fn near(peer: &Point, to: &Point) -> bool {
    peer.cost.median < to.cost.median * NEAR
        && peer.p95.median < to.p95.median * NEAR + NEAR_SECONDS
        && peer.undone.high <= to.undone.high
}

impl Setting {
    /// What there is to choose from, of those that keep idle levels for so long.
    fn all(offs: &[f64]) -> Vec<Self> {
        let mut all = Vec::new();
        for readiness in [0.0, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9] {
            for reuse in [0.0, 0.2, 0.5] {
                for &off in offs {
                    all.push(Self { readiness, reuse, off });
                }
            }
        }
        all
    }

    fn policy(self) -> Policy {
        let Self { readiness, reuse, off } = self;
        Policy { readiness, reuse, delayed_off_boots: off, ..Policy::for_queue("q", 100_000) }
    }

    fn point(self, trace: &Trace) -> Point {
        self.place(trace, &world())
    }

    /// Its place where not all senders count what they send: SQS's counts and the workers' rows are
    /// all there is.
    pub(super) fn uncounted(self, trace: &Trace) -> Point {
        self.place(trace, &World { books: false, ..world() })
    }

    /// Its place where an order to drain takes its time, and may meet a job that has just begun.
    pub(super) fn ordered(self, trace: &Trace) -> Point {
        self.place(trace, &World::default())
    }

    fn place(self, trace: &Trace, world: &World) -> Point {
        place(&self.name(), trace, world, || Box::new(Ours::new(self.policy())))
    }

    fn name(self) -> String {
        format!("ours {} {} {}", self.readiness, self.reuse, self.off)
    }
}

/// What ours is compared with the others in: an instance is gone with the order, as theirs are.
fn world() -> World {
    World { order_ms: 0, ..World::default() }
}

/// A policy's place on a trace.
fn point(name: &str, trace: &Trace, begin: impl Fn() -> Box<dyn Scaler>) -> Point {
    place(name, trace, &world(), begin)
}

fn place(name: &str, trace: &Trace, world: &World, begin: impl Fn() -> Box<dyn Scaler>) -> Point {
    let runs: Vec<Outcome> = (1..=SEEDS)
        .map(|seed| run(trace, &World { seed, ..world.clone() }, begin().as_mut()))
        .collect();
    Point::of(name, &runs, clairvoyant(trace, world))
}

/// The place of each, on all cores.
fn places<T: Sync>(all: &[T], place: impl Fn(&T) -> Point + Sync) -> Vec<Point> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut places = Vec::with_capacity(all.len());
    thread::scope(|scope| {
        // In turns, since what is next to each other in the list is about as long.
        let threads: Vec<_> = (0..cores)
            .map(|n| {
                let (mine, place) = (all.iter().skip(n).step_by(cores), &place);
                scope.spawn(move || mine.map(place).collect::<Vec<Point>>())
            })
            .collect();
        let done: Vec<_> = threads.into_iter().map(|it| it.join().unwrap_or_default()).collect();
        let mut parts: Vec<_> = done.into_iter().map(Vec::into_iter).collect();
        places.extend((0..all.len()).filter_map(|n| parts[n % cores].next()));
    });
    places
}

/// The most jobs that run at a time where none waits.
fn peak(trace: &Trace) -> u32 {
    let jobs = trace.jobs().iter();
    let mut changes: Vec<(u64, i32)> =
        jobs.flat_map(|job| [(job.at, 1), (job.at + job.service, -1)]).collect();
    changes.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    most.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use flotilla_autoscaling::simulate::Interval;

    use super::*;

    #[test]
    fn there_is_a_front_to_tell_of_though_a_peer_comes_near_to_all_of_it() {
        let cheap = Point { cost: Interval::of(vec![-1.0]), ..Point::default() };
        let none = || (Vec::new(), Trace::default());
        let tried = |theirs| Tried { theirs, parts: [none(), none()] };
        let nothing = Trace::default();
        let near = tried(vec![cheap]);
        assert!(near.chosen(&nothing, &OFF_LATE).is_empty());
        assert_eq!(near.kept(&nothing), tried(Vec::new()).kept(&nothing));
        assert!(!near.kept(&nothing).is_empty());
    }
}
