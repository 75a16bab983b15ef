//! All topologies together: what the worker goes by.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{Link, Topology, TopologyError, derived};
use crate::engine::{DeviceRule, Rule};

/// What joins which sensors, and what is expected of each.
#[derive(Debug, Clone)]
pub struct Plan {
    edges: HashMap<String, Vec<Arc<Join>>>,
    devices: HashMap<String, Arc<DeviceRule>>,
    /// The rules of sensors that are joined by their ids, if those are.
    derived: Option<Rule>,
    device_default: Arc<DeviceRule>,
}

/// Two neighbours with the rule between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    /// The sensor that the edge leads from.
    pub current: String,
    /// The sensor that the edge leads to.
    pub following: String,
    /// How they are compared.
    pub rule: Rule,
    /// Whether only the ids tell that there is such an edge: then the other end may not exist.
    pub derived: bool,
}

impl Plan {
    /// The plan of these topologies, by name. Where there is none, sensors are joined by their ids
    /// under this rule.
    ///
    /// # Errors
    /// Where two topologies speak of the same edge or device, or name problems alike.
    pub fn of(topologies: &[(String, Topology)], plain: Rule) -> Result<Self, TopologyError> {
        check(topologies)?;
        let deriving = topologies.iter().map(|it| &it.1).find(|it| it.derive);
        let (derived, device_default) = match (deriving, topologies.is_empty()) {
            (Some(it), _) => (Some(it.edge_default), it.device_default.clone()),
            (None, true) => (Some(plain), DeviceRule::default()),
            (None, false) => (None, DeviceRule::default()),
        };
        let mut plan = Self {
            edges: HashMap::new(),
            devices: HashMap::new(),
            derived,
            device_default: Arc::new(device_default),
        };
        topologies.iter().for_each(|(_, topology)| plan.add(topology));
        Ok(plan)
    }

    fn add(&mut self, topology: &Topology) {
        let default = Arc::new(topology.device_default.clone());
        for id in topology.ids() {
            self.devices.entry(id.to_owned()).or_insert_with(|| default.clone());
        }
        for (id, rule) in &topology.devices {
            self.devices.insert(id.clone(), Arc::new(rule.clone()));
        }
        for Link { current, following, rule } in &topology.edges {
            let join = Arc::new(self.join(current, following, *rule, false));
            self.edges.entry(current.clone()).or_default().push(join.clone());
            self.edges.entry(following.clone()).or_default().push(join);
        }
    }

    fn join(&self, current: &str, following: &str, rule: Rule, derived: bool) -> Join {
        // What a silent device said last is not compared, and what the edge calls stale neither.
        let silences = [current, following].map(|id| self.device(id).silence);
        let [of_current, of_following] = rule.stale;
        let least = |own: Option<i64>, silence| own.into_iter().chain(silence).min();
        let stale = [least(of_current, silences[0]), least(of_following, silences[1])];
        let rule = Rule { stale, ..rule };
        Join { current: current.to_owned(), following: following.to_owned(), rule, derived }
    }

    /// What is expected of a device.
    pub fn device(&self, id: &str) -> &Arc<DeviceRule> {
        self.devices.get(id).unwrap_or(&self.device_default)
    }

    /// What is expected of the devices that no topology names.
    pub fn unnamed(&self) -> &DeviceRule {
        &self.device_default
    }

    /// Whether a topology names the device.
    pub fn is_named(&self, id: &str) -> bool {
        self.devices.contains_key(id)
    }

    /// The devices that a topology names.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// The devices that a topology names, and that are silent after a while.
    pub fn expected(&self) -> impl Iterator<Item = &str> {
        let devices = self.devices.iter().filter(|(_, rule)| rule.silence.is_some());
        devices.map(|(id, _)| id.as_str())
    }

    /// Whether devices that no topology names are silent after a while, too.
    pub fn expects_all(&self) -> bool {
        self.device_default.silence.is_some()
    }

    /// How two neighbours are compared; as by default where they are none.
    pub fn rule(&self, current: &str, following: &str) -> Rule {
        let edges = self.edges_of(current);
        let found = edges.iter().find(|it| it.current == current && it.following == following);
        found.map(|it| it.rule).unwrap_or_default()
    }

    /// The edges that a device is an end of.
    pub fn edges_of(&self, id: &str) -> Vec<Arc<Join>> {
        let mut edges = self.edges.get(id).cloned().unwrap_or_default();
        let Some(rule) = self.derived else { return edges };
        let mut ends: Vec<_> =
            derived::preceding(id).into_iter().map(|before| (before, id.to_owned())).collect();
        ends.extend(derived::following(id).map(|next| (id.to_owned(), next)));
        for (current, following) in ends {
            if !edges.iter().any(|it| it.current == current && it.following == following) {
                edges.push(Arc::new(self.join(&current, &following, rule, true)));
            }
        }
        edges
    }
}

/// Refuses what is in two topologies.
fn check(topologies: &[(String, Topology)]) -> Result<(), TopologyError> {
    let (mut problems, mut devices) = (HashMap::new(), HashMap::new());
    let mut faults = BTreeSet::new();
    for (name, topology) in topologies {
        for Link { current, following, .. } in &topology.edges {
            let problem = format!("{current}{following}");
            if let Some(other) = problems.insert(problem.clone(), name)
                && other != name
            {
                let what = format!("{problem} names problems of topology {other} and of {name}");
                faults.insert(what);
            }
        }
        for id in topology.devices.keys() {
            if let Some(other) = devices.insert(id, name) {
                faults.insert(format!("device {id} is in topology {other} and in {name}"));
            }
        }
    }
    let mut deriving = topologies.iter().filter(|it| it.1.derive);
    if let Some((first, one)) = deriving.next() {
        let other = |it: &&(String, Topology)| {
            it.1.edge_default != one.edge_default || it.1.device_default != one.device_default
        };
        faults.extend(deriving.filter(other).map(|(name, _)| {
            format!(
                "topologies {first} and {name} both have derive = true, with other defaults: of \
                 sensors that are joined by their ids one can say how they are compared"
            )
        }));
        faults.extend(derived_twins(topologies));
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(TopologyError { faults: faults.into_iter().take(50).collect() }),
    }
}

/// Edges whose problems would be named as those of sensors that are joined by their ids.
fn derived_twins(topologies: &[(String, Topology)]) -> Vec<String> {
    let edges =
        || topologies.iter().flat_map(|(name, it)| it.edges.iter().map(move |it| (name, it)));
    let given: HashSet<_> =
        edges().map(|(_, it)| (it.current.clone(), it.following.clone())).collect();
    let twin = |(topology, it): (&String, &Link)| {
        let problem = format!("{}{}", it.current, it.following);
        let mut twins = derived::joined(&problem).filter(|twin| !given.contains(twin));
        let (current, following) = twins.find(|twin| twin.0 != it.current)?;
        Some(format!(
            "{problem} names problems of topology {topology} and of {current} to {following}, \
             which are joined by their ids"
        ))
    };
    edges().filter_map(twin).collect()
}
