//! Which zone a device is in: the one that a topology gives it, else its tube.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anomaly_worker::{
    engine::Rule,
    tables::Topologies,
    topology::{Plan, tube},
};
use flotilla_runtime::Failure;

/// How often topologies are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The zones that topologies give.
#[derive(Debug, Default)]
pub(super) struct Zones {
    named: RwLock<(u64, HashMap<String, String>)>,
}

impl Zones {
    /// The zone of a device.
    pub(super) fn of(&self, id: &str) -> Option<String> {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        named.1.get(id).cloned().or_else(|| tube(id).map(str::to_owned))
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
        if self.named.read().unwrap_or_else(PoisonError::into_inner).0 == index.version {
            return Ok(());
        }
        let all = topologies.load(&index).await?;
        let plan = Plan::of(&all, Rule::default());
        let plan = plan.map_err(|e| Failure::permanent("topology", e.to_string()))?;
        let ids = all.iter().flat_map(|(_, topology)| topology.ids());
        let zones = ids.filter_map(|id| Some((id.to_owned(), plan.device(id).zone.clone()?)));
        let zones = (index.version, zones.collect());
        *self.named.write().unwrap_or_else(PoisonError::into_inner) = zones;
        Ok(())
    }
}
