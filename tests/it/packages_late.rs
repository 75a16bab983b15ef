//! Workers that come too late, or to what is not theirs.

use std::{collections::HashMap, process::Stdio, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_tests::{Farm, containers, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

fn slow(farm: &Farm, name: &str, seconds: u32) {
    farm.doing(name, "1.0", &format!("import time\ntime.sleep({seconds})\n"));
}

#[tokio::test]
async fn a_worker_that_wakes_up_after_its_lease_publishes_nothing() {
    let mut farm = Farm::new().await;
    slow(&farm, "sleepy", 8);
    let told = farm.order(json!({"package": "sleepy", "version": "1.0"})).await;
    let key = told["key"].as_str().unwrap();
    eventually("a build", Duration::from_secs(30), async || {
        (!containers(farm.worker.id()).is_empty()).then_some(())
    })
    .await;
    farm.worker.signal(Signal::SIGSTOP);
    let second = farm.world.compile_worker(&farm.index).ready().await;
    let mut first = std::mem::replace(&mut farm.worker, second);
    let built = farm.ended(key).await;
    assert_eq!((&built["build"]["state"], farm.begun().await), (&json!("done"), 2), "{built}");
    let end = async || {
        let rows = farm.world.builds("sleepy").await;
        ["detail", "epoch", "ended_at", "live_generation"].map(|name| rows[0].get(name).cloned())
    };
    let counts = end().await;
    first.signal(Signal::SIGCONT);
    eventually("a worker that gave up its build", Duration::from_secs(30), async || {
        containers(first.id()).is_empty().then_some(())
    })
    .await;
    assert!(first.stop().await.success());
    assert_eq!(end().await, counts, "the end that counts is the first");
    let (bucket, s3) = (&farm.world.outputs().artifacts_bucket_name, &farm.world.aws.s3);
    let listed = s3.list_objects_v2().bucket(bucket).prefix("logs/").send().await.unwrap();
    let logs: Vec<_> = listed.contents().iter().filter_map(|it| it.key()).collect();
    assert!(logs.iter().all(|log| log.ends_with("/1-2.txt")), "{logs:?}");
    farm.end().await;
}

#[tokio::test]
async fn a_group_tells_of_each_while_others_are_built_and_chooses_as_pip_does() {
    let farm = Farm::new().await;
    slow(&farm, "last", 14);
    farm.pure("quick", "1.0");
    let deep = format!("a; {}", "(".repeat(60_000));
    let asked = format!(
        "last\nquick # now\nquick; sys_platform == 'win32'\nquick --hash=sha256:00\n-r x.txt\n{deep}\n"
    );
    let path = format!("http://{}/v1/groups", farm.gateway.addr());
    std::fs::write(farm.world.folder().join("wants.txt"), asked).unwrap();
    let mut curl = Command::new("curl")
        .args(["-sN", "-H", "content-type: text/plain", "--data-binary", "@wants.txt", &path])
        .current_dir(farm.world.folder())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines();
    let mut told: Vec<Value> = Vec::new();
    while told.last().is_none_or(|it| it["state"] != "done") {
        let line = lines.next_line().await.unwrap().expect("a line");
        told.extend(serde_json::from_str::<Value>(&line));
    }
    assert_eq!(told.last().unwrap()["requirement"], "quick", "{told:?}");
    let rows = farm.world.builds("last").await;
    assert_eq!(rows[0]["state"], Attr::S("ordered".into()), "it came before the end of all");
    let states: Vec<_> = told[1..5].iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["skipped", "refused", "refused", "refused"], "{told:?}");
    while let Some(line) = lines.next_line().await.unwrap() {
        told.extend(serde_json::from_str::<Value>(&line));
    }
    assert_eq!(told.last().unwrap()["counts"], json!({"done": 2}), "{told:?}");
    assert!(curl.wait().await.unwrap().success());
    let over = format!("a; {}", "(".repeat(100_000));
    let text = [("Content-Type", "text/plain")];
    let answer = farm.gateway.ask("POST", "/v1/groups", &text, &over).await;
    assert!(answer.status == 422 && answer.body.contains("at most"), "{answer:?}");
    assert_eq!(farm.gateway.page("/healthz").await.unwrap().0, 200);
    farm.end().await;
}

/// Says that builds of PyPI are made in this image, by whom somebody says so at that time.
async fn announce(farm: &Farm, builder: &HashMap<String, Attr>, image: &str, at: &str) {
    let (table, dynamo) = (&farm.world.outputs().packages_table_name, &farm.world.aws.dynamo);
    let mut row = builder.clone();
    let mut detail: Value = serde_json::from_str(row["detail"].as_s().unwrap()).unwrap();
    detail["image"] = json!(image);
    row.insert("detail".into(), Attr::S(detail.to_string()));
    dynamo.put_item().table_name(table).set_item(Some(row)).send().await.unwrap();
    let alive = dynamo.put_item().table_name(table);
    let alive = alive.item("package", Attr::S(format!("builder/pypi/{image}")));
    alive.item("announced_at", Attr::N(at.to_owned())).send().await.unwrap();
}

#[tokio::test]
async fn an_order_for_another_builder_is_left_to_it_and_refused_when_that_is_gone() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    let (table, dynamo) = (&farm.world.outputs().packages_table_name, &farm.world.aws.dynamo);
    let own = dynamo.get_item().table_name(table).key("package", Attr::S("builder/pypi".into()));
    let own = own.send().await.unwrap().item.unwrap();
    let detail: Value = serde_json::from_str(own["detail"].as_s().unwrap()).unwrap();
    let image = detail["image"].as_str().unwrap();
    announce(&farm, &own, "sha256:other", "99999999999").await;
    let told = eventually("another builder", Duration::from_secs(10), async || {
        let told = farm.order(json!({"package": "tiny", "version": "1.0"})).await;
        let row = farm.world.builds("tiny").await;
        let of_other = row.iter().any(|row| row["parts"].as_s().unwrap().contains("sha256:other"));
        of_other.then_some(told)
    })
    .await;
    let key = told["key"].as_str().unwrap();
    eventually("an order that is left alone", Duration::from_secs(20), async || {
        farm.worker.log().contains("which is elsewhere").then_some(())
    })
    .await;
    let (_, now) = farm.gateway.json(&format!("/v1/builds/{key}")).await;
    assert_eq!(now["build"]["state"], "ordered", "{now}");
    announce(&farm, &own, "sha256:other", "1").await;
    announce(&farm, &own, image, "99999999999").await;
    let now = farm.ended(key).await;
    assert_eq!((&now["build"]["state"], &now["build"]["ours"]), (&json!("failed"), &json!(true)));
    for what in ["retry", "build-twice"] {
        let answer = farm.gateway.ask("POST", &format!("/v1/builds/{key}/{what}"), &[], "").await;
        assert_eq!(answer.status, 422, "{what}: {answer:?}");
    }
    farm.end().await;
}
