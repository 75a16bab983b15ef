//! The worker of a group: how it comes onto its instances, and what it may do.

use std::process::Command;

use flotilla_tests::ScaledGroup;
use serde_norway::Value;

use super::{TEMPLATE, parses, queue_urls, resource};

#[test]
fn a_worker_may_delete_artifacts_and_no_other_objects() {
    let statements = resource("Role")["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
        .as_sequence()
        .unwrap()
        .clone();
    let deletes = |it: &&Value| match &it["Action"] {
        Value::Sequence(actions) => actions.contains(&Value::from("s3:DeleteObject")),
        action => action.as_str() == Some("s3:DeleteObject"),
    };
    let found: Vec<_> = statements.iter().filter(deletes).collect();
    assert_eq!(found.len(), 1, "what is forgotten is deleted");
    let Value::Tagged(sub) = &found[0]["Resource"] else { panic!("{:?}", found[0]) };
    assert!(sub.value.as_str().unwrap().contains(":::${DataStack}-artifacts-"), "{sub:?}");
}

/// IAM takes a batch for an action of its own: who may get an item may not get several.
#[test]
fn a_worker_may_read_its_orders_and_write_in_batches() {
    let statements = &resource("Role")["Properties"]["Policies"][0]["PolicyDocument"]["Statement"];
    let mut statements = statements.as_sequence().unwrap().iter();
    let rows = statements.find(|it| it["Sid"].as_str() == Some("Rows")).unwrap();
    let actions = rows["Action"].as_sequence().unwrap();
    for action in ["BatchGetItem", "BatchWriteItem", "GetItem", "UpdateItem"] {
        assert!(actions.contains(&Value::from(format!("dynamodb:{action}"))), "{action}");
    }
}

#[tokio::test]
async fn the_launch_template_installs_and_starts_the_worker() {
    let group = ScaledGroup::create(&[("Worker", "compile-worker"), ("Queue", "compile")]).await;
    let answer = group.launch_template().await;
    for said in [
        "<httpTokens>required</httpTokens>",
        "<httpPutResponseHopLimit>1</httpPutResponseHopLimit>",
        "<imageId>ami-12345678</imageId>",
    ] {
        assert!(answer.contains(said), "{said} is not in {answer}");
    }
    let script = group.user_data().await;
    for said in ["ExecStart=/opt/flotilla/bin/compile-worker", "url 'data-compile'"] {
        assert!(script.contains(said), "{said} is not in {script}");
    }
    assert_eq!(queue_urls(&script), "http://sqs/data-compile*1");
    assert!(!group.policy().await.contains("urgent"));
    assert!(script.contains(&format!("FLOTILLA_GROUP={}", group.name)));
    parses(&script);
    let ready = script.split_once("in-service <<'END'\n").unwrap().1;
    parses(ready.split_once("\nEND\n").unwrap().0);
    assert!(script.contains("FLOTILLA_TERMINATING_HOOK=drain"));
}

/// A line of the user-data that says which protection the worker takes, by who sizes the group.
fn protects(scaled_by: &str) -> String {
    let line = TEMPLATE.lines().find(|line| line.contains("&& protect=true")).unwrap();
    let text = format!("{}; echo $protect", line.replace("${ScaledBy}", scaled_by));
    let output = Command::new("bash").args(["-euc", &text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_worker_takes_the_protection_from_scale_in_where_aws_sizes_the_group_and_there_alone() {
    assert_eq!(
        (protects("target-tracking"), protects("autoscaler")),
        ("true".into(), "false".into())
    );
    assert!(TEMPLATE.contains("FLOTILLA_PROTECT=$protect\n"));
}

#[test]
fn what_an_instance_runs_is_the_release_that_was_named_and_one_that_was_drained_stays_ended() {
    let units = |start: &str| {
        let unit = TEMPLATE.split_once(&format!("/etc/systemd/system/{start}.service <<'END'\n"));
        unit.unwrap().1.split_once("\n            END\n").unwrap().0.to_owned()
    };
    // A drained worker ends well; the autoscaler never ends by itself.
    assert!(units("flotilla-worker").contains("Restart=on-failure\n"));
    assert!(units("flotilla-worker").contains("KillMode=mixed\n"), "its cells end with it");
    assert!(units("flotilla-autoscaler").contains("Restart=always\n"));
    for name in ["LaunchTemplate", "ScalerTemplate"] {
        let data = &resource(name)["Properties"]["LaunchTemplateData"];
        let script = format!("{:?}", data["UserData"]);
        let check = "echo '${ReleaseSha256}  /opt/release.tar.gz' | sha256sum --check --quiet";
        let (before, after) = script.split_once(check).unwrap();
        assert!(before.contains("set -euo pipefail") && !before.contains("tar -xzf"), "{name}");
        assert!(after.contains("tar -xzf /opt/release.tar.gz"), "{name}");
    }
    // Before the first container is there, none can ask for the instance's keys.
    let script = format!("{:?}", resource("LaunchTemplate"));
    let (before, _) = script.split_once("docker load").unwrap();
    assert!(before.contains("iptables -I DOCKER-USER -d 169.254.169.254 -j DROP"));
    assert!(before.contains("systemctl enable --now docker"));
}

#[test]
fn an_instance_of_a_warm_pool_is_prepared_though_its_worker_receives_nothing() {
    // The metadata, a worker that is not ready, and an `aws` that tells what it is asked.
    let with = |state: &str, ready: &str| {
        format!(
            r#"curl() {{ case "${{@: -1}}" in
                 */readyz) return {ready} ;;
                 */api/token) echo t ;;
                 */target-lifecycle-state) echo {state} ;;
               esac; }}
               aws() {{ echo "$2 $4"; }}
               sleep() {{ exit 7; }}
               {}"#,
            in_service()
        )
    };
    for (state, ready, code, said) in [
        ("Warmed:Stopped", "1", 0, "complete-lifecycle-action boot"),
        ("InService", "1", 7, ""),
        ("InService", "0", 0, "complete-lifecycle-action boot"),
    ] {
        let script = with(state, ready);
        let output = Command::new("bash").args(["-c", &script, "in-service", "i-1"]).output();
        let output = output.unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!((output.status.code(), told.trim()), (Some(code), said), "{state}, {ready}");
    }
}

/// The script that has the group count an instance as in service.
fn in_service() -> String {
    let script = TEMPLATE.split_once("in-service <<'END'\n").unwrap().1;
    let script = script.split_once("\n            END\n").unwrap().0;
    script.replace("${AWS::Region}", "eu-west-1").replace("${AWS::StackName}", "g")
}

#[tokio::test]
async fn a_second_queue_is_consumed_by_its_weight_and_its_role_may_do_so() {
    let group = ScaledGroup::create(&[
        ("Queue", "compile"),
        ("OtherQueue", "urgent"),
        ("OtherQueueWeight", "8"),
    ])
    .await;
    let script = group.user_data().await;
    assert_eq!(queue_urls(&script), "http://sqs/data-compile*1,http://sqs/data-urgent*8");
    parses(&script);
    let policy = group.policy().await;
    for queue in ["compile", "compile-dead", "urgent", "urgent-dead"] {
        assert!(policy.contains(&format!(":data-{queue}\"")), "{queue} is not in {policy}");
    }
}
