//! Overrides: set, told, and ended before their time, of contexts, tags and resources.

use jiff::Timestamp;
use schedule_executor::{
    arn::{Scope, Target},
    rows,
    schedule::{Override, zone},
    store::Overridden,
};
use serde_json::{Value, json};

use super::{
    Schedules,
    changes::bad,
    ops::{Done, Refused, Source, words},
};

/// The longest reason and the longest name of who asked that are kept, in characters.
const REASON: usize = 500;
const WHO: usize = 100;

impl Schedules {
    /// All overrides that hold or are to come, or those of one scope: who holds what on or off, until
    /// when, and why.
    pub(super) async fn all_overrides(&self, scope: Option<&str>) -> Done<Value> {
        let scope = scope.map(|it| self.scope(it)).transpose()?.map(|it| it.name());
        let all = self.store.overrides(Timestamp::now()).await?;
        let asked = |it: &&Overridden| scope.as_ref().is_none_or(|scope| it.scope == *scope);
        let rows: Vec<Value> = all.iter().filter(asked).map(told).collect();
        Ok(json!({ "overrides": rows }))
    }

    /// What an override is of, as lists tell it and as people write it.
    pub(super) fn scope(&self, text: &str) -> Done<Scope> {
        self.home.scope(text).map_err(Refused::Bad)
    }

    /// Ends an override before its time; a dry run says whether there is one.
    pub(super) async fn end(&self, scope: &Scope, dry_run: bool) -> Done<()> {
        let source = match scope {
            Scope::Context(id) => Some(Source::Context(id.clone())),
            Scope::Tag(key) => Some(Source::Tag(key.clone())),
            Scope::Resource(_) => None,
        };
        if let Some(source) = &source {
            self.scheduling(source).await?;
        }
        let (name, now) = (scope.name(), Timestamp::now());
        let over = self.store.override_of(&name, now).await?.ok_or_else(|| {
            let what = "is overridden by nothing: GET /v1/overrides tells the scopes that are";
            Refused::Missing(format!("{name:?} {what}"))
        })?;
        if dry_run {
            return Ok(());
        }
        match source {
            Some(source) => {
                self.write_override(&source, &json!({ "override": over.ended(now) })).await?;
            }
            None => self.store.hold(&name, &json!({ "override": null })).await?,
        }
        self.look_now(false).await
    }

    /// Refuses an override in a request that sets none, unless it is sent back as it was told.
    pub(super) async fn told_override(&self, source: &Source, request: &Value) -> Done<()> {
        let Some(said) = request.get("override").filter(|it| !it.is_null()) else { return Ok(()) };
        let over = match self.scheduling(source).await {
            Ok(row) => row.over,
            Err(Refused::Missing(_)) => None,
            Err(other) => return Err(other),
        };
        let same = over.is_some_and(|over| json!(over) == *said);
        let path = match source {
            Source::Context(id) => format!("/v1/contexts/{id}/override"),
            Source::Tag(key) => format!("/v1/tags/{key}/override"),
        };
        let other = || Refused::Bad(format!("an `override` is set by PUT {path}, and not here"));
        same.then_some(()).ok_or_else(other)
    }

    /// Overrides a context or tag: `{"override": "on until 22:00", "reason"?, "who"?}`, on the clock of its
    /// zone. A dry run tells what that would be.
    pub(super) async fn set_override(
        &self,
        source: &Source,
        request: &Value,
        dry_run: bool,
    ) -> Done<Value> {
        let zone = self.scheduling(source).await?.zone;
        let over = read(request, &zone)?;
        if !dry_run {
            self.write_override(source, &json!({ "override": over })).await?;
            self.look_now(false).await?;
        }
        let told = json!({ "override": shown(&over), "timeZone": zone, "dryRun": dry_run });
        self.with_who_acts(told, &source.scope()).await
    }

    /// An answer with who acts on an override, or why nobody does.
    async fn with_who_acts(&self, mut told: Value, scope: &Scope) -> Done<Value> {
        match self.store.switched_by(&self.home, scope, Timestamp::now()).await? {
            Ok(name) => told["switchedBy"] = json!(name),
            Err(why) => {
                told["switchedBy"] = Value::Null;
                told["why"] = json!(format!("nothing switches it now: {why}"));
            }
        }
        Ok(told)
    }

    /// Ends the override of a context or tag before its time.
    pub(super) async fn end_override(&self, source: &Source, dry_run: bool) -> Done<()> {
        self.end(&source.scope(), dry_run).await
    }

    async fn write_override(&self, source: &Source, fields: &Value) -> Done<()> {
        let found = match source {
            Source::Context(id) if id == rows::ALL => false,
            Source::Context(id) => self.store.set_context(id, fields).await?,
            Source::Tag(key) => self.store.set_tag(key, fields).await?,
        };
        found.then_some(()).ok_or_else(|| source.missing())
    }

    /// What is known of a resource: its override, and what was done last; of a context or tag its
    /// override.
    pub(super) async fn known(&self, scope: &Scope) -> Done<Value> {
        let name = scope.name();
        let none = || Refused::Missing(format!("nothing is known of {name}"));
        match scope {
            Scope::Resource(_) => {
                let held = self.store.held(std::slice::from_ref(&name)).await?.remove(&name);
                held.map(|held| json!(held)).ok_or_else(none)
            }
            _ => {
                let over = self.store.override_of(&name, Timestamp::now()).await?;
                let over = over.map(|over| Overridden { scope: name.clone(), over });
                over.map(|over| told(&over)).ok_or_else(none)
            }
        }
    }

    /// Overrides one resource; a time of day is on the clock of `timeZone`, by default that of the
    /// context that it goes by.
    pub(super) async fn override_resource(
        &self,
        target: Target,
        request: &Value,
        dry_run: bool,
    ) -> Done<Value> {
        let zone = match words(request, "timeZone")? {
            "" => self.store.zone_of(&self.home, &target.key()).await?,
            zone => zone.to_owned(),
        };
        let (key, over) = (target.key(), read(request, &zone)?);
        if !dry_run {
            self.store.hold(&key, &json!({ "override": over })).await?;
            self.look_now(false).await?;
        }
        let over = shown(&over);
        let told =
            json!({ "resource": key, "override": over, "timeZone": zone, "dryRun": dry_run });
        self.with_who_acts(told, &Scope::Resource(target)).await
    }
}

/// `{"override": "on until 22:00"}`, or the same in parts: `power`, and `until` or `for`.
fn read(request: &Value, zone_name: &str) -> Done<Override> {
    let part = |name: &str| match request.get(name)? {
        Value::String(text) => Some(text.clone()),
        // A length may be told in seconds, and an end in those since 1970.
        Value::Number(seconds) if name == "for" => Some(format!("{seconds} s")),
        Value::Number(second) if name == "until" => {
            Some(Timestamp::from_second(second.as_i64()?).ok()?.to_string())
        }
        _ => None,
    };
    let names = ["override", "power", "until", "for", "reason", "who"];
    let said = |name: &&str| request.get(*name).is_some_and(|it| !it.is_null());
    if let Some(name) = names.iter().find(|name| said(name) && part(name).is_none()) {
        return Err(Refused::Bad(format!("`{name}` must be text")));
    }
    let text = match (part("override"), part("power"), part("until"), part("for")) {
        (Some(text), None, None, None) => text,
        (None, Some(power), Some(until), None) => format!("{power} until {until}"),
        (None, Some(power), None, Some(length)) => format!("{power} for {length}"),
        _ => {
            return Err(bad(
                "say `override` (`on until 22:00`, `off for 3 h`), or `power` with `until` or `for`",
            ));
        }
    };
    let refused = |why: schedule_executor::schedule::ScheduleError| Refused::Bad(why.to_string());
    let zone = zone(zone_name).map_err(refused)?;
    let mut over = Override::parse(&text, Timestamp::now(), &zone).map_err(refused)?;
    over.reason = part("reason").unwrap_or_default().chars().take(REASON).collect();
    over.who = part("who").unwrap_or_else(|| "a request".to_owned()).chars().take(WHO).collect();
    Ok(over)
}

fn shown(over: &Override) -> Value {
    let at = |second| Timestamp::from_second(second).ok();
    let (from, until) = (at(over.from), at(over.until));
    json!({
        "power": over.power, "from": from, "until": until, "who": over.who, "reason": over.reason,
    })
}

fn told(it: &Overridden) -> Value {
    let mut row = shown(&it.over);
    row["scope"] = json!(it.scope);
    row["state"] = json!(it.over.power);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_says_who_asked_for_it() {
        let over = read(&json!({"override": "on for 3 h", "who": "anna"}), "UTC").unwrap();
        assert_eq!(
            (shown(&over)["who"].as_str(), shown(&over)["power"].as_str()),
            (Some("anna"), Some("ON"))
        );
    }

    #[test]
    fn a_part_of_an_override_that_is_of_a_wrong_type_is_refused_by_its_name() {
        for (name, wrong) in [
            ("who", json!(7)),
            ("reason", json!(["x"])),
            ("until", json!({})),
            ("power", json!(true)),
        ] {
            let mut request = json!({"override": "on for 3 h"});
            request[name] = wrong;
            let Err(Refused::Bad(why)) = read(&request, "UTC") else { panic!("{request}") };
            assert!(why.contains(name), "{why}");
        }
        assert!(read(&json!({"override": "on for 3 h", "who": null}), "UTC").is_ok());
    }
}
