//! Notifications: who is told, once, and who next.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use flotilla_tests::{Recorded, Recorder, Worker, WorkerBuilder, World, eventually, reading};
use serde_json::{Value, json};

/// A time in 2023, in Unix seconds.
const THEN: i64 = 1_700_000_000;

fn notifier(world: &World, policy: &str) -> WorkerBuilder {
    let path: PathBuf = world.folder().join("notify.toml");
    std::fs::write(&path, policy).unwrap();
    world.sensor_gateway().env("FLOTILLA_NOTIFY_FILE", path).env("HOOK_SECRET", "secret")
}

async fn say(world: &World, readings: &[Value]) {
    for reading in readings {
        world.measure(std::slice::from_ref(reading)).await;
        world.until_compared().await;
    }
}

async fn acknowledge(gateway: &Worker, id: &str) {
    let path = format!("/v1/problems/{id}/acknowledge");
    let body = r#"{"by":"ada"}"#;
    assert_eq!(gateway.send("POST", &path, "application/json", body).await.0, 200);
}

/// Target, problem and event of each.
fn gists(requests: &[Recorded]) -> Vec<String> {
    let gist = |it: &Recorded| {
        let body = it.json();
        let [target, event] =
            ["target", "event"].map(|name| body[name].as_str().unwrap().to_owned());
        format!("{target} {} {event}", body["problem"]["problem_id"].as_str().unwrap())
    };
    requests.iter().map(gist).collect()
}

#[tokio::test]
async fn a_problem_is_told_once_then_to_the_next_and_its_end_to_those_who_were_told() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let hook = Recorder::new(|_| (204, String::new())).await;
    let policy = format!(
        "[[targets]]\nname = 'first'\nwebhook = '{0}/a'\nsecret_env = 'HOOK_SECRET'\n\
         [[targets]]\nname = 'next'\nwebhook = '{0}/b'\nafter = '6s'\nended = false\n\
         [[targets]]\nname = 'others'\nwebhook = '{0}/c'\nkinds = ['SILENCE']\n",
        hook.url()
    );
    let mut gateway = notifier(&world, &policy).ready().await;
    // A second one waits.
    let mut second = notifier(&world, &policy).ready().await;
    say(&world, &[reading("01", 100, THEN), reading("02", 50, THEN + 1)]).await;
    say(&world, &[reading("11", 100, THEN), reading("12", 50, THEN + 1)]).await;
    hook.until(2).await;
    acknowledge(&gateway, "1112").await;
    let told = hook.until(3).await;
    assert_eq!(gists(&told), ["first 0102 opened", "first 1112 opened", "next 0102 opened"]);
    let after = told[2].at.duration_since(told[0].at);
    assert!(after >= Duration::from_secs(5), "{after:?}");
    let signed = &told[0].headers["flotilla-signature"];
    assert!(signed.starts_with("t=") && signed.len() > 70, "{signed}");
    assert!(!told[2].headers.contains_key("flotilla-signature"));
    assert_eq!(told[0].json()["problem"]["problem"], "OBSTRUCTION");
    // Killed, and another takes over: nothing is told again, and what happens meanwhile is told.
    gateway.kill().await;
    say(&world, &[reading("02", 100, THEN + 9), reading("12", 100, THEN + 9)]).await;
    let told = eventually("the ends", Duration::from_secs(60), async || {
        Some(hook.requests()).filter(|it| it.len() >= 5)
    })
    .await;
    let mut ends = gists(&told[3..]);
    ends.sort();
    assert_eq!(ends, ["first 0102 ended", "first 1112 ended"]);
    let ids: std::collections::HashSet<_> =
        told.iter().map(|it| it.headers["flotilla-notification"].clone()).collect();
    assert_eq!(ids.len(), told.len());
    assert!(!second.log().contains("secret"));
    assert!(second.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn a_problem_whose_opening_moves_is_told_on_and_one_of_another_kind_is_told_too() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let hook = Recorder::new(|_| (204, String::new())).await;
    let policy = format!("dedup = '30m'\n[[targets]]\nname = 'a'\nwebhook = '{}/a'\n", hook.url());
    let mut gateway = notifier(&world, &policy).ready().await;
    say(&world, &[reading("01", 100, THEN), reading("02", 50, THEN + 10)]).await;
    hook.until(1).await;
    // It opened before, a reading that comes late shows; and then after that.
    say(&world, &[reading("02", 50, THEN + 5)]).await;
    world.measure(&[reading("01", 50, THEN + 1), reading("01", 100, THEN + 7)]).await;
    world.until_compared().await;
    say(&world, &[reading("02", 100, THEN + 20)]).await;
    let told = hook.until(2).await;
    assert_eq!(gists(&told), ["a 0102 opened", "a 0102 ended"]);
    let opened = |it: &Recorded| it.json()["problem"]["opened"].as_i64();
    assert_eq!(opened(&told[0]), Some((THEN + 10) * 1000));
    assert_eq!(opened(&told[1]), Some((THEN + 7) * 1000));
    // Now more arrives than flows: that is no problem that came back.
    say(&world, &[reading("02", 150, THEN + 30)]).await;
    let told = hook.until(3).await;
    assert_eq!(gists(&told)[2..], ["a 0102 opened"]);
    assert_eq!(told[2].json()["problem"]["problem"], "PROBLEM");
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn a_target_that_fails_is_tried_again_until_it_takes_it() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let calls = AtomicUsize::new(0);
    let hook = Recorder::new(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => (500, String::new()),
        _ => (200, String::new()),
    })
    .await;
    let policy = format!("[[targets]]\nname = 'a'\nwebhook = '{}/a'\n", hook.url());
    let mut gateway = notifier(&world, &policy).ready().await;
    say(&world, &[reading("01", 100, THEN), reading("02", 50, THEN + 1)]).await;
    let told = hook.until(3).await;
    assert!(told[2].at.duration_since(told[1].at) >= Duration::from_secs(1));
    let ids = told.iter().map(|it| &it.headers["flotilla-notification"]);
    assert_eq!(ids.collect::<std::collections::HashSet<_>>().len(), 1);
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn who_is_not_to_be_woken_is_told_when_the_quiet_hours_end_and_the_next_meanwhile() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let hook = Recorder::new(|_| (204, String::new())).await;
    let now = jiff::Timestamp::now().as_second();
    // They end with a minute, and not before the problem is there.
    let end = (now + 45).div_euclid(60) * 60 + 60;
    let wakes = Instant::now() + Duration::from_secs((end - now - 1) as u64);
    let clock = |at: i64| format!("{:02}:{:02}", at / 3600 % 24, at / 60 % 60);
    let policy = format!(
        "[[targets]]\nname = 'asleep'\nwebhook = '{0}/a'\n\
         quiet = {{ from = '{1}', to = '{2}', zone = 'UTC' }}\n\
         [[targets]]\nname = 'awake'\nwebhook = '{0}/b'\nafter = '1s'\n",
        hook.url(),
        clock(end - 7200),
        clock(end)
    );
    let mut gateway = notifier(&world, &policy).ready().await;
    say(&world, &[reading("01", 100, THEN), reading("02", 50, THEN + 1)]).await;
    let told = eventually("both", Duration::from_secs(150), async || {
        Some(hook.requests()).filter(|it| it.len() >= 2)
    })
    .await;
    assert_eq!(gists(&told), ["awake 0102 opened", "asleep 0102 opened"]);
    assert!(told[0].at < wakes && told[1].at >= wakes, "{:?}", told[1].at - wakes);
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn a_topic_is_told_by_sns() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let sdk = flotilla_runtime::aws::sdk_config().await;
    let (sns, sqs) = (aws_sdk_sns::Client::new(&sdk), &world.aws.sqs);
    let name = world.stack().name().to_owned();
    let topic = sns.create_topic().name(&name).send().await.unwrap().topic_arn.unwrap();
    let queue = sqs.create_queue().queue_name(format!("{name}-told")).send().await.unwrap();
    let queue = queue.queue_url.unwrap();
    let all = aws_sdk_sqs::types::QueueAttributeName::QueueArn;
    let answer = sqs.get_queue_attributes().queue_url(&queue).attribute_names(all.clone());
    let arn = answer.send().await.unwrap().attributes.unwrap()[&all].clone();
    let call = sns.subscribe().topic_arn(&topic).protocol("sqs").endpoint(arn);
    call.send().await.unwrap();
    let policy = format!("[[targets]]\nname = 'chief'\nsns = '{topic}'\n");
    let mut gateway = notifier(&world, &policy).ready().await;
    say(&world, &[reading("01", 100, THEN), reading("02", 50, THEN + 1)]).await;
    let told = eventually("a message", Duration::from_secs(30), async || {
        let call = sqs.receive_message().queue_url(&queue).wait_time_seconds(2);
        call.send().await.unwrap().messages.unwrap_or_default().pop()?.body
    })
    .await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["Subject"], "OBSTRUCTION 0102 opened");
    let body: Value = serde_json::from_str(told["Message"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&body["target"], &body["problem"]["problem_status"]),
        (&json!("chief"), &json!("UNRESOLVED"))
    );
    sns.delete_topic().topic_arn(&topic).send().await.unwrap();
    sqs.delete_queue().queue_url(&queue).send().await.unwrap();
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn a_policy_with_a_mistake_is_refused_with_its_place() {
    let world = World::new().await;
    for (policy, why) in [
        ("", "0 targets"),
        ("[[targets]]\nname = 'a'\n", "either webhook"),
        ("[[targets]]\nname = 'a'\nwebhook = 'file:///etc/passwd'\n", "http"),
        ("[[targets]]\nname = 'a'\nwebhook = 'http://x'\nsecret_env = 'NONE_SUCH'\n", "NONE_SUCH"),
        ("[[targets]]\nname = 'a'\nsns = 't'\nafter = 'soon'\n", "no time"),
        (
            "[[targets]]\nname = 'a'\nsns = 't'\nquiet = { from = '22:00', to = '06:00', zone = 'X/Y' }\n",
            "X/Y",
        ),
    ] {
        let mut gateway = notifier(&world, policy).start();
        assert!(!gateway.end().await.success(), "{policy}");
        let log = gateway.log();
        assert!(log.contains(why) && log.contains("FLOTILLA_NOTIFY_FILE"), "{policy}: {log}");
        std::fs::write(world.folder().join("notify.toml"), "").unwrap();
    }
}
