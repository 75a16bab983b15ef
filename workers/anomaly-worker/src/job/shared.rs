//! What a worker does while others write the same tables: it reads whatever it compares.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use aws_sdk_dynamodb::types::TransactWriteItem;
use flotilla_runtime::Failure;
use futures::future::try_join_all;
use serde::{Serialize, de::DeserializeOwned};

use super::{CONFLICTS, MACHINES, Measured, WRITES, Worker, conflict, restless};
use crate::{
    crew::Mode,
    engine::{DeviceStand, EdgeStand, Limits, Machine, State},
    plans::Known,
    reading::Reading,
    tables::{Kept, New, Said, Subject},
    topology::Join,
};

/// So many silent devices are looked at together.
const AT_ONCE: usize = 16;

impl Worker {
    /// Stores a reading, and compares what it changes with what is stored.
    pub(super) async fn take_shared(&self, work: &Measured) -> Result<&'static str, Failure> {
        let device = &work.device;
        let known = self.plans.get().await?;
        self.register(&[device]).await?;
        let (is_new, is_late) = self.keep_shared(&known, work).await?;
        // Whoever came since this one was stored is followed by its own comparison.
        let joins = self.joins_of(&known, device).await?;
        for join in &joins {
            let subject = subject(join);
            let look = async || {
                let ends = [Some(join.current.as_str()), Some(join.following.as_str())];
                let seen = |state: State<EdgeStand>| state;
                let limits = &self.config.limits;
                self.compare_stored(&subject, &join.rule, limits, ends, seen, State::default).await
            };
            self.turns.after_now(&subject.key(), look).await?;
        }
        if known.plan.device(device).is_watched() {
            let subject = Subject::Device(device.clone());
            let look = async || self.look_at(&known, device, 0).await;
            self.turns.after_now(&subject.key(), look).await?;
        }
        Ok(match (is_new, is_late) {
            (_, true) => "late",
            (true, false) => "stored",
            (false, false) => "duplicate",
        })
    }

    /// Stores a reading; whether it is new, and whether it comes too late for any machine.
    async fn keep_shared(&self, known: &Known, work: &Measured) -> Result<(bool, bool), Failure> {
        let (Measured { device, reading, .. }, keep) = (work, self.config.retention);
        for conflicts in 1..=CONFLICTS {
            let joins = self.joins_of(known, device).await?;
            let newest = self.newest_of(&joins, device).await?;
            let new = New { device, reading, said: said(&joins, device, reading, &newest) };
            let (mut late, mut rows) = (Vec::new(), Vec::new());
            for stand in self.stands(known, &joins, work, Some(&newest)).await? {
                match stand {
                    Stand::Late(key) => late.push(key),
                    Stand::Nearly(row) => rows.push(*row),
                    Stand::InTime => {}
                }
            }
            rows.truncate(MACHINES);
            let kept = match late.is_empty() && rows.is_empty() {
                true if self.readings.store(new, keep).await? => Kept::New,
                true => Kept::There,
                false => self.readings.store_with(new, late.clone(), keep, rows).await?,
            };
            match kept {
                Kept::New => return Ok((true, self.is_late_now(known, work, late).await?)),
                Kept::There => return Ok((false, !late.is_empty())),
                Kept::Outrun => self.outrun(conflicts).await,
            }
        }
        Err(conflict(&Subject::Device(device.clone())))
    }

    /// Whether a reading that was stored as late for these machines is late; marks it if others made it
    /// so for more of them meanwhile, by half a lateness at once or as new neighbours.
    async fn is_late_now(
        &self,
        known: &Known,
        work: &Measured,
        late: Vec<String>,
    ) -> Result<bool, Failure> {
        let Measured { device, reading, .. } = work;
        let joins = self.joins_of(known, device).await?;
        let mut now = Vec::new();
        for stand in self.stands(known, &joins, work, None).await? {
            if let Stand::Late(key) = stand {
                now.push(key);
            }
        }
        let is_late = !now.is_empty();
        if now.iter().any(|it| !late.contains(it)) {
            self.readings.mark_late(device, reading, now, self.config.retention).await?;
        }
        Ok(is_late)
    }

    /// The newest reading of a device and of its neighbours.
    async fn newest_of(
        &self,
        joins: &[Arc<Join>],
        device: &str,
    ) -> Result<HashMap<String, Reading>, Failure> {
        let ends = joins.iter().flat_map(|it| [it.current.as_str(), it.following.as_str()]);
        let ids: BTreeSet<&str> = ends.chain([device]).collect();
        let newest = ids.into_iter().map(async |id| {
            let found = self.readings.last(id).await?;
            Ok::<_, Failure>(found.map(|it| (id.to_owned(), it)))
        });
        Ok(try_join_all(newest).await?.into_iter().flatten().collect())
    }

    /// How a reading stands to each machine of its device, by these newest readings; without them, by
    /// the bases alone.
    async fn stands(
        &self,
        known: &Known,
        joins: &[Arc<Join>],
        Measured { device, reading, .. }: &Measured,
        newest: Option<&HashMap<String, Reading>>,
    ) -> Result<Vec<Stand>, Failure> {
        let time = |id: &str| newest.map(|it| it.get(id).map_or(-1, |it| it.at));
        let edges = joins.iter().map(async |join| {
            let delay = if join.current == *device { join.rule.delay } else { 0 };
            let horizon = time(&join.current).max(time(&join.following));
            let ends = [Some(join.current.as_str()), Some(join.following.as_str())];
            let plain = State::<EdgeStand>::default;
            let when = (reading.at + delay, horizon);
            self.stand(&subject(join), &join.rule, ends, when, plain).await
        });
        let mut stands = try_join_all(edges).await?;
        if known.plan.device(device).is_watched() {
            let (subject, rule) = (Subject::Device(device.clone()), known.plan.device(device));
            let (ends, when) = ([Some(device.as_str()), None], (reading.at, time(device)));
            let plain = || known.beginning(device);
            stands.push(self.stand(&subject, &**rule, ends, when, plain).await?);
        }
        Ok(stands)
    }

    /// How what counts at this time stands to a machine, when the newest reading is of that one (Unix
    /// milliseconds), if that is asked. Where it comes too late, the base is moved beyond it.
    async fn stand<M>(
        &self,
        subject: &Subject,
        rule: &M::Rule,
        ends: [Option<&str>; 2],
        (at, horizon): (i64, Option<i64>),
        plain: impl Fn() -> State<M>,
    ) -> Result<Stand, Failure>
    where
        M: Machine + Serialize + DeserializeOwned,
    {
        let limits = &self.config.limits;
        let loaded = self.edges.load::<M>(subject).await?;
        let (version, state) = loaded.unwrap_or_else(|| (0, plain()));
        if at <= state.settled_until() {
            return Ok(Stand::Late(subject.key()));
        }
        let Some(horizon) = horizon else { return Ok(Stand::InTime) };
        match () {
            () if at <= state.late_until(limits, horizon) => {
                let all = Limits { fold: 0, ..*limits };
                let seen = |state| state;
                let look =
                    async || self.compare_stored(subject, rule, &all, ends, seen, &plain).await;
                self.turns.alone(&subject.key(), look).await?;
                Ok(Stand::Late(subject.key()))
            }
            () if state.is_nearly_late(limits, at, horizon) => {
                Ok(Stand::Nearly(Box::new(self.edges.again(subject, version, &state)?)))
            }
            () => Ok(Stand::InTime),
        }
    }

    /// Looks at what is looked at of a device alone.
    async fn look_at(&self, known: &Known, device: &str, clock: i64) -> Result<(), Failure> {
        let subject = Subject::Device(device.to_owned());
        let ends = [Some(device), None];
        let rule = known.plan.device(device);
        let (limits, plain) = (&self.config.limits, || known.beginning(device));
        let seen = |state: State<DeviceStand>| state.at_clock(limits, clock);
        self.compare_stored(&subject, &**rule, limits, ends, seen, plain).await
    }

    /// Looks at an edge where nothing came for so long that what was said until then (Unix milliseconds)
    /// is final.
    pub(super) async fn close_shared(
        &self,
        known: &Known,
        [current, following]: [&str; 2],
        at: i64,
    ) -> Result<(), Failure> {
        let subject =
            Subject::Edge { current: current.to_owned(), following: following.to_owned() };
        let rule = known.plan.rule(current, following);
        let look = async || {
            let seen = |state: State<EdgeStand>| state.closed_at(at);
            let ends = [Some(current), Some(following)];
            let limits = &self.config.limits;
            self.compare_stored(&subject, &rule, limits, ends, seen, State::default).await
        };
        self.turns.alone(&subject.key(), look).await
    }

    /// Looks until the problems are what the readings say.
    ///
    /// The row is read before the readings, and what was written is looked at once more: so of two
    /// workers at one edge, the one that read before the other's reading was stored either finds
    /// the row changed, or is the one who looks again. `seen` is what a clock makes of a state.
    async fn compare_stored<M>(
        &self,
        subject: &Subject,
        rule: &M::Rule,
        limits: &Limits,
        ends: [Option<&str>; 2],
        seen: impl Fn(State<M>) -> State<M>,
        plain: impl Fn() -> State<M>,
    ) -> Result<(), Failure>
    where
        M: Machine + Serialize + DeserializeOwned,
    {
        let (mut conflicts, mut writes) = (0, 0);
        let of = [subject.key()];
        while conflicts < CONFLICTS {
            let loaded = self.edges.load(subject).await?;
            let (version, state) = loaded.unwrap_or_else(|| (0, plain()));
            let after = state.needs_after(rule, limits);
            let readings = ends.map(async |id| match id {
                Some(id) => self.readings.after(id, after, &of).await,
                None => Ok(Vec::new()),
            });
            let mut readings = try_join_all(readings).await?.into_iter();
            let mut next = || readings.next().unwrap_or_default();
            let at_clock = seen(state);
            let review = at_clock.review(rule, limits, next(), next());
            // The clock alone is no reason to write.
            if review.next == at_clock {
                return Ok(());
            }
            if !self.write(subject, version, &review).await? {
                conflicts += 1;
                self.outrun(conflicts).await;
            }
            writes += 1;
            if writes > WRITES {
                return Err(restless(subject));
            }
        }
        Err(conflict(subject))
    }

    /// Looks for devices that are silent now, among those that are expected.
    pub(super) async fn sweep_shared(
        &self,
        known: &Known,
        ids: &[String],
        clock: i64,
    ) -> Result<(), Failure> {
        for some in ids.chunks(AT_ONCE) {
            if self.crew.mode() != Mode::Shared {
                break;
            }
            try_join_all(some.iter().map(|device| self.look_at(known, device, clock))).await?;
        }
        Ok(())
    }
}

/// How a reading stands to a machine.
enum Stand {
    InTime,
    /// Nearly too late: what writes the machine's row again with it.
    Nearly(Box<TransactWriteItem>),
    /// Too late for the machine of this key, whose base is beyond it.
    Late(String),
}

/// What is said beside the last of the sensors that follow.
fn said(
    joins: &[Arc<Join>],
    device: &str,
    reading: &Reading,
    newest: &HashMap<String, Reading>,
) -> Said {
    let following = joins.iter().filter(|join| join.current == device);
    let compare = |join: &Arc<Join>| {
        let newest = newest.get(&join.following)?;
        Some(join.rule.compare(reading.filling, newest.filling))
    };
    Said::of(following.filter_map(compare).max())
}

pub(super) fn subject(join: &Join) -> Subject {
    Subject::Edge { current: join.current.clone(), following: join.following.clone() }
}
