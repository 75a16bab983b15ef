//! All machines of a network, in memory.

use std::{collections::HashMap, sync::Arc};

use super::{
    Arrival, DeviceRule, DeviceStand, EdgeStand, Kind, Limits, Live, Review, State, Window,
};
use crate::{reading::Reading, topology::Join};

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
}

#[derive(Debug)]
struct Device {
    id: Arc<str>,
    window: Window,
    rule: Arc<DeviceRule>,
    live: Option<Box<Live<DeviceStand>>>,
    /// Its edges, and whether it is their current sensor.
    edges: Vec<(usize, bool)>,
}

#[derive(Debug)]
struct Edge {
    join: Arc<Join>,
    ends: [usize; 2],
    live: Live<EdgeStand>,
}

impl Net {
    /// A network without devices.
    pub fn new(limits: Limits) -> Self {
        let (devices, edges) = (Vec::new(), Vec::new());
        Self { limits, names: HashMap::new(), devices, edges }
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
        let (window, edges) = (Window::of(readings), Vec::new());
        self.devices.push(Device { id: id.clone(), window, rule, live, edges });
        self.names.insert(id, number);
        number
    }

    /// Adds an edge between two devices that are there, unless it is there or they are not.
    pub fn add_edge(&mut self, join: Arc<Join>, version: u64, state: State<EdgeStand>) {
        let ends = [&join.current, &join.following].map(|id| self.device(id));
        let [Some(current), Some(following)] = ends else { return };
        if self.edge_between(current, following).is_some() {
            return;
        }
        let number = self.edges.len();
        self.devices[current].edges.push((number, true));
        self.devices[following].edges.push((number, false));
        let live = Live::new(version, state);
        self.edges.push(Edge { join, ends: [current, following], live });
    }

    fn edge_between(&self, current: usize, following: usize) -> Option<usize> {
        let edges = &self.devices[current].edges;
        edges.iter().map(|it| it.0).find(|it| self.edges[*it].ends == [current, following])
    }

    /// Takes a reading of a device.
    pub fn take(&mut self, device: usize, reading: Reading) -> Taken {
        let it = &mut self.devices[device];
        let arrival = it.window.insert(reading);
        let mut stale = Vec::new();
        if arrival == Arrival::Duplicate {
            return Taken { arrival, stale };
        }
        let (at, filling, in_order) = (reading.at, reading.filling, arrival == Arrival::InOrder);
        if let Some(live) = &mut it.live
            && !(in_order && live.push(&it.rule, true, at, filling))
        {
            live.outdate();
            stale.push(Unit::Device(device));
        }
        for (number, of_current) in &it.edges {
            let edge = &mut self.edges[*number];
            if !(in_order && edge.live.push(&edge.join.rule, *of_current, at, filling)) {
                edge.live.outdate();
                stale.push(Unit::Edge(*number));
            }
        }
        Taken { arrival, stale }
    }

    /// Whether a reading of a device comes too late for one of its machines.
    pub fn is_late(&self, device: usize, at: i64) -> bool {
        let it = &self.devices[device];
        let late = |(edge, of_current): &(usize, bool)| {
            let edge = &self.edges[*edge];
            let delay = if *of_current { edge.join.rule.delay } else { 0 };
            at + delay <= edge.live.state().settled_until()
        };
        it.edges.iter().any(late)
            || it.live.as_ref().is_some_and(|live| at <= live.state().settled_until())
    }

    /// Whether this very reading of a device is known.
    pub fn knows(&self, device: usize, reading: &Reading) -> bool {
        self.devices[device].window.holds(reading)
    }

    /// The machines of a device.
    pub fn units(&self, device: usize) -> Vec<Unit> {
        let it = &self.devices[device];
        let own = it.live.is_some().then_some(Unit::Device(device));
        own.into_iter().chain(it.edges.iter().map(|(edge, _)| Unit::Edge(*edge))).collect()
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

    /// The state of what is looked at of a device alone.
    pub fn device_state(&self, device: usize) -> Option<&State<DeviceStand>> {
        self.devices[device].live.as_ref().map(|live| live.state())
    }

    /// The neighbours that an edge joins.
    pub fn join(&self, edge: usize) -> &Arc<Join> {
        &self.edges[edge].join
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
        for (edge, _) in self.devices[device].edges.iter().filter(|it| it.1) {
            let Edge { join, ends, .. } = &self.edges[*edge];
            let known = || self.devices[ends[1]].window.newest().map(|it| it.filling);
            if let Some(newest) = newer(ends[1]).or_else(known) {
                found = found.max(Some(join.rule.compare(filling, newest)));
            }
        }
        found
    }

    /// Looks at the edge again, from its readings; with the version that its state has.
    pub fn review_edge(&mut self, edge: usize) -> (u64, Review<EdgeStand>) {
        let Edge { join, ends, live } = &mut self.edges[edge];
        let needs = live.state().needs_after(&join.rule, &self.limits);
        let [current, following] = ends.map(|end| self.devices[end].window.after(needs));
        let before = live.version;
        (before, live.review(&join.rule, &self.limits, 0, current, following))
    }

    /// Looks at a device again, from its readings, at a clock that has come so far (Unix
    /// milliseconds); none where nothing is looked at of the device alone.
    pub fn review_device(
        &mut self,
        device: usize,
        clock: i64,
    ) -> Option<(u64, Review<DeviceStand>)> {
        let Device { window, rule, live, .. } = &mut self.devices[device];
        let live = live.as_mut()?;
        let readings = window.after(live.state().needs_after(rule, &self.limits));
        let before = live.version;
        Some((before, live.review(rule, &self.limits, clock, readings, Vec::new())))
    }

    /// The state of an edge is written under this version.
    pub fn written_edge(&mut self, edge: usize, version: u64, state: State<EdgeStand>) {
        let it = &mut self.edges[edge];
        let moved = state.settled_until() != it.live.state().settled_until();
        it.live.written(version, state);
        if moved {
            it.ends.into_iter().for_each(|end| self.forget(end));
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

    /// Forgets the readings that no machine of a device needs.
    fn forget(&mut self, device: usize) {
        let it = &self.devices[device];
        let edges = it.edges.iter().map(|(edge, _)| {
            let edge = &self.edges[*edge];
            edge.live.state().needs_after(&edge.join.rule, &self.limits)
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
        let due =
            |it: &Device| it.live.as_ref().is_some_and(|live| live.is_overdue(&it.rule, clock));
        (0..self.devices.len()).filter(|number| due(&self.devices[*number])).collect()
    }

    /// How many readings it remembers.
    pub fn readings(&self) -> usize {
        self.devices.iter().map(|it| it.window.len()).sum()
    }

    /// The bytes that devices and edges take, without their windows of readings and what is
    /// shared between them; and those of the windows.
    pub fn bytes(&self) -> (usize, usize) {
        let name = |id: &Arc<str>| id.len() + 16 + size_of::<(Arc<str>, usize)>() * 8 / 7 + 1;
        let device = |it: &Device| {
            let live = it.live.as_ref().map_or(0, |live| size_of_val(&**live));
            size_of::<Device>() + name(&it.id) + live + it.edges.len() * size_of::<(usize, bool)>()
        };
        let join = |it: &Join| size_of::<Join>() + 16 + it.current.len() + it.following.len();
        let edges = self.edges.iter().map(|it| size_of::<Edge>() + join(&it.join));
        let hot = self.devices.iter().map(device).sum::<usize>() + edges.sum::<usize>();
        (hot, self.devices.iter().map(|it| it.window.bytes()).sum())
    }
}
