//! The autoscaler beside others: an owner that was stopped, several queues, a lack of capacity, senders
//! that count, and instances of a warm pool.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_runtime::{aws, tally};
use flotilla_tests::{
    Autoscaler, FakeInstance, HOOKED, HookedGroup, Machines, ScaledGroup, World, eventually,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

async fn until_decisions(scaler: &Autoscaler, more: usize) {
    let before = scaler.decisions().len();
    let there = async || (scaler.decisions().len() >= before + more).then_some(());
    eventually("decisions", SOON, there).await;
}

#[tokio::test]
async fn one_owner_acts_at_a_time_and_another_follows_one_that_is_stopped_or_lost() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let mut first = world.autoscale(&group);
    first.until_owner().await;
    let mut second = world.autoscale(&group);
    second.process.until_ready().await;
    until_decisions(&first, 8).await;
    assert!(second.decisions().is_empty() && !second.owns().await, "it stands by");
    first.process.signal(Signal::SIGSTOP);
    second.until_owner().await;
    let done = first.decisions().len();
    world.nap("after", 100).await;
    let mut machines = Machines::default();
    machines.until(1, &world, &group).await;
    first.process.signal(Signal::SIGCONT);
    until_decisions(&second, 6).await;
    machines.until(0, &world, &group).await;
    let late = first.decisions().split_off(done);
    assert!(late.len() <= 1, "the turn that it was stopped in, and none after: {late:?}");
    let nothing =
        |line: &Value| line["done"][0].as_str().is_none_or(|it| it.starts_with("nothing"));
    assert!(late.iter().all(nothing), "{late:?}");
    assert!(!first.owns().await && second.owns().await);
    second.process.kill().await;
    first.until_owner().await;
    until_decisions(&first, 1).await;
    assert!(first.process.stop().await.success());
}

#[tokio::test]
async fn one_group_serves_two_queues_from_and_to_zero() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let other = world.outputs().anomaly_queue_url.clone();
    let urls = format!("{},{other}", world.outputs().grading_queue_url);
    let (builder, log) = world.autoscaler(&group);
    let builder = builder.env("FLOTILLA_QUEUE_URLS", &urls);
    let mut scaler = Autoscaler { process: builder.start(), log };
    let mut machines = Machines::on(&urls);
    let send = async |id: &str, ms: u64| {
        let body = json!({ "id": id, "ms": ms }).to_string();
        let call = world.aws.sqs.send_message().queue_url(&other).message_body(body);
        call.send().await.expect("SendMessage");
    };
    // One message on the second queue is enough.
    send("only", 100).await;
    machines.until(1, &world, &group).await;
    machines.until(0, &world, &group).await;
    for number in 0..4 {
        send(&format!("other-{number}"), 1_000).await;
        world.nap(&format!("nap-{number}"), 1_000).await;
    }
    machines.until(3, &world, &group).await;
    machines.until(0, &world, &group).await;
    assert_eq!(world.done_at_once().await, 9, "each ran once, on either queue");
    assert_eq!(machines.most, 3);
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn after_a_launch_failed_for_want_of_capacity_no_more_are_asked_for() {
    let world = World::new().await;
    let group = HookedGroup::start(1, &[("i-serving", "InService")]).await;
    group.has_no_capacity();
    let mut serving = world.sleeper(HOOKED, "i-serving").start();
    let (builder, log) = world.autoscaler_of(HOOKED, group.url());
    let builder = builder.env("FLOTILLA_REUSE", "0");
    let mut scaler = Autoscaler { process: builder.start(), log };
    world.nap("in-hand", 6_000).await;
    world.nap("waits", 100).await;
    let errors = |line: &Value| line["observed"]["capacity_errors"] == 1;
    eventually("the failure seen", SOON, async || {
        scaler.decisions().iter().any(errors).then_some(())
    })
    .await;
    let asked = group.calls().len();
    for number in 0..3 {
        world.nap(&format!("more-{number}"), 100).await;
    }
    until_decisions(&scaler, 6).await;
    assert_eq!(group.calls().len(), asked, "{:?}", group.calls());
    let said = |line: &Value| {
        line["decision"]["reason"].as_str().is_some_and(|it| it.contains("want of capacity"))
    };
    assert!(scaler.decisions().iter().any(said), "{:?}", scaler.decisions().last());
    assert_eq!(
        scaler.decisions().iter().filter(|line| errors(line)).count(),
        1,
        "each counts once"
    );
    world.until_queue_is_empty().await;
    assert!(scaler.process.stop().await.success() && serving.stop().await.success());
}

/// The counts of a queue in the last decision: sent, and done with.
fn booked(scaler: &Autoscaler) -> Option<(u64, u64)> {
    let line = scaler.decisions().pop()?;
    let queue = &line["observed"]["queues"][0];
    queue["sent"].as_u64().zip(queue["finished"].as_u64())
}

#[tokio::test]
async fn what_is_sent_is_counted_by_its_senders_and_done_with_by_its_workers() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let url = world.outputs().grading_queue_url.clone();
    let (builder, log) = world.autoscaler(&group);
    let builder = builder.env("FLOTILLA_COUNTED_QUEUES", &url);
    let mut scaler = Autoscaler { process: builder.start(), log };
    eventually("an account", SOON, async || booked(&scaler)).await;
    let dynamo = aws::dynamo_client(&aws::sdk_config().await);
    let mut machines = Machines::default();
    let sending = async {
        for number in 0..7 {
            world.nap(&format!("nap-{number}"), 500).await;
            tally::sent(&url, 1);
        }
        machines.until(3, &world, &group).await;
        machines.until(0, &world, &group).await;
    };
    tally::telling(Some(&world.outputs().fleet_table_name), dynamo, sending).await;
    let seven = async || booked(&scaler).filter(|(sent, gone)| (*sent, *gone) == (7, 7)).map(drop);
    eventually("seven sent and seven done with", SOON, seven).await;
    assert_eq!(world.done_at_once().await, 7);
    // Each step of the account was logged, so that the decisions can be made again.
    let there = scaler.decisions().into_iter().filter_map(|line| {
        let queue = &line["observed"]["queues"][0];
        Some(queue["sent"].as_u64()? - queue["finished"].as_u64()?)
    });
    assert!(there.max() >= Some(3), "what was there was seen");
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn the_gateway_writes_down_what_it_sends() {
    let world = World::new().await;
    let table = world.outputs().fleet_table_name.clone();
    let gateway = world.sensor_gateway().env("FLOTILLA_FLEET_TABLE", &table);
    let mut gateway = gateway.ready().await;
    let readings = json!([{ "id": "01", "filling": 5 }, { "id": "02", "filling": 7 }]).to_string();
    let sent = async || {
        let url = &world.outputs().anomaly_queue_url;
        let queue = url.rsplit('/').next().unwrap_or_default();
        let call = world.aws.dynamo.query().table_name(&table);
        let call = call.key_condition_expression("#group = :group");
        let call = call.expression_attribute_names("#group", "group");
        let call = call.expression_attribute_values(":group", Attr::S(tally::group_of(queue)));
        let rows = call.send().await.expect("Query").items.unwrap_or_default();
        rows.iter().map(|row| row["sent"].as_n().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    let json_body = "application/json";
    gateway.send("POST", "/v1/readings", json_body, &readings).await;
    eventually("two sent", SOON, async || (sent().await == 2).then_some(())).await;
    gateway.send("POST", "/v1/readings", json_body, &readings).await;
    assert!(gateway.stop().await.success());
    assert_eq!(sent().await, 4, "what was sent last is written at its end");
    let purge = world.aws.sqs.purge_queue().queue_url(&world.outputs().anomaly_queue_url);
    purge.send().await.expect("PurgeQueue");
}

#[tokio::test]
async fn a_worker_on_an_instance_of_the_warm_pool_receives_nothing_before_it_is_to_serve() {
    let (world, instance) = tokio::join!(World::new(), FakeInstance::start("i-0123"));
    instance.says("autoscaling/target-lifecycle-state", "Warmed:Running");
    let mut worker = instance.under(world.sleeper("a-group", "i-0123")).start();
    world.nap("waits", 100).await;
    eventually("its word", SOON, async || worker.log().contains("in the warm pool").then_some(()))
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.done().await.len(), 0);
    assert_ne!(worker.page("/readyz").await.map(|(status, _)| status), Some(200));
    instance.says("autoscaling/target-lifecycle-state", "InService");
    world.until_queue_is_empty().await;
    assert_eq!(world.done_at_once().await, 1);
    assert!(worker.stop().await.success());
}
