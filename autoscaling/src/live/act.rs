//! Does what was decided.

use aws_sdk_autoscaling::types::LifecycleState;
use flotilla_runtime::failure::Failure;
use tokio::time::Instant;

use super::{
    fleet::{Fleet, Row, Rows},
    group::{Described, Group, WarmPool},
    hearing::{Hearing, Patience},
    look,
    owner::Owner,
};
use crate::decide::Decision;

/// The hands of the autoscaler.
pub(super) struct Hands<'a> {
    pub(super) owner: &'a Owner,
    pub(super) group: &'a Group,
    pub(super) fleet: &'a Fleet,
    pub(super) hearing: &'a Hearing,
    pub(super) patience: Patience,
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
        if decision.hold {
            return done;
        }
        let ended = self.end_drained(seen, rows, &mut done).await;
        let desired = decision.desired.saturating_sub(ended);
        if desired > seen.desired.saturating_sub(ended) && self.owner.may_act() {
            let what = format!("desired capacity {desired}");
            note(&mut done, what, self.group.set_desired(desired).await);
        }
        self.warm(decision, desired, seen, &mut done).await;
        for instance in &decision.remove {
            if self.owner.may_act() {
                self.order(instance, &mut done).await;
            }
        }
        self.give_up_silent(seen, rows, &mut done).await;
        done
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

    async fn order(&self, instance: &str, done: &mut Vec<String>) {
        match self.fleet.order_drain(instance).await {
            Ok(true) => done.push(format!("ordered {instance} to drain")),
            Ok(false) => done.push(format!("left {instance}: it has work")),
            Err(failure) => note(done, String::new(), Err(failure)),
        }
    }

    /// Orders instances to drain whose workers nobody has heard of for long.
    async fn give_up_silent(&self, seen: &Described, rows: &Rows, done: &mut Vec<String>) {
        let serving = seen.members.iter().filter(|it| it.lifecycle == LifecycleState::InService);
        let serving: Vec<&str> = serving.map(|it| it.id.as_str()).collect();
        let going = self.hearing.given_up(&serving, rows, &self.patience, Instant::now());
        for id in going.iter().filter(|_| self.owner.may_act()) {
            let at = rows.instances.get(id).map_or(0, |row| row.at);
            match self.fleet.order_silent(id, at).await {
                Ok(true) => done.push(format!("gave {id} up: it is silent")),
                Ok(false) => {}
                Err(failure) => note(done, String::new(), Err(failure)),
            }
        }
    }

    /// Ends the instances whose workers are drained.
    async fn end_drained(&self, seen: &Described, rows: &Rows, done: &mut Vec<String>) -> u32 {
        let before = done.len();
        let running = seen.members.iter().filter(|it| !it.lifecycle.as_str().starts_with("Term"));
        for member in running {
            let drained =
                rows.instances.get(&member.id).is_some_and(|row| self.is_drained(&member.id, row));
            if drained && self.owner.may_act() {
                note(done, format!("ended {}", member.id), self.group.end(&member.id).await);
            }
        }
        done[before..].iter().filter(|what| what.starts_with("ended")).count() as u32
    }

    fn is_drained(&self, id: &str, row: &Row) -> bool {
        self.hearing.is_drained(id, row, &self.patience, Instant::now())
    }

    /// Notes instances that are new, and forgets those that are gone.
    pub(super) async fn keep_rows(&self, seen: &Described, rows: &Rows) {
        for member in &seen.members {
            let known = rows.instances.get(&member.id).is_some_and(|row| row.seen_at.is_some());
            if !known {
                told(self.fleet.see(&member.id).await);
            }
        }
        let member = |id: &String| seen.members.iter().any(|it| it.id == *id);
        let lost = look::lost(Some(seen), Some(rows));
        for (id, row) in &rows.instances {
            let over = row.drained.is_some() || lost.contains(id);
            if over && !member(id) {
                told(self.fleet.forget(id).await);
            }
        }
    }
}

fn note(done: &mut Vec<String>, what: String, result: Result<(), Failure>) {
    match result {
        Ok(()) => done.push(what),
        Err(failure) => {
            done.push(format!("failed: {failure}"));
            told(Err(failure));
        }
    }
}

fn told(result: Result<(), Failure>) {
    if let Err(failure) = result {
        tracing::warn!(%failure, "tried again at the next turn, if it is still wanted");
    }
}
