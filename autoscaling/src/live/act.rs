//! Does what was decided.

use std::collections::HashSet;

use aws_sdk_autoscaling::types::LifecycleState;
use flotilla_runtime::failure::Failure;
use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::{
    fleet::{Fleet, Row, Rows},
    group::{Described, Group, WarmPool},
    hearing::{Hearing, Patience},
    look,
    owner::Owner,
};
use crate::{decide::Decision, observed::Millis};

/// Why a group is not told to have fewer than it has.
const UNPROTECTED: &str =
    "not all instances are protected from scale-in, so AWS might end one that serves";

/// The hands of the autoscaler.
pub(super) struct Hands<'a> {
    pub(super) owner: &'a Owner,
    pub(super) group: &'a Group,
    pub(super) fleet: &'a Fleet,
    pub(super) hearing: &'a Hearing,
    pub(super) patience: Patience,
    /// Whether an instance that is new may have come out of the warm pool.
    pub(super) pooled: bool,
}

impl Hands<'_> {
    /// Does it, as long as the lease lasts; says what was done. What fails is done at a later
    /// turn, if it is still wanted then.
    pub(super) async fn act(
        &self,
        decision: &Decision,
        seen: &Described,
        rows: &Rows,
    ) -> Vec<String> {
        let mut done = Vec::new();
        let ended = self.end_drained(seen, rows, &mut done).await;
        let desired = decision.desired.saturating_sub(ended);
        let told = seen.desired.saturating_sub(ended);
        if desired > told {
            self.tell(desired, &mut done).await;
        } else if decision.back > 0 && seen.protects {
            self.tell(told.saturating_sub(decision.back), &mut done).await;
        } else if decision.back > 0 {
            done.push(format!("left {} that are not launched: {UNPROTECTED}", decision.back));
        }
        self.warm(decision, desired, seen, &mut done).await;
        let orders = decision.remove.iter().map(|instance| self.order(instance));
        done.extend(at_once(orders).await.into_iter().flatten());
        done.extend(self.give_up_silent(seen, rows).await);
        done
    }

    /// Tells the group how many instances to have.
    async fn tell(&self, desired: u32, done: &mut Vec<String>) {
        if self.owner.may_act() {
            let what = format!("desired capacity {desired}");
            note(done, what, self.group.set_desired(desired).await);
        }
    }

    /// Sizes the warm pool, where the policy has one.
    async fn warm(
        &self,
        decision: &Decision,
        desired: u32,
        seen: &Described,
        done: &mut Vec<String>,
    ) {
        let Some(least) = decision.warm else { return };
        let pool = WarmPool { least, prepared: desired.saturating_add(least) };
        // An empty pool is none, so none is made for it.
        let differs = seen.warm != Some(pool) && (least > 0 || seen.warm.is_some());
        if differs && self.owner.may_act() {
            note(done, format!("warm pool of {least}"), self.group.set_warm(pool).await);
        }
    }

    async fn order(&self, instance: &str) -> Option<String> {
        if !self.owner.may_act() {
            return None;
        }
        Some(match self.fleet.order_drain(instance).await {
            Ok(true) => format!("ordered {instance} to drain"),
            Ok(false) => format!("left {instance}: it has work"),
            Err(failure) => failed(failure),
        })
    }

    /// Orders instances to drain whose workers nobody has heard of for long.
    async fn give_up_silent(&self, seen: &Described, rows: &Rows) -> Vec<String> {
        let serving = seen.members.iter().filter(|it| it.lifecycle == LifecycleState::InService);
        let serving: Vec<&str> = serving.map(|it| it.id.as_str()).collect();
        let going = self.hearing.given_up(&serving, rows, &self.patience, Instant::now());
        let orders = going.iter().map(|id| {
            let at = rows.instances.get(id).map_or(0, |row| row.at);
            self.give_up(id, at)
        });
        at_once(orders).await.into_iter().flatten().collect()
    }

    async fn give_up(&self, id: &str, at: Millis) -> Option<String> {
        if !self.owner.may_act() {
            return None;
        }
        match self.fleet.order_silent(id, at).await {
            Ok(true) => Some(format!("gave {id} up: it is silent")),
            Ok(false) => None,
            Err(failure) => Some(failed(failure)),
        }
    }

    /// Ends the instances whose workers are drained; says by how many fewer the group is told to have
    /// by that.
    async fn end_drained(&self, seen: &Described, rows: &Rows, done: &mut Vec<String>) -> u32 {
        let running = seen.members.iter().filter(|it| !it.lifecycle.as_str().starts_with("Term"));
        let drained = running.filter(|member| {
            rows.instances.get(&member.id).is_some_and(|row| self.is_drained(&member.id, row))
        });
        let ends = drained.zip(0..).map(|(member, before)| self.end(seen, &member.id, before));
        let mut fewer = 0;
        for (what, is_fewer) in at_once(ends).await.into_iter().flatten() {
            done.push(what);
            fewer += u32::from(is_fewer);
        }
        fewer
    }

    /// Ends an instance after so many `before` it: what was done, and whether the group has one fewer.
    async fn end(&self, seen: &Described, id: &str, before: u32) -> Option<(String, bool)> {
        if !self.owner.may_act() {
            return None;
        }
        let fewer = seen.may_have_fewer(before);
        Some(match self.group.end(id, fewer).await {
            Ok(()) if fewer => (format!("ended {id}"), true),
            Ok(()) => (format!("ended {id}, to be replaced: the group is at its minimum"), false),
            Err(failure) => (failed(failure), false),
        })
    }

    /// Has the group go on to end these instances: nobody is left there who would tell it to, and it would
    /// wait, and pay, until its hook's time is over. Gives those for which that is to be tried again.
    pub(super) async fn release(
        &self,
        instances: Vec<String>,
        hook: &str,
        done: &mut Vec<String>,
    ) -> Vec<String> {
        if !self.owner.may_act() {
            return instances;
        }
        let releases = at_once(instances.iter().map(|id| self.group.release(id, hook))).await;
        let mut again = Vec::new();
        for (id, released) in instances.into_iter().zip(releases) {
            let what = format!("released {id} from its hook {hook}");
            if matches!(released, Err(Failure::Transient { .. })) {
                again.push(id);
            }
            note(done, what, released);
        }
        again
    }

    fn is_drained(&self, id: &str, row: &Row) -> bool {
        self.hearing.is_drained(id, row, &self.patience, Instant::now())
    }

    /// Notes instances that are new, each once it is out of the warm pool, and forgets those that are gone.
    pub(super) async fn keep_rows(&self, seen: &Described, rows: &Rows) {
        let members: HashSet<&str> = seen.members.iter().map(|it| it.id.as_str()).collect();
        let known = |id: &str| rows.instances.get(id).is_some_and(|row| row.seen_at.is_some());
        let new = seen.members.iter().filter(|it| !it.is_warm() && !known(&it.id));
        let new = new.map(|it| self.fleet.see(&it.id, self.pooled));
        at_once(new).await.into_iter().for_each(told);
        let lost = look::lost(Some(seen), Some(rows));
        let lost: HashSet<&String> = lost.iter().collect();
        let gone = rows.instances.iter().filter(|(id, row)| {
            (row.drained.is_some() || lost.contains(id)) && !members.contains(id.as_str())
        });
        let forgets = gone.map(|(id, _)| self.fleet.forget(id));
        at_once(forgets).await.into_iter().for_each(told);
    }
}

/// Calls that are under way at a time: thousands of instances, one after the other, would take longer
/// than the lease lasts.
const AT_ONCE: usize = 32;

/// Makes all of these calls, some at a time; what came of them, in their order.
async fn at_once<T>(calls: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    stream::iter(calls).buffered(AT_ONCE).collect().await
}

fn note(done: &mut Vec<String>, what: String, result: Result<(), Failure>) {
    done.push(result.map_or_else(failed, |()| what));
}

/// Says that something failed; it is done at a later turn, if it is still wanted then.
fn failed(failure: Failure) -> String {
    let words = format!("failed: {failure}");
    told(Err(failure));
    words
}

fn told(result: Result<(), Failure>) {
    if let Err(failure) = result {
        tracing::warn!(%failure, "tried again at the next turn, if it is still wanted");
    }
}
