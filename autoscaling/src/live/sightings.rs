//! What this process saw first, for as long as no row has it.

use std::collections::{HashMap, HashSet};

use super::{fleet::Rows, group::Described};
use crate::observed::Millis;

/// One that only watches writes no row, so it remembers here when it first saw an instance; and a row
/// that cannot be removed, or is not its own to remove, tells of a loss once.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    first: HashMap<String, Millis>,
    lost: HashSet<String>,
}

impl Sightings {
    /// Fills in when each instance was first seen, where its row does not say.
    pub(super) fn fill_in(&mut self, group: &Described, rows: &mut Rows, now: Millis) {
        let there: HashSet<&str> = group.members.iter().map(|it| it.id.as_str()).collect();
        self.first.retain(|id, _| there.contains(id.as_str()));
        for id in there {
            let first = *self.first.entry(id.to_owned()).or_insert(now);
            let row = rows.instances.entry(id.to_owned()).or_default();
            row.seen_at.get_or_insert(first);
        }
    }

    /// How many of these losses were not counted yet.
    pub(super) fn newly_lost(&mut self, lost: Vec<String>) -> u32 {
        let lost: HashSet<String> = lost.into_iter().collect();
        let new = lost.difference(&self.lost).count();
        self.lost = lost;
        u32::try_from(new).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_autoscaling::types::LifecycleState;

    use super::*;
    use crate::live::group::Member;

    fn group(ids: &[&str]) -> Described {
        let (lifecycle, kind) = (LifecycleState::InService, String::new());
        let member = |id: &&str| {
            let (lifecycle, kind) = (lifecycle.clone(), kind.clone());
            Member { id: (*id).to_owned(), lifecycle, kind }
        };
        let members = ids.iter().map(member).collect();
        Described { desired: 1, min: 0, max: 9, members, warm: None, pooled: 0 }
    }

    #[test]
    fn an_instance_was_first_seen_once_though_no_row_says_so() {
        let mut sightings = Sightings::default();
        let mut seen = |ids: &[&str], now| {
            let mut rows = Rows::default();
            sightings.fill_in(&group(ids), &mut rows, now);
            rows.instances.get("i-1").and_then(|row| row.seen_at)
        };
        assert_eq!([seen(&["i-1"], 10), seen(&["i-1", "i-2"], 20)], [Some(10); 2]);
        assert_eq!(seen(&["i-2"], 30), None);
        assert_eq!(seen(&["i-1"], 40), Some(40), "it was gone meanwhile");
    }

    #[test]
    fn a_loss_counts_once() {
        let mut sightings = Sightings::default();
        let mut count =
            |ids: &[&str]| sightings.newly_lost(ids.iter().map(|id| (*id).to_owned()).collect());
        assert_eq!([count(&["i-1"]), count(&["i-1", "i-2"]), count(&["i-2"])], [1, 1, 0]);
    }
}
