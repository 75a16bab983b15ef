//! The autoscaler sizes an emulated group, and nobody is killed at work.

use std::{process::Command, time::Duration};

use flotilla_runtime::signed::Call;
use flotilla_tests::{
    Autoscaler, HOOKED, HookedGroup, Machines, ScaledGroup, World, binary, eventually,
};
use serde_json::{Value, json};

/// Has the log replayed, and says what came of it.
fn replayed(scaler: &Autoscaler) -> (bool, String) {
    let mut command = Command::new(binary("flotilla"));
    let output = command.args(["autoscale", "replay"]).arg(&scaler.log).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What an operator says of a group at this endpoint: the exit code, and what was told.
fn operator(world: &World, what: &str, name: &str, group: &ScaledGroup) -> (Option<i32>, String) {
    let mut command = Command::new(binary("flotilla"));
    command.env("AWS_ENDPOINT_URL_AUTO_SCALING", group.moto.url());
    command.args(["autoscale", what, name, "--stack", world.stack().name()]);
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&told).into_owned())
}

#[tokio::test]
async fn a_burst_grows_a_group_from_zero_and_the_empty_queue_takes_it_back_without_a_kill() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let (mut scaler, mut machines) = (world.autoscale(&group), Machines::default());
    scaler.until_owner().await;
    assert_eq!(group.instances().await.len(), 0);
    for number in 0..12 {
        world.nap(&format!("nap-{number}"), 1500).await;
    }
    machines.until(3, &world, &group).await;
    machines.until(0, &world, &group).await;
    world.until_queue_is_empty().await;
    assert_eq!(world.done_at_once().await, 12, "each job ran once");
    assert_eq!(machines.most, 3, "the maximum is 3");
    assert!(scaler.process.stop().await.success());
    let (same, told) = replayed(&scaler);
    assert!(same, "{told}");
    for decision in scaler.decisions() {
        let reason = &decision["decision"]["reason"];
        assert!(reason.as_str().is_some_and(|words| words.contains(' ')), "{decision}");
    }
}

#[tokio::test]
async fn jobs_on_instances_lost_at_random_run_again_with_one_effect() {
    let world = World::new().await;
    let spot = [("ScaledBy", "autoscaler"), ("Capacity", "spot")];
    let group = ScaledGroup::create(&spot).await;
    let (mut scaler, mut machines) = (world.autoscale(&group), Machines::default());
    for number in 0..12 {
        world.nap(&format!("nap-{number}"), 4000).await;
    }
    for lost in 0..2 {
        machines.until(3, &world, &group).await;
        eventually("work in hand", Duration::from_secs(30), async || {
            machines.follow(&world, &group).await;
            let busy = |line: &Value| {
                let instances = line["observed"]["instances"].as_array();
                instances
                    .is_some_and(|all| all.iter().filter(|it| it["state"] == "busy").count() == 3)
            };
            (scaler.decisions().last().is_some_and(busy) || world.done().await.len() > 9)
                .then_some(())
        })
        .await;
        assert!(world.done().await.len() <= 9, "there is work left to be lost, {lost} are");
        machines.lose_any(&group).await;
    }
    eventually("every job's effect", Duration::from_secs(90), async || {
        machines.follow(&world, &group).await;
        (world.done().await.len() == 12).then_some(())
    })
    .await;
    machines.until(0, &world, &group).await;
    world.until_queue_is_empty().await;
    let again = world.done().await.len() - world.done_at_once().await;
    assert!((1..=2).contains(&again), "{again} ran again, and twelve effects are there");
    assert!(machines.most <= 3, "{} instances where 3 are the maximum", machines.most);
    let taken = |line: &&Value| line["observed"]["spot_interruptions"].as_u64() > Some(0);
    assert!(scaler.decisions().iter().any(|line| taken(&line)), "the loss was seen");
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn one_message_is_enough_though_the_worker_that_is_there_is_dead() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let mut machines = Machines::default();
    let (builder, log) = world.autoscaler(&group);
    let process = builder.env("FLOTILLA_SILENT_SECONDS", "0.7").start();
    let mut scaler = Autoscaler { process, log };
    world.nap("first", 100).await;
    machines.until(1, &world, &group).await;
    world.until_queue_is_empty().await;
    machines.forget_all().await;
    world.nap("second", 100).await;
    eventually("both effects", Duration::from_secs(60), async || {
        machines.follow(&world, &group).await;
        (world.done().await.len() == 2).then_some(())
    })
    .await;
    // The one without a worker is ended, too: nobody idles.
    machines.until(0, &world, &group).await;
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn a_group_or_a_table_that_cannot_be_seen_is_left_as_it_is() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    group.set_desired(2).await;
    let mut machines = Machines::default();
    machines.until(2, &world, &group).await;
    let nowhere = [("FLOTILLA_GROUP", "no-such-group"), ("FLOTILLA_FLEET_TABLE", "no-such-table")];
    for (setting, value) in nowhere {
        let (builder, log) = world.autoscaler(&group);
        let process = builder.env(setting, value).start();
        let mut blind = Autoscaler { process, log };
        eventually("turns", Duration::from_secs(60), async || {
            let failed = blind.process.log().matches("nothing was decided").count();
            (blind.decisions().len() + failed > 10).then_some(())
        })
        .await;
        assert!(blind.decisions().iter().all(|line| line["decision"]["hold"] == true));
        machines.follow(&world, &group).await;
        assert_eq!(group.instances().await.len(), 2, "{setting}");
        blind.process.stop().await;
    }
    let mut scaler = world.autoscale(&group);
    machines.until(0, &world, &group).await;
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn a_shadow_watches_a_group_that_another_sizes_and_says_what_it_would_have_cost() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let (builder, log) = world.autoscaler(&group);
    let process = builder.env("FLOTILLA_SHADOW", "true").start();
    let mut shadow = Autoscaler { process, log };
    shadow.process.until_ready().await;
    group.set_desired(3).await;
    // An instance boots for three seconds here, before its worker is started.
    let booting = |line: &Value| {
        let instances = line["observed"]["instances"].as_array().cloned().unwrap_or_default();
        let long = |it: &Value| {
            let launched = it["launched_at"].as_u64().unwrap_or(u64::MAX);
            line["now"].as_u64().unwrap_or_default().saturating_sub(launched) >= 3_000
        };
        instances.len() == 3 && instances.iter().all(long)
    };
    eventually("three that boot", Duration::from_secs(60), async || {
        shadow.decisions().last().is_some_and(booting).then_some(())
    })
    .await;
    let mut machines = Machines::default();
    machines.until(3, &world, &group).await;
    let before = shadow.decisions().len();
    world.nap("one", 500).await;
    eventually("a while of idling", Duration::from_secs(60), async || {
        machines.follow(&world, &group).await;
        (shadow.decisions().len() > before + 40).then_some(())
    })
    .await;
    let boots = shadow.decisions().pop().unwrap()["decision"]["memory"]["boots_ms"].clone();
    let boots: Vec<u64> = serde_json::from_value(boots).unwrap();
    assert!(!boots.is_empty() && boots.iter().all(|boot| *boot >= 3_000), "{boots:?}");
    assert_eq!(group.instances().await.len(), 3, "it only watches");
    let page = shadow.process.page("/metrics").await.unwrap().1;
    assert!(page.contains("flotilla_autoscaler_shadow_dollars"), "{page}");
    assert!(shadow.process.stop().await.success());
    let said = |more: &[&str]| {
        let mut command = Command::new(binary("flotilla"));
        let output = command.args(["autoscale", "shadow"]).arg(&shadow.log).args(more).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let report: Value = serde_json::from_str(&said(&["--json"])).unwrap();
    let hours = |whose: &str| report[whose]["instance_hours"].as_f64().unwrap();
    assert!(hours("ours") < hours("present"), "{report}");
    assert!(report["saved_dollars"].as_f64() > Some(0.0), "{report}");
    assert!(said(&[]).contains("would have saved"), "{}", said(&[]));
    let mut scaler = world.autoscale(&group);
    machines.until(0, &world, &group).await;
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn the_decisions_hold_what_the_fleet_itself_counts_and_the_prices() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let (builder, log) = world.autoscaler(&group);
    let builder = builder.env("FLOTILLA_PRICES", "t3.micro=0.0104").env("FLOTILLA_WARM", "1");
    let (mut scaler, mut machines) =
        (Autoscaler { process: builder.start(), log }, Machines::default());
    // What is there at the first look did not arrive since.
    eventually("a first look", Duration::from_secs(30), async || {
        (!scaler.decisions().is_empty()).then_some(())
    })
    .await;
    for number in 0..5 {
        world.nap(&format!("nap-{number}"), 300).await;
    }
    machines.until(3, &world, &group).await;
    machines.until(0, &world, &group).await;
    let decisions = scaler.decisions();
    let last = &decisions.last().unwrap()["observed"];
    assert_eq!(last["queues"][0]["finished"], 5, "{last}");
    assert_eq!(last["prices"][0][0], "t3.micro");
    let rate = |line: &Value| line["observed"]["queues"][0]["arrivals_per_s"].as_f64();
    // A rate over less than ten seconds would say little.
    eventually("the burst as arrivals", Duration::from_secs(30), async || {
        scaler.decisions().iter().filter_map(rate).any(|rate| rate > 0.0).then_some(())
    })
    .await;
    let pool = group.describe().await.warm_pool_configuration;
    assert!(pool.is_some_and(|pool| pool.min_size().is_some()), "the policy has a warm pool");
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn what_waits_in_its_terminating_hook_drains_and_is_no_capacity() {
    let world = World::new().await;
    let members = [("i-serving", "InService"), ("i-going", "Terminating:Wait")];
    let group = HookedGroup::start(1, &members).await;
    let mut serving = world.sleeper(HOOKED, "i-serving").start();
    let (builder, log) = world.autoscaler_of(HOOKED, group.url());
    let builder = builder.env("FLOTILLA_REUSE", "0").env("FLOTILLA_MIN_INSTANCES", "1");
    let mut scaler = Autoscaler { process: builder.start(), log };
    world.nap("in-hand", 15_000).await;
    let state = |line: &Value, id: &str| {
        let all = line["observed"]["instances"].as_array().cloned().unwrap_or_default();
        let one = all.into_iter().find(|it| it["id"] == id);
        one.map_or(Value::Null, |it| it["state"].clone())
    };
    eventually("work in hand", Duration::from_secs(30), async || {
        let decisions = scaler.decisions();
        (decisions.last().is_some_and(|it| state(it, "i-serving") == "busy")).then_some(())
    })
    .await;
    let before = scaler.decisions().len();
    eventually("some turns more", Duration::from_secs(20), async || {
        (scaler.decisions().len() > before + 5).then_some(())
    })
    .await;
    assert_eq!(group.calls(), [""; 0], "what is ending is not replaced");
    assert!(scaler.decisions().iter().all(|line| state(line, "i-going") == "draining"));
    world.nap("waits", 100).await;
    eventually("one more for the one that waits", Duration::from_secs(20), async || {
        (group.desired() > 1).then_some(())
    })
    .await;
    assert_eq!(group.desired(), 2);
    assert!(group.calls().iter().all(|call| call == "SetDesiredCapacity 2"), "{:?}", group.calls());
    world.until_queue_is_empty().await;
    assert!(scaler.process.stop().await.success() && serving.stop().await.success());
}

#[tokio::test]
async fn what_cloudwatch_alone_knows_is_in_the_decisions() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let url = world.outputs().grading_queue_url.clone();
    let queue = url.rsplit('/').next().unwrap();
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let datum = |name: &str, value: f64| {
        let dimensions = json!([{ "Name": "QueueName", "Value": queue }]);
        json!({ "MetricName": name, "Dimensions": dimensions, "Value": value, "Timestamp": at.as_secs() - 120 })
    };
    let data =
        [datum("ApproximateAgeOfOldestMessage", 4321.0), datum("NumberOfMessagesSent", 90.0)];
    let body = json!({ "Namespace": "AWS/SQS", "MetricData": data }).to_string();
    let sdk = flotilla_runtime::aws::sdk_config().await;
    let headers = [
        ("content-type", "application/x-amz-json-1.0"),
        ("x-amz-target", "GraniteServiceVersion20100801.PutMetricData"),
    ];
    let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap();
    let call = Call {
        service: "monitoring",
        region: "us-east-1",
        url: &endpoint,
        headers: &headers,
        body: Some(&body),
    };
    assert_eq!(call.send(&sdk).await.unwrap().0, 200);
    let mut scaler = world.autoscale(&group);
    eventually("its age", Duration::from_secs(30), async || {
        let age = |line: &Value| line["observed"]["queues"][0]["oldest_ms"].as_f64();
        scaler.decisions().iter().any(|line| age(line) == Some(4_321_000.0)).then_some(())
    })
    .await;
    let first = &scaler.decisions()[0]["observed"]["queues"][0];
    // LocalStack counts what is sent by itself, so the number is not always the one put above.
    let rate = first["arrivals_per_s"].as_f64().unwrap_or_default();
    assert!(rate > 0.0, "before the fleet's own books can tell: {first}");
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn one_message_is_enough_to_leave_zero() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let (mut scaler, mut machines) = (world.autoscale(&group), Machines::default());
    world.nap("only", 100).await;
    machines.until(1, &world, &group).await;
    machines.until(0, &world, &group).await;
    assert_eq!((world.done_at_once().await, machines.started), (1, 1));
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn a_frozen_autoscaler_decides_and_does_nothing_until_it_is_thawed() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let said = |what| operator(&world, what, &group.name, &group);
    // It exists, though nothing of it ever ran.
    assert_eq!(said("freeze").0, Some(0), "{}", said("freeze").1);
    let (mut scaler, mut machines) = (world.autoscale(&group), Machines::default());
    world.nap("waits", 100).await;
    let wants_one = |line: &Value| {
        let frozen = line["done"][0].as_str().is_some_and(|done| done.contains("frozen"));
        frozen && line["decision"]["desired"] == 1
    };
    eventually("frozen decisions", Duration::from_secs(30), async || {
        (scaler.decisions().iter().filter(|line| wants_one(line)).count() > 5).then_some(())
    })
    .await;
    assert_eq!(group.describe().await.desired_capacity(), Some(0));
    assert!(said("thaw").1.contains("acts again") && said("thaw").1.contains("was not frozen"));
    machines.until(1, &world, &group).await;
    machines.until(0, &world, &group).await;
    for what in ["freeze", "thaw"] {
        let (code, told) = operator(&world, what, "fleet-typo", &group);
        assert!(code == Some(2) && told.contains(&group.name), "{what}: {code:?} {told}");
    }
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn without_its_inputs_it_holds_and_never_shrinks() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    group.set_desired(2).await;
    let mut machines = Machines::default();
    machines.until(2, &world, &group).await;
    let (builder, log) = world.autoscaler(&group);
    let nowhere = format!("{}-nowhere", world.outputs().grading_queue_url);
    let process = builder.env("FLOTILLA_QUEUE_URLS", nowhere).start();
    let mut blind = Autoscaler { process, log };
    eventually("decisions", Duration::from_secs(60), async || {
        (blind.decisions().len() > 15).then_some(())
    })
    .await;
    assert!(blind.decisions().iter().all(|line| line["decision"]["hold"] == true));
    machines.follow(&world, &group).await;
    assert_eq!(group.instances().await.len(), 2);
    assert!(blind.process.stop().await.success());
    let mut scaler = world.autoscale(&group);
    machines.until(0, &world, &group).await;
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn a_log_that_was_changed_is_found_out_by_its_line() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let mut scaler = world.autoscale(&group);
    eventually("decisions", Duration::from_secs(30), async || {
        (scaler.decisions().len() > 2).then_some(())
    })
    .await;
    assert!(scaler.process.stop().await.success());
    let text = std::fs::read_to_string(&scaler.log).unwrap();
    let changed = text.replacen("\"desired\":0", "\"desired\":1", 1);
    assert_ne!(text, changed);
    std::fs::write(&scaler.log, changed).unwrap();
    let (same, told) = replayed(&scaler);
    assert!(!same && told.contains("line 1"), "{told}");
    // Nor is a log without any decision one whose decisions are the same.
    std::fs::write(&scaler.log, "\n").unwrap();
    assert!(!replayed(&scaler).0);
    let mut shadow = Command::new(binary("flotilla"));
    let shadow = shadow.args(["autoscale", "shadow"]).arg(&scaler.log).output().unwrap();
    assert_eq!(shadow.status.code(), Some(1), "what nobody decided saves nothing");
}
