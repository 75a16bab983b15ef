//! Who may act: one autoscaler at a time, by a lease in the fleet table.

use std::time::Duration;

use aws_sdk_dynamodb::{
    operation::update_item::builders::UpdateItemFluentBuilder, types::ReturnValue,
};
use flotilla_runtime::failure::Failure;
use tokio::time::Instant;

use super::{
    fleet::{Fleet, Item, number, numeral, text, words},
    now_ms,
};
use crate::memory::Memory;

/// The row of the lease.
const LEASE_ROW: &str = "#owner";

/// The lease of a group, as one autoscaler sees it.
#[derive(Debug)]
pub(super) struct Owner {
    fleet: Fleet,
    id: String,
    lease: Duration,
    /// Until when this one may act, by its own clock. It stops earlier than others may begin.
    until: Option<Instant>,
    /// Whether it was this one's when it last asked. What this one remembers is newer than what the
    /// row does then, however long ago that was.
    mine: bool,
    other: Other,
}

/// A lease as it is written.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    owner: String,
    /// Until when by its owner's clock: another number at each renewal, and zero where it was let go.
    until_ms: u64,
}

/// Another's lease, and since when it has been as it is, by one's own clock. Nobody's clock is
/// compared with another's.
#[derive(Debug, Default)]
struct Other(Option<(Held, Instant)>);

impl Other {
    /// Whether a lease can be taken that is seen like this now.
    fn is_over(&mut self, seen: Option<&Held>, lease: Duration, now: Instant) -> bool {
        let Some(seen) = seen.filter(|held| held.until_ms > 0) else { return true };
        match &self.0 {
            Some((held, since)) if held == seen => now.duration_since(*since) >= lease,
            _ => {
                self.0 = Some((seen.clone(), now));
                false
            }
        }
    }
}

impl Owner {
    pub(super) fn new(fleet: Fleet, id: &str, lease: Duration) -> Self {
        let (id, other) = (id.to_owned(), Other::default());
        Self { fleet, id, lease, until: None, mine: false, other }
    }

    /// Whether this one may act now.
    pub(super) fn may_act(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// Takes or renews the lease, and writes down what is remembered. Gives what was remembered,
    /// also by whoever owned it before; `None` while another owns it.
    pub(super) async fn hold(&mut self, memory: &Memory) -> Result<Option<Memory>, Failure> {
        let asked = Instant::now();
        let kept = if self.mine { self.renew(memory).await? } else { self.take(asked).await? };
        self.mine = kept.is_some();
        self.until = kept.is_some().then(|| acts_until(asked, self.lease));
        Ok(kept)
    }

    async fn renew(&self, memory: &Memory) -> Result<Option<Memory>, Failure> {
        let row = serde_json::to_string(memory).unwrap_or_default();
        let call = self.write("SET #owner = :me, until_ms = :end, memory = :memory");
        let call = call.expression_attribute_values(":memory", text(&row));
        let written = self.send(call.condition_expression("#owner = :me")).await?;
        Ok(written.map(|_| memory.clone()))
    }

    /// Takes a lease that nobody has, that was let go, or that stood still for as long as it lasts.
    async fn take(&mut self, now: Instant) -> Result<Option<Memory>, Failure> {
        let row = self.fleet.row(LEASE_ROW).await?;
        let seen = words(&row, "owner").zip(numeral(&row, "until_ms"));
        let seen = seen.map(|(owner, until_ms)| Held { owner, until_ms });
        let mine = seen.as_ref().is_some_and(|held| held.owner == self.id);
        if !self.other.is_over(seen.as_ref(), self.lease, now) && !mine {
            return Ok(None);
        }
        let call = self.write("SET #owner = :me, until_ms = :end");
        let call = match seen {
            None => call.condition_expression("attribute_not_exists(until_ms)"),
            Some(Held { owner, until_ms }) => call
                .condition_expression("#owner = :other AND until_ms = :stood")
                .expression_attribute_values(":other", text(&owner))
                .expression_attribute_values(":stood", number(until_ms)),
        };
        let taken = self.send(call).await?;
        Ok(taken.map(|row| {
            let kept = words(&row, "memory").and_then(|text| serde_json::from_str(&text).ok());
            kept.map(Memory::taken_over).unwrap_or_default()
        }))
    }

    fn write(&self, expression: &str) -> UpdateItemFluentBuilder {
        let end = now_ms() + self.lease.as_millis() as u64;
        let call = self.fleet.update(LEASE_ROW).return_values(ReturnValue::AllNew);
        let call = call.update_expression(expression);
        let call = call.expression_attribute_names("#owner", "owner");
        let call = call.expression_attribute_values(":me", text(&self.id));
        call.expression_attribute_values(":end", number(end))
    }

    /// The row as it was written; `None` where it is another's by now.
    async fn send(&self, call: UpdateItemFluentBuilder) -> Result<Option<Item>, Failure> {
        match call.send().await {
            Ok(answer) => Ok(Some(answer.attributes.unwrap_or_default())),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(None)
            }
            Err(e) => Err(self.fleet.failed("leasing in", &e)),
        }
    }

    /// Lets another begin at once.
    pub(super) async fn let_go(&mut self) -> Result<(), Failure> {
        self.until = None;
        if !std::mem::take(&mut self.mine) {
            return Ok(());
        }
        let call = self.fleet.update(LEASE_ROW).update_expression("SET until_ms = :none");
        let call = call.condition_expression("#owner = :me");
        let call = call.expression_attribute_names("#owner", "owner");
        let call = call.expression_attribute_values(":me", text(&self.id));
        let call = call.expression_attribute_values(":none", number(0));
        self.send(call).await.map(drop)
    }
}

/// Until when whoever asked for a lease may act: for a part of it, since a call that has begun takes its
/// time, and another may take the lease once it has stood still for all of it.
fn acts_until(asked: Instant, lease: Duration) -> Instant {
    asked + lease.mul_f64(0.7)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn held(until_ms: u64) -> Held {
        Held { owner: "other".to_owned(), until_ms }
    }

    #[test]
    fn a_lease_is_over_when_it_stood_still_whatever_the_clocks_say() {
        let (mut other, start) = (Other::default(), Instant::now());
        // Its owner's clock is years behind, and it renews.
        for turn in 0..20 {
            let seen = held(1 + u64::from(turn));
            assert!(!other.is_over(Some(&seen), LEASE, start + turn * LEASE), "turn {turn}");
        }
        // One whose clock is years ahead is gone.
        let (last, gone) = (start + 20 * LEASE, held(u64::MAX));
        assert!(!other.is_over(Some(&gone), LEASE, last));
        assert!(!other.is_over(Some(&gone), LEASE, last + LEASE / 2));
        assert!(other.is_over(Some(&gone), LEASE, last + LEASE));
    }

    #[test]
    fn one_stops_acting_well_before_another_may_begin() {
        let (mut other, asked, seen) = (Other::default(), Instant::now(), held(1));
        // The other one looks at the very moment at which it is asked for.
        assert!(!other.is_over(Some(&seen), LEASE, asked));
        let until = acts_until(asked, LEASE);
        assert!(until >= asked + LEASE / 2, "a turn ends within it");
        assert!(!other.is_over(Some(&seen), LEASE, until + LEASE / 4));
    }

    #[test]
    fn a_lease_that_was_let_go_or_never_was_is_free() {
        let (mut other, now) = (Other::default(), Instant::now());
        assert!(other.is_over(None, LEASE, now) && other.is_over(Some(&held(0)), LEASE, now));
    }
}
