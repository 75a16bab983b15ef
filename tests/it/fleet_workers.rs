//! What `deploy/cfn/fleet.yaml` tells a worker on its instance is all that it needs to start.

use std::process::Command;

use flotilla_tests::binary;
use serde_norway::Value;

const TEMPLATE: &str = include_str!("../../deploy/cfn/fleet.yaml");

/// The settings that the user-data writes, with what stands for parameters and answers filled in.
fn settings() -> Vec<(String, String)> {
    let (_, lines) = TEMPLATE.split_once("cat >/etc/flotilla.env <<END\n").unwrap();
    let (lines, _) = lines.split_once("\n            END\n").unwrap();
    let filled = lines
        .replace("$queues", "http://127.0.0.1:9/1/q*1,http://127.0.0.1:9/1/urgent*8")
        .replace("$(imds instance-life-cycle)", "spot")
        .replace("$instance", "i-1")
        .replace("$protect", "true")
        .replace("${GraceSeconds}", "90");
    let settings = filled.lines().map(|line| line.trim().split_once('=').unwrap());
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn each_worker_finds_every_setting_that_it_requires_in_its_user_data() {
    for worker in ["compile-worker", "grading-worker", "schedule-executor", "anomaly-worker"] {
        let mut command = Command::new(binary(worker));
        command.env_clear().envs(settings());
        // Every mistake is reported in one run, before anything is called: this is the only one.
        let output = command.env("FLOTILLA_SLOTS", "many");
        let output = output.output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(!output.status.success(), "{worker} started: {told}");
        assert!(told.contains("has 1 mistake(s)"), "{worker}: {told}");
        assert!(told.contains("FLOTILLA_SLOTS"), "{worker}: {told}");
    }
}

#[test]
fn the_hooks_are_those_that_the_instance_answers_and_what_is_lost_holds_nobody() {
    let template: Value = serde_norway::from_str(TEMPLATE).unwrap();
    let group = &template["Resources"]["Group"]["Properties"];
    assert_eq!(group["NewInstancesProtectedFromScaleIn"], Value::from(true));
    let hooks = group["LifecycleHookSpecificationList"].as_sequence().unwrap();
    let of = |hook: &Value, field: &str| hook[field].as_str().unwrap().to_owned();
    let told: Vec<[String; 3]> = hooks
        .iter()
        .map(|it| {
            ["LifecycleHookName", "LifecycleTransition", "DefaultResult"].map(|name| of(it, name))
        })
        .collect();
    let wanted = [
        ["boot", "autoscaling:EC2_INSTANCE_LAUNCHING", "ABANDON"],
        ["drain", "autoscaling:EC2_INSTANCE_TERMINATING", "CONTINUE"],
    ];
    assert_eq!(told, wanted.map(|hook| hook.map(str::to_owned)));
    // The worker renews and completes the one, the script beside it completes the other.
    assert!(settings().contains(&("FLOTILLA_TERMINATING_HOOK".to_owned(), "drain".to_owned())));
    assert!(TEMPLATE.contains("complete-lifecycle-action --lifecycle-hook-name boot"));
    let defaults =
        ["ScaledBy", "Capacity"].map(|name| of(&template["Parameters"][name], "Default"));
    assert_eq!(defaults, ["target-tracking", "on-demand"]);
}
