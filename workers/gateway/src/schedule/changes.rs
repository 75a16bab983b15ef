//! The scheduler's settings, undo, and the reasons in the audit.

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use jiff::Timestamp;
use schedule_executor::{
    arn::{Arn, Home},
    rows::{self, Service, Settings},
};
use serde_json::{Map, Value, json};

use super::{
    Schedules,
    ops::{Done, Refused},
    strict, tried,
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

    /// Changes what the request names of them; a dry run tells what they would be.
    pub(super) async fn change_settings(&self, request: &Value, dry: bool) -> Done<Value> {
        let mut fields = Map::new();
        let names = request.as_object().into_iter().flatten();
        for (name, value) in names.filter(|(name, _)| !strict::DRY.contains(&name.as_str())) {
            let (name, value) = match name.as_str() {
                "prices" => ("prices", prices(&self.home, value)?),
                _ => setting(name, value)?,
            };
            fields.insert(name.to_owned(), value);
        }
        if fields.is_empty() {
            let what = "name what to change: `running`, `tickSeconds`, `neverTouch` or `prices`";
            return Err(bad(what));
        }
        if dry {
            let settings = tried::changed(&self.store.settings().await?, fields)?;
            return Ok(tried::would_be(told(&settings)));
        }
        self.store.set_settings(&Value::Object(fields)).await?;
        self.settings().await
    }

    /// Has the scheduler look now, whatever period is set.
    pub(super) async fn look_now(&self, dry_run: bool) -> Done<()> {
        self.send(&forced(Timestamp::now(), dry_run)).await
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

    /// A bulk action that the audit knows, or that was just asked for: of another nothing can be
    /// undone.
    async fn known_bulk(&self, bulk: &str) -> Done<String> {
        let told = self.reasons(Some(&format!("bulk/{bulk}")), 1).await?;
        let none = || Refused::Missing(format!("the audit knows of no bulk action {bulk:?}"));
        let known = told["rows"].as_array().is_some_and(|rows| !rows.is_empty())
            || self.store.asked(bulk, Timestamp::now()).await?.is_some();
        known.then(|| bulk.to_owned()).ok_or_else(none)
    }

    /// Why something was done to a resource, or a context left alone: the newest rows first.
    pub(super) async fn reasons(&self, resource: Option<&str>, limit: i32) -> Done<Value> {
        let resource = resource.filter(|it| !it.is_empty()).ok_or_else(|| {
            bad("`resource` must name one, such as ec2:instance/eu-west-1/i-1 or context/web")
        })?;
        // As it is written there, however it is spelled here; other names are those of the audit alone.
        let resource =
            &self.home.scope(resource).map_or_else(|_| resource.to_owned(), |it| it.name());
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

/// A tick that counts whatever period is set. Its time names it, so it is that of a moment and not of a
/// whole second: what two requests of one second change are two things to be done.
fn forced(now: Timestamp, dry_run: bool) -> Value {
    let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or_default();
    json!({ "time": now, "forced": true, "dry_run": dry_run })
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
        _ => {
            let known = "`running`, `tickSeconds`, `neverTouch` and `prices`";
            return Err(bad(&format!(
                "`{name}` is no setting of the scheduler, which has {known}"
            )));
        }
    };
    let (field, value, what) = row;
    Ok((field, value.ok_or_else(|| wrong(what))?))
}

/// A price list, by the names that prices are looked up by.
fn prices(home: &Home, value: &Value) -> Done<Value> {
    let price = |it: &Value| it.as_f64().filter(|it| (0.0..=1e6).contains(it)).map(|it| it + 0.0);
    let list = value.as_object().filter(|it| it.len() <= ENTRIES);
    let wrong = || bad("`prices` must be dollars an hour by id, key or kind");
    let mut found = Map::new();
    for (name, value) in list.ok_or_else(wrong)? {
        found.insert(priced(home, name)?, json!(price(value).ok_or_else(wrong)?));
    }
    Ok(Value::Object(found))
}

/// The kind, the key or the id that a price is of.
fn priced(home: &Home, name: &str) -> Done<String> {
    let kind = name.split('/').next().unwrap_or_default();
    let known = Service::named(kind);
    if let Some(service) = known.filter(|_| kind == name) {
        return Ok(service.name().to_owned());
    }
    if let Some(service) = Arn::parse(name).and_then(|arn| arn.service()) {
        let target = home.resource(service, name, None).map_err(Refused::Bad)?;
        return Ok(target.key());
    }
    match known {
        Some(_) => home.scope(name).map(|it| it.name()).map_err(Refused::Bad),
        // An id has no colon, and a kind has one.
        None if name.trim().is_empty() || kind.contains(':') => {
            let kinds = Service::ALL.map(Service::name).join(", ");
            Err(bad(&format!("`prices`: {name:?} is of no kind: the kinds are {kinds}")))
        }
        None => Ok(name.to_owned()),
    }
}

pub(super) fn bad(why: &str) -> Refused {
    Refused::Bad(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_changes_of_one_second_are_looked_at_under_two_names() {
        let time = |ms: i64| {
            let now = Timestamp::from_millisecond(1_780_000_000_000 + ms).unwrap();
            forced(now, false)["time"].clone()
        };
        assert_ne!(time(100), time(101));
        assert_eq!(time(250), "2026-05-28T20:26:40.25Z");
    }

    #[test]
    fn a_price_is_of_a_kind_a_key_or_an_id_and_of_nothing_else() {
        let home = Home { account: "123456789012".to_owned(), region: "eu-west-1".to_owned() };
        let read = |name: &str| prices(&home, &json!({ name: 0.1 }));
        for (said, kept) in [
            ("ec2", "ec2:instance"),
            ("rds:instance", "rds:instance"),
            ("i-1", "i-1"),
            ("rds/eu-west-1/Orders", "rds:instance/eu-west-1/orders"),
            ("arn:aws:rds:us-east-1:123456789012:db:Orders", "rds:instance/us-east-1/orders"),
        ] {
            assert_eq!(read(said).unwrap(), json!({ kept: 0.1 }), "{said}");
        }
        for bad in ["", "ec3:instance", "ec2:instnace/eu-west-1/i-1", "arn:aws:s3:::bucket"] {
            assert!(matches!(read(bad), Err(Refused::Bad(_))), "{bad}");
        }
        assert_eq!(prices(&home, &json!({"i": -0.0})).unwrap().to_string(), r#"{"i":0.0}"#);
    }
}
