//! Requests under `/v1` say what they mean: a field that nobody reads is a mistake, and not a no.

use std::collections::HashMap;

use schedule_executor::{
    message,
    rows::{ResourceRow, Service, attrib},
};
use serde_json::{Value, json};

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
pub(super) const RESOURCE: [&str; 4] = ["isScheduled", "attrib", "dry_run", "dryRun"];
/// The lists of one kind of resource.
const LISTS: [&str; 3] = ["id", "isScheduled", "attrib"];
/// What an override can say.
pub(super) const OVERRIDE: [&str; 8] =
    ["override", "power", "until", "for", "reason", "who", "dry_run", "dryRun"];
/// What an undo can say.
pub(super) const UNDO: [&str; 3] = ["bulk", "dry_run", "dryRun"];
/// What can be said to what only happens or is only tried.
pub(super) const DRY: [&str; 2] = ["dry_run", "dryRun"];

/// What the address of a request under `/v1` can say, beside that it is a dry run.
fn parameters_of(path: &str) -> &'static [&'static str] {
    match below_v1(path).as_slice() {
        ["contexts" | "tags", _, "preview" | "savings"] | ["savings"] => &["from", "to"],
        ["overrides"] => &["scope"],
        ["overrides", ..] => &["region"],
        ["audit"] => &["resource", "limit"],
        _ => &[],
    }
}

/// The parts of a path below `/v1`; none of another.
fn below_v1(path: &str) -> Vec<&str> {
    path.strip_prefix("/v1/").map(|rest| rest.split('/').collect()).unwrap_or_default()
}

/// What the address says; a parameter that it says twice is refused, for which of them counts?
pub(super) fn once(pairs: Vec<(String, String)>) -> Done<HashMap<String, String>> {
    let mut query = HashMap::new();
    for (name, value) in pairs {
        if query.insert(name.clone(), value).is_some() {
            return Err(Refused::Bad(format!("`{name}` is there twice: say it once")));
        }
    }
    Ok(query)
}

/// The fields of a context.
pub(super) fn context(request: &Value) -> Done<()> {
    only(request, "a context", &[&CONTEXT[..], &SCHEDULING].concat())?;
    let kinds = match request.get("resources") {
        Some(Value::Object(kinds)) => kinds,
        None | Some(Value::Null | Value::Array(_)) => return Ok(()),
        Some(_) => return Err(no_list("resources")),
    };
    for (kind, list) in kinds.iter().filter(|(kind, _)| *kind != "contextID") {
        let service = Service::named(kind).ok_or_else(|| no_kind("resources", kind))?;
        if !list.is_array() && !list.is_object() {
            return Err(no_list(kind));
        }
        only(list, &format!("the resources of kind {kind}"), &LISTS)?;
        for words in list["attrib"].as_array().into_iter().flatten() {
            let words = words.as_str().unwrap_or_default();
            attrib::check(service, words).map_err(Refused::Bad)?;
        }
    }
    Ok(())
}

fn no_list(field: &str) -> Refused {
    let forms = "a list of ids or ARNs, or an object of lists";
    Refused::Bad(format!("`{field}` must be {forms}, and not its text"))
}

/// The fields of a tag.
pub(super) fn tag(request: &Value) -> Done<()> {
    only(request, "a tag", &[&TAG[..], &SCHEDULING].concat())
}

/// The parameters of a request's address: `?dryrun=true` must not switch anything. The requests of
/// the original have no list of them, but that word is not misspelt there either.
pub(super) fn parameters(path: &str, asks: bool, query: &HashMap<String, String>) -> Done<()> {
    let (own, dry) = (parameters_of(path), if asks { &[][..] } else { &DRY[..] });
    let known = [own, dry].concat();
    if !path.starts_with("/v1/") {
        return message::misspelt(&json!(query)).map_err(Refused::Bad);
    }
    match query.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) if known.is_empty() => {
            Err(Refused::Bad(format!("`{name}` is no parameter of {path}, which has none")))
        }
        Some(name) => {
            let list = known.join("`, `");
            Err(Refused::Bad(format!("`{name}` is no parameter of {path}, which has `{list}`")))
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
    if stages.iter().any(Vec::is_empty) {
        return Err(Refused::Bad("a stage of `stages` is empty: leave it out".to_owned()));
    }
    for name in stages.iter().flatten() {
        let kind = Service::named(name);
        if name.trim().is_empty() || !seen.insert(kind.map_or(name.as_str(), |it| it.name())) {
            return Err(Refused::Bad(format!("`stages` names {name:?} twice, or nothing")));
        }
        if kind.is_none() && !has(name) {
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
    use super::*;
    use schedule_executor::rows::{Context, Tag};

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
        let path = "/v1/contexts/web/power/off";
        parameters(path, false, &query("dry_run")).unwrap();
        let said = why(parameters(path, false, &query("dryrun")));
        assert!(said.contains("`dryrun`") && said.contains("`dry_run`"), "{said}");
    }

    #[test]
    fn a_parameter_is_refused_where_its_request_does_not_read_it() {
        let query = |name: &str| HashMap::from([(name.to_owned(), "x".to_owned())]);
        for (path, asks, name, known) in [
            ("/v1/overrides/ec2/i-1", false, "region", true),
            ("/v1/overrides/ec2/i-1", true, "region", true),
            ("/v1/overrides", false, "scope", true),
            ("/v1/audit", true, "limit", true),
            ("/v1/contexts/web/preview", true, "from", true),
            ("/context-get", false, "region", true),
            ("/v1/overrides", true, "region", false),
            ("/v1/contexts/web/resources/ec2/i-1", false, "region", false),
            ("/v1/contexts/preview", true, "from", false),
            ("/v1/undo", false, "scope", false),
            ("/v1/contexts", true, "limit", false),
            ("/context-unregister", false, "dryrun", false),
        ] {
            assert_eq!(parameters(path, asks, &query(name)).is_ok(), known, "{path}?{name}");
        }
    }

    #[test]
    fn a_parameter_that_is_there_twice_is_refused() {
        let pair = |value: &str| ("dry_run".to_owned(), value.to_owned());
        assert_eq!(once(vec![pair("true")]).unwrap()["dry_run"], "true");
        let said = why(once(vec![pair("true"), pair("false")]).map(drop));
        assert!(said.contains("`dry_run`") && said.contains("twice"), "{said}");
    }

    #[test]
    fn resources_as_the_text_of_their_json_do_not_pass_by_the_rules() {
        for resources in [json!("[]"), json!({"ec2": "{\"idd\": []}"}), json!(7)] {
            let said = why(context(&json!({ "resources": resources })));
            assert!(said.contains("not its text"), "{said}");
        }
        let words = json!({"ec2": {"id": ["i-1"], "attrib": ["hibernte"]}});
        assert!(why(context(&json!({ "resources": words }))).contains("hibernte"));
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
        assert!(why(check(&["rds", "rds:instance"])).contains("twice"), "one kind has two names");
        assert!(why(check(&[])).contains("empty"));
    }
}
