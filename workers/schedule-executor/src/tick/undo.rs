//! Undoing a bulk action.

use std::collections::HashMap;

use flotilla_runtime::Failure;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    Sources,
    planned::{Planned, Wish},
};
use crate::{
    arn::{Target, short},
    audit::Changed,
    message::{UNDO, Undo},
    plan::{Action, Plan},
    rows::{Context, Mode, Scheduling, Service, stage_of},
    schedule::{Override, Power},
    store::Progress,
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
            None => self.store.last_bulk(Timestamp::now()).await?,
        };
        let bulk = bulk.ok_or_else(|| nothing("there is no bulk action to undo"))?;
        let changed = self.audit.bulk(&bulk).await?;
        let dry_run = undo.dry_run || self.dry_run;
        let settings = self.store.settings().await?;
        let mut planned = self.planned("hand", format!("{UNDO}{id}"), dry_run, settings);
        if changed.is_empty() {
            let why = self.unchanged(&bulk, at).await?;
            planned.idle("scheduler", at, "nothing_to_undo", &why);
            return Ok(planned);
        }
        let mut sources = HashMap::new();
        for change in changed {
            if !sources.contains_key(&change.source) {
                let mut source = self.source(&change.source, at).await?;
                source.dry_run |= dry_run;
                sources.insert(change.source.clone(), source);
            }
            let Some(source) = sources.get(&change.source) else { continue };
            self.give_back(&change, source, (&bulk, id, at), &mut planned).await?;
        }
        Ok(planned.batched(at, at))
    }

    /// Plans to bring back what was changed of one resource.
    async fn give_back(
        &self,
        change: &Changed,
        source: &Source,
        (bulk, id, at): (&str, &str, Timestamp),
        planned: &mut Planned,
    ) -> Result<(), Failure> {
        let Some(target) = target(change) else { return Ok(()) };
        let wish = source.gated(wish(change, bulk, id, at), &target, bulk, at);
        let class = change.action == Action::ModClass;
        if class && change.class().is_none() {
            let why = format!("its class before {bulk} is not known: order it by its name");
            planned.left(&change.key, &wish, at, "nothing_to_undo", &why);
            return Ok(());
        }
        // A class stays as it is given; no schedule says another.
        if !wish.dry_run && !class && change.source != "ids" {
            self.hold_back(&target.key(), &wish, (at, source.until)).await?;
        }
        let named = target.id.clone();
        planned.target(target, &named, &wish, at);
        Ok(())
    }

    /// Why there is nothing to undo of a bulk action of which the audit knows nothing: it changed
    /// nothing.
    ///
    /// # Errors
    /// Transient, while it is still to be worked: an undo waits for what it is to undo. Permanent,
    /// when nobody asked for it.
    async fn unchanged(&self, bulk: &str, at: Timestamp) -> Result<String, Failure> {
        match self.store.asked(bulk, at).await? {
            Some(Progress::Pending) => {
                let what = format!("{:?} is to be undone, and is still to be worked", short(bulk));
                Err(Failure::transient("still_to_be_worked", what))
            }
            Some(Progress::Worked) => {
                Ok(format!("{bulk} changed nothing: there is nothing to undo"))
            }
            None => {
                let what = format!("the audit knows of no bulk action {:?}", short(bulk));
                Err(nothing(&what))
            }
        }
    }

    async fn hold_back(
        &self,
        key: &str,
        wish: &Wish,
        (from, until): (Timestamp, Timestamp),
    ) -> Result<(), Failure> {
        let power = if wish.action == Action::Start { Power::On } else { Power::Off };
        let reason = wish.reason.clone();
        let (from, until) = (from.as_second(), until.as_second());
        let who = "an undo".to_owned();
        let over = Override { power, from, until, reason, who };
        self.store.hold(key, &json!({ "override": over })).await
    }

    /// A context or tag, and when its schedule changes next.
    async fn source(&self, source: &str, at: Timestamp) -> Result<Source, Failure> {
        let (context, scheduling) = match source.split_once('/') {
            Some(("context", id)) => {
                let context = self.store.context(id).await?;
                let scheduling = context.as_ref().map(|it| it.scheduling.clone());
                (context, scheduling)
            }
            Some(("tag", key)) => (None, self.store.tag(key).await?.map(|it| it.scheduling)),
            _ => (None, None),
        };
        let dry_run = scheduling.as_ref().is_some_and(|row| row.dry_run);
        let next = scheduling.and_then(|row| next(&row, at));
        Ok(Source { context, until: until(next, at), dry_run })
    }
}

fn next(row: &Scheduling, at: Timestamp) -> Option<Timestamp> {
    Plan::of(row).ok()?.schedule().next(at).map(|it| it.at)
}

/// Until when what is undone stays so: the next rule. One that is further away than any override may
/// be is none: of `daily 00:00-24:00` it is the end of the calendar.
fn until(next: Option<Timestamp>, at: Timestamp) -> Timestamp {
    let longest = SignedDuration::from_secs(Override::LONGEST);
    let near = next.filter(|next| next.duration_since(at) <= longest);
    near.unwrap_or_else(|| at.checked_add(WITHOUT_RULE).unwrap_or(Timestamp::MAX))
}

/// Whose resources were changed, and until when what is undone stays so.
struct Source {
    context: Option<Context>,
    until: Timestamp,
    /// Whether all of it is only tried.
    dry_run: bool,
}

impl Source {
    /// The wish, behind the stages of its context: what comes back does in its order.
    fn gated(&self, wish: Wish, target: &Target, bulk: &str, at: Timestamp) -> Wish {
        let wish = Wish { dry_run: self.dry_run, ..wish };
        let Some(context) = self.context.as_ref().filter(|it| !it.stages.is_empty()) else {
            return wish;
        };
        let stage = stage_of(&context.stages, target.service, &target.id);
        let mut wish = wish.staged(&context.id, stage, at);
        if let Some(gate) = &mut wish.gate {
            gate.undone = Some(bulk.to_owned());
        }
        wish
    }
}

fn wish(change: &Changed, bulk: &str, id: &str, at: Timestamp) -> Wish {
    let action = match change.action {
        Action::Start => Action::Stop,
        Action::Stop => Action::Start,
        Action::ModClass => Action::ModClass,
    };
    Wish {
        source: change.source.clone(),
        action,
        since: at,
        reason: format!("{} to undo {bulk}", action.name()),
        chosen: true,
        who: None,
        occasion: id.to_owned(),
        attrib: change.class().unwrap_or_default().to_owned(),
        mode: Mode::Enforce,
        dry_run: false,
        gate: None,
    }
}

/// The resource of a key such as `ec2:instance/eu-west-1/i-1`; of another account it has that
/// before the region, but in old rows.
fn target(change: &Changed) -> Option<Target> {
    let (service, rest) = change.key.split_once('/')?;
    let account = change.account.clone();
    let there = format!("{account}/");
    let rest = rest.strip_prefix(&there).filter(|_| !account.is_empty()).unwrap_or(rest);
    let (region, id) = rest.split_once('/')?;
    let (region, id) = (region.to_owned(), id.to_owned());
    Some(Target { account, region, service: Service::named(service)?, id })
}

fn nothing(why: &str) -> Failure {
    Failure::permanent("nothing_to_undo", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undone_of_a_schedule_without_a_next_rule_stays_so_for_a_day() {
        let at = "2026-06-01T12:00:00Z".parse().unwrap();
        let ends = |fields: serde_json::Value| {
            until(next(&serde_json::from_value(fields).unwrap(), at), at).to_string()
        };
        for always in ["daily 00:00-24:00", "mon-sun 00:00-24:00"] {
            assert_eq!(ends(json!({ "schedulingPeriod": always })), "2026-06-02T12:00:00Z");
        }
        let daily = json!({ "schedulingPeriod": "daily 08:00-19:00" });
        assert_eq!(ends(daily), "2026-06-01T19:00:00Z");
        let (start, stop) = ("0 0 1 5 *", "0 0 1 6 *");
        let yearly = json!({ "schedulingRuleStart": start, "schedulingRuleStop": stop });
        assert_eq!(ends(yearly), "2027-05-01T00:00:00Z");
    }

    #[test]
    fn a_class_that_was_changed_is_given_back_and_one_that_is_not_known_is_not() {
        let change = |before: &str| Changed {
            key: "rds:instance/r/orders".to_owned(),
            source: "ids".to_owned(),
            action: Action::ModClass,
            account: String::new(),
            before: before.to_owned(),
        };
        let at = "2026-06-01T12:00:00Z".parse().unwrap();
        let undone = wish(&change("db.t3.micro"), "b", "id", at);
        assert_eq!((undone.action, undone.attrib.as_str()), (Action::ModClass, "db.t3.micro"));
        assert_eq!(change("available").class(), None);
    }

    #[test]
    fn a_changed_resource_is_found_by_its_key_in_every_account() {
        for (account, key) in [
            ("", "ecs:service/r/main/api"),
            ("210987654321", "ecs:service/210987654321/r/main/api"),
            ("210987654321", "ecs:service/r/main/api"),
        ] {
            let change = Changed {
                key: key.to_owned(),
                source: "ids".to_owned(),
                action: Action::Stop,
                account: account.to_owned(),
                before: "running".to_owned(),
            };
            let found = target(&change).unwrap();
            assert_eq!((found.account.as_str(), found.region.as_str()), (account, "r"));
            assert_eq!((found.service, found.id.as_str()), (Service::Ecs, "main/api"));
        }
    }
}
