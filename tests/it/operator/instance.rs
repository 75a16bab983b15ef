//! What ends an instance.

use std::time::{Duration, SystemTime};

use flotilla_tests::{FakeInstance, World, eventually};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::hand_in;

#[tokio::test]
async fn an_instance_is_protected_while_busy_and_drains_when_its_group_ends_it() {
    let (world, instance) = tokio::join!(World::new(), FakeInstance::start("i-0123"));
    let mut worker = instance.under(world.grading_worker()).ready().await;
    let count = |call: &str| instance.calls().iter().filter(|it| *it == call).count();
    instance.until("SetInstanceProtection false").await;
    assert_eq!(instance.calls().len(), 1, "an idle instance is left alone: {:?}", instance.calls());
    let first = hand_in(&world, "one", 0.5).await;
    instance.until("SetInstanceProtection true").await;
    assert_eq!(world.verdict(&first).await, "AC");
    eventually("no protection", Duration::from_secs(30), async || {
        (count("SetInstanceProtection false") == 2).then_some(())
    })
    .await;

    let second = hand_in(&world, "two", 3.0).await;
    eventually("protection again", Duration::from_secs(30), async || {
        (count("SetInstanceProtection true") == 2).then_some(())
    })
    .await;
    instance.says("autoscaling/target-lifecycle-state", "Terminated");
    assert!(worker.end().await.success());
    assert_eq!(world.verdict(&second).await, "AC");
    assert_eq!(instance.calls().last().unwrap(), "CompleteLifecycleAction CONTINUE");
    assert!(count("RecordLifecycleActionHeartbeat") > 0, "{:?}", instance.calls());
}

#[tokio::test]
async fn an_instance_that_ends_while_its_worker_starts_is_waited_for_no_longer_than_that() {
    let (world, instance) = tokio::join!(World::new(), FakeInstance::start("i-0123"));
    // SQS does not answer: the worker would try to open its queue for ever.
    let nowhere = ("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9");
    let mut worker = instance.under(world.grading_worker()).env(nowhere.0, nowhere.1).start();
    instance.until("SetInstanceProtection false").await;
    instance.says("autoscaling/target-lifecycle-state", "Terminated");
    assert!(worker.end().await.success());
    assert_eq!(instance.calls().last().unwrap(), "CompleteLifecycleAction CONTINUE");
}

#[tokio::test]
async fn a_spot_notice_cuts_the_grace_to_what_the_instance_has_left() {
    let (world, instance) = tokio::join!(World::new(), FakeInstance::start("i-0123"));
    let worker = instance.under(world.grading_worker()).env("FLOTILLA_GRACE_SECONDS", "600");
    let mut worker = worker.ready().await;
    let _long = hand_in(&world, "long", 50.0).await;
    instance.until("SetInstanceProtection true").await;
    let end = Timestamp::try_from(SystemTime::now() + Duration::from_secs(15)).unwrap();
    let notice = json!({ "action": "terminate", "time": end.to_string() });
    let start = Instant::now();
    instance.says("spot/instance-action", &notice.to_string());
    assert!(worker.end().await.success());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    // Handed back, for another instance.
    world.until_messages(1).await;
    let purge = world.aws.sqs.purge_queue().queue_url(&world.outputs().grading_queue_url);
    purge.send().await.unwrap();
}
