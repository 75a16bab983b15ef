//! Groups of builds, and what is said of where an artifact comes from.

use std::{collections::HashMap, process::Stdio, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_tests::{Farm, eventually};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

fn lines(body: &str) -> Vec<Value> {
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Has a queue hear what the topic of groups is told.
async fn listen(farm: &Farm) -> String {
    let aws = &farm.world.aws;
    let name = format!("{}-heard", farm.world.stack().name());
    let made = aws.sqs.create_queue().queue_name(&name).send().await.unwrap();
    let url = made.queue_url.unwrap();
    let topic = &farm.world.outputs().groups_topic_arn;
    let arn = topic.replace(":sns:", ":sqs:");
    let arn = format!("{}:{name}", arn.rsplit_once(':').unwrap().0);
    let call = aws.sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(arn);
    call.send().await.unwrap();
    url
}

async fn heard(farm: &Farm, url: &str) -> Value {
    eventually("an event", Duration::from_secs(30), async || {
        let call = farm.world.aws.sqs.receive_message().queue_url(url).wait_time_seconds(2);
        let messages = call.send().await.unwrap().messages.unwrap_or_default();
        let body = messages.first()?.body()?.to_owned();
        let envelope: Value = serde_json::from_str(&body).unwrap();
        serde_json::from_str(envelope["Message"].as_str()?).ok()
    })
    .await
}

#[tokio::test]
async fn a_group_is_told_as_each_ends_and_durably_when_all_have() {
    let farm = Farm::new().await;
    let queue = listen(&farm).await;
    farm.pure("one", "1.0");
    farm.pure("one", "2.0");
    farm.pure("two", "1.0");
    farm.broken("bad", "raise SystemExit('error: no such thing')\n");
    let asked = json!({
        "requirements": ["one<2", "Two", "bad==1.0", "nobody>=1", "one @ https://x.test/one.whl"],
        "options": "opt=3",
    });
    let answer = farm.gateway.ask("POST", "/v1/groups", &[], &asked.to_string()).await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines = lines(&answer.body);
    assert_eq!(lines.len(), 7, "{lines:?}");
    let group = lines[0]["group"].as_str().unwrap();
    let of = |text: &str| lines.iter().find(|line| line["requirement"] == text).unwrap();
    assert_eq!((&of("one<2")["state"], &of("one<2")["version"]), (&json!("done"), &json!("1.0")));
    let url = of("Two")["url"].as_str().unwrap().split_once("/v1/").expect("an address here").1;
    let sent = farm.gateway.ask("GET", &format!("/v1/{url}"), &[], "").await;
    assert!(sent.header("location").is_some_and(|it| it.contains("/blobs/sha256/")), "{sent:?}");
    assert!(of("bad==1.0")["reason"].as_str().unwrap().contains("no such thing"));
    assert_eq!(
        (&of("bad==1.0")["state"], &of("nobody>=1")["state"]),
        (&json!("failed"), &json!("refused"))
    );
    assert!(of("one @ https://x.test/one.whl")["reason"].as_str().unwrap().contains("URL"));
    let event = heard(&farm, &queue).await;
    assert_eq!((&event["group"], &event["state"]), (&json!(group), &json!("complete")));
    assert_eq!(event["counts"], json!({"done": 2, "failed": 1}));
    let (status, told) = farm.gateway.json(&format!("/v1/groups/{group}")).await;
    assert_eq!((status, &told["pending"]), (200, &json!(0)));
    // Built already, all of it: complete at once.
    let again = farm
        .gateway
        .ask("POST", "/v1/groups", &[("Content-Type", "text/plain")], "one==1.0 # x\n")
        .await;
    assert!(
        again.body.contains("\"state\":\"complete\"") || again.body.contains("done"),
        "{again:?}"
    );
    for bad in ["{}", "{\"requirements\":[]}"] {
        assert_eq!(farm.gateway.ask("POST", "/v1/groups", &[], bad).await.status, 400, "{bad}");
    }
    let unknown = json!({"requirements": ["one"], "options": {"speed": 11}}).to_string();
    let refused = farm.gateway.ask("POST", "/v1/groups", &[], &unknown).await;
    assert!(refused.status == 422 && refused.body.contains("speed"), "{refused:?}");
    assert_eq!(farm.gateway.json("/v1/groups/none").await.0, 404);
    farm.world.aws.sqs.delete_queue().queue_url(queue).send().await.unwrap();
    farm.end().await;
}

#[tokio::test]
async fn a_group_completes_though_nobody_listens_and_its_worker_is_killed() {
    let mut farm = Farm::with(&[("FLOTILLA_PAUSE_AT", "committed")]).await;
    let queue = listen(&farm).await;
    farm.pure("one", "1.0");
    let path = format!("http://{}/v1/groups", farm.gateway.addr());
    let mut curl = Command::new("curl")
        .args(["-sN", "-H", "content-type: text/plain", "--data", "one", &path])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("a commit", Duration::from_secs(60), async || {
        farm.worker.log().contains("paused").then_some(())
    })
    .await;
    curl.kill().await.unwrap();
    assert!(!farm.worker.kill().await.success());
    farm.worker = farm.world.compile_worker(&farm.index).ready().await;
    assert_eq!(heard(&farm, &queue).await["counts"], json!({"done": 1}));
    farm.world.aws.sqs.delete_queue().queue_url(queue).send().await.unwrap();
    farm.end().await;
}

#[tokio::test]
async fn a_group_whose_listener_hangs_up_in_the_middle_goes_on_to_its_end() {
    let farm = Farm::new().await;
    let queue = listen(&farm).await;
    farm.pure("quick", "1.0");
    farm.doing("last", "1.0", "import time\ntime.sleep(14)\n");
    let path = format!("http://{}/v1/groups", farm.gateway.addr());
    let mut curl = Command::new("curl")
        .args(["-sN", "-H", "content-type: text/plain", "--data-binary", "last\nquick", &path])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut told = BufReader::new(curl.stdout.take().unwrap()).lines();
    let mut lines: Vec<Value> = Vec::new();
    while lines.last().is_none_or(|it| it["state"] != "done") {
        let line = told.next_line().await.unwrap().expect("a line");
        lines.push(serde_json::from_str(&line).unwrap());
    }
    assert_eq!(lines.last().unwrap()["requirement"], "quick", "{lines:?}");
    curl.kill().await.unwrap();
    let group = lines[0]["group"].as_str().unwrap();
    // The worker tells the group after the build's own row.
    let open = eventually("one that is pending", Duration::from_secs(30), async || {
        let (_, open) = farm.gateway.json(&format!("/v1/groups/{group}")).await;
        Some(open).filter(|it| it["pending"] != 2)
    })
    .await;
    assert_eq!((&open["state"], &open["pending"]), (&json!("open"), &json!(1)), "{open}");
    let event = heard(&farm, &queue).await;
    assert_eq!((&event["group"], &event["counts"]), (&json!(group), &json!({"done": 2})));
    let (_, whole) = farm.gateway.json(&format!("/v1/groups/{group}")).await;
    assert_eq!((&whole["state"], &whole["pending"]), (&json!("complete"), &json!(0)), "{whole}");
    assert_eq!(farm.begun().await, 2);
    farm.world.aws.sqs.delete_queue().queue_url(queue).send().await.unwrap();
    farm.end().await;
}

#[tokio::test]
async fn an_artifact_has_a_signed_provenance_an_sbom_and_a_verdict() {
    let mut farm = Farm::new().await;
    let key = farm.world.folder().join("key.pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key);
    assert!(openssl.status().await.unwrap().success(), "openssl");
    assert!(farm.gateway.stop().await.success());
    farm.gateway =
        farm.world.package_gateway(&farm.index).env("FLOTILLA_SIGNING_KEY", &key).ready().await;
    farm.extension("fast", "1.0");
    let built = farm.built("fast", "opt=3").await;
    let id = built["key"].as_str().unwrap();
    let twice = farm.gateway.ask("POST", &format!("/v1/builds/{id}/build-twice"), &[], "").await;
    assert_eq!(twice.status, 202, "{twice:?}");
    let verdict = eventually("a verdict", Duration::from_secs(60), async || {
        let (_, told) = farm.gateway.json(&format!("/v1/builds/{id}")).await;
        told["verdict"].is_object().then(|| told["verdict"].clone())
    })
    .await;
    assert_eq!(
        (&verdict["reproducible"], &verdict["sha256"]),
        (&json!(true), &built["build"]["sha256"])
    );
    for (page, kind) in [
        ("provenance", "https://slsa.dev/provenance/v1"),
        ("sbom/signed", "https://cyclonedx.org/bom"),
    ] {
        let envelope = farm.gateway.json(&format!("/v1/builds/{id}/{page}")).await.1;
        let statement = verified(&farm, &envelope).await;
        assert_eq!(statement["predicateType"], kind);
        assert_eq!(statement["subject"][0]["digest"]["sha256"], built["build"]["sha256"]);
    }
    let (_, bom) = farm.gateway.json(&format!("/v1/builds/{id}/sbom")).await;
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
    assert_eq!(bom["metadata"]["component"]["purl"], "pkg:pypi/fast@1.0");
    assert!(bom["components"].to_string().contains("pkg:pypi/setuptools@"), "{bom}");
    farm.end().await;
}

/// The statement in an envelope, whose signature openssl verifies with the gateway's public key.
async fn verified(farm: &Farm, envelope: &Value) -> Value {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    let payload = String::from_utf8(text(&envelope["payload"])).unwrap();
    let kind = envelope["payloadType"].as_str().unwrap();
    let signed = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    let folder = farm.world.folder();
    std::fs::write(folder.join("signed"), signed).unwrap();
    std::fs::write(folder.join("sig"), text(&envelope["signatures"][0]["sig"])).unwrap();
    let public = farm.gateway.page("/v1/signing-key").await.unwrap().1;
    std::fs::write(folder.join("pub.pem"), public).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-rawin"]);
    openssl.args(["-in", "signed", "-sigfile", "sig"]).current_dir(folder);
    assert!(openssl.status().await.unwrap().success(), "the signature is not true");
    serde_json::from_str(&payload).unwrap()
}

#[tokio::test]
async fn a_group_whose_gateway_dies_while_it_opens_completes() {
    let mut farm = Farm::with(&[("FLOTILLA_RECONCILE_SECONDS", "0")]).await;
    let queue = listen(&farm).await;
    for name in ["one", "two"] {
        farm.pure(name, "1.0");
    }
    farm.built("one", "").await;
    assert!(farm.worker.stop().await.success());
    let path = format!("http://{}/v1/groups", farm.gateway.addr());
    let mut curl = Command::new("curl")
        .args(["-sN", "-H", "content-type: text/plain", "--data-binary", "one\ntwo", &path])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let open = eventually("a group", Duration::from_secs(30), async || {
        let joined = farm.world.builds("two").await.first()?.contains_key("groups");
        let open = groups(&farm).await.into_iter().next()?;
        (joined && set(&open, "pending").len() == 1).then_some(open)
    })
    .await;
    assert!(!farm.gateway.kill().await.success());
    curl.kill().await.unwrap();
    // As the gateway leaves it that dies between the row of the group and those of its members.
    let (dynamo, table) = (&farm.world.aws.dynamo, &farm.world.outputs().builds_table_name);
    let members: Value = serde_json::from_str(open["members"].as_s().unwrap()).unwrap();
    let keys = members.as_array().unwrap().iter().map(|it| it["key"].as_str().unwrap().to_owned());
    let mut early = open.clone();
    early.insert("pending".into(), Attr::Ss(keys.collect()));
    early.insert("created_at".into(), Attr::N("1".into()));
    dynamo.put_item().table_name(table).set_item(Some(early)).send().await.unwrap();
    let call = dynamo.update_item().table_name(table).key("package", Attr::S("pypi/two".into()));
    let key = farm.world.builds("two").await[0]["request"].clone();
    call.key("request", key)
        .update_expression("REMOVE #g")
        .expression_attribute_names("#g", "groups")
        .send()
        .await
        .unwrap();
    farm.gateway = farm.world.package_gateway(&farm.index).ready().await;
    let worker = farm.world.compile_worker(&farm.index).env("FLOTILLA_RECONCILE_SECONDS", "0");
    farm.worker = worker.ready().await;
    assert_eq!(farm.gateway.json("/refresh").await.0, 202);
    assert_eq!(heard(&farm, &queue).await["counts"], json!({"done": 2}));
    farm.world.aws.sqs.delete_queue().queue_url(queue).send().await.unwrap();
    farm.end().await;
}

/// The rows of groups, as attributes.
async fn groups(farm: &Farm) -> Vec<HashMap<String, Attr>> {
    let call = farm.world.aws.dynamo.scan().table_name(&farm.world.outputs().builds_table_name);
    let items = call.consistent_read(true).send().await.unwrap().items.unwrap_or_default();
    items.into_iter().filter(|it| it["request"] == Attr::S("group".into())).collect()
}

fn set(item: &HashMap<String, Attr>, name: &str) -> Vec<String> {
    item.get(name).and_then(|it| it.as_ss().ok()).cloned().unwrap_or_default()
}
