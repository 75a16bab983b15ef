//! The scheduler's settings, overrides, undo, and the reasons in the audit.

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use jiff::Timestamp;
use schedule_executor::{
    arn::Target,
    rows::{self, ResourceRow, Service, Settings},
    schedule::{Override, zone},
};
use serde_json::{Map, Value, json};

use super::{
    Schedules,
    ops::{Done, Refused, Source, words},
};

/// The shortest and the longest period of the tick, in seconds.
const PERIODS: std::ops::RangeInclusive<i64> = 1..=86_400;
/// The longest list of what is never touched, and the longest price list.
const ENTRIES: usize = 1_000;
/// The longest key of DynamoDB.
const LONGEST_KEY: usize = 2048;
/// The most rows of the audit in an answer.
const ROWS: i32 = 1_000;

impl Schedules {
    /// The settings of the scheduler as a whole.
    pub(super) async fn settings(&self) -> Done<Value> {
        Ok(told(&self.store.settings().await?))
    }

    /// Changes what the request names of them.
    pub(super) async fn change_settings(&self, request: &Value) -> Done<Value> {
        let request = request.as_object().filter(|fields| !fields.is_empty());
        let request = request.ok_or_else(|| {
            bad("name what to change: `running`, `tickSeconds`, `neverTouch` or `prices`")
        })?;
        let mut fields = Map::new();
        for (name, value) in request {
            let (name, value) = setting(name, value)?;
            fields.insert(name.to_owned(), value);
        }
        self.store.set_settings(&Value::Object(fields)).await?;
        self.settings().await
    }

    /// Has the scheduler look now, whatever period is set.
    pub(super) async fn look_now(&self, dry_run: bool) -> Done<()> {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        self.send(&json!({ "time": now, "forced": true, "dry_run": dry_run })).await
    }

    /// Undoes a bulk action, the last one by default; gives its name.
    pub(super) async fn undo(&self, bulk: Option<&str>, dry_run: bool) -> Done<String> {
        let bulk = match bulk {
            Some(bulk) => Some(self.known_bulk(bulk).await?),
            None => self.store.last_bulk(Timestamp::now()).await?,
        };
        let bulk = bulk.ok_or_else(|| Refused::Missing("nothing was done yet".to_owned()))?;
        self.send(&json!({ "action": "UNDO", "bulk": bulk, "dry_run": dry_run })).await?;
        Ok(bulk)
    }

    /// A bulk action that the audit knows: of another nothing can be undone.
    async fn known_bulk(&self, bulk: &str) -> Done<String> {
        let told = self.reasons(Some(&format!("bulk/{bulk}")), 1).await?;
        let none = || Refused::Missing(format!("the audit knows of no bulk action {bulk:?}"));
        let known = told["rows"].as_array().is_some_and(|rows| !rows.is_empty());
        known.then(|| bulk.to_owned()).ok_or_else(none)
    }

    /// Overrides a context or tag: `{"override": "on until 22:00", "reason"?}`, on the clock of its
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
            "" => self.zone_of(&target).await?,
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
        if dry_run {
            return Ok(());
        }
        self.store.hold(&target.key(), &json!({ "override": null })).await?;
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
        target.map_err(Refused::Bad)
    }

    /// The zone of the first context that has a resource, which is the one that it goes by; UTC where
    /// none has it.
    async fn zone_of(&self, target: &Target) -> Done<String> {
        let is_it = |service: Service, id: &String| {
            self.home.target(service, id).is_ok_and(|found| found == *target)
        };
        let has = |row: &Value| {
            let context = row.get("contextID")?.as_str()?;
            let lists = ResourceRow::from_json(context, row)?.lists;
            let found =
                lists.iter().any(|(service, list)| list.id.iter().any(|id| is_it(*service, id)));
            found.then(|| context.to_owned())
        };
        let rows = self.store.all_resources().await?;
        let context = match rows.iter().filter_map(has).min() {
            Some(id) => self.store.context(&id).await?,
            None => None,
        };
        Ok(context.map_or_else(|| "UTC".to_owned(), |context| context.scheduling.zone))
    }

    /// Why something was done to a resource, or a context left alone: the newest rows first.
    pub(super) async fn reasons(&self, resource: Option<&str>, limit: i32) -> Done<Value> {
        let resource = resource.filter(|it| !it.is_empty()).ok_or_else(|| {
            bad("`resource` must name one, such as ec2:instance/eu-west-1/i-1 or context/web")
        })?;
        let call = self.store.parts().0.query().table_name(&self.audit);
        let call = call.key_condition_expression("#r = :r").scan_index_forward(false);
        let call = call.expression_attribute_names("#r", "resource").limit(limit.clamp(1, ROWS));
        let call = call.expression_attribute_values(":r", Attr::S(resource.to_owned()));
        if resource.len() > LONGEST_KEY {
            return Err(bad(&format!("`resource` has {LONGEST_KEY} bytes at most")));
        }
        let answer = call.send().await.map_err(|e| {
            let why = flotilla_runtime::failure::chain(&e);
            Refused::Down(format!("asking the audit table {}: {why}", self.audit))
        })?;
        let rows: Vec<Value> = answer.items().iter().map(rows::json).collect();
        Ok(json!({ "resource": resource, "rows": rows }))
    }
}

fn told(settings: &Settings) -> Value {
    let Settings { running, period, never, prices, .. } = settings;
    json!({ "running": running, "tickSeconds": period, "neverTouch": never, "prices": prices })
}

/// A setting by its name in a row, if the value fits.
fn setting(name: &str, value: &Value) -> Done<(&'static str, Value)> {
    let wrong = |what: &str| bad(&format!("`{name}` must be {what}"));
    let row = match name {
        "running" => ("isScheduled", value.is_boolean().then(|| value.clone()), "true or false"),
        "tickSeconds" => {
            let fits = value.is_null() || value.as_i64().is_some_and(|it| PERIODS.contains(&it));
            ("tickSeconds", fits.then(|| value.clone()), "a whole number from 1 to 86400, or null")
        }
        "neverTouch" => {
            let entry = |it: &Value| it.as_str().is_some_and(|text| !text.trim().is_empty());
            let list = value.as_array().filter(|it| it.len() <= ENTRIES && it.iter().all(entry));
            ("neverTouch", list.map(|it| json!(it)), "a list of up to 1000 ids, ARNs or keys")
        }
        "prices" => {
            let price = |it: &Value| it.as_f64().is_some_and(|it| (0.0..=1e6).contains(&it));
            let list = value.as_object().filter(|it| it.len() <= ENTRIES && it.values().all(price));
            ("prices", list.map(|it| json!(it)), "dollars an hour by id, key or kind")
        }
        _ => return Err(bad(&format!("there is no setting {name:?}"))),
    };
    let (field, value, what) = row;
    Ok((field, value.ok_or_else(|| wrong(what))?))
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
    over.reason = part("reason").unwrap_or_default().chars().take(500).collect();
    Ok(over)
}

fn shown(over: &Override) -> Value {
    let at = |second| Timestamp::from_second(second).ok();
    let (from, until) = (at(over.from), at(over.until));
    json!({ "power": over.power, "from": from, "until": until, "reason": over.reason })
}

fn bad(why: &str) -> Refused {
    Refused::Bad(why.to_owned())
}
