//! All machines of a network, in memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{
    Arrival, DeviceRule, DeviceStand, EdgeStand, Kind, Limits, Live, Machine, Review, Rule, State,
    Window, window::Run,
};
use crate::{reading::Reading, topology::Join};

/// Equal rules are kept once, where they come near one another: of so many the last are compared.
const RULES: usize = 32;

/// A machine of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// An edge.
    Edge(usize),
    /// What is looked at of a device alone.
    Device(usize),
}

/// What came of a reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// How it came.
    pub arrival: Arrival,
    /// What needs a review because of it.
    pub stale: Vec<Unit>,
}

/// Devices and edges, each with its newest state.
#[derive(Debug)]
pub struct Net {
    limits: Limits,
    names: HashMap<Arc<str>, usize>,
    devices: Vec<Device>,
    edges: Vec<Edge>,
    rules: VecDeque<Arc<Rule>>,
}

#[derive(Debug)]
struct Device {
    id: Arc<str>,
    window: Window,
    rule: Arc<DeviceRule>,
    live: Option<Box<Live<DeviceStand>>>,
    /// Its edges.
    edges: Box<[u32]>,
}

#[derive(Debug)]
struct Edge {
    rule: Arc<Rule>,
    ends: [u32; 2],
    live: Live<EdgeStand>,
}

impl Edge {
    /// The devices that it joins.
    fn devices(&self) -> [usize; 2] {
        self.ends.map(|it| it as usize)
    }

    /// Whether it leads from this device.
    fn leads_from(&self, device: usize) -> bool {
        self.ends[0] as usize == device
    }
}

/// Whether what counts at this time (Unix milliseconds) is before the base, if it comes so late.
fn behind<M: Machine>(
    state: &State<M>,
    limits: &Limits,
    at: i64,
    horizon: Option<i64>,
    how: HowLate,
) -> Option<bool> {
    let horizon = horizon.unwrap_or(-1);
    let is_late = match how {
        HowLate::TooLate => at <= state.late_until(limits, horizon),
        HowLate::Nearly => state.is_nearly_late(limits, at, horizon),
    };
    is_late.then(|| at <= state.settled_until())
}

/// How late a reading comes.
#[derive(Debug, Clone, Copy)]
enum HowLate {
    TooLate,
    /// Or [nearly](State::is_nearly_late).
    Nearly,
}

impl Net {
    /// A network without devices.
    pub fn new(limits: Limits) -> Self {
        let (devices, edges) = (Vec::new(), Vec::new());
        Self { limits, names: HashMap::new(), devices, edges, rules: VecDeque::new() }
    }

    /// How many devices it has.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether it has no device.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// The number of a device.
    pub fn device(&self, id: &str) -> Option<usize> {
        self.names.get(id).copied()
    }

    /// Adds a device with its readings so far, and its state where anything is looked at of the
    /// device alone.
    pub fn add_device(
        &mut self,
        id: &str,
        rule: Arc<DeviceRule>,
        readings: Vec<Reading>,
        state: Option<(u64, State<DeviceStand>)>,
    ) -> usize {
        let (id, number) = (Arc::<str>::from(id), self.devices.len());
        let live = state.map(|(version, state)| Box::new(Live::new(version, state)));
        let (window, edges) = (Window::of(readings), Box::default());
        self.devices.push(Device { id: id.clone(), window, rule, live, edges });
        self.names.insert(id, number);
        number
    }

    /// Adds an edge between two devices that are there, unless it is there or they are not.
    pub fn add_edge(&mut self, join: &Join, version: u64, state: State<EdgeStand>) {
        let ends = [&join.current, &join.following].map(|id| self.device(id));
        let [Some(current), Some(following)] = ends else { return };
        let ends = [current, following].map(u32::try_from);
        let (Ok(number), [Ok(first), Ok(second)]) = (u32::try_from(self.edges.len()), ends) else {
            return;
        };
        if first == second || self.edge_between(current, [first, second]) {
            return;
        }
        for device in [current, following] {
            let edges = &mut self.devices[device].edges;
            *edges = edges.iter().copied().chain([number]).collect();
        }
        let (rule, live) = (self.shared(&join.rule), Live::new(version, state));
        self.edges.push(Edge { rule, ends: [first, second], live });
    }

    fn edge_between(&self, current: usize, ends: [u32; 2]) -> bool {
        let edges = &self.devices[current].edges;
        edges.iter().any(|it| self.edges[*it as usize].ends == ends)
    }

    fn shared(&mut self, rule: &Rule) -> Arc<Rule> {
        if let Some(known) = self.rules.iter().find(|it| ***it == *rule) {
            return known.clone();
        }
        self.rules.truncate(RULES - 1);
        self.rules.push_front(Arc::new(*rule));
        self.rules[0].clone()
    }

    /// Takes a reading of a device.
    pub fn take(&mut self, device: usize, reading: Reading) -> Taken {
        let Self { limits, devices, edges, .. } = self;
        let it = &mut devices[device];
        let arrival = it.window.insert(reading, limits.lateness);
        let mut stale = Vec::new();
        if arrival == Arrival::Duplicate {
            return Taken { arrival, stale };
        }
        let (at, filling, in_order) = (reading.at, reading.filling, arrival == Arrival::InOrder);
        if let Some(live) = &mut it.live {
            let taken = in_order && live.push(&it.rule, limits, (true, at, filling), &it.window);
            stale.extend((!taken).then_some(Unit::Device(device)));
            if !in_order {
                live.outdate();
            }
        }
        for number in &devices[device].edges {
            let of_current = edges[*number as usize].leads_from(device);
            let Edge { rule, ends, live } = &mut edges[*number as usize];
            let window = &devices[ends[0] as usize].window;
            let taken = in_order && live.push(rule, limits, (of_current, at, filling), window);
            stale.extend((!taken).then_some(Unit::Edge(*number as usize)));
            if !in_order {
                live.outdate();
            }
        }
        Taken { arrival, stale }
    }

    /// The machines of a device that a reading comes too late for, each with whether its base is
    /// beyond the reading, so that it is not compared; where not, it is to be [settled](Self::settle)
    /// before the reading is taken.
    pub fn late_for(&self, device: usize, at: i64) -> Vec<(Unit, bool)> {
        self.so_late_for(device, at, HowLate::TooLate)
    }

    /// The same with those that a reading comes [nearly](State::is_nearly_late) too late for.
    pub fn nearly_late_for(&self, device: usize, at: i64) -> Vec<(Unit, bool)> {
        self.so_late_for(device, at, HowLate::Nearly)
    }

    fn so_late_for(&self, device: usize, at: i64, how: HowLate) -> Vec<(Unit, bool)> {
        let it = &self.devices[device];
        let newest = |device: usize| self.devices[device].window.newest_time();
        let late = |number: &u32| {
            let edge = &self.edges[*number as usize];
            let at = if edge.leads_from(device) { at + edge.rule.delay } else { at };
            let horizon = edge.devices().into_iter().filter_map(newest).max();
            let late = behind(edge.live.state(), &self.limits, at, horizon, how)?;
            Some((Unit::Edge(*number as usize), late))
        };
        let own = it.live.as_ref().and_then(|live| {
            let late = behind(live.state(), &self.limits, at, newest(device), how)?;
            Some((Unit::Device(device), late))
        });
        it.edges.iter().filter_map(late).chain(own).collect()
    }

    /// Has the next looks at a machine move its base as far as they can.
    pub fn settle(&mut self, unit: Unit) {
        match unit {
            Unit::Edge(edge) => self.edges[edge].live.settle(),
            Unit::Device(device) => {
                self.devices[device].live.iter_mut().for_each(|live| live.settle());
            }
        }
    }

    /// Whether this very reading of a device is known.
    pub fn knows(&self, device: usize, reading: &Reading) -> bool {
        self.devices[device].window.holds(reading)
    }

    /// The machines of a device.
    pub fn units(&self, device: usize) -> Vec<Unit> {
        let it = &self.devices[device];
        let own = it.live.is_some().then_some(Unit::Device(device));
        own.into_iter().chain(it.edges.iter().map(|it| Unit::Edge(*it as usize))).collect()
    }

    /// Whether a machine needs a review.
    pub fn is_stale(&self, unit: Unit) -> bool {
        match unit {
            Unit::Edge(edge) => self.edges[edge].live.is_stale(),
            Unit::Device(device) => {
                self.devices[device].live.as_ref().is_some_and(|live| live.is_stale())
            }
        }
    }

    /// Has the next look at a machine be a review.
    pub fn outdate(&mut self, unit: Unit) {
        match unit {
            Unit::Edge(edge) => self.edges[edge].live.outdate(),
            Unit::Device(device) => {
                self.devices[device].live.iter_mut().for_each(|live| live.outdate());
            }
        }
    }

    /// The state of an edge.
    pub fn edge_state(&self, edge: usize) -> &State<EdgeStand> {
        self.edges[edge].live.state()
    }

    /// The state of what is looked at of a device alone.
    pub fn device_state(&self, device: usize) -> Option<&State<DeviceStand>> {
        self.devices[device].live.as_ref().map(|live| live.state())
    }

    /// The version of the row that the state of a machine was read from or written to.
    pub fn version(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Edge(edge) => self.edges[edge].live.version,
            Unit::Device(device) => {
                self.devices[device].live.as_ref().map_or(0, |live| live.version)
            }
        }
    }

    /// The row of a machine was written again under its next version, as it was.
    pub fn written_again(&mut self, unit: Unit) {
        match unit {
            Unit::Edge(edge) => self.edges[edge].live.version += 1,
            Unit::Device(device) => {
                self.devices[device].live.iter_mut().for_each(|live| live.version += 1);
            }
        }
    }

    /// The numbers of the sensors that an edge joins: current and following.
    pub fn ends(&self, edge: usize) -> [usize; 2] {
        self.edges[edge].devices()
    }

    /// The edge that leads from one device to another.
    pub fn edge(&self, current: &str, following: &str) -> Option<usize> {
        let ends = [self.device(current)?, self.device(following)?];
        let edges = self.devices[ends[0]].edges.iter().map(|it| *it as usize);
        edges.into_iter().find(|it| self.edges[*it].devices() == ends)
    }

    /// The id of a device.
    pub fn id(&self, device: usize) -> &Arc<str> {
        &self.devices[device].id
    }

    /// What is wrong between a level of a device and the last of a sensor that follows it, which
    /// `newer` knows or the network; none where no sensor that was heard follows.
    pub fn compare(
        &self,
        device: usize,
        filling: f64,
        newer: impl Fn(usize) -> Option<f64>,
    ) -> Option<Option<Kind>> {
        let mut found = None;
        let edges = self.devices[device].edges.iter().map(|it| &self.edges[*it as usize]);
        for edge in edges.filter(|it| it.leads_from(device)) {
            let [_, following] = edge.devices();
            let known = || self.devices[following].window.newest().map(|it| it.filling);
            if let Some(newest) = newer(following).or_else(known) {
                found = found.max(Some(edge.rule.compare(filling, newest)));
            }
        }
        found
    }

    /// Looks at the edge again, from its readings; with the version that its state has.
    pub fn review_edge(&mut self, edge: usize) -> (u64, Review<EdgeStand>) {
        let Self { limits, devices, edges, .. } = self;
        let Edge { rule, ends, live } = &mut edges[edge];
        let needs = live.state().needs_after(rule, limits);
        let windows = ends.map(|end| &devices[end as usize].window);
        let before = live.version;
        if let Some(review) = live.fold(rule, limits, || windows.map(|it| it.run(needs))) {
            return (before, review);
        }
        let [current, following] = windows.map(|it| it.after(needs));
        (before, live.review(rule, limits, 0, current, following))
    }

    /// Looks at the edge again, where nothing came for so long that what was said until then (Unix
    /// milliseconds) is final.
    pub fn review_quiet_edge(&mut self, edge: usize, until: i64) -> (u64, Review<EdgeStand>) {
        let Self { limits, devices, edges, .. } = self;
        let Edge { rule, ends, live } = &mut edges[edge];
        let needs = live.state().needs_after(rule, limits);
        let [current, following] = ends.map(|end| devices[end as usize].window.after(needs));
        (live.version, live.review_closed(rule, limits, until, current, following))
    }

    /// Looks at a device again, from its readings, at a clock that has come so far (Unix
    /// milliseconds); none where nothing is looked at of the device alone.
    pub fn review_device(
        &mut self,
        device: usize,
        clock: i64,
    ) -> Option<(u64, Review<DeviceStand>)> {
        let Self { limits, devices, .. } = self;
        let Device { window, rule, live, .. } = &mut devices[device];
        let live = live.as_mut()?;
        let needs = live.state().needs_after(rule, limits);
        let before = live.version;
        if clock == 0
            && let Some(review) = live.fold(rule, limits, || [window.run(needs), Some(Run::NONE)])
        {
            return Some((before, review));
        }
        let readings = window.after(needs);
        Some((before, live.review(rule, limits, clock, readings, Vec::new())))
    }

    /// The state of an edge is written under this version.
    pub fn written_edge(&mut self, edge: usize, version: u64, state: State<EdgeStand>) {
        let it = &mut self.edges[edge];
        let moved = state.settled_until() != it.live.state().settled_until();
        it.live.written(version, state);
        if moved {
            it.devices().into_iter().for_each(|end| self.forget(end));
        }
    }

    /// The state of a device is written under this version.
    pub fn written_device(&mut self, device: usize, version: u64, state: State<DeviceStand>) {
        let Some(live) = &mut self.devices[device].live else { return };
        let moved = state.settled_until() != live.state().settled_until();
        live.written(version, state);
        if moved {
            self.forget(device);
        }
    }

    /// Another wrote the state of an edge under this version.
    pub fn outrun_edge(&mut self, edge: usize, version: u64, state: State<EdgeStand>) {
        self.edges[edge].live.outrun(version, state);
    }

    /// Another wrote the state of a device under this version.
    pub fn outrun_device(&mut self, device: usize, version: u64, state: State<DeviceStand>) {
        if let Some(live) = &mut self.devices[device].live {
            live.outrun(version, state);
        }
    }

    /// Forgets the readings that no machine of a device needs.
    fn forget(&mut self, device: usize) {
        let it = &self.devices[device];
        let edges = it.edges.iter().map(|edge| {
            let edge = &self.edges[*edge as usize];
            edge.live.state().needs_after(&edge.rule, &self.limits)
        });
        let own = it.live.as_ref().map(|live| live.state().needs_after(&it.rule, &self.limits));
        if let Some(needed) = edges.chain(own).min() {
            self.devices[device].window.forget(needed);
        }
    }

    /// Forgets the old readings of a device that has no machine.
    pub fn trim(&mut self, device: usize) {
        let it = &mut self.devices[device];
        if it.edges.is_empty() && it.live.is_none() && it.window.len() > self.limits.fold {
            it.window.forget(i64::MAX);
        }
    }

    /// The devices that are silent when the clock has come so far (Unix milliseconds), though that
    /// was not told, or that may be.
    pub fn overdue(&self, clock: i64) -> Vec<usize> {
        let due = |it: &Device| {
            it.live.as_ref().is_some_and(|live| live.is_overdue(&it.rule, &self.limits, clock))
        };
        (0..self.devices.len()).filter(|number| due(&self.devices[*number])).collect()
    }

    /// How many readings it remembers.
    pub fn readings(&self) -> usize {
        self.devices.iter().map(|it| it.window.len()).sum()
    }

    /// The bytes that tables of seasons take.
    pub fn seasons(&self) -> usize {
        let lives = self.devices.iter().filter_map(|it| it.live.as_ref());
        lives.map(|live| live.seasons()).sum()
    }

    /// The bytes that devices and edges take, without their windows of readings, [tables of
    /// seasons](Self::seasons) and room to grow; and those of the windows, with it.
    pub fn bytes(&self) -> (usize, usize) {
        let name = |id: &Arc<str>| id.len() + 16 + size_of::<(Arc<str>, usize)>() * 8 / 7 + 1;
        let device = |it: &Device| {
            let live = it.live.as_ref().map_or(0, |live| size_of_val(&**live) + live.bytes());
            size_of::<Device>() + name(&it.id) + live + size_of_val(&*it.edges)
        };
        let edge = |it: &Edge| {
            let rule = (size_of::<Rule>() + 16) / Arc::strong_count(&it.rule);
            size_of::<Edge>() + it.live.bytes() + rule
        };
        let devices = self.devices.iter().map(device).sum::<usize>();
        let hot = devices + self.edges.iter().map(edge).sum::<usize>();
        (hot, self.devices.iter().map(|it| it.window.bytes()).sum())
    }
}
