//! Which zone a device is in: the one that a topology gives it, else its tube.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anomaly_worker::{
    engine::Rule,
    tables::Topologies,
    topology::{Plan, Topology, TopologyError, tube},
};
use flotilla_runtime::Failure;

/// How often topologies are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The zones that topologies give.
#[derive(Debug, Default)]
pub(super) struct Zones {
    named: RwLock<Named>,
}

/// The zones that a version of the topologies gives.
#[derive(Debug, Default)]
struct Named {
    version: u64,
    /// Of the devices that they name.
    devices: HashMap<String, Option<String>>,
    /// Of all others.
    unnamed: Option<String>,
}

impl Named {
    fn of(version: u64, all: &[(String, Topology)]) -> Result<Self, TopologyError> {
        let plan = Plan::of(all, Rule::default())?;
        let ids = all.iter().flat_map(|(_, topology)| topology.ids());
        let devices = ids.map(|id| (id.to_owned(), plan.device(id).zone.clone())).collect();
        Ok(Self { version, devices, unnamed: plan.unnamed().zone.clone() })
    }

    fn zone(&self, id: &str) -> Option<String> {
        let given = self.devices.get(id).unwrap_or(&self.unnamed).clone();
        given.or_else(|| tube(id).map(str::to_owned))
    }
}

impl Zones {
    /// The zone of a device.
    pub(super) fn of(&self, id: &str) -> Option<String> {
        self.named.read().unwrap_or_else(PoisonError::into_inner).zone(id)
    }

    /// Looks at the topologies for ever.
    pub(super) async fn follow(self: Arc<Self>, topologies: Topologies) {
        loop {
            if let Err(failure) = self.refresh(&topologies).await {
                tracing::warn!("the topologies cannot be read: {failure}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks at the topologies once.
    pub(super) async fn refresh(&self, topologies: &Topologies) -> Result<(), Failure> {
        let index = topologies.index().await?;
        if self.named.read().unwrap_or_else(PoisonError::into_inner).version == index.version {
            return Ok(());
        }
        let (index, all) = topologies.load_newest(index).await?;
        let named = Named::of(index.version, &all);
        let named = named.map_err(|e| Failure::permanent("topology", e.to_string()))?;
        *self.named.write().unwrap_or_else(PoisonError::into_inner) = named;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anomaly_worker::topology::Format;

    use super::*;

    #[test]
    fn the_zone_of_all_devices_is_that_of_those_which_only_their_ids_join_too() {
        let all = [
            (
                "a",
                "derive = true\n[defaults.device]\nzone = \"north\"\n[[devices]]\nid = \"05\"\nzone = \"south\"\n",
            ),
            ("b", "[[edges]]\ncurrent = \"x1\"\nfollowing = \"x2\"\n"),
        ];
        let all =
            all.map(|(name, text)| (name.to_owned(), Topology::parse(text, Format::Toml).unwrap()));
        let zones = Named::of(1, &all).unwrap();
        for (id, zone) in [("01", "north"), ("05", "south"), ("x1", "x")] {
            assert_eq!(zones.zone(id).as_deref(), Some(zone), "{id}");
        }
        assert_eq!(Named::default().zone("01").as_deref(), Some("0"));
    }
}
