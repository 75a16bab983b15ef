//! What the autoscaler leaves alone: who is at work, and a group's fixed size.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_tests::{Autoscaler, HOOKED, HookedGroup, Machines, ScaledGroup, World, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

#[tokio::test]
async fn an_order_that_meets_a_long_job_lets_it_end() {
    let world = World::new().await;
    let mut worker = world.sleeper("a-group", "i-0123").env("FLOTILLA_GRACE_SECONDS", "1").start();
    world.nap("long", 5_000).await;
    let held = async || world.fleet_row("a-group", "i-0123").await.get("held").cloned();
    let one = Some(Attr::N("1".to_owned()));
    let in_hand = async || (held().await == one).then_some(());
    eventually("the job in hand", Duration::from_secs(30), in_hand).await;
    world.order_to_drain("a-group", "i-0123").await;
    assert!(worker.end().await.success());
    let log = worker.log();
    assert!(!log.contains("the grace is over"), "{log}");
    assert_eq!(world.done_at_once().await, 1, "it was not cut off");
    assert!(world.fleet_row("a-group", "i-0123").await.contains_key("drained"));
}

#[tokio::test]
async fn busy_workers_that_cannot_tell_of_themselves_are_left() {
    let world = World::new().await;
    let group = HookedGroup::start(1, &[("i-mute", "InService")]).await;
    let mute = world.sleeper(HOOKED, "i-mute").env("FLOTILLA_FLEET_TABLE", "no-such-table");
    let mut worker = mute.start();
    let (builder, log) = world.autoscaler_of(HOOKED, group.url());
    // Given up after ten seconds, where nobody is at work.
    let builder = builder.env("FLOTILLA_SILENT_SECONDS", "0.5");
    let mut scaler = Autoscaler { process: builder.start(), log };
    world.nap("long", 15_000).await;
    eventually("the job's end", Duration::from_secs(60), async || {
        let ordered = world.fleet_row(HOOKED, "i-mute").await.contains_key("drain");
        let done = world.done().await.len() == 1;
        assert!(done || !ordered, "it was at work when it was ordered to drain");
        done.then_some(())
    })
    .await;
    assert_eq!(world.done_at_once().await, 1);
    let ends = || group.calls().iter().any(|call| call.starts_with("Terminate"));
    assert!(!ends(), "{:?}", group.calls());
    // What nobody hears of and nobody needs is ended after all.
    eventually("its end", Duration::from_secs(60), async || ends().then_some(())).await;
    assert!(scaler.process.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn an_instance_of_a_group_of_a_fixed_size_is_replaced_and_not_taken_away() {
    let world = World::new().await;
    let fixed = [("ScaledBy", "autoscaler"), ("MinSize", "2"), ("MaxSize", "2")];
    let group = ScaledGroup::create(&fixed).await;
    let mut machines = Machines::default();
    machines.until(2, &world, &group).await;
    let before = group.instances().await;
    let (builder, log) = world.autoscaler(&group);
    let builder = builder.env("FLOTILLA_SILENT_SECONDS", "1");
    let mut scaler = Autoscaler { process: builder.start(), log };
    scaler.until_owner().await;
    machines.until_all_consume().await;
    // Their workers end by a signal, as at a host's maintenance.
    machines.stop_all();
    eventually("two others", Duration::from_secs(60), async || {
        machines.follow(&world, &group).await;
        assert_eq!(group.describe().await.desired_capacity(), Some(2));
        let now = group.instances().await;
        (now.len() == 2 && now.iter().all(|id| !before.contains(id))).then_some(())
    })
    .await;
    let replaced = |line: &Value| line["done"].to_string().contains("to be replaced");
    assert!(scaler.decisions().iter().any(replaced));
    assert!(scaler.process.stop().await.success());
    machines.forget_all().await;
}

#[tokio::test]
async fn a_turn_that_outlasts_the_lease_does_nothing_where_another_took_over() {
    let world = World::new().await;
    let group = HookedGroup::start(0, &[]).await;
    let start = || {
        let (builder, log) = world.autoscaler_of(HOOKED, group.url());
        Autoscaler { process: builder.start(), log }
    };
    let mut first = start();
    first.until_owner().await;
    let mut look = group.slow_look();
    look.came().await;
    let before = first.decisions().len();
    let mut second = start();
    second.until_owner().await;
    world.nap("only", 100).await;
    let asked = async || (group.desired() == 1).then_some(());
    eventually("one more", Duration::from_secs(30), asked).await;
    drop(look);
    let slow = eventually("the end of the slow turn", Duration::from_secs(30), async || {
        let said = first.decisions().get(before)?["done"][0].as_str()?.to_owned();
        Some(said)
    })
    .await;
    assert_eq!(slow, "nothing: another autoscaler took over");
    assert!(second.owns().await && !first.owns().await);
    assert_eq!(group.calls(), ["SetDesiredCapacity 1"]);
    // Nothing is left for others on the queue.
    let mut worker = world.sleeper(HOOKED, "i-1").start();
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
    assert!(first.process.stop().await.success() && second.process.stop().await.success());
}

#[tokio::test]
async fn each_act_follows_its_decision_in_the_log() {
    let world = World::new().await;
    let group = HookedGroup::start(0, &[]).await;
    let (builder, log) = world.autoscaler_of(HOOKED, group.url());
    let mut scaler = Autoscaler { process: builder.start(), log };
    world.nap("only", 100).await;
    let asked = async || (group.desired() == 1).then_some(());
    eventually("one more", Duration::from_secs(30), asked).await;
    assert!(scaler.process.stop().await.success());
    let text = std::fs::read_to_string(&scaler.log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let act = lines.iter().position(|it| it["done"][0] == "desired capacity 1").unwrap();
    let (decision, act) = (&lines[act - 1], &lines[act]);
    assert_eq!((&decision["decision"]["desired"], &decision["now"]), (&json!(1), &act["now"]));
    assert!(act.get("decision").is_none() && decision.get("done").is_none(), "{act}");
    // Nothing is left for others on the queue.
    let mut worker = world.sleeper(HOOKED, "i-1").start();
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_was_asked_for_and_never_launched_is_taken_back_where_nobody_is_ended_by_it() {
    let world = World::new().await;
    let group = HookedGroup::start(0, &[]).await;
    let (builder, log) = world.autoscaler_of(HOOKED, group.url());
    let mut scaler = Autoscaler { process: builder.start(), log };
    world.nap("only", 100).await;
    let told = async |desired| (group.desired() == desired).then_some(());
    let soon = Duration::from_secs(30);
    eventually("one more", soon, async || told(1).await).await;
    // Nothing comes of it, and somebody else does the job.
    let purge = world.aws.sqs.purge_queue().queue_url(&world.outputs().grading_queue_url);
    purge.send().await.expect("PurgeQueue");
    let done = |words: &str| {
        let decisions = scaler.decisions();
        decisions.iter().any(|line| line["done"].to_string().contains(words)).then_some(())
    };
    eventually("a word", soon, async || done("not all instances are protected")).await;
    assert_eq!(group.calls(), ["SetDesiredCapacity 1"], "AWS might have ended another");
    group.protects();
    eventually("none", soon, async || told(0).await).await;
    assert_eq!(group.calls(), ["SetDesiredCapacity 1", "SetDesiredCapacity 0"]);
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn an_instance_whose_worker_is_drained_is_held_by_its_terminating_hook_no_longer() {
    let world = World::new().await;
    let members = [("i-drained", "Terminating:Wait"), ("i-drains", "Terminating:Wait")];
    let group = HookedGroup::start(0, &members).await;
    let mut drains = world.sleeper(HOOKED, "i-drains").start();
    world.nap("long", 6_000).await;
    let row = async |id: &str, field: &str| {
        let row = world.fleet_row(HOOKED, id).await;
        row.get(field).cloned()
    };
    let soon = Duration::from_secs(30);
    let one = Some(Attr::N("1".to_owned()));
    let at_work = async || (row("i-drains", "held").await == one).then_some(());
    eventually("the job in hand", soon, at_work).await;
    for id in ["i-drained", "i-drains"] {
        world.order_to_drain(HOOKED, id).await;
    }
    let mut drained = world.sleeper(HOOKED, "i-drained").start();
    assert!(drained.end().await.success() && row("i-drained", "drained").await.is_some());
    let (builder, log) = world.autoscaler_of(HOOKED, group.url());
    let builder = builder.env("FLOTILLA_TERMINATING_HOOK", "drain");
    let mut scaler = Autoscaler { process: builder.start(), log };
    eventually("both released", Duration::from_secs(60), async || {
        let calls = group.calls();
        let of = |id: &str| calls.iter().any(|call| call.ends_with(id));
        let ended = row("i-drains", "drained").await.is_some();
        assert!(ended || !of("i-drains"), "it was at work: {calls:?}");
        (of("i-drained") && of("i-drains")).then_some(())
    })
    .await;
    assert!(drains.end().await.success());
    let before = scaler.decisions().len();
    let more = async || (scaler.decisions().len() > before + 3).then_some(());
    eventually("some turns more", soon, more).await;
    let mut calls = group.calls();
    calls.sort_unstable();
    let release = |id| format!("CompleteLifecycleAction drain {id}");
    assert_eq!(calls, ["i-drained", "i-drains"].map(release), "each once");
    assert_eq!(world.done_at_once().await, 1);
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn one_that_stands_by_tells_nothing_of_the_group() {
    let world = World::new().await;
    let group = HookedGroup::start(1, &[("i-1", "InService")]).await;
    let start = || {
        let (builder, log) = world.autoscaler_of(HOOKED, group.url());
        Autoscaler { process: builder.start(), log }
    };
    let mut first = start();
    let until = async |scaler: &Autoscaler, value: &str| {
        eventually(value, Duration::from_secs(30), async || {
            let page = scaler.process.page("/metrics").await.unwrap_or_default().1;
            let name = "flotilla_autoscaler_desired_instances";
            let line = page.lines().find(|line| line.starts_with(name))?;
            line.ends_with(&format!(" {value}")).then_some(())
        })
        .await;
    };
    until(&first, "1").await;
    first.process.signal(Signal::SIGSTOP);
    let mut second = start();
    until(&second, "1").await;
    first.process.signal(Signal::SIGCONT);
    // What it told as the owner would be told for ever, beside what the owner tells.
    until(&first, "NaN").await;
    assert!(first.process.stop().await.success() && second.process.stop().await.success());
}

#[tokio::test]
async fn a_decision_that_cannot_be_logged_is_counted() {
    let world = World::new().await;
    let group = HookedGroup::start(0, &[]).await;
    let (builder, log) = world.autoscaler_of(HOOKED, group.url());
    let builder = builder.env("FLOTILLA_DECISION_LOG", "/dev/full");
    let mut scaler = Autoscaler { process: builder.start(), log };
    eventually("a count", Duration::from_secs(30), async || {
        let page = scaler.process.page("/metrics").await.unwrap_or_default().1;
        let count =
            page.lines().find(|line| line.starts_with("flotilla_autoscaler_unlogged_total"));
        count.is_some_and(|line| !line.ends_with(" 0")).then_some(())
    })
    .await;
    assert!(scaler.process.stop().await.success());
}
