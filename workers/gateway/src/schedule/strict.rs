//! Requests under `/v1` say what they mean: a field that nobody reads is a mistake, and not a no.

use std::collections::HashMap;

use schedule_executor::rows::{ResourceRow, Service};
use serde_json::Value;

use super::ops::{Done, Refused};

/// What contexts and tags have in common, as it is told too: what was read may be sent back.
const SCHEDULING: [&str; 18] = [
    "schedulingPeriod",
    "schedulingRuleStart",
    "schedulingRuleStop",
    "timeZone",
    "clockChange",
    "holidays",
    "mode",
    "readyBy",
    "dryRun",
    "dry_run",
    "isScheduled",
    "powerState",
    "lastScheduling",
    "lastByHand",
    "handAt",
    "powerByHand",
    "override",
    "leadSeconds",
];
/// What is of contexts alone.
const CONTEXT: [&str; 4] = ["contextID", "contextDesc", "stages", "resources"];
/// What is of tags alone.
const TAG: [&str; 3] = ["tagKey", "tagDesc", "tagValues"];
/// What one resource of a context can say.
pub(super) const RESOURCE: [&str; 2] = ["isScheduled", "attrib"];
/// The lists of one kind of resource.
const LISTS: [&str; 3] = ["id", "isScheduled", "attrib"];
/// What an override can say.
pub(super) const OVERRIDE: [&str; 8] =
    ["override", "power", "until", "for", "reason", "who", "dry_run", "dryRun"];
/// What an undo can say.
pub(super) const UNDO: [&str; 3] = ["bulk", "dry_run", "dryRun"];
/// What can be said to what only happens or is only tried.
pub(super) const DRY: [&str; 2] = ["dry_run", "dryRun"];

/// What the address of a request can say.
const PARAMETERS: [&str; 8] =
    ["dry_run", "dryRun", "region", "scope", "from", "to", "resource", "limit"];

/// The fields of a context.
pub(super) fn context(request: &Value) -> Done<()> {
    only(request, "a context", &[&CONTEXT[..], &SCHEDULING].concat())?;
    let Some(kinds) = request.get("resources").and_then(Value::as_object) else { return Ok(()) };
    for (kind, list) in kinds {
        if kind != "contextID" && Service::named(kind).is_none() {
            return Err(no_kind("resources", kind));
        }
        only(list, &format!("the resources of kind {kind}"), &LISTS)?;
    }
    Ok(())
}

/// The fields of a tag.
pub(super) fn tag(request: &Value) -> Done<()> {
    only(request, "a tag", &[&TAG[..], &SCHEDULING].concat())
}

/// The parameters of a request's address: `?dryrun=true` must not switch anything.
pub(super) fn parameters(query: &HashMap<String, String>) -> Done<()> {
    match query.keys().find(|name| !PARAMETERS.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let list = PARAMETERS.join("`, `");
            Err(Refused::Bad(format!("`{name}` is no parameter: there are `{list}`")))
        }
    }
}

/// Refuses every field that is none of those allowed.
pub(super) fn only(request: &Value, what: &str, allowed: &[&str]) -> Done<()> {
    let mut names = request.as_object().into_iter().flat_map(|fields| fields.keys());
    match names.find(|name| !allowed.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let list = allowed.join("`, `");
            Err(Refused::Bad(format!("`{name}` is no field of {what}, which has `{list}`")))
        }
    }
}

/// The names in the stages of a context: each is a kind, or an id that the context has, and stands in
/// one stage. A misspelt one would come last and wait for nothing.
pub(super) fn stages(stages: &[Vec<String>], resources: &ResourceRow) -> Done<()> {
    let mut seen = std::collections::HashSet::new();
    let has = |name: &String| resources.lists.iter().any(|(_, list)| list.id.contains(name));
    for name in stages.iter().flatten() {
        if name.trim().is_empty() || !seen.insert(name) {
            return Err(Refused::Bad(format!("`stages` names {name:?} twice, or nothing")));
        }
        if Service::named(name).is_none() && !has(name) {
            return Err(no_kind("stages", name));
        }
    }
    Ok(())
}

fn no_kind(field: &str, name: &str) -> Refused {
    let kinds = Service::ALL.map(Service::name).join("`, `");
    let own = match field {
        "stages" => ", and no resource of the context as that is spelled in its `resources`",
        _ => "",
    };
    Refused::Bad(format!(
        "`{field}`: {name:?} is no kind of resource{own}; the kinds are `{kinds}`"
    ))
}

#[cfg(test)]
mod tests {
    use schedule_executor::rows::{Context, Tag};
    use serde_json::json;

    use super::*;

    fn why(done: Done<()>) -> String {
        match done {
            Err(Refused::Bad(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    /// With all that a row can say.
    fn full() -> Value {
        json!({
            "schedulingRuleStart": "", "schedulingRuleStop": "", "schedulingPeriod": "daily 8:00-9:00",
            "timeZone": "UTC", "clockChange": {"gap": "skip"}, "powerState": true,
            "isScheduled": true, "lastScheduling": 1, "lastByHand": 1, "handAt": 1,
            "powerByHand": true, "mode": "keep-started", "dryRun": true, "readyBy": true,
            "leadSeconds": 1, "holidays": "x",
            "override": {"power": "ON", "from": 1, "until": 2},
        })
    }

    #[test]
    fn what_is_told_of_a_context_or_a_tag_may_be_sent_back() {
        let mut row = full();
        (row["contextID"], row["contextDesc"]) = (json!("web"), json!("d"));
        row["stages"] = json!([["rds"]]);
        let told: Context = serde_json::from_value(row).unwrap();
        context(&json!(told)).unwrap();
        let mut row = full();
        (row["tagKey"], row["tagValues"]) = (json!("env"), json!(["dev"]));
        let told: Tag = serde_json::from_value(row).unwrap();
        tag(&json!(told)).unwrap();
    }

    #[test]
    fn a_field_that_nobody_reads_is_refused_by_its_name_with_those_that_there_are() {
        let said = why(context(&json!({"schedulingPeroid": "daily 08:00-19:00"})));
        assert!(said.contains("schedulingPeroid") && said.contains("`schedulingPeriod`"), "{said}");
        let said = why(tag(&json!({"stages": []})));
        assert!(said.contains("`stages`") && said.contains("tagValues"), "{said}");
        let said = why(context(&json!({"resources": {"ec2:instance": {"id": [], "atrib": []}}})));
        assert!(said.contains("`atrib`") && said.contains("`attrib`"), "{said}");
        let said = why(context(&json!({"resources": {"ec3": []}})));
        assert!(said.contains("ec3") && said.contains("ec2:instance"), "{said}");
    }

    #[test]
    fn a_misspelt_parameter_switches_nothing() {
        let query = |name: &str| HashMap::from([(name.to_owned(), "true".to_owned())]);
        parameters(&query("dry_run")).unwrap();
        let said = why(parameters(&query("dryrun")));
        assert!(said.contains("`dryrun`") && said.contains("`dry_run`"), "{said}");
    }

    #[test]
    fn a_stage_names_kinds_and_resources_that_there_are() {
        let row = ResourceRow::from_json("web", &json!({"ec2:instance": ["i-1"]})).unwrap();
        let check =
            |names: &[&str]| stages(&[names.iter().map(|it| (*it).to_owned()).collect()], &row);
        check(&["rds", "i-1", "ecs:service"]).unwrap();
        for (names, word) in
            [(&["rds:instnace"][..], "rds:instnace"), (&["i-2"], "i-2"), (&["rds", "rds"], "twice")]
        {
            let said = why(check(names));
            assert!(said.contains(word), "{said}");
        }
    }
}
