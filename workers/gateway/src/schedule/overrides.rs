//! Overrides: set, told, and ended before their time, of contexts, tags and resources.

use jiff::Timestamp;
use schedule_executor::{
    arn::Target,
    rows::{self, Service},
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
        let all = self.store.overrides(Timestamp::now()).await?;
        let scope = scope.map(canonical);
        let asked = |it: &&Overridden| scope.as_ref().is_none_or(|scope| it.scope == *scope);
        let rows: Vec<Value> = all.iter().filter(asked).map(told).collect();
        Ok(json!({ "overrides": rows }))
    }

    /// Ends the override of a scope, as it is told, before its time; a dry run says whether there is
    /// one.
    pub(super) async fn end_scope(&self, scope: &str, dry_run: bool) -> Done<()> {
        let scope = canonical(scope);
        if self.store.override_of(&scope, Timestamp::now()).await?.is_none() {
            let what = "is overridden by nothing: GET /v1/overrides tells the scopes that are";
            return Err(Refused::Missing(format!("{scope:?} {what}")));
        }
        match scope.split_once('/') {
            Some(("context", id)) => {
                self.end_override(&Source::Context(id.to_owned()), dry_run).await
            }
            Some(("tag", key)) => self.end_override(&Source::Tag(key.to_owned()), dry_run).await,
            _ => self.end_key(&scope, dry_run).await,
        }
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
        Ok(json!({ "override": shown(&over), "timeZone": zone, "dryRun": dry_run }))
    }

    /// Ends an override before its time; a dry run says whether there is what it is of.
    pub(super) async fn end_override(&self, source: &Source, dry_run: bool) -> Done<()> {
        if dry_run {
            return self.scheduling(source).await.map(drop);
        }
        self.write_override(source, &json!({ "override": null })).await?;
        self.look_now(false).await
    }

    async fn write_override(&self, source: &Source, fields: &Value) -> Done<()> {
        let found = match source {
            Source::Context(id) if id == rows::ALL => false,
            Source::Context(id) => self.store.set_context(id, fields).await?,
            Source::Tag(key) => self.store.set_tag(key, fields).await?,
        };
        found.then_some(()).ok_or_else(|| source.missing())
    }

    /// What is known of a resource: its override, and what was done last.
    pub(super) async fn known(
        &self,
        service: Done<Service>,
        id: &str,
        region: Option<&String>,
    ) -> Done<Value> {
        let key = self.target(service?, id, region)?.key();
        let held = self.store.held(std::slice::from_ref(&key)).await?.remove(&key);
        let held = held.ok_or_else(|| Refused::Missing(format!("nothing is known of {key}")))?;
        Ok(json!(held))
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
        Ok(json!({ "resource": key, "override": over, "timeZone": zone, "dryRun": dry_run }))
    }

    /// Ends the override of one resource before its time.
    pub(super) async fn end_resource_override(&self, target: Target, dry_run: bool) -> Done<()> {
        self.end_key(&target.key(), dry_run).await
    }

    async fn end_key(&self, key: &str, dry_run: bool) -> Done<()> {
        if dry_run {
            return Ok(());
        }
        self.store.hold(key, &json!({ "override": null })).await?;
        self.look_now(false).await
    }

    /// The resource of an id or ARN, in a region where one is named.
    pub(super) fn target(
        &self,
        service: Service,
        id: &str,
        region: Option<&String>,
    ) -> Done<Target> {
        let home = region.map(|region| self.home.in_region(region));
        let target = home.as_ref().unwrap_or(&self.home).target(service, id);
        let target = target.map_err(Refused::Bad)?;
        self.home.reaches(&target).map_err(Refused::Bad)?;
        Ok(target)
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

/// A scope with the whole name of its kind: `ec2/eu-west-1/i-1` is `ec2:instance/eu-west-1/i-1`.
fn canonical(scope: &str) -> String {
    let named = scope.split_once('/').and_then(|(kind, rest)| Some((Service::named(kind)?, rest)));
    named.map_or_else(|| scope.to_owned(), |(kind, rest)| format!("{}/{rest}", kind.name()))
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
    fn a_scope_is_told_and_asked_for_by_the_same_name() {
        assert_eq!(canonical("ec2/eu-west-1/i-1"), "ec2:instance/eu-west-1/i-1");
        assert_eq!(canonical("context/web"), "context/web");
    }
}
