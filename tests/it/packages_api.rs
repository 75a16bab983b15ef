//! Builds for programs: by their keys, explained, tried again, told while they run.

use std::time::Duration;

use flotilla_tests::{BACKEND, Farm, SETUP, eventually, wheel};
use serde_json::{Value, json};

/// A build backend of the source's own, which asks for `helper` only when it runs.
const ASKS: &str = "from own import build_wheel\n\
    def get_requires_for_build_wheel(config=None):\n\
    \x20   return ['helper>=1']\n";
const HELPED: &str = "import helper\nopen('tiny.py', 'w').write(f'x = {helper.x}')\n";
const PYPROJECT: &str = "[build-system]\nrequires = []\n\
    build-backend = 'asks'\nbackend-path = ['.']\n";

/// Publishes a package that asks for `helper` only when it is built.
fn asks(farm: &Farm) {
    let files = [
        ("pyproject.toml", PYPROJECT),
        ("asks.py", ASKS),
        ("own.py", BACKEND),
        ("meanwhile.py", HELPED),
    ];
    farm.index.publish("asks", "1.0", &files);
}

fn setup(name: &str) -> String {
    SETUP.replace("setup(py", &format!("setup(name='{name}', version='1.0', py"))
}

fn helper(farm: &Farm, version: &str) {
    let module = format!("x = '{version}'\n");
    let bytes = wheel("helper", version, &[("helper.py", &module)]);
    farm.index.put(&format!("helper-{version}-py3-none-any.whl"), bytes);
}

fn locked(told: &Value) -> Vec<&str> {
    let wheels = told["locked"]["wheels"].as_array().unwrap();
    let names = wheels.iter().map(|wheel| wheel["filename"].as_str().unwrap());
    names.map(|name| name.split("-py").next().unwrap()).collect()
}

async fn retry(farm: &Farm, key: &str) -> Value {
    let path = format!("/v1/builds/{key}/retry");
    let answer = farm.gateway.ask("POST", &path, &[], "").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    farm.ended(key).await
}

#[tokio::test]
async fn what_a_backend_asks_for_when_it_runs_is_resolved_pinned_and_recorded() {
    let farm = Farm::new().await;
    helper(&farm, "1.5");
    asks(&farm);
    let told = farm.built("asks", "").await;
    assert_eq!(told["build"]["state"], "done", "{told}");
    assert!(locked(&told).contains(&"helper-1.5"), "{told}");
    assert!(told["build"]["requires"].as_array().unwrap().contains(&json!("helper>=1")), "{told}");
    let hashes = &told["build"]["parts"]["build_requires"];
    assert_eq!(hashes["helper-1.5-py3-none-any.whl"].as_str().unwrap().len(), 64, "{told}");
    farm.end().await;
}

#[tokio::test]
async fn requirements_stay_as_they_were_chosen_until_a_retry() {
    let farm = Farm::new().await;
    helper(&farm, "1.0");
    asks(&farm);
    let first = farm.built("asks", "").await;
    let key = first["key"].as_str().unwrap();
    helper(&farm, "2.0");
    let (bucket, s3) = (&farm.world.outputs().artifacts_bucket_name, &farm.world.aws.s3);
    let blob = first["build"]["blob"].as_str().unwrap();
    s3.delete_object().bucket(bucket).key(blob).send().await.unwrap();
    let healed = eventually("a rebuild", Duration::from_secs(60), async || {
        farm.order(json!({"package": "asks", "version": "1.0"})).await;
        let told = farm.ended(key).await;
        (told["epoch"] == 2).then_some(told)
    })
    .await;
    assert_eq!(healed["build"]["sha256"], first["build"]["sha256"], "{healed}");
    let again = retry(&farm, key).await;
    assert!(locked(&again).contains(&"helper-2.0") && again["epoch"] == 3, "{again}");
    assert_ne!(again["build"]["artifact"], first["build"]["artifact"]);
    farm.end().await;
}

#[tokio::test]
async fn a_failure_is_not_for_ever() {
    let farm = Farm::new().await;
    asks(&farm);
    let told = farm.built("asks", "").await;
    assert!(told["build"]["reason"].as_str().unwrap().contains("helper"), "{told}");
    helper(&farm, "1.0");
    let key = told["key"].as_str().unwrap();
    let told = retry(&farm, key).await;
    assert_eq!((&told["build"]["state"], &told["epoch"]), (&json!("done"), &json!(2)), "{told}");
    let nobody = farm.gateway.ask("POST", "/v1/builds/0000/retry", &[], "").await;
    assert_eq!(nobody.status, 404);
    farm.end().await;
}

#[tokio::test]
async fn an_extra_puts_its_requirements_into_the_build() {
    let farm = Farm::new().await;
    helper(&farm, "1.0");
    let info = "Metadata-Version: 2.1\nName: maybe\nVersion: 1.0\nProvides-Extra: fast\n\
        Requires-Dist: helper; extra == 'fast'\n";
    let setup = format!(
        "try:\n    import helper\n    open('tiny.py', 'w').write('fast = 1')\n\
         except ImportError:\n    pass\n{}",
        setup("maybe")
    );
    let files = [("setup.py", setup.as_str()), ("tiny.py", ""), ("PKG-INFO", info)];
    farm.index.publish("maybe", "1.0", &files);
    let (plain, fast) = (farm.built("maybe", "").await, farm.built("maybe", "extras=Fast").await);
    assert!(!locked(&plain).contains(&"helper-1.0") && locked(&fast).contains(&"helper-1.0"));
    assert_ne!(plain["build"]["sha256"], fast["build"]["sha256"]);
    let none = farm.built("maybe", "extras=slow").await;
    assert!(none["build"]["reason"].as_str().unwrap().contains("no extra \"slow\""), "{none}");
    farm.end().await;
}

#[tokio::test]
async fn a_build_is_found_by_either_key_and_a_miss_is_explained() {
    let farm = Farm::new().await;
    farm.pure("fast", "1.0");
    let (plain, tuned) = (farm.built("fast", "").await, farm.built("fast", "opt=3").await);
    let (plain, tuned) = (plain["build"]["artifact"].as_str().unwrap(), &tuned["key"]);
    let path = format!("/v1/builds/{plain}/explain?against={}", tuned.as_str().unwrap());
    let (status, told) = farm.gateway.json(&path).await;
    let options = json!({"options": {"this": "default", "that": "opt=3"}});
    assert_eq!((status, &told["request"], &told["artifact"]), (200, &options, &options));
    assert_eq!(told["same"], false);
    let path = format!("/v1/builds/{plain}/explain?against={plain}");
    assert_eq!(farm.gateway.json(&path).await.1["artifact"], json!({}));
    for (path, status) in [
        (format!("/v1/builds/{plain}/explain"), 400),
        (format!("/v1/builds/{plain}/explain?against=0"), 404),
        ("/v1/builds/0".to_owned(), 404),
        ("/v1/builds/0/log".to_owned(), 404),
    ] {
        assert_eq!(farm.gateway.json(&path).await.0, status, "{path}");
    }
    farm.end().await;
}

#[tokio::test]
async fn a_log_is_told_while_the_build_runs_and_again_from_where_it_was_left() {
    let farm = Farm::new().await;
    let talk = "import time\nprint('first words', flush=True)\ntime.sleep(6)\n\
        print('last words', flush=True)\n";
    farm.doing("talks", "1.0", talk);
    let told = farm.order(json!({"package": "talks", "version": "1.0"})).await;
    let key = told["key"].as_str().unwrap();
    let path = format!("/v1/builds/{key}/log");
    eventually("the first words", Duration::from_secs(60), async || {
        let said = farm.gateway.ask("GET", &path, &[], "").await;
        (said.status == 200 && said.body.contains("first words")).then_some(())
    })
    .await;
    let (_, now) = farm.gateway.json(&format!("/v1/builds/{key}")).await;
    assert_eq!(now["build"]["state"], "ordered", "it was told before the end");
    let events = [("Accept", "text/event-stream")];
    let said = farm.gateway.ask("GET", &path, &events, "").await;
    assert_eq!(said.header("content-type"), Some("text/event-stream"));
    let (first, last) = (said.body.find("data: first words"), said.body.find("data: last words"));
    assert!(first.is_some() && first < last && said.body.matches("first words").count() == 1);
    let end = said.body.split("event: end\ndata: ").nth(1).expect("an end");
    let end: Value = serde_json::from_str(end.lines().next().unwrap()).unwrap();
    assert_eq!(end["build"]["state"], "done", "{end}");
    let ids: Vec<&str> = said.body.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let resumed = [("Accept", "text/event-stream"), ("Last-Event-ID", *ids.last().unwrap())];
    let rest = farm.gateway.ask("GET", &path, &resumed, "").await;
    assert!(!rest.body.contains("event: log") && rest.body.contains("event: end"), "{rest:?}");
    farm.end().await;
}

#[tokio::test]
async fn the_queue_takes_what_anybody_sends_in_either_shape() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    let queue = &farm.world.outputs().compile_queue_url;
    let send = async |body: Value| {
        let call = farm.world.aws.sqs.send_message().queue_url(queue);
        call.message_body(body.to_string()).send().await.unwrap();
    };
    send(json!({"package": "Tiny", "version": "1.0", "options": {"lto": true}})).await;
    send(json!({
        "packageExpression": "dev-python/tiny-1.0", "nameLong": "dev-python/tiny",
        "category": "dev-python", "nameShort": "tiny", "version": "1.0", "useflag": "debug",
    }))
    .await;
    let mut options = eventually("two builds", Duration::from_secs(180), async || {
        let rows = farm.world.builds("tiny").await;
        let done = rows.iter().filter(|row| row["state"].as_s().unwrap() == "done");
        let options: Vec<_> = done.map(|row| row["options"].as_s().unwrap().clone()).collect();
        (options.len() == 2).then_some(options)
    })
    .await;
    options.sort();
    assert_eq!(options, ["debug=yes", "lto=yes"]);
    send(json!({"category": "app-text", "nameShort": "tree", "version": "1.7.0"})).await;
    let dead = &farm.world.outputs().compile_dead_letter_queue_url;
    let letters = farm.world.dead_letters_on(dead, 1).await;
    assert!(
        letters[0].why.to_string().contains("there are: pypi, crates, dev-python"),
        "{letters:?}"
    );
    let path = "/package?package=app-text/tree&version=1.7.0&useflag=static-libs";
    let (_, told) = farm.gateway.json(path).await;
    assert_eq!(told["status"], "FAILED");
    assert!(told["errorMessage"].as_str().unwrap().contains("app-text"), "{told}");
    farm.end().await;
}

#[tokio::test]
async fn who_waits_for_a_builder_that_keeps_dying_is_told_and_has_it_tried_again_at_once() {
    let mut farm =
        Farm::with(&[("FLOTILLA_MAX_ATTEMPTS", "1"), ("FLOTILLA_PAUSE_AT", "resolved")]).await;
    farm.pure("tiny", "1.0");
    let told = farm.order(json!({"package": "tiny", "version": "1.0"})).await;
    eventually("a worker that pauses", Duration::from_secs(30), async || {
        farm.worker.log().contains("paused").then_some(())
    })
    .await;
    assert!(!farm.worker.kill().await.success());
    let second = farm.world.compile_worker(&farm.index).env("FLOTILLA_MAX_ATTEMPTS", "1");
    farm.worker = second.ready().await;
    let told = farm.ended(told["key"].as_str().unwrap()).await;
    assert_eq!((&told["build"]["state"], &told["build"]["ours"]), (&json!("failed"), &json!(true)));
    assert!(told["build"]["reason"].as_str().unwrap().contains("the worker died"), "{told}");
    // It was our fault, so the package is not blamed for it, and is tried again at once.
    let page = farm.gateway.ask("GET", "/o/default/simple/tiny/", &[], "").await;
    assert!(page.status == 200 && !page.body.contains("not built"), "{page:?}");
    let asked = "/package?package=tiny&version=1.0&useflag=";
    assert_eq!(farm.gateway.json(asked).await.1["status"], "WAIT");
    let again = eventually("another try", Duration::from_secs(10), async || {
        let told = farm.order(json!({"package": "tiny", "version": "1.0"})).await;
        (told["epoch"] == 2).then_some(told)
    })
    .await;
    assert_eq!(farm.ended(again["key"].as_str().unwrap()).await["build"]["state"], "done");
    let dead = &farm.world.outputs().compile_dead_letter_queue_url;
    farm.world.dead_letters_on(dead, 1).await;
    farm.end().await;
}

#[tokio::test]
async fn all_spellings_of_a_version_are_one_build() {
    let farm = Farm::new().await;
    farm.pure("tiny", "2.1.5");
    farm.pure("tiny", "3.0rc1");
    let first = farm.order(json!({"package": "tiny", "version": "2.1.5.0"})).await;
    assert_eq!(first["version"], "2.1.5", "as upstream has it: {first}");
    let key = first["key"].as_str().unwrap();
    for version in ["2.1.5", "v2.1.5", "2.1.5.0.0"] {
        let told = farm.order(json!({"package": "tiny", "version": version})).await;
        assert_eq!(told["key"], key, "{version}");
        let path = format!("/package?package=tiny&version={version}&useflag=&wait=1");
        let (status, told) = farm.gateway.json(&path).await;
        assert_eq!((status, told["status"].as_str()), (200, Some("SUCCESS")), "{version}: {told}");
        let wheel = format!("/o/default/wheels/tiny/{version}/tiny-2.1.5-py3-none-any.whl");
        let head = farm.gateway.ask("HEAD", &wheel, &[], "").await;
        assert_eq!(head.status, 200, "{version}: {head:?}");
    }
    assert_eq!(farm.begun().await, 1);
    let spelt = ["tiny==3.0.rc1", "tiny==v3.0-RC.1", "tiny==3rc1", "tiny==2.1.5.0"];
    let asked = json!({ "requirements": spelt });
    let group = farm.gateway.ask("POST", "/v1/groups", &[], &asked.to_string()).await;
    assert!(group.body.contains(r#""counts":{"done":4}"#), "{group:?}");
    assert_eq!((farm.begun().await, farm.world.builds("tiny").await.len()), (2, 2));
    let (status, told) = farm.gateway.json("/package?package=tiny&version=2.1.6&useflag=").await;
    assert_eq!((status, told["status"].as_str()), (404, Some("FAILED")), "{told}");
    farm.end().await;
}

#[tokio::test]
async fn an_overtaken_artifact_key_is_explained_by_its_own_parts() {
    let farm = Farm::new().await;
    helper(&farm, "1.0");
    asks(&farm);
    let first = farm.built("asks", "").await;
    helper(&farm, "2.0");
    let second = retry(&farm, first["key"].as_str().unwrap()).await;
    let keys = [&first, &second].map(|told| told["build"]["artifact"].as_str().unwrap());
    let [old, new] = keys;
    let explained = format!("/v1/builds/{old}/explain?against={new}");
    let (_, told) = farm.gateway.json(&explained).await;
    let differs = &told["artifact"]["build_requires"];
    assert_eq!((&told["same"], &told["request"]), (&json!(false), &json!({})), "{told}");
    assert!(differs["helper-1.0-py3-none-any.whl"]["this"].is_string(), "{told}");
    assert!(differs["helper-2.0-py3-none-any.whl"]["that"].is_string(), "{told}");
    let (_, told) = farm.gateway.json(&format!("/v1/builds/{old}")).await;
    assert_eq!((&told["build"], &told["overtaken_by"]), (&first["build"], &json!(new)), "{told}");
    let (_, bom) = farm.gateway.json(&format!("/v1/builds/{old}/sbom")).await;
    let hash = &bom["metadata"]["component"]["hashes"][0]["content"];
    assert_eq!(hash, &first["build"]["sha256"], "{bom}");
    let path = format!("/v1/builds/{old}/build-twice");
    let twice = farm.gateway.ask("POST", &path, &[], "").await;
    assert!(twice.status == 422 && twice.body.contains(new), "{twice:?}");
    farm.end().await;
}
