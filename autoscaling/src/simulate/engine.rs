//! From event to event.

mod looks;
mod orders;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
};

use rand::{SeedableRng, rngs::StdRng};

use super::{
    Job, Scaler, Trace, World,
    group::Group,
    limits::Bucket,
    sight::{Books, Sight},
};
use crate::observed::Millis;

/// For how long after the last job a policy may go on to give its instances up.
const AFTERWARDS: Millis = 20 * 60_000;

/// Without any job that begins or ends for so long, none ever will.
const STUCK: Millis = 12 * 3_600_000;
/// A job that was lost so often will be lost again.
const LOST: u32 = 1000;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was paid for, in milliseconds of one instance: from launch to end, at least the
    /// minimum bill; time in which lost work was done is part of it.
    pub cost: Millis,
    /// How long each job waited before it began the run that ended, in the order of the trace.
    pub waits: Vec<u32>,
    /// Jobs that a scale-in killed at work, each counted as often as it was.
    pub killed: u64,
    /// Jobs at work on instances that were lost, likewise.
    pub lost: u64,
    /// Jobs that were not done within twelve hours of the last arrival or end, and never will be:
    /// the policy leaves them waiting, or they were lost a thousand times. Their waits count up to
    /// then.
    pub undone: u64,
    /// Jobs at work on an instance when it heard its order to drain: they began while that was on its
    /// way, and ended there, unless they were cut off.
    pub met: u64,
    /// The most instances that there were at one time.
    pub peak: u32,
    /// The most messages that were in flight at one time.
    pub peak_in_flight: u64,
    /// Launches and ends that were put off since a limit was reached, each as often as it was.
    pub throttled: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Finish {
        key: u32,
        job: u32,
    },
    Ready {
        key: u32,
    },
    Lost {
        key: u32,
    },
    Back {
        job: u32,
    },
    /// An order to drain is heard.
    Heard {
        key: u32,
    },
    /// The grace of a job that met one is over.
    Cut {
        key: u32,
        job: u32,
    },
    Look,
}

/// Runs a trace under a policy until every job is done and the group is empty, or
/// twenty minutes have passed since the last job.
pub fn run(trace: &Trace, world: &World, scaler: &mut dyn Scaler) -> Outcome {
    let mut engine = Engine::new(trace.jobs(), world);
    engine.events.push(Reverse((0, Event::Look)));
    loop {
        let next = engine.events.peek().map(|Reverse((at, _))| *at);
        let coming = engine.jobs.get(engine.arrived).map(|job| job.at);
        match (coming, next) {
            (Some(at), next) if next.is_none_or(|next| at <= next) => engine.arrive(at),
            (_, Some(at)) if engine.over(at) => break,
            (_, Some(_)) => engine.step(scaler),
            (_, None) => break,
        }
    }
    engine.outcome()
}

struct Engine<'a> {
    jobs: &'a [Job],
    world: &'a World,
    now: Millis,
    events: BinaryHeap<Reverse<(Millis, Event)>>,
    arrived: usize,
    finished: u64,
    /// How often each job was lost that was.
    losses: HashMap<u32, u32>,
    given_up: Vec<u32>,
    busy: u64,
    timed: Millis,
    last_finish: Millis,
    /// When a job began or ended last, well or not.
    worked: Millis,
    /// When anything but a look happened last.
    moved: Millis,
    waiting: VecDeque<u32>,
    /// What was known to have arrived, by look, in the last minute.
    arrivals: VecDeque<(Millis, u64)>,
    group: Group,
    sight: Sight,
    books: Books,
    /// Instances that were ordered to drain by a row.
    ordered: HashSet<u32>,
    /// Those that heeded it, and hold nothing any more.
    over: Vec<u32>,
    random: StdRng,
    launches: Option<Bucket>,
    ends: Option<Bucket>,
    out: Outcome,
}

impl<'a> Engine<'a> {
    fn new(jobs: &'a [Job], world: &'a World) -> Self {
        Self {
            jobs,
            world,
            now: 0,
            events: BinaryHeap::new(),
            arrived: 0,
            finished: 0,
            losses: HashMap::new(),
            given_up: Vec::new(),
            busy: 0,
            timed: 0,
            last_finish: 0,
            worked: 0,
            moved: 0,
            waiting: VecDeque::new(),
            arrivals: VecDeque::new(),
            group: Group::new(world),
            sight: Sight::new(world),
            books: Books::new(world),
            ordered: HashSet::new(),
            over: Vec::new(),
            random: StdRng::seed_from_u64(world.seed ^ 0x0DE2),
            launches: world.limits.map(|limits| Bucket::new(limits.launches)),
            ends: world.limits.map(|limits| Bucket::new(limits.ends)),
            out: Outcome { waits: vec![0; jobs.len()], ..Outcome::default() },
        }
    }

    fn done(&self) -> bool {
        self.finished + self.given_up.len() as u64 == self.jobs.len() as u64
    }

    fn last_change(&self) -> Millis {
        let arrived = self.arrived.checked_sub(1).map_or(0, |last| self.jobs[last].at);
        arrived.max(self.worked)
    }

    fn over(&self, at: Millis) -> bool {
        if self.arrived < self.jobs.len() {
            return false;
        }
        if self.busy == 0 && at > self.last_change() + STUCK {
            return true;
        }
        self.done() && (self.group.all() == 0 || at > self.last_finish + AFTERWARDS)
    }

    fn arrive(&mut self, at: Millis) {
        (self.now, self.moved) = (at, at);
        let job = self.arrived as u32;
        self.arrived += 1;
        self.offer(job);
    }

    /// A job is there to be taken.
    fn offer(&mut self, job: u32) {
        match self.group.any_idle().filter(|_| self.may_begin()) {
            Some(key) => self.begin(key, job),
            None => self.waiting.push_back(job),
        }
    }

    /// Whether the queue gives another message out.
    fn may_begin(&self) -> bool {
        self.world.limits.is_none_or(|limits| self.busy < limits.in_flight)
    }

    fn begin(&mut self, key: u32, job: u32) {
        let Job { at, service } = self.jobs[job as usize];
        self.out.waits[job as usize] = u32::try_from(self.now - at).unwrap_or(u32::MAX);
        self.group.work(key, job, self.now);
        self.worked = self.now;
        self.busy += 1;
        self.out.peak_in_flight = self.out.peak_in_flight.max(self.busy);
        self.events.push(Reverse((self.now + service, Event::Finish { key, job })));
    }

    /// An instance can take a job, or rests.
    fn free(&mut self, key: u32) {
        match self.waiting.pop_front() {
            Some(job) => self.begin(key, job),
            None => self.group.rest(key, self.now),
        }
    }

    fn step(&mut self, scaler: &mut dyn Scaler) {
        let Some(Reverse((at, event))) = self.events.pop() else { return };
        self.now = at;
        if event != Event::Look {
            self.moved = at;
        }
        match event {
            Event::Finish { key, job } if self.group.there(key) => self.finish(key, job),
            Event::Ready { key } => self.ready(key),
            Event::Lost { key } if self.group.there(key) => self.lose(key),
            Event::Back { job } => self.offer(job),
            Event::Heard { key } => self.hear(key),
            Event::Cut { key, job } => self.cut(key, job),
            Event::Look => self.look(scaler),
            Event::Finish { .. } | Event::Lost { .. } => {}
        }
    }

    fn finish(&mut self, key: u32, job: u32) {
        self.busy -= 1;
        self.finished += 1;
        self.books.finish(self.now);
        self.timed += self.jobs[job as usize].service;
        (self.last_finish, self.worked) = (self.now, self.now);
        match self.group.drains(key) {
            true => self.drained(key),
            false => self.free(key),
        }
    }

    fn ready(&mut self, key: u32) {
        if self.group.boot(key, self.now)
            && self.may_begin()
            && let Some(job) = self.waiting.pop_front()
        {
            self.begin(key, job);
        }
    }

    fn lose(&mut self, key: u32) {
        self.group.observed.spot_interruptions += 1;
        self.out.lost += u64::from(self.end(key));
    }

    /// Ends an instance; says whether it was at work.
    fn end(&mut self, key: u32) -> bool {
        let Some(job) = self.group.end(key, self.now) else { return false };
        self.worked = self.now;
        self.busy -= 1;
        let losses = self.losses.entry(job).or_default();
        *losses += 1;
        match *losses < LOST {
            true => {
                let back = self.now + self.world.visibility_ms;
                self.events.push(Reverse((back, Event::Back { job })));
            }
            false => self.given_up.push(job),
        }
        true
    }

    fn outcome(mut self) -> Outcome {
        let hidden = self.events.drain().filter_map(|Reverse((_, event))| match event {
            Event::Back { job } => Some(job),
            _ => None,
        });
        for job in self.waiting.drain(..).chain(self.given_up.drain(..)).chain(hidden) {
            let wait = self.now - self.jobs[job as usize].at;
            self.out.waits[job as usize] = u32::try_from(wait).unwrap_or(u32::MAX);
            self.out.undone += 1;
        }
        for key in self.group.keys() {
            self.group.end(key, self.now);
        }
        Outcome { cost: self.group.billed, peak: self.group.peak, ..self.out }
    }
}
