//! Policies by the names that an operator types.

use super::{
    Ours, Scaler, World,
    policies::{Buildkite, Keda, Knative, Static, TargetTracking},
};
use crate::policy::Policy;

/// The names that [`named`] knows, with the settings that they have by default.
pub const NAMES: [&str; 6] =
    ["ours=0.7", "target-tracking=1", "keda=1", "buildkite=600", "knative=0.7", "static=10"];

/// A policy of a name, with its one setting after `=`: ours by readiness (0 to 1), target tracking
/// by the backlog per instance, KEDA by `queueLength`, buildkite by the idle seconds of an agent,
/// Knative by the target utilization, static by the number of instances. Ours is told how long a boot
/// and the minimum bill of this world are, as an operator tells it. `None` where there is no such
/// policy, or no such setting.
pub fn named(text: &str, world: &World) -> Option<Box<dyn Scaler>> {
    let (name, setting) = text.split_once('=').unwrap_or((text, ""));
    let default = NAMES.iter().find_map(|known| known.strip_prefix(name)?.strip_prefix('='))?;
    let setting = if setting.is_empty() { default } else { setting };
    let value: f64 = setting.parse().ok().filter(|it: &f64| it.is_finite() && *it >= 0.0)?;
    Some(match name {
        "ours" if value > 1.0 => return None,
        "ours" => Box::new(Ours::new(ours(value, world))),
        "static" if value < 1.0 => return None,
        _ if value == 0.0 => return None,
        "target-tracking" => Box::new(TargetTracking::new(value, true)),
        "keda" => Box::new(Keda::new(value, false)),
        "buildkite" => Box::new(Buildkite::new((value * 1000.0) as u64, 1)),
        "knative" => Box::new(Knative::new(value)),
        _ => Box::new(Static(value as u32)),
    })
}

fn ours(readiness: f64, world: &World) -> Policy {
    let World { boot_ms, minimum_billed_ms, .. } = *world;
    let base = Policy { boot_ms, minimum_billed_ms, ..Policy::for_queue("q", u32::MAX) };
    Policy { readiness, reuse: 0.0, delayed_off_boots: 0.5, ..base }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_known_with_and_without_its_setting() {
        for known in NAMES {
            let bare = known.split('=').next().unwrap();
            let knows = |name| named(name, &World::default()).is_some();
            assert!(knows(known) && knows(bare), "{known}");
        }
        let wrong = ["keda=x", "keda=-1", "keda=0", "static=inf", "static=0.5", "ours=1.1"];
        for unknown in ["", "our", "hpa=1"].into_iter().chain(wrong) {
            assert!(named(unknown, &World::default()).is_none(), "{unknown}");
        }
    }
}
