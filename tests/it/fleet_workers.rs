//! What `deploy/cfn/fleet.yaml` tells a worker on its instance is all that it needs to start.

use std::process::Command;

use flotilla_tests::binary;

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
