//! What requests and orders say: taken as it is meant, or refused with what is wrong and what there is;
//! and what can be read of overrides and tags.

use flotilla_tests::FakeEc2;
use serde_json::{Value, json};

use crate::schedule::{HOME, Town, find};

async fn refused(town: &Town, path: &str, body: Value, words: &[&str]) {
    let (status, answer) = town.gateway.ask("PUT", path, body.clone()).await;
    let why = answer["error"].as_str().unwrap_or_default();
    assert!(status == 400 && words.iter().all(|word| why.contains(word)), "{body}: {answer}");
}

#[tokio::test]
async fn unknown_fields_and_misspelt_stages_are_refused_by_name_with_what_is_allowed() {
    let town = Town::new().await;
    let on = "daily 08:00-19:00";
    let web = "/v1/contexts/web";
    for (path, body, words) in [
        (web, json!({"schedulingPeroid": on}), ["schedulingPeroid", "`schedulingPeriod`"]),
        (
            web,
            json!({"schedulingPeriod": on, "stages": [["rds:instnace"]]}),
            ["rds:instnace", "`rds:instance`"],
        ),
        (web, json!({"schedulingPeriod": on, "stages": [["i-1"]]}), ["i-1", "`resources`"]),
        (
            web,
            json!({"schedulingPeriod": on, "resources": {"ec3": ["i-1"]}}),
            ["ec3", "`ec2:instance`"],
        ),
        (
            web,
            json!({"schedulingPeriod": on, "resources": {"ec2": ["arn:aws:ec2:mars-1:1:instance/i"]}}),
            ["mars-1", "no region"],
        ),
        (
            "/v1/tags/env",
            json!({"schedulingPeriod": on, "tagValue": []}),
            ["tagValue", "`tagValues`"],
        ),
        ("/v1/scheduler", json!({"tickSecond": 60}), ["tickSecond", "`tickSeconds`"]),
        (
            "/v1/overrides/ec2/i-1",
            json!({"override": "on for 1 h", "zone": "UTC"}),
            ["zone", "timeZone"],
        ),
    ] {
        refused(&town, path, body, &words).await;
    }
    assert_eq!(town.gateway.ask("GET", web, Value::Null).await.0, 404, "nothing was registered");
    // What was read may be sent back, and a stage may name what is among the resources.
    let body = json!({
        "schedulingPeriod": on, "stages": [["rds"], ["i-1"]], "resources": {"ec2:instance": ["i-1"]},
    });
    assert_eq!(town.gateway.ask("PUT", web, body).await.0, 200);
    let (_, told) = town.gateway.ask("GET", web, Value::Null).await;
    assert_eq!((&told["timeZone"], &told["stages"]), (&json!("UTC"), &json!([["rds"], ["i-1"]])));
    assert_eq!(town.gateway.ask("PUT", web, told).await.0, 200);
    // Nor is anything done for who misspells that it is only to be tried.
    let (status, told) =
        town.gateway.ask("POST", &format!("{web}/power/off?dryrun=true"), Value::Null).await;
    assert!(status == 400 && told["error"].as_str().unwrap().contains("`dry_run`"), "{told}");
    for (path, words) in [
        ("preview?from=tomorrow", ["`from`", "2026-06-01T08:00"]),
        ("preview?from=2026-06-02&to=2026-06-01", ["`from`", "earlier"]),
    ] {
        let (status, told) = town.gateway.ask("GET", &format!("{web}/{path}"), Value::Null).await;
        let why = told["error"].as_str().unwrap();
        assert!(status == 400 && words.iter().all(|word| why.contains(word)), "{told}");
    }
    town.end().await;
}

#[tokio::test]
async fn a_region_that_cannot_be_is_refused_for_good_and_one_of_the_future_is_not() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    let order = |region: &str| json!({"action": "STOP", "service": "ec2", "ids": ["i-0000"], "region": region});
    town.world.schedule(order("mars-1")).await;
    town.world.schedule(order("eu-centra-1x")).await;
    let letters = &town.world.outputs().schedule_dead_letter_queue_url;
    let letters = town.world.dead_letters_on(letters, 2).await;
    assert!(letters.iter().all(|it| it.why.to_string().contains("no region")));
    let arn = "arn:aws:ec2:mars-1:123456789012:instance/i-0000";
    town.world.schedule(json!({"action": "STOP", "service": "ec2", "ids": [arn]})).await;
    town.world.until_scheduled().await;
    let rows = town.world.audit("ec2:instance/mars-1/i-0000").await;
    assert!(find(&rows, "skipped", "no_region")["reason"].contains("mars-1"));
    assert_eq!(ec2.count("running"), 1);
    town.world.schedule(order("xx-newplace-1")).await;
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("stopped"), 1);
    town.end().await;
}

#[tokio::test]
async fn overrides_are_listed_with_who_and_until_when_and_each_can_be_ended() {
    let town = Town::new().await;
    let off = json!({"schedulingRuleStop": "* * * * *", "timeZone": "Asia/Kathmandu",
        "resources": {"ec2:instance": ["i-1"]}});
    assert_eq!(town.gateway.ask("PUT", "/v1/contexts/web", off).await.0, 200);
    let tag = json!({"tagValues": ["dev"], "schedulingRuleStop": "* * * * *"});
    assert_eq!(town.gateway.ask("PUT", "/v1/tags/env", tag).await.0, 200);
    for (path, power) in
        [("contexts/web/override", "on"), ("tags/env/override", "off"), ("overrides/ec2/i-1", "on")]
    {
        let body = json!({"power": power, "for": "2 h", "reason": "a demo", "who": "anna"});
        assert_eq!(town.gateway.ask("PUT", &format!("/v1/{path}"), body).await.0, 200, "{path}");
    }
    let list = async || {
        let (status, told) = town.gateway.ask("GET", "/v1/overrides", Value::Null).await;
        assert_eq!(status, 200, "{told}");
        told["overrides"].as_array().unwrap().clone()
    };
    let scopes = |rows: &[Value]| {
        rows.iter().map(|row| row["scope"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let rows = list().await;
    let key = format!("ec2:instance/{HOME}/i-1");
    assert_eq!(scopes(&rows), ["context/web", key.as_str(), "tag/env"]);
    assert_eq!((&rows[2]["state"], &rows[0]["who"]), (&json!("OFF"), &json!("anna")));
    assert!(rows.iter().all(|row| row["until"].is_string() && row["reason"] == "a demo"));
    let (code, said) = town.world.flotilla(&["schedule", "override", "--list"]).await;
    assert!(
        code == 0 && ["context/web", "tag/env", &key, "anna"].iter().all(|it| said.contains(it)),
        "{said}"
    );
    // By its scope, in the path or the query, and by the id of a resource.
    let end = async |path: &str| town.gateway.ask("DELETE", path, Value::Null).await.0;
    assert_eq!(end(&format!("/v1/overrides/{key}?dry_run=true")).await, 204);
    assert_eq!(list().await.len(), 3, "that was only tried");
    assert_eq!(end(&format!("/v1/overrides/{key}")).await, 204);
    assert_eq!(scopes(&list().await), ["context/web", "tag/env"]);
    assert_eq!(end("/v1/overrides/context/web").await, 204);
    assert_eq!(end("/v1/overrides?scope=tag/env").await, 204);
    assert!(list().await.is_empty());
    assert_eq!(end("/v1/overrides?scope=tag/env").await, 404);
    assert_eq!(end("/v1/overrides/context/web").await, 404);
    // A time of day of a resource is on the clock of the context that has it, by command as by request.
    let on = ["schedule", "override", "--resource", &key, "on", "until", "22:00"];
    let (code, said) = town.world.flotilla(&on).await;
    assert!(code == 0 && said.contains("T16:15:00Z"), "{said}");
    let over = ["schedule", "override", "--resource", &key, "--end"];
    assert_eq!(town.world.flotilla(&over).await.0, 0);
    let (code, said) = town.world.flotilla(&over).await;
    assert!(code == 1 && said.contains("--list"), "{said}");
    town.world.until_scheduled().await;
    town.end().await;
}

#[tokio::test]
async fn an_override_tells_who_acts_on_it_or_why_nobody_does() {
    let town = Town::new().await;
    let web = json!({"schedulingPeriod": "daily 08:00-19:00",
        "resources": {"ec2:instance": {"id": ["i-1", "i-2"], "isScheduled": [true, false]}}});
    assert_eq!(town.gateway.ask("PUT", "/v1/contexts/web", web).await.0, 200);
    let over = async |path: &str| {
        let path = format!("/v1/{path}?dry_run=true");
        let (status, told) =
            town.gateway.ask("PUT", &path, json!({"override": "on for 2 h"})).await;
        assert_eq!(status, 200, "{told}");
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        (text("switchedBy"), text("why"))
    };
    assert_eq!(over("overrides/ec2/i-1").await, ("context/web".to_owned(), String::new()));
    assert_eq!(over("contexts/web/override").await.0, "context/web");
    for (path, word) in [("overrides/ec2/i-2", "taken out"), ("overrides/ec2/i-3", "no context")] {
        let (by, why) = over(path).await;
        assert!(by.is_empty() && why.contains(word), "{path}: {why}");
    }
    let stop = "/v1/contexts/web/scheduler/stop";
    assert_eq!(town.gateway.ask("POST", stop, Value::Null).await.0, 204);
    for path in ["overrides/ec2/i-1", "contexts/web/override"] {
        let (by, why) = over(path).await;
        assert!(by.is_empty() && why.contains("scheduler is stopped"), "{path}: {why}");
    }
    town.end().await;
}

#[tokio::test]
async fn a_tag_tells_its_resources_and_what_it_saves_of_those_that_go_by_it() {
    let town = Town::new().await;
    let (one, two) = (town.moto.instance(HOME, "dev").await, town.moto.instance(HOME, "dev").await);
    town.context("web", json!({"ec2:instance": [one]})).await;
    let tag = json!({"tagValues": ["dev"], "schedulingPeriod": "daily 08:00-20:00"});
    assert_eq!(town.gateway.ask("PUT", "/v1/tags/env", tag).await.0, 200);
    let ask = async |path: &str| {
        let (status, told) = town.gateway.ask("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {told}");
        told
    };
    assert_eq!(
        ask("/v1/tags/env/resources").await["foundAt"],
        Value::Null,
        "nobody has looked yet"
    );
    town.world.tick("2026-06-01T12:00:00Z").await;
    let told = ask("/v1/tags/env/resources").await;
    assert_eq!(told["foundAt"], "2026-06-01T12:00:00Z", "{told}");
    let ids = told["resources"]["ec2:instance"]["id"].as_array().unwrap();
    assert!([&one, &two].iter().all(|id| ids.iter().any(|it| it.as_str().unwrap().ends_with(*id))));
    let prices = json!({"prices": {"ec2:instance": 0.10}});
    assert_eq!(town.gateway.ask("PUT", "/v1/scheduler", prices).await.0, 200);
    // Twelve hours a day, of the one that does not go by its context.
    let span = "from=2026-06-01&to=2026-06-11";
    let saved = ask(&format!("/v1/tags/env/savings?{span}")).await;
    assert_eq!(
        (&saved["tagKey"], &saved["hoursAvoided"]),
        (&json!("env"), &json!(120.0)),
        "{saved}"
    );
    assert_eq!(saved["money"], json!(12.0));
    let all = ask(&format!("/v1/savings?{span}")).await;
    assert_eq!(all["tags"][0]["hoursAvoided"], json!(120.0), "{all}");
    assert_eq!(town.gateway.ask("GET", "/v1/tags/none/savings", Value::Null).await.0, 404);
    town.end().await;
}
