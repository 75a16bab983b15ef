//! Real pip asks for packages, and gets them compiled.

use std::time::{Duration, Instant};

use flotilla_tests::{Farm, Starts, Worker, containers, eventually};

const NETWORK: &str = "import socket\n\
    socket.create_connection(('192.0.2.1', 80), timeout=5)\n";
const FORKS: &str = "import os, signal\n\
    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
    while True:\n\
    \x20   try:\n\
    \x20       os.fork() or os.setsid()\n\
    \x20   except OSError:\n\
    \x20       pass\n";

#[tokio::test]
async fn pip_gets_what_is_not_built_and_the_next_one_gets_the_same() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    farm.extension("fast", "1.0");
    let (name, cold) = farm.pip("default", "tiny==1.0").await.unwrap();
    assert_eq!(name, "tiny-1.0-py3-none-any.whl", "its source has nothing to compile");
    let (_, warm) = farm.pip("default", "tiny").await.unwrap();
    assert!(cold == warm && farm.begun().await == 1);
    let (name, _) = farm.pip("default", "fast").await.unwrap();
    assert_eq!(name, "fast-1.0-cp311-cp311-linux_x86_64.whl");
    assert_eq!(farm.begun().await, 2);
    farm.end().await;
}

#[tokio::test]
async fn any_number_who_ask_at_once_are_one_build() {
    let farm = Farm::new().await;
    // So long that all of them wait for it.
    farm.doing("fast", "1.0", "import time\ntime.sleep(4)\n");
    let second = farm.world.package_gateway(&farm.index).ready().await;
    let starts = Starts::of(farm.worker.id());
    let ask = |gateway: &Worker| {
        let path = "/package?package=fast&version=1.0&useflag=%2Blto&wait=1";
        let addr = gateway.addr().to_owned();
        async move { flotilla_tests::http_get(&addr, path).await.unwrap().0 }
    };
    let many = (0..20).map(|n| ask(if n % 2 == 0 { &farm.gateway } else { &second }));
    let many: Vec<_> = many.map(tokio::spawn).collect();
    let (one, two) =
        tokio::join!(farm.pip("lto", "fast"), farm.world.pip(&second, "lto=yes", "fast"));
    assert!(one.unwrap() == two.unwrap());
    for answer in many {
        assert_eq!(answer.await.unwrap(), 200);
    }
    assert_eq!((farm.begun().await, starts.count().await), (1, 1), "builds, and their containers");
    let mut second = second;
    assert!(second.stop().await.success());
    farm.end().await;
}

#[tokio::test]
async fn option_sets_are_compiled_apart_however_they_are_written() {
    let farm = Farm::new().await;
    farm.extension("fast", "1.0");
    let (_, plain) = farm.pip("default", "fast").await.unwrap();
    let (_, tuned) = farm.pip("march=x86-64-v3,opt=3", "fast").await.unwrap();
    let (_, again) = farm.pip("opt=-O3,-debug,march=x86_64_v3", "fast").await.unwrap();
    assert!(plain != tuned, "the options made no difference");
    assert!(tuned == again && farm.begun().await == 2);
    let (_, own) = farm.pip("python=cp311", "fast").await.unwrap();
    assert!(own == plain && farm.begun().await == 2, "the builder's own Python is the default");
    let (status, refusal) = farm.gateway.json("/o/python=3.12/simple/fast/").await;
    assert!(status == 422 && refusal["error"].as_str().unwrap().contains("3.11"), "{refusal}");
    let (status, refusal) = farm.gateway.json("/o/static-libs/simple/fast/").await;
    assert_eq!(status, 422);
    assert!(refusal["error"].as_str().unwrap().contains("static-libs"), "{refusal}");
    farm.end().await;
}

#[tokio::test]
async fn a_build_has_no_network_and_pip_prints_why_it_failed() {
    let farm = Farm::new().await;
    farm.broken("reaches-out", NETWORK);
    let said = farm.pip("default", "reaches-out").await.unwrap_err();
    assert!(said.contains("422") && said.contains("the build failed (exit 1): OSError"), "{said}");
    let log = said.split("log: http://").nth(1).and_then(|rest| rest.split("/v1/").nth(1));
    let log = format!("/v1/{}", log.unwrap().split_whitespace().next().unwrap());
    let (status, text) = farm.gateway.page(&log).await.unwrap();
    assert!(status == 200 && text.contains("OSError"), "{log}: {status} {text}");
    farm.end().await;
}

#[tokio::test]
async fn a_build_that_does_not_end_is_killed_whole_and_the_next_one_is_normal() {
    let farm =
        Farm::with(&[("FLOTILLA_BUILD_SECONDS", "15"), ("FLOTILLA_BUILD_MEMORY_MIB", "512")]).await;
    farm.broken("forks", FORKS);
    farm.broken("floods", "while True: print('x' * 9999)\n");
    farm.broken("hoards", "x = [b'x' * 4096 * n for n in range(1 << 20)]\n");
    farm.pure("tiny", "1.0");
    let said = farm.pip("default", "forks").await.unwrap_err();
    assert!(said.contains("took over 15 s"), "{said}");
    farm.until_no_container().await;
    for (name, reason) in [("floods", "8 MiB of log"), ("hoards", "512 MiB of memory")] {
        let told = farm.built(name, "").await;
        assert!(told["build"]["reason"].as_str().unwrap().contains(reason), "{told}");
    }
    farm.pip("default", "tiny").await.unwrap();
    farm.end().await;
}

#[tokio::test]
async fn pip_is_held_by_redirects_for_longer_than_it_waits_for_an_answer() {
    let farm = Farm::new().await;
    farm.doing("slow", "1.0", "import time\ntime.sleep(16)\n");
    let start = Instant::now();
    farm.pip("default", "slow").await.unwrap();
    assert!(start.elapsed() > Duration::from_secs(15));
    farm.end().await;
}

#[tokio::test]
async fn uv_installs_a_wheel_that_it_was_held_for_and_prints_why_another_failed() {
    let farm = Farm::new().await;
    farm.doing("slow", "1.0", "import time\ntime.sleep(17)\n");
    farm.broken("bad", "raise SystemExit('error: no such thing')\n");
    let start = Instant::now();
    let files = farm.world.uv_installs(&farm.gateway, "default", "slow").await.unwrap();
    assert!(files.iter().any(|it| it == "tiny.py"), "{files:?}");
    assert!(start.elapsed() > Duration::from_secs(15), "it was not held");
    let said = farm.world.uv_installs(&farm.gateway, "default", "bad").await.unwrap_err();
    assert!(said.contains("422") && said.contains("no such thing"), "{said}");
    farm.end().await;
}

#[tokio::test]
async fn package_answers_in_the_shape_of_the_original() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    farm.broken("bad", "raise SystemExit('error: no such thing')\n");
    let tiny = "/package?package=tiny&version=1.0&useflag=";
    assert_eq!(farm.gateway.json(tiny).await, (200, serde_json::json!({ "status": "WAIT" })));
    let (status, done) = farm.gateway.json(&format!("{tiny}&wait=1")).await;
    assert_eq!((status, done["status"].as_str()), (200, Some("SUCCESS")));
    assert!(done["linkS3"].as_str().unwrap().contains("/blobs/sha256/"), "{done}");
    let bad = "/package?package=bad&version=1.0&useflag=opt%3D3&wait=1";
    let (_, failed) = farm.gateway.json(bad).await;
    assert_eq!(failed["status"], "FAILED");
    assert!(failed["errorMessage"].as_str().unwrap().contains("no such thing"), "{failed}");
    let (status, missing) = farm.gateway.json("/package?package=tiny&useflag=").await;
    assert_eq!(status, 400);
    assert!(missing["error"].as_str().unwrap().contains("version"), "{missing}");
    let (_, unknown) = farm.gateway.json("/package?package=tiny&version=7&useflag=").await;
    assert_eq!(unknown["status"], "FAILED");
    farm.end().await;
}

#[tokio::test]
async fn a_new_version_is_compiled_for_the_option_sets_that_were_downloaded() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    farm.pure("unused", "1.0");
    farm.pip("default", "tiny").await.unwrap();
    farm.pip("opt=3", "tiny").await.unwrap();
    farm.pure("tiny", "1.1");
    farm.pure("unused", "1.1");
    let (status, _) = farm.gateway.json("/refresh").await;
    assert_eq!(status, 202);
    let mut built = eventually("builds of 1.1", Duration::from_secs(60), async || {
        let rows = farm.world.builds("tiny").await;
        let new = rows.iter().filter(|row| {
            row["version"].as_s().unwrap() == "1.1" && row["state"].as_s().unwrap() == "done"
        });
        let options: Vec<String> = new.map(|row| row["options"].as_s().unwrap().clone()).collect();
        (options.len() == 2).then_some(options)
    })
    .await;
    built.sort();
    assert_eq!(built, ["default", "opt=3"]);
    assert!(farm.world.builds("unused").await.is_empty());
    farm.end().await;
}

#[tokio::test]
async fn an_artifact_that_is_gone_is_built_again() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    let (_, first) = farm.pip("default", "tiny").await.unwrap();
    let (bucket, s3) = (&farm.world.outputs().artifacts_bucket_name, &farm.world.aws.s3);
    let listed = s3.list_objects_v2().bucket(bucket).prefix("blobs/").send().await.unwrap();
    for object in listed.contents() {
        s3.delete_object().bucket(bucket).key(object.key().unwrap()).send().await.unwrap();
    }
    let healed = eventually("a new artifact", Duration::from_secs(60), async || {
        farm.pip("default", "tiny").await.ok()
    })
    .await;
    assert!(healed.1 == first && farm.begun().await == 2);
    farm.end().await;
}

#[tokio::test]
async fn a_builder_that_is_killed_is_replaced_and_leaves_no_container() {
    let mut farm = Farm::new().await;
    farm.doing("slow", "1.0", "import time\ntime.sleep(6)\n");
    let slow = "/package?package=slow&version=1.0&useflag=";
    assert_eq!(farm.gateway.json(slow).await.1["status"], "WAIT");
    eventually("a build", Duration::from_secs(30), async || {
        (!containers(farm.worker.id()).is_empty()).then_some(())
    })
    .await;
    assert!(!farm.worker.kill().await.success());
    let second = farm.world.compile_worker(&farm.index).ready().await;
    let first = std::mem::replace(&mut farm.worker, second);
    let (_, answer) = farm.gateway.json(&format!("{slow}&wait=1")).await;
    assert_eq!((answer["status"].as_str(), farm.begun().await), (Some("SUCCESS"), 2));
    eventually("no container of the dead", Duration::from_secs(60), async || {
        containers(first.id()).is_empty().then_some(())
    })
    .await;
    farm.end().await;
}
