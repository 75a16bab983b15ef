//! Undoing a bulk action.

use flotilla_runtime::Failure;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    Sources,
    planned::{Planned, Wish},
};
use crate::{
    arn::Target,
    audit::Changed,
    message::Undo,
    plan::{Action, Plan},
    rows::{Mode, Service},
    schedule::{Override, Power},
};

/// How long what was undone stays as it was where its schedule has no next rule.
const WITHOUT_RULE: SignedDuration = SignedDuration::from_hours(24);

impl Sources {
    /// Plans to bring back what a bulk action changed. Each resource is overridden until its
    /// schedule's next change, or the next tick would only repeat what is undone.
    ///
    /// # Errors
    /// Permanent, when nothing is known of the bulk action.
    pub async fn undo(&self, undo: &Undo, id: &str, at: Timestamp) -> Result<Planned, Failure> {
        let bulk = match &undo.bulk {
            Some(bulk) => Some(bulk.clone()),
            None => self.store.last_bulk().await?,
        };
        let bulk = bulk.ok_or_else(|| nothing("there is no bulk action to undo"))?;
        let changed = self.audit.bulk(&bulk).await?;
        if changed.is_empty() {
            return Err(nothing(&format!("the audit knows of no bulk action {bulk:?}")));
        }
        let dry_run = undo.dry_run || self.dry_run;
        let settings = self.store.settings().await?;
        let mut planned = Planned::new("hand", id.to_owned(), dry_run, settings);
        for change in changed {
            let Some(target) = target(&change) else { continue };
            let wish = wish(&change, &bulk, id, at);
            if !dry_run && change.source != "ids" {
                self.hold_back(&change, &wish, at).await?;
            }
            let named = target.id.clone();
            planned.target(target, &named, &wish, at);
        }
        Ok(planned.batched(at))
    }

    async fn hold_back(&self, change: &Changed, wish: &Wish, at: Timestamp) -> Result<(), Failure> {
        let power = if wish.action == Action::Start { Power::On } else { Power::Off };
        let until = self.next_change(&change.source, at).await?;
        let reason = wish.reason.clone();
        let (from, until) = (at.as_second(), until.as_second());
        let over = Override { power, from, until, reason };
        self.store.hold(&change.key, &json!({ "override": over })).await
    }

    /// When a context's or tag's schedule changes next.
    async fn next_change(&self, source: &str, at: Timestamp) -> Result<Timestamp, Failure> {
        let scheduling = match source.split_once('/') {
            Some(("context", id)) => self.store.context(id).await?.map(|it| it.scheduling),
            Some(("tag", key)) => self.store.tag(key).await?.map(|it| it.scheduling),
            _ => None,
        };
        let next = scheduling.and_then(|row| Plan::of(&row).ok()?.schedule().next(at));
        let none = at.checked_add(WITHOUT_RULE).unwrap_or(Timestamp::MAX);
        Ok(next.map_or(none, |it| it.at))
    }
}

fn wish(change: &Changed, bulk: &str, id: &str, at: Timestamp) -> Wish {
    let action = if change.action == Action::Start { Action::Stop } else { Action::Start };
    Wish {
        source: change.source.clone(),
        action,
        since: at,
        reason: format!("{} to undo {bulk}", action.name()),
        occasion: id.to_owned(),
        attrib: String::new(),
        mode: Mode::Enforce,
        dry_run: false,
        gate: None,
    }
}

/// The resource of a key such as `ec2:instance/eu-west-1/i-1`.
fn target(change: &Changed) -> Option<Target> {
    let mut parts = change.key.splitn(3, '/');
    let service = Service::named(parts.next()?)?;
    let (region, id) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    Some(Target { account: change.account.clone(), region, service, id })
}

fn nothing(why: &str) -> Failure {
    Failure::permanent("nothing_to_undo", why)
}
