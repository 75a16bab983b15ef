use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::fake::FakeAws;

const PROTECT: &str = "SetInstanceProtection";
const BEAT_HOOK: &str = "RecordLifecycleActionHeartbeat";

/// An instance whose metadata says in which state it is to be.
async fn instance(state: &Arc<Mutex<&'static str>>) -> (FakeAws, Arc<Instance>) {
    instance_with(state, None).await
}

/// The same, with this answer to each heartbeat of the hook.
async fn instance_with(
    state: &Arc<Mutex<&'static str>>,
    beats: Option<Value>,
) -> (FakeAws, Arc<Instance>) {
    let state = state.clone();
    let fake = FakeAws::new(move |operation, _| match operation {
        BEAT_HOOK if beats.is_some() => beats.clone().unwrap_or_default(),
        "PUT /latest/api/token" => json!({ "__text": "a-token" }),
        "GET /latest/meta-data/instance-id" => json!({ "__text": "i-0123" }),
        "GET /latest/meta-data/autoscaling/target-lifecycle-state" => {
            json!({ "__text": *state.lock().unwrap() })
        }
        "GET /latest/meta-data/spot/instance-action" => {
            match state.lock().unwrap().strip_prefix("spot ") {
                Some(time) => {
                    json!({ "__text": json!({ "action": "terminate", "time": time }).to_string() })
                }
                None => json!({ "__status": 404, "__text": "none" }),
            }
        }
        _ if operation.starts_with("GET ") => json!({ "__status": 404, "__text": "none" }),
        call => json!({ "__text": format!(
            "<{call}Response><{call}Result/><ResponseMetadata><RequestId>r</RequestId>\
             </ResponseMetadata></{call}Response>"
        ) }),
    });
    let config = InstanceConfig {
        metadata: true,
        group: Some("a-group".to_owned()),
        hook: "terminating".to_owned(),
        protect: true,
        unprotect_after: Duration::from_secs(30),
    };
    let found = Instance::find(config, &fake.sdk()).await.unwrap().unwrap();
    (fake, found)
}

/// What the group was told of the protection, in its order.
fn told(fake: &FakeAws) -> Vec<Value> {
    let calls = fake.calls().into_iter().filter(|(call, _)| call == PROTECT);
    calls.map(|(_, body)| body["ProtectedFromScaleIn"].clone()).collect()
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_hook_is_heartbeated_for_as_long_as_the_drain_lasts_and_completed_after_it() {
    let state = Arc::new(Mutex::new("InService"));
    let (fake, instance) = instance(&state).await;
    let (drain, end) = (Arc::new(Drain::new(Duration::from_secs(90))), CancellationToken::new());
    let watching = tokio::spawn(instance.watch(drain.clone(), end.clone()));
    pass(60).await;
    assert!(!drain.begun().is_cancelled());
    assert_eq!(fake.count("RecordLifecycleActionHeartbeat"), 0);
    *state.lock().unwrap() = "Terminated";
    pass(70).await;
    assert!(drain.begun().is_cancelled());
    // The shortest that a hook waits is half a minute.
    let beats = fake.count("RecordLifecycleActionHeartbeat");
    assert!((4..=6).contains(&beats), "{beats} heartbeats in 65 s or so");
    assert_eq!(fake.count("CompleteLifecycleAction"), 0, "it is not drained yet");
    end.cancel();
    assert!(watching.await.unwrap(), "the group waits");
    assert_eq!(fake.calls().last().unwrap().0, "CompleteLifecycleAction");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_out_of_the_warm_pool_drains_and_completes_its_hook() {
    let state = Arc::new(Mutex::new("Warmed:Stopped"));
    let (fake, instance) = instance(&state).await;
    let (drain, end) = (Arc::new(Drain::new(Duration::from_secs(90))), CancellationToken::new());
    let watching = tokio::spawn(instance.clone().watch(drain.clone(), end.clone()));
    let serving = tokio::spawn(async move { instance.in_service().await });
    pass(60).await;
    assert!(!drain.begun().is_cancelled() && !serving.is_finished());
    *state.lock().unwrap() = "Warmed:Terminated";
    pass(10).await;
    assert!(drain.begun().is_cancelled() && !serving.is_finished(), "it never serves");
    assert_eq!(fake.count("CompleteLifecycleAction"), 0, "it is not drained yet");
    end.cancel();
    assert!(watching.await.unwrap(), "the group waits");
    assert_eq!(fake.count("CompleteLifecycleAction"), 1);
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_the_hook_that_fails_neither_ends_the_drain_nor_the_heartbeats() {
    let refused = json!({ "__status": 400, "__text": "<ErrorResponse><Error><Code>ValidationError</Code>\
        <Message>No active Lifecycle Action found</Message></Error></ErrorResponse>" });
    for answer in [refused, json!({ "__status": 500, "__text": "" }), json!({ "__hang": 600 })] {
        let state = Arc::new(Mutex::new("Terminated"));
        let (fake, instance) = instance_with(&state, Some(answer.clone())).await;
        let (drain, end) =
            (Arc::new(Drain::new(Duration::from_secs(300))), CancellationToken::new());
        let watching = tokio::spawn(instance.watch(drain.clone(), end.clone()));
        pass(200).await;
        assert!(drain.begun().is_cancelled());
        assert!(tokio::time::timeout(Duration::from_secs(1), drain.over()).await.is_err());
        let beats = fake.count(BEAT_HOOK);
        assert!(beats >= 4, "{beats} heartbeats in 200 s, answered {answer}");
        assert_eq!(fake.count("CompleteLifecycleAction"), 0, "{answer}");
        end.cancel();
        assert!(watching.await.unwrap(), "the group waits");
        assert_eq!(fake.calls().last().unwrap().0, "CompleteLifecycleAction", "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_spot_notice_leaves_ten_seconds_for_the_end_of_the_process() {
    let end = DateTime::from(SystemTime::now() + Duration::from_secs(40));
    let notice = format!("spot {}", end.fmt(Format::DateTime).unwrap());
    let (_, instance) = instance(&Arc::new(Mutex::new(notice.leak()))).await;
    let (drain, end) = (Arc::new(Drain::new(Duration::from_secs(90))), CancellationToken::new());
    let watching = tokio::spawn(instance.watch(drain.clone(), end.clone()));
    let begun = tokio::time::Instant::now();
    drain.over().await;
    // The time of the notice is one of the real clock, which hardly moves meanwhile.
    assert!((20..=30).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    end.cancel();
    assert!(!watching.await.unwrap(), "no group waits for it");
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_protected_while_it_works_and_not_before_nor_after() {
    let (fake, instance) = instance(&Arc::new(Mutex::new("InService"))).await;
    let (in_hand, end) = (watch::Sender::new(0), CancellationToken::new());
    let protecting = tokio::spawn(instance.clone().protect(in_hand.subscribe(), end.clone()));
    pass(5).await;
    assert_eq!(told(&fake), ["false"], "what a worker that was killed has left on");
    in_hand.send_replace(1);
    pass(5).await;
    assert_eq!(told(&fake), ["false", "true"]);
    in_hand.send_replace(0);
    pass(25).await;
    in_hand.send_replace(2);
    pass(60).await;
    assert_eq!(told(&fake).len(), 2, "it had hardly been idle");
    in_hand.send_replace(0);
    pass(40).await;
    assert_eq!(told(&fake), ["false", "true", "false"]);
    end.cancel();
    assert!(!protecting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_worker_knows_of_the_protection_that_it_has_to_take_off() {
    let (fake, instance) = instance(&Arc::new(Mutex::new("InService"))).await;
    let (in_hand, end) = (watch::Sender::new(0), CancellationToken::new());
    let protecting = tokio::spawn(instance.clone().protect(in_hand.subscribe(), end.clone()));
    pass(5).await;
    in_hand.send_replace(1);
    pass(5).await;
    in_hand.send_replace(0);
    end.cancel();
    assert!(protecting.await.unwrap(), "it has been idle for too short to have taken it off");
    instance.unprotect().await;
    assert_eq!(told(&fake), ["false", "true", "false"]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_serves_once_it_is_wanted_outside_of_the_warm_pool() {
    for warmed in ["Warmed:Stopped", "Warmed:Running", "Warmed:Hibernated"] {
        let state = Arc::new(Mutex::new(warmed));
        let (_, instance) = instance(&state).await;
        let serving = tokio::spawn(async move { instance.in_service().await });
        pass(600).await;
        assert!(!serving.is_finished(), "{warmed}");
        *state.lock().unwrap() = "InService";
        pass(2).await;
        assert!(serving.is_finished(), "{warmed}");
    }
}
