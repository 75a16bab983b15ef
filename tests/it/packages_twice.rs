//! Artifacts that are built a second time, and compared.

use std::time::Duration;

use flotilla_tests::{Farm, eventually};
use serde_json::{Value, json};

/// What is said of an artifact once it was built again.
async fn verdict(farm: &Farm, key: &str) -> Value {
    let path = format!("/v1/builds/{key}");
    let twice = farm.gateway.ask("POST", &format!("{path}/build-twice"), &[], "").await;
    assert_eq!(twice.status, 202, "{twice:?}");
    eventually("a verdict", Duration::from_secs(90), async || {
        let (_, told) = farm.gateway.json(&path).await;
        told["verdict"].is_object().then(|| told["verdict"].clone())
    })
    .await
}

#[tokio::test]
async fn an_artifact_that_comes_out_differently_is_said_to_with_both_hashes() {
    let farm = Farm::new().await;
    let random = "import os\nopen('tiny.py', 'w').write(f'x = {os.urandom(16)!r}\\n')\n";
    farm.doing("chance", "1.0", random);
    let told = farm.built("chance", "").await;
    let key = told["key"].as_str().unwrap();
    let verdict = verdict(&farm, key).await;
    assert_eq!(verdict["reproducible"], false, "{verdict}");
    assert_eq!(verdict["sha256"].as_str().map(str::len), Some(64), "{verdict}");
    assert_ne!(verdict["sha256"], told["build"]["sha256"]);
    let (_, now) = farm.gateway.json(&format!("/v1/builds/{key}")).await;
    assert_eq!(now["build"], told["build"], "what is served stays as it was");
    farm.end().await;
}

#[tokio::test]
async fn a_second_build_that_fails_is_told_with_its_reason() {
    let mut farm = Farm::new().await;
    farm.doing("patient", "1.0", "import time\ntime.sleep(4)\n");
    let told = farm.built("patient", "").await;
    assert_eq!(told["build"]["state"], "done", "{told}");
    assert!(farm.worker.stop().await.success());
    let hasty = farm.world.compile_worker(&farm.index).env("FLOTILLA_BUILD_SECONDS", "2");
    farm.worker = hasty.ready().await;
    let verdict = verdict(&farm, told["key"].as_str().unwrap()).await;
    assert_eq!((&verdict["reproducible"], &verdict["sha256"]), (&json!(false), &Value::Null));
    assert!(verdict["reason"].as_str().unwrap().contains("took over 2 s"), "{verdict}");
    farm.end().await;
}
