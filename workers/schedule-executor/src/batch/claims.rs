//! One acts: a resource is claimed between the look and the act.
//!
//! Ticks, orders and undos are batches of their own, and each is worked once. Two of them may still
//! see the same difference at the same time; the claim, in the row of what is known of the resource,
//! lets one of them act on it.

use std::{collections::HashMap, time::Duration};

use flotilla_runtime::Failure;
use jiff::Timestamp;

use super::{Hands, case::Case};
use crate::{
    handlers::Refusal,
    message::Batch,
    plan::{Action, Step},
    rows::{Claim, Held},
    store::Claiming,
};

/// After how long whoever claimed a resource and was not heard of again is out of it. Its own batch,
/// when it comes back, is not kept from it meanwhile.
const UNDER_WAY: Duration = Duration::from_secs(300);

impl Hands {
    /// Claims what is to be switched, and keeps the sizes that stops will lose. What another is at is
    /// left to it, with the reason; gives a refusal where somebody by hand wants the contrary of what
    /// is under way, and has to try again.
    ///
    /// # Errors
    /// Transient, when the table does not answer.
    pub(super) async fn claim(
        &self,
        (batch, by): (&Batch, &str),
        cases: &mut [Case<'_>],
    ) -> Result<Option<Refusal>, Failure> {
        let now = Timestamp::now();
        let claims = cases.iter().filter_map(|case| case.claims(batch, by, now));
        let claims: Vec<Claiming<'_>> = claims.collect();
        let taken = self.store.claim(&claims).await?;
        let lost: Vec<String> = claims.iter().map(|it| it.key.to_owned()).collect();
        drop(claims);
        let lost: Vec<String> =
            lost.into_iter().zip(taken).filter(|(_, mine)| !mine).map(|(key, _)| key).collect();
        let rivals = self.store.held(&lost).await?;
        let mut barred = None;
        for case in cases.iter_mut().filter(|case| case.switches().is_some()) {
            let Some(claim) = case.rival(by, now, &lost, &rivals) else { continue };
            let contrary = case.switches() != claim.action;
            let why = under_way(&claim, contrary);
            if contrary && batch.actor == "hand" {
                barred = Some(Refusal::under_way(&case.key, &why));
            }
            case.step = Step::Skip("under_way", format!("{why} ({})", case.item.reason));
        }
        Ok(barred)
    }
}

fn under_way(claim: &Claim, contrary: bool) -> String {
    let action = claim.action.map_or("something", Action::name);
    let next = if contrary { ": the next tick looks again" } else { "" };
    format!("{action} of it is under way already, by {}{next}", claim.bulk)
}

impl Case<'_> {
    /// What it is to be switched to, if it is.
    pub(super) fn switches(&self) -> Option<Action> {
        match &self.step {
            Step::Act(action @ (Action::Start | Action::Stop), _) => Some(*action),
            _ => None,
        }
    }

    /// The claim on it, unless another is at it.
    fn claims(&self, batch: &Batch, by: &str, now: Timestamp) -> Option<Claiming<'_>> {
        let action = self.switches()?;
        let before = self.held.map(|held| held.claim.clone()).unwrap_or_default();
        if before.bars(by, now) {
            return None;
        }
        let until = now.as_millisecond() + i64::try_from(UNDER_WAY.as_millis()).unwrap_or(0);
        let claim =
            Claim { by: by.to_owned(), bulk: batch.bulk.clone(), action: Some(action), until };
        let size = self.seen.size.as_deref().filter(|_| action == Action::Stop);
        Some(Claiming { key: &self.key, before, claim, size })
    }

    /// Who is at it instead: since before the look, or since then.
    fn rival(
        &self,
        by: &str,
        now: Timestamp,
        lost: &[String],
        rivals: &HashMap<String, Held>,
    ) -> Option<Claim> {
        if lost.contains(&self.key) {
            return Some(rivals.get(&self.key).map(|held| held.claim.clone()).unwrap_or_default());
        }
        self.held.map(|held| &held.claim).filter(|claim| claim.bars(by, now)).cloned()
    }

    /// Whether it has to be let go once its act is over: an attempt before this one may have died at it.
    pub(super) fn is_claimed(&self, by: &str, now: Timestamp) -> bool {
        let claim = self.held.map(|held| &held.claim);
        let left = claim.filter(|it| it.until > now.as_millisecond());
        self.switches().is_some() || left.is_some_and(|it| it.by == by)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{handlers::Seen, message::Batch, plan::Observed};

    #[test]
    fn a_resource_is_claimed_for_five_minutes_and_with_the_size_that_a_stop_will_lose() {
        let batch: Batch = serde_json::from_value(json!({
            "account": "", "region": "r", "service": "autoscaling:group", "action": "STOP",
            "tick": "2026-06-01T17:00:00Z", "actor": "schedule", "bulk": "b", "occasion": "o",
            "items": [{"id": "g", "source": "context/a", "since": "2026-06-01T17:00:00Z", "reason": ""}],
        }))
        .unwrap();
        let now = Timestamp::from_second(1_000).unwrap();
        let claimed = |action, held: Option<&Held>| {
            let seen = Seen { size: Some("1/4/2".to_owned()), ..Observed::On.into() };
            let (item, key) = (&batch.items[0], "k".to_owned());
            let step = Step::Act(action, String::new());
            let case = Case { item, key, seen, held, over: None, step };
            let claim = case.claims(&batch, "me", now)?;
            let Claim { by, bulk, until, .. } = claim.claim;
            assert_eq!((by.as_str(), bulk.as_str()), ("me", "b"));
            Some((until, claim.size.map(str::to_owned)))
        };
        let size = Some("1/4/2".to_owned());
        assert_eq!(claimed(Action::Stop, None), Some((1_300_000, size)));
        assert_eq!(claimed(Action::Start, None), Some((1_300_000, None)));
        let held = |by: &str, until| {
            let claim = Claim { by: by.to_owned(), until, ..Claim::default() };
            Held { claim, ..Held::default() }
        };
        assert_eq!(claimed(Action::Stop, Some(&held("you", 1_000_001))), None);
        assert!(claimed(Action::Stop, Some(&held("you", 1_000_000))).is_some(), "it is over");
        assert!(claimed(Action::Stop, Some(&held("me", 1_200_000))).is_some(), "it comes back");
    }

    #[test]
    fn a_claim_bars_others_until_it_is_over_and_never_its_own_batch() {
        let now = Timestamp::from_second(1_000).unwrap();
        let claim = Claim { by: "a".to_owned(), until: 1_000_001, ..Claim::default() };
        assert!(claim.bars("b", now) && !claim.bars("a", now));
        let over = Claim { until: now.as_millisecond(), ..claim };
        assert!(!over.bars("b", now));
        assert!(!Claim::default().bars("b", now));
    }

    #[test]
    fn what_is_under_way_is_told_by_its_name() {
        let claim =
            Claim { bulk: "undo 7".to_owned(), action: Some(Action::Start), ..Claim::default() };
        assert_eq!(under_way(&claim, false), "START of it is under way already, by undo 7");
        assert!(under_way(&claim, true).ends_with("the next tick looks again"));
    }
}
