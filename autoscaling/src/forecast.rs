//! What may come within a boot, judged by what lately did.

use serde::{Deserialize, Serialize};

use crate::observed::Millis;

/// How many parts of a boot are told apart.
const PARTS: Millis = 8;
/// How many rises are remembered: an hour of them where a boot takes two minutes.
const RISES: usize = 240;

/// By how much the demand rose within the time of a boot, again and again.
///
/// Demand is forecast to stay as it is; this is by how much that was wrong lately. A part of it
/// ([`Policy::readiness`](crate::Policy::readiness)) is kept ready, so that the forecast is trusted
/// just as far as it was right, and a steady load costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rises {
    /// The demand of the last boot's time, oldest first: when, and how many slots.
    pub demand: Vec<(Millis, u64)>,
    /// By how much demand exceeded what it had been up to a boot earlier, oldest first.
    pub rises: Vec<u64>,
}

impl Rises {
    /// Notes the demand, in slots, at this look.
    pub(crate) fn note(&mut self, demand: u64, boot: Millis, now: Millis) {
        match self.demand.last_mut() {
            Some((at, most)) if now.saturating_sub(*at) < boot / PARTS => {
                *most = demand.max(*most);
            }
            _ => self.demand.push((now, demand)),
        }
        let over = |(at, _): &&(Millis, u64)| now.saturating_sub(*at) >= boot.max(1);
        for _ in 0..self.demand.iter().filter(over).count() {
            let (_, was) = self.demand.remove(0);
            let most = self.demand.iter().map(|(_, demand)| *demand).max().unwrap_or(demand);
            self.rises.push(most.max(demand).saturating_sub(was));
        }
        self.rises.drain(..self.rises.len().saturating_sub(RISES));
    }

    /// What was enough for this part of the rises; nothing while none is known.
    pub(crate) fn enough(&self, part: f64) -> u64 {
        if part <= 0.0 {
            return 0;
        }
        let mut sorted = self.rises.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * part.clamp(0.0, 1.0)).ceil() as usize;
        rank.checked_sub(1).and_then(|place| sorted.get(place)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_the_most_within_a_boot_over_what_was_there_before() {
        let mut rises = Rises::default();
        for (at, demand) in [(0, 10), (30_000, 14), (60_000, 8), (90_000, 11), (120_000, 9)] {
            rises.note(demand, 60_000, at);
        }
        assert_eq!(rises.rises, [4, 0, 3], "14 after 10, 11 at most after 14, 11 after 8");
    }

    #[test]
    fn what_was_enough_for_a_part_is_a_rise_that_was_seen() {
        let rises = Rises { demand: vec![], rises: vec![7, 1, 3, 5] };
        let enough = [0.0, 0.25, 0.3, 0.75, 1.0].map(|part| rises.enough(part));
        assert_eq!(enough, [0, 1, 3, 5, 7]);
        assert_eq!(Rises::default().enough(1.0), 0);
    }

    #[test]
    fn an_hour_of_rises_is_remembered_and_no_more() {
        let mut rises = Rises::default();
        (0..2_000u64).for_each(|look| rises.note(look, 120_000, look * 5_000));
        assert_eq!(rises.rises.len(), RISES);
        assert!(rises.demand.len() as u64 <= PARTS + 1);
    }
}
