//! Hostile submissions, end to end: each folder of `fixtures/attacks` is one, with the verdicts
//! that it may get. Expected output is always `done`.

use std::{fs, path::Path};

use flotilla_tests::{Submission, World};
use serde_json::json;

struct Attack {
    name: String,
    program: String,
    verdicts: Vec<String>,
}

fn attacks() -> Vec<Attack> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/attacks");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let expected = fs::read_to_string(path.join("expected.toml")).unwrap();
        let expected: toml::Table = expected.parse().unwrap();
        let verdicts = expected["verdicts"].as_array().unwrap().iter();
        Attack {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            program: fs::read_to_string(path.join("submission.py")).unwrap(),
            verdicts: verdicts.map(|v| v.as_str().unwrap().to_owned()).collect(),
        }
    };
    let mut attacks: Vec<_> = fs::read_dir(folder).unwrap().map(read).collect();
    attacks.sort_by(|a, b| a.name.cmp(&b.name));
    attacks
}

async fn world() -> World {
    let world = World::new().await;
    // Two tests of the same, so that what the first leaves would be found by the second.
    world.problem("eve/attacks/all", "\n\n", "done\ndone\n").await;
    world.limits("eve/attacks/all", json!({ "cpu_ms": 500, "wall_ms": 10_000 })).await;
    world
}

/// Nothing of the host or of the worker's environment may be in a result.
fn tells_nothing(world: &World, results: &str) {
    let url = world.aws.url.clone().unwrap_or_default();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let secrets = ["AWS_", "FLOTILLA_", "root:x:0:0:root", &url, "HOSTNAME="];
    for secret in secrets {
        assert!(!results.contains(secret), "{secret} is in {results}");
    }
    // As a word: the name of a version is random, and may well end like a short name.
    let part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let name = format!("{}\"", host.trim());
    let told = results.match_indices(&name).any(|(at, _)| !results[..at].ends_with(part));
    assert!(!told, "the host's name is in {results}");
}

async fn survive(isolation: &str) {
    let world = world().await;
    let worker = world.grading_worker().env("FLOTILLA_ISOLATION", isolation);
    let mut worker = worker.env("FLOTILLA_SLOTS", "2").ready().await;
    let mut submitted: Vec<(Attack, Submission)> = Vec::new();
    for attack in attacks() {
        let submission = world.submit("eve/attacks/all", &attack.name, &attack.program).await;
        submitted.push((attack, submission));
    }
    let mut wrong = Vec::new();
    for (Attack { name, verdicts, .. }, submission) in submitted {
        let results = world.results(&submission).await;
        tells_nothing(&world, &results.to_string());
        let verdict = results["verdict"].as_str().unwrap();
        if !verdicts.iter().any(|v| v == verdict) {
            wrong.push(format!("{name}: {verdict}, not {verdicts:?}: {}", results["tests"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let hello = world.submit("eve/attacks/all", "hello", "print('done')").await;
    let results = world.results(&hello).await;
    assert_eq!(results["verdict"], "AC");
    assert!(results["tests"][1]["wall_ms"].as_u64().unwrap() < 2000, "{results}");
    world.until_queue_is_empty().await;
    assert!(worker.resident_mib() < 200, "the worker holds {} MiB", worker.resident_mib());
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn every_attack_is_survived_in_namespaces() {
    survive("namespaces").await;
}

#[tokio::test]
async fn every_attack_is_survived_in_containers() {
    survive("container").await;
}
