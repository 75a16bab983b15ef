//! Packages that mean harm, and workers that are killed at every step.

use std::time::Duration;

use flotilla_tests::{Farm, containers, eventually};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::process::Command;

/// Forks twice, ignores what asks it to end, and goes on; what started it waits for ever.
const DAEMON: &str = "import os, signal, sys, time\n\
    for it in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):\n\
    \x20   signal.signal(it, signal.SIG_IGN)\n\
    if os.fork() == 0:\n\
    \x20   os.setsid()\n\
    \x20   if os.fork() == 0:\n\
    \x20       os.execv(sys.executable, [sys.executable, '-c', 'while 1: pass', 'flotilla-daemon-MARK'])\n\
    \x20   os._exit(0)\n\
    while True:\n\
    \x20   time.sleep(1)\n";

/// A backend that writes a wheel by hand; `SPOIL` adds to it.
const BACKEND: &str = "import base64, hashlib, zipfile\n\
    def build_wheel(folder, config=None, metadata=None):\n\
    \x20   name = 'NAME-1.0-py3-none-any.whl'\n\
    \x20   files = {'NAME.py': b'x = 1',\n\
    \x20       'NAME-1.0.dist-info/METADATA': b'Metadata-Version: 2.1\\nName: NAME\\nVersion: 1.0\\n',\n\
    \x20       'NAME-1.0.dist-info/WHEEL': b'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'}\n\
    \x20   links = {}\n\
    \x20   lie = ''\n\
    \x20   SPOIL\n\
    \x20   record = lie\n\
    \x20   with zipfile.ZipFile(f'{folder}/{name}', 'w', zipfile.ZIP_DEFLATED) as wheel:\n\
    \x20       for path, data in {**files, **links}.items():\n\
    \x20           info = zipfile.ZipInfo(path)\n\
    \x20           info.compress_type = zipfile.ZIP_DEFLATED\n\
    \x20           info.external_attr = (0o120777 if path in links else 0o100644) << 16\n\
    \x20           wheel.writestr(info, data)\n\
    \x20           digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()\n\
    \x20           record += f'{path},sha256={digest},{len(data)}\\n'\n\
    \x20       wheel.writestr('NAME-1.0.dist-info/RECORD', record + 'NAME-1.0.dist-info/RECORD,,\\n')\n\
    \x20   return name\n";

fn hand_made(farm: &Farm, name: &str, spoil: &str) {
    let backend = BACKEND.replace("NAME", name).replace("SPOIL", spoil);
    let project = "[build-system]\nrequires = []\nbuild-backend = 'own'\nbackend-path = ['.']\n";
    farm.index.publish(name, "1.0", &[("pyproject.toml", project), ("own.py", &backend)]);
}

async fn the_next_one_is_normal(farm: &Farm) {
    farm.pure("tiny", "1.0");
    let told = farm.built("tiny", "").await;
    assert_eq!(told["build"]["state"], "done", "{told}");
}

#[tokio::test]
async fn a_wheel_that_is_none_is_refused_with_the_reason() {
    let farm = Farm::new().await;
    let all = [
        ("honest", "pass", ""),
        ("table", "files['zeros'] = bytes(8 << 20)", ""),
        ("bomb", "files['zeros'] = bytes(200 << 20)", "is a bomb"),
        ("liar", "lie = 'ghost.py,sha256=AA,1\\n'", "not there"),
        (
            "forger",
            "real = hashlib.sha256; hashlib.sha256 = lambda data: real(data + b'!')",
            "not true",
        ),
        ("hider", "files['hider-1.0.dist-info/RECORD'] = b''", "RECORD"),
        ("climber", "files['../../etc/passwd'] = b'x'", "leads out of it"),
        ("rooted", "files['/etc/cron.d/x'] = b'x'", "leads out of it"),
        ("linker", "links['shadow'] = b'/etc/shadow'", "leads out of it"),
        ("other", "name = 'else-1.0-py3-none-any.whl'", "not other 1.0"),
        ("alien", "name = 'alien-1.0-cp39-cp39-win_amd64.whl'", "the tags of"),
        ("nothing", "return name", ""),
    ];
    all.iter().for_each(|(name, spoil, _)| hand_made(&farm, name, spoil));
    let told = join_all(all.map(|(name, ..)| farm.built(name, ""))).await;
    for ((name, _, reason), told) in all.into_iter().zip(told) {
        let build = &told["build"];
        if ["honest", "table"].contains(&name) {
            assert_eq!(build["state"], "done", "{told}");
            continue;
        }
        assert_eq!((&build["state"], &build["ours"]), (&json!("failed"), &json!(false)), "{name}");
        assert!(build["reason"].as_str().unwrap().contains(reason), "{name}: {told}");
    }
    the_next_one_is_normal(&farm).await;
    farm.end().await;
}

#[tokio::test]
async fn a_daemon_that_ignores_every_signal_dies_with_its_build() {
    let farm = Farm::with(&[("FLOTILLA_BUILD_SECONDS", "20")]).await;
    let mark = farm.worker.id().to_owned();
    farm.broken("daemon", &DAEMON.replace("MARK", &mark));
    let told = farm.built("daemon", "").await;
    assert!(told["build"]["reason"].as_str().unwrap().contains("took over 20 s"), "{told}");
    farm.until_no_container().await;
    let alive = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = all.filter_map(|it| std::fs::read_to_string(it.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(&format!("flotilla-daemon-{mark}"))).count()
    };
    eventually("the end of the daemon", Duration::from_secs(20), async || {
        (alive() == 0).then_some(())
    })
    .await;
    the_next_one_is_normal(&farm).await;
    farm.end().await;
}

#[tokio::test]
async fn a_build_that_took_too_long_is_remembered_for_less_time_and_says_how_to_try_again() {
    // So long that the other build, which ends by itself, never takes it on a machine that is busy.
    let settings = [("FLOTILLA_BUILD_SECONDS", "20"), ("FLOTILLA_OVERTIME_SECONDS", "2")];
    let farm = Farm::with(&settings).await;
    farm.broken("endless", "import time\ntime.sleep(600)\n");
    farm.broken("wrong", "raise SystemExit('error: no')\n");
    let wrong = farm.built("wrong", "").await;
    let told = farm.built("endless", "").await;
    let (build, key) = (&told["build"], told["key"].as_str().unwrap());
    assert_eq!((&build["state"], &build["ours"]), (&json!("failed"), &json!(false)), "{told}");
    let reason = build["reason"].as_str().unwrap();
    for part in ["over 20 s (FLOTILLA_BUILD_SECONDS)", &format!("POST /v1/builds/{key}/retry")] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let left = wrong["build"]["retry_at"].as_u64().unwrap() - build["retry_at"].as_u64().unwrap();
    assert!(left > 3000, "the package's own fault is remembered for an hour: {left}");
    eventually("another try", Duration::from_secs(20), async || {
        let told = farm.order(json!({"package": "endless", "version": "1.0"})).await;
        (told["epoch"] == 2).then_some(())
    })
    .await;
    farm.ended(key).await;
    farm.end().await;
}

/// Kills a worker with SIGKILL at each of these steps, each time in the build of another package.
async fn killed_at(steps: &[&str]) {
    let mut farm = Farm::new().await;
    for step in steps {
        let name = format!("at-{step}");
        farm.pure(&name, "1.0");
        assert!(farm.worker.stop().await.success());
        let victim = farm.world.compile_worker(&farm.index).env("FLOTILLA_PAUSE_AT", step);
        farm.worker = victim.ready().await;
        let told = farm.order(json!({"package": name, "version": "1.0"})).await;
        let key = told["key"].as_str().unwrap().to_owned();
        eventually(&format!("a pause at {step}"), Duration::from_secs(60), async || {
            farm.worker.log().contains("paused").then_some(())
        })
        .await;
        assert!(!farm.worker.kill().await.success());
        nothing_dangles(&farm, &key).await;
        farm.worker = farm.world.compile_worker(&farm.index).ready().await;
        let told = farm.ended(&key).await;
        assert_eq!(told["build"]["state"], "done", "killed at {step}: {told}");
        nothing_dangles(&farm, &key).await;
        assert_eq!(artifacts(&farm, &name.replace('-', "_"), ".whl").await, 1, "killed at {step}");
        farm.world.until_built().await;
    }
    farm.end().await;
}

/// What the row says is built is there, whole.
pub(crate) async fn nothing_dangles(farm: &Farm, key: &str) {
    let (_, told) = farm.gateway.json(&format!("/v1/builds/{key}")).await;
    let build: &Value = &told["build"];
    if build["state"] == "done" {
        let (bucket, s3) = (&farm.world.outputs().artifacts_bucket_name, &farm.world.aws.s3);
        for part in ["blob", "log", "metadata"] {
            let Some(object) = build[part].as_str() else {
                // Of a crate none is served apart.
                assert_eq!(part, "metadata", "{told}");
                continue;
            };
            let head = s3.head_object().bucket(bucket).key(object).send().await;
            assert!(head.is_ok(), "{part} {object} of {told} is not there");
        }
    }
}

/// How many artifacts of a package there are whose names end so.
pub(crate) async fn artifacts(farm: &Farm, name: &str, end: &str) -> usize {
    let (bucket, s3) = (&farm.world.outputs().artifacts_bucket_name, &farm.world.aws.s3);
    let listed = s3.list_objects_v2().bucket(bucket).prefix("blobs/").send().await.unwrap();
    let keys = listed.contents().iter().filter_map(|it| it.key());
    let start = format!("/{name}-");
    keys.filter(|key| key.contains(&start) && key.ends_with(end)).count()
}

#[tokio::test]
async fn a_kill_before_the_container_loses_no_request() {
    killed_at(&["claimed", "fetched", "resolved", "locked"]).await;
}

#[tokio::test]
async fn a_kill_after_the_container_leaves_one_artifact() {
    killed_at(&["built", "checked", "logged"]).await;
}

#[tokio::test]
async fn a_kill_around_the_commit_leaves_no_row_that_points_nowhere() {
    killed_at(&["stored", "committed"]).await;
}

#[tokio::test]
async fn a_build_that_fills_its_disk_fails_and_the_next_one_is_normal() {
    let farm = Farm::with(&[("FLOTILLA_BUILD_DISK_MIB", "128")]).await;
    farm.broken(
        "hoarder",
        "with open('/build/hoard', 'wb') as file:\n    while True:\n        \
         file.write(bytes(1 << 20))\n",
    );
    let told = farm.built("hoarder", "").await;
    let build = &told["build"];
    assert_eq!((&build["state"], &build["ours"]), (&json!("failed"), &json!(false)), "{told}");
    assert!(build["reason"].as_str().unwrap().contains("No space left on device"), "{told}");
    the_next_one_is_normal(&farm).await;
    farm.end().await;
}

#[tokio::test]
async fn a_container_killed_from_outside_is_built_again() {
    let farm = Farm::new().await;
    farm.doing("patient", "1.0", "import time\nprint('it builds', flush=True)\ntime.sleep(12)\n");
    let told = farm.order(json!({"package": "patient", "version": "1.0"})).await;
    let key = told["key"].as_str().unwrap();
    let log = format!("/v1/builds/{key}/log");
    eventually("a build that runs", Duration::from_secs(60), async || {
        let said = farm.gateway.ask("GET", &log, &[], "").await;
        said.body.contains("it builds").then_some(())
    })
    .await;
    let running = containers(farm.worker.id());
    let killed = Command::new("docker").arg("kill").args(&running).status().await.unwrap();
    assert!(killed.success(), "{running:?}");
    let told = farm.ended(key).await;
    assert_eq!(told["build"]["state"], "done", "{told}");
    assert_eq!((farm.begun().await, &told["epoch"]), (2, &json!(1)));
    farm.broken("suicide", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n");
    let told = farm.built("suicide", "").await;
    assert_eq!(
        (&told["build"]["state"], &told["build"]["ours"]),
        (&json!("failed"), &json!(false))
    );
    farm.end().await;
}
