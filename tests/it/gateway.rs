//! The gateway: every request of the original in its shape, the same as resources, and the clock.

use flotilla_tests::World;
use serde_json::{Value, json};

fn context(id: &str) -> Value {
    json!({
        "contextID": id, "contextDesc": "d", "schedulingRuleStart": "0 8 * * 1-5",
        "schedulingRuleStop": "0 19 * * 1-5", "powerState": false, "isScheduled": true,
    })
}

#[tokio::test]
async fn every_request_of_the_original_answers_in_its_shape() {
    let world = World::new().await;
    let mut gateway = world.gateway(&[]).await;
    let ok = (200, json!("Success"));

    let mut web = context("web");
    let list = r#"{"id":["i-1"],"isScheduled":[true],"attrib":[""]}"#;
    web["resources"] = json!(json!({ "ec2:instance": list }).to_string());
    assert_eq!(gateway.post("/context-register", json!({ "data": web })).await, ok);
    let get = |kind: &str, id: &str| json!({"data": {"type": kind, "contextID": id}});
    let (status, found) = gateway.post("/context-get", get("context", "web")).await;
    assert_eq!((status, &found["schedulingRuleStart"]), (200, &json!("0 8 * * 1-5")));
    assert_eq!((&found["isScheduled"], &found["lastScheduling"]), (&json!(true), &json!(0)));
    let (_, found) = gateway.post("/context-get", get("resource", "web")).await;
    assert_eq!(found, json!({"contextID": "web", "ec2:instance": list}));
    gateway.post("/context-register", json!({ "data": context("db") })).await;
    let (_, all) = gateway.post("/context-get", get("context", "restricted-all")).await;
    let ids: Vec<_> = all.as_array().unwrap().iter().map(|it| &it["contextID"]).collect();
    assert_eq!(ids, ["db", "web"]);

    let add = json!({"data": {"contextID": "web", "resource": "rds:instance", "id": "orders"}});
    assert_eq!(gateway.post("/context-resource-add", add.clone()).await, ok);
    let (_, found) = gateway.post("/context-get", get("resource", "web")).await;
    let orders = r#"{"id":["orders"],"isScheduled":[true],"attrib":[""]}"#;
    assert_eq!(found["rds:instance"], orders);
    assert_eq!(gateway.post("/context-resource-sub", add.clone()).await, ok);
    assert_eq!(gateway.post("/context-resource-sub", add).await.0, 404);
    for request in ["scheduler-stop", "scheduler-start"] {
        let answer =
            gateway.post(&format!("/context-{request}"), json!({"contextID": "web"})).await;
        assert_eq!(answer, ok, "{request}");
    }
    assert_eq!(gateway.post("/context-unregister", json!({"contextID": "web"})).await, ok);
    assert_eq!(gateway.post("/context-get", get("context", "web")).await.0, 404);

    let tag = json!({"data": {
        "tagKey": "env", "tagValues": ["dev"], "tagDesc": "d", "schedulingRuleStart": "0 8 * * *",
        "schedulingRuleStop": "0 19 * * *", "powerState": true, "isScheduled": false,
    }});
    assert_eq!(gateway.post("/tag-register", tag).await, ok);
    let value = |value: &str| json!({"data": {"tagKey": "env", "tagValue": value}});
    assert_eq!(gateway.post("/tag-value-add", value("test")).await, ok);
    assert_eq!(gateway.post("/tag-value-sub", value("dev")).await, ok);
    assert_eq!(gateway.post("/tag-scheduler-start", json!({"tagKey": "env"})).await, ok);
    let (_, found) = gateway.post("/tag-get", json!({"data": {"tagKey": "env"}})).await;
    assert_eq!((&found["tagValues"], &found["isScheduled"]), (&json!(["test"]), &json!(true)));
    assert_eq!(gateway.post("/tag-unregister", json!({"tagKey": "env"})).await, ok);
    assert_eq!(gateway.post("/tag-get", json!({"data": {"tagKey": "env"}})).await.0, 404);
    assert!(gateway.process.stop().await.success());
}

#[tokio::test]
async fn what_is_no_request_is_bad_data_and_changes_nothing() {
    let world = World::new().await;
    let mut gateway = world.gateway(&[]).await;
    let with = |field: &str, value: Value| {
        let mut data = context("web");
        data[field] = value;
        json!({ "data": data })
    };
    for bad in [
        json!({}),
        json!([]),
        json!("x"),
        json!({"data": {"contextID": "web"}}),
        with("contextID", json!("")),
        with("contextID", json!("restricted-all")),
        with("schedulingRuleStart", json!("61 * * * *")),
        with("timeZone", json!("Mars/Base")),
        with("powerState", json!("on")),
        with("resources", json!("{")),
        with("resources", json!(r#"{"ec2:instance":{"id":["a"],"isScheduled":[]},"x":1}"#)),
        with("schedulingPeriod", json!("mon-fri 08:00-19:00")),
    ] {
        let (status, body) = gateway.post("/context-register", bad.clone()).await;
        assert_eq!((status, body), (500, json!("Bad data format")), "{bad}");
    }
    assert_eq!(gateway.ask("GET", "/v1/contexts", Value::Null).await.1, json!({"contexts": []}));
    assert_eq!(
        gateway.post("/context-get", json!({"data": {"type": "x", "contextID": "w"}})).await.0,
        500
    );
    assert_eq!(gateway.post("/tag-register", json!({"data": {"tagKey": "k"}})).await.0, 500);
    assert!(gateway.process.stop().await.success());
}

#[tokio::test]
async fn contexts_and_tags_are_resources_with_a_preview() {
    let world = World::new().await;
    let mut gateway = world.gateway(&[]).await;
    let mut web = context("ignored");
    web["timeZone"] = json!("America/New_York");
    web["schedulingRuleStart"] = json!("30 2 * * *");
    web["schedulingRuleStop"] = json!("0 19 * * *");
    let (status, found) = gateway.ask("PUT", "/v1/contexts/web", web).await;
    assert_eq!((status, &found["contextID"]), (200, &json!("web")));
    let resource =
        "/v1/contexts/web/resources/ec2:instance/arn:aws:ec2:us-east-1:123456789012:instance%2Fi-1";
    assert_eq!(gateway.ask("PUT", resource, Value::Null).await.0, 204);
    let (_, found) = gateway.ask("GET", "/v1/contexts/web/resources", Value::Null).await;
    let ids = json!(["arn:aws:ec2:us-east-1:123456789012:instance/i-1"]);
    assert_eq!(found["resources"]["ec2:instance"]["id"], ids);
    assert_eq!(gateway.ask("DELETE", resource, Value::Null).await.0, 204);
    // New York has no 02:30 on 2026-03-08.
    let path = "/v1/contexts/web/preview?from=2026-03-08T05:00:00Z&to=2026-03-09T00:00:00%2B00:00";
    let (status, preview) = gateway.ask("GET", path, Value::Null).await;
    assert_eq!(status, 200, "{preview}");
    assert_eq!(preview["transitions"][0]["at"], "2026-03-08T07:00:00Z");
    assert_eq!(preview["transitions"][0]["action"], "START");
    for order in ["scheduler/stop", "scheduler/start"] {
        let path = format!("/v1/contexts/web/{order}");
        assert_eq!(gateway.ask("POST", &path, Value::Null).await.0, 204, "{order}");
    }
    assert_eq!(gateway.ask("POST", "/v1/scheduler/stop", Value::Null).await.0, 200);
    let running = gateway.ask("GET", "/v1/scheduler", Value::Null).await.1;
    assert_eq!(running["running"], false, "{running}");
    assert_eq!(
        gateway.ask("GET", "/v1/contexts", Value::Null).await.1["contexts"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    for (path, status) in [
        ("/v1/contexts/none", 404),
        ("/v1/contexts/none/preview?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z", 404),
        ("/v1/contexts/web/preview?from=soon&to=later", 400),
        ("/v1/tags/none", 404),
    ] {
        assert_eq!(gateway.ask("GET", path, Value::Null).await.0, status, "{path}");
    }
    let tag = json!({"tagValues": ["a"], "schedulingPeriod": "daily 08:00-19:00"});
    assert_eq!(gateway.ask("PUT", "/v1/tags/env", tag).await.0, 200);
    assert_eq!(gateway.ask("PUT", "/v1/tags/env/values/b", Value::Null).await.0, 204);
    let (_, found) = gateway.ask("GET", "/v1/tags/env", Value::Null).await;
    assert_eq!(found["tagValues"], json!(["a", "b"]));
    assert_eq!(gateway.ask("DELETE", "/v1/tags/env", Value::Null).await.0, 204);
    assert_eq!(gateway.ask("DELETE", "/v1/contexts/web", Value::Null).await.0, 204);
    assert!(gateway.process.stop().await.success());
}

#[tokio::test]
async fn the_clock_answers_any_origin_any_zone_and_only_so_often() {
    let world = World::new().await;
    let settings = [("FLOTILLA_TIME_RATE", "0.01"), ("FLOTILLA_TIME_BURST", "3")];
    let mut gateway = world.gateway(&settings).await;
    let preflight = gateway.head("OPTIONS", "/time").await;
    for header in ["204", "access-control-allow-origin: *", "access-control-allow-methods: get"] {
        assert!(preflight.contains(header), "{preflight}");
    }
    let (status, time) = gateway.ask("GET", "/time", Value::Null).await;
    assert_eq!((status, &time["server_time_zone"]), (200, &json!("UTC")));
    assert!(time["server_epoch_time"].is_u64() && time.as_object().unwrap().len() == 2);
    let (_, lima) = gateway.ask("GET", "/time?zone=America/Lima", Value::Null).await;
    assert_eq!(
        (&lima["utc_offset_seconds"], &lima["next_clock_change"]),
        (&json!(-18000), &Value::Null)
    );
    assert_eq!(gateway.ask("GET", "/time?zone=Mars/Base", Value::Null).await.0, 400);
    let refused = gateway.head("GET", "/time").await;
    for header in ["429", "retry-after", "access-control-allow-origin: *"] {
        assert!(refused.contains(header), "{refused}");
    }
    assert!(gateway.process.stop().await.success());
}
