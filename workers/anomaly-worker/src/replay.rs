//! The problems of a time recomputed from the stored readings, and what of them differs from the
//! problems that were told.
//!
//! Every machine is walked through all readings that are stored of it, from its beginning: so it
//! does not matter what was decided when. Readings that came too late are left out, as they were
//! when they came; or they are taken too, to see what they change. Topologies are those of now. What
//! follows from what is found for all problems together, as it was told.

mod outline;

use std::collections::{BTreeSet, HashMap};

use flotilla_runtime::Failure;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use self::outline::{Outline, differences, opened, outlines, shown};
use crate::{
    engine::{DeviceStand, EdgeStand, Episode, Limits, Machine, Rule, State},
    reading::Reading,
    root::Trouble,
    tables::{Devices, Edges, Problems, Readings, Span, Subject, Topologies, is_of},
    topology::{Plan, TopologyError},
};

/// Subjects that are looked at at a time, and rows that are read at a time.
const AT_A_TIME: usize = 8;
const PAGE: i32 = 1000;
/// After all times.
const END: i64 = 999_999_999_999_999;

/// The tables of the sensors.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Devices.
    pub devices: Devices,
    /// Readings.
    pub readings: Readings,
    /// Edges, and the topologies beside them.
    pub edges: Edges,
    /// Topologies.
    pub topologies: Topologies,
    /// Problems.
    pub problems: Problems,
}

/// What is recomputed.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Problems that opened from then on, in Unix milliseconds.
    pub from: i64,
    /// Problems that opened before, in Unix milliseconds.
    pub to: i64,
    /// Whether readings that came too late are taken, too.
    pub late: bool,
    /// How edges are compared that no topology names.
    pub plain: Rule,
    /// How late readings may come, in milliseconds: so long a number tells a duplicate.
    pub lateness: i64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Replay {
    /// Edges, and devices that are looked at alone.
    pub machines: usize,
    /// Readings, of each machine its own.
    pub readings: usize,
    /// Those that came too late for it.
    pub late_readings: usize,
    /// Problems that opened in that time, as they were told.
    pub told: usize,
    /// The same, as they are found now.
    pub replayed: usize,
    /// Where both are not the same, in order.
    pub differences: Vec<Difference>,
}

/// A problem that is not told as it is found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The problem.
    pub problem_id: String,
    /// When it opened, in Unix milliseconds.
    pub opened: i64,
    /// As it was told; none where it was not.
    pub told: Option<Value>,
    /// As it is found now; none where it is not.
    pub replayed: Option<Value>,
}

/// What was told of a subject, and what is found.
struct Found {
    counts: Replay,
    told: Outline,
    troubles: Vec<Trouble>,
}

/// What a walk has to know.
struct Walk<'a> {
    tables: &'a Tables,
    plan: &'a Plan,
    wanted: Wanted,
    /// Since when named devices are expected, in Unix milliseconds.
    since: HashMap<String, i64>,
}

/// Recomputes problems, and compares them with those that were told.
///
/// # Errors
/// Transient when DynamoDB does not answer; permanent for a row or a topology that cannot be read.
pub async fn replay(tables: &Tables, wanted: Wanted) -> Result<Replay, Failure> {
    let index = tables.topologies.index().await?;
    let (index, all) = tables.topologies.load_newest(index).await?;
    let refused = |e: TopologyError| Failure::permanent("topology", e.to_string());
    let plan = Plan::of(&all, wanted.plain).map_err(refused)?;
    let since = tables.topologies.since(&index, &all).await?;
    let walk = Walk { tables, plan: &plan, wanted, since };
    let subjects = subjects(tables, &plan).await?;
    let walks = subjects.iter().map(|subject| walk.subject(subject));
    let mut parts: Vec<Found> = stream::iter(walks).buffered(AT_A_TIME).try_collect().await?;
    let troubles = parts.iter_mut().map(|it| std::mem::take(&mut it.troubles)).collect();
    let outlines = outlines(troubles, &plan);
    let within = |it: &(String, i64)| (wanted.from..wanted.to).contains(&it.1);
    let mut found = Replay::default();
    for (Found { counts, told, .. }, mut replayed) in parts.into_iter().zip(outlines) {
        replayed.retain(|key, _| within(key));
        found = found.and(counts, &told, &replayed);
    }
    found.differences.sort_by(|a, b| (a.opened, &a.problem_id).cmp(&(b.opened, &b.problem_id)));
    Ok(found)
}

/// All edges between devices that were heard or are named, and all devices.
async fn subjects(tables: &Tables, plan: &Plan) -> Result<BTreeSet<Subject>, Failure> {
    let mut ids: BTreeSet<String> = plan.named().map(str::to_owned).collect();
    let mut after = None;
    loop {
        let (page, last) = tables.devices.page(after.as_deref(), PAGE).await?;
        ids.extend(page);
        match last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    let mut subjects = BTreeSet::new();
    for id in &ids {
        if plan.device(id).is_watched() {
            subjects.insert(Subject::Device(id.clone()));
        }
        let joins = plan.edges_of(id).into_iter();
        subjects.extend(
            joins.filter(|it| ids.contains(&it.current) && ids.contains(&it.following)).map(
                |join| Subject::Edge {
                    current: join.current.clone(),
                    following: join.following.clone(),
                },
            ),
        );
    }
    Ok(subjects)
}

impl Replay {
    fn and(mut self, subject: Self, told: &Outline, replayed: &Outline) -> Self {
        self.machines += subject.machines;
        self.readings += subject.readings;
        self.late_readings += subject.late_readings;
        self.told += told.len();
        self.replayed += replayed.len();
        self.differences.extend(differences(told, replayed));
        self
    }
}

impl Walk<'_> {
    async fn subject(&self, subject: &Subject) -> Result<Found, Failure> {
        let mut counts = Replay { machines: 1, ..Replay::default() };
        let current = self.readings(subject.current(), subject, &mut counts).await?;
        let episodes = match subject {
            Subject::Edge { current: id, following } => {
                let rule = self.plan.rule(id, following);
                let following = self.readings(following, subject, &mut counts).await?;
                let beginning = State::<EdgeStand>::default();
                self.walked(subject, &rule, beginning, [current, following]).await?
            }
            Subject::Device(id) => {
                let expected = |at: &i64| State::beginning(DeviceStand::expected(*at));
                let beginning = self.since.get(id).map_or_else(State::default, expected);
                let rule = self.plan.device(id);
                self.walked(subject, &**rule, beginning, [current, Vec::new()]).await?
            }
        };
        let told = self.told(subject).await?;
        let trouble = |episode| Trouble { subject: subject.clone(), episode };
        Ok(Found { counts, told, troubles: episodes.into_iter().map(trouble).collect() })
    }

    /// Walks through all readings, with the clock that decided when they came.
    async fn walked<M: Machine + DeserializeOwned>(
        &self,
        subject: &Subject,
        rule: &M::Rule,
        beginning: State<M>,
        [current, following]: [Vec<Reading>; 2],
    ) -> Result<Vec<Episode>, Failure> {
        let state = match self.tables.edges.load::<M>(subject).await? {
            Some((_, stored)) if stored.settled_until() < 0 => stored,
            Some((_, stored)) => beginning.with_clock_of(&stored),
            None => beginning,
        };
        let limits = Limits { lateness: self.wanted.lateness, ..Limits::default() };
        Ok(state.replay(rule, &limits, current, following))
    }

    /// All readings of a device, for this subject.
    async fn readings(
        &self,
        device: &str,
        subject: &Subject,
        found: &mut Replay,
    ) -> Result<Vec<Reading>, Failure> {
        let (key, mut readings) = (subject.key(), Vec::new());
        let mut span = Span { from: 0, to: END, after: None, newest_first: false };
        loop {
            let (page, more) = self.tables.readings.span(device, &span, PAGE).await?;
            span.after = page.last().map(|it| it.key.clone());
            for it in page {
                let late = it.late.contains(&key);
                found.late_readings += usize::from(late);
                if !late || self.wanted.late {
                    readings.push(it.reading);
                }
            }
            if !more || span.after.is_none() {
                found.readings += readings.len();
                return Ok(readings);
            }
        }
    }

    /// What was told of a subject in that time.
    async fn told(&self, subject: &Subject) -> Result<Outline, Failure> {
        let ids = match subject {
            Subject::Edge { current, following } => vec![format!("{current}{following}")],
            Subject::Device(_) => {
                let kinds = crate::engine::Kind::ALL.into_iter().filter(|it| it.is_of_a_device());
                kinds.map(|kind| subject.problem_id(kind)).collect()
            }
        };
        let mut told = Outline::new();
        for id in ids {
            let mut before = Some(self.wanted.to);
            while let Some(end) = before {
                let (rows, more) = self.tables.problems.episodes(&id, Some(end), PAGE).await?;
                // Other neighbours may have ids that are the same, one after the other.
                let ours = rows.iter().filter(|row| is_of(row, subject));
                let ours = ours.filter(|row| opened(row).is_some_and(|at| at >= self.wanted.from));
                told.extend(ours.filter_map(|row| shown(&id, row)));
                let last = rows.last().and_then(opened);
                before = last.filter(|last| more && *last > self.wanted.from);
            }
        }
        Ok(told)
    }
}
