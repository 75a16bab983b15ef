//! The topologies, as this worker knows them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use flotilla_runtime::Failure;

use crate::{
    engine::{DeviceStand, Rule, State},
    tables::{Subject, Topologies},
    topology::{Plan, TopologyError},
};

/// What a worker goes by since a version of the topologies.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) version: u64,
    pub(crate) plan: Plan,
    /// Since when the devices that topologies name are expected, in Unix milliseconds.
    since: HashMap<String, i64>,
}

/// Looks for new versions.
#[derive(Debug)]
pub(crate) struct Plans {
    topologies: Topologies,
    plain: Rule,
    known: Mutex<Option<Arc<Known>>>,
}

impl Known {
    /// Where a device begins of which nothing is stored.
    pub(crate) fn beginning(&self, device: &str) -> State<DeviceStand> {
        let since = self.since.get(device);
        since.map_or_else(State::default, |at| State::beginning(DeviceStand::expected(*at)))
    }

    /// Whether there is such an edge, or anything is looked at of such a device alone.
    pub(crate) fn has(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Device(id) => self.plan.device(id).is_watched(),
            Subject::Edge { current, following } => {
                let mut edges = self.plan.edges_of(current).into_iter();
                edges.any(|it| it.current == *current && it.following == *following)
            }
        }
    }

    /// The edges of a device, and the device where anything is looked at of it alone.
    pub(crate) fn subjects(&self, device: &str) -> Vec<Subject> {
        let own = self.plan.device(device).is_watched().then(|| Subject::Device(device.to_owned()));
        let edges = self.plan.edges_of(device).into_iter().map(|join| Subject::Edge {
            current: join.current.clone(),
            following: join.following.clone(),
        });
        own.into_iter().chain(edges).collect()
    }
}

impl Plans {
    pub(crate) fn new(topologies: Topologies, plain: Rule) -> Self {
        Self { topologies, plain, known: Mutex::default() }
    }

    /// The newest version that was found; looks for it, if none was yet.
    pub(crate) async fn get(&self) -> Result<Arc<Known>, Failure> {
        match self.known() {
            Some(known) => Ok(known),
            None => self.look().await,
        }
    }

    fn known(&self) -> Option<Arc<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks whether there is a newer version.
    pub(crate) async fn look(&self) -> Result<Arc<Known>, Failure> {
        let index = self.topologies.index().await?;
        if let Some(known) = self.known().filter(|known| known.version == index.version) {
            return Ok(known);
        }
        let (index, all) = self.topologies.load_newest(index).await?;
        let refused = |e: TopologyError| Failure::permanent("topology", e.to_string());
        let plan = Plan::of(&all, self.plain).map_err(refused)?;
        let since = self.topologies.since(&index, &all).await?;
        let known = Arc::new(Known { version: index.version, plan, since });
        tracing::info!(version = index.version, topologies = all.len(), "topologies");
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }
}
