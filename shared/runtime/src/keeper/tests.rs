use std::time::SystemTime;

use serde_json::{Value, json};

use super::*;
use crate::{
    fake::{FakeAws, batch},
    job::Delivery,
};

const EXTEND: &str = "ChangeMessageVisibilityBatch";
const RENEW: &str = "UpdateItem";

fn keeper(fake: &FakeAws, visibility: u64) -> Arc<Keeper> {
    let visibility = Duration::from_secs(visibility);
    let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
    let ledger = Ledger::new(fake.dynamo(), "ledger", "me", visibility);
    let ledger = (ledger, Arc::new(InAdvance::new("w")));
    Keeper::new(queue, ledger, visibility, Meter::new("http://q/main"))
}

fn message(id: &str, handle: &str) -> Received {
    Received {
        trace_header: None,
        body: String::new(),
        attributes: HashMap::new(),
        receipt_handle: handle.to_owned(),
        received_at: Instant::now(),
        delivery: Arc::new(Delivery {
            message_id: id.to_owned(),
            sent_at: SystemTime::now(),
            receive_count: 1,
            group: None,
            traceparent: None,
        }),
    }
}

fn claim() -> Claim {
    Claim { key: "k".into(), generation: 1, attempt: 1, last_failure: None, cancelled: None }
}

/// A row that is not under our claim any more.
fn refused(state: &str, generation: u64) -> Value {
    json!({
        "__status": 400,
        "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
        "Item": { "state": { "S": state }, "generation": { "N": generation.to_string() } },
    })
}

struct Kept {
    keeper: Arc<Keeper>,
    lost: CancellationToken,
    began: Instant,
    stop: CancellationToken,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Holds message `m` by handle `h`.
fn keep(fake: &FakeAws, visibility: u64) -> Kept {
    let (keeper, stop) = (keeper(fake, visibility), CancellationToken::new());
    let lost = keeper.hold(&message("m", "h"), &CancellationToken::new()).unwrap();
    tokio::spawn(keeper.clone().run(stop.clone()));
    Kept { keeper, lost, began: Instant::now(), stop }
}

async fn seconds_until_lost(kept: &Kept) -> f64 {
    kept.lost.cancelled().await;
    kept.began.elapsed().as_secs_f64()
}

async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hung_extension_does_not_keep_a_job_alive_past_its_visibility() {
    let fake = FakeAws::new(|_, _| json!({ "__hang": 600 }));
    for visibility in [3, 6, 60, 600] {
        let kept = keep(&fake, visibility);
        let seconds = seconds_until_lost(&kept).await;
        let visible = visibility as f64;
        // A second before anybody else can see it, and a look.
        assert!(seconds < visible - 0.7, "lost after {seconds} s, visible after {visible} s");
        assert!(seconds > visible - 1.6, "given up after {seconds} of {visible} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_extension_is_tried_again_in_time_to_save_the_lease() {
    let calls = Mutex::new(0);
    let fake = FakeAws::new(move |_, body| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        if *calls == 1 { json!({ "__hang": 600 }) } else { batch(body, &[]) }
    });
    let kept = keep(&fake, 6);
    pass(30.0).await;
    assert!(!kept.lost.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_before_the_twelve_hours_of_sqs_and_never_asks_for_more() {
    let (began, asked) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let seen = asked.clone();
    let fake = FakeAws::new(move |_, body| {
        let visibility = body["Entries"][0]["VisibilityTimeout"].as_u64().unwrap();
        seen.lock().unwrap().push((began.elapsed().as_secs_f64(), visibility as f64));
        batch(body, &[])
    });
    let kept = keep(&fake, 3600);
    let seconds = seconds_until_lost(&kept).await;
    // Half a minute before, and a second to end the job in.
    assert!((43_168.0..=43_169.5).contains(&seconds), "lost after {seconds} s");
    for (at, visibility) in asked.lock().unwrap().iter() {
        assert!(*visibility > 0.0, "made visible under the hands of its job at {at} s");
        assert!(at + visibility <= 43_200.0, "{visibility} s asked for at {at} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_after_the_commit_is_no_lost_lease() {
    let fake = FakeAws::new(|operation, body| match operation {
        RENEW => refused("done", 1),
        _ => batch(body, &[]),
    });
    let kept = keep(&fake, 6);
    kept.keeper.claimed("m", &claim());
    pass(60.0).await;
    assert!(!kept.lost.is_cancelled(), "the job still publishes what it has committed");
    assert_eq!(fake.count(RENEW), 1, "a claim that has ended is not renewed");
    assert!(fake.count(EXTEND) > 20);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_another_has_taken_over_ends_the_job_at_the_next_heartbeat() {
    for row in [refused("claimed", 2), refused("done", 2), refused("free", 1)] {
        let fake = FakeAws::new(move |operation, body| match operation {
            RENEW => row.clone(),
            _ => batch(body, &[]),
        });
        let kept = keep(&fake, 6);
        kept.keeper.claimed("m", &claim());
        assert!(seconds_until_lost(&kept).await < 2.5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_cannot_be_renewed_ends_the_job_though_its_message_can_be_extended() {
    for answer in [json!({ "__status": 500 }), json!({ "__hang": 600 })] {
        let fake = FakeAws::new(move |operation, body| match operation {
            RENEW => answer.clone(),
            _ => batch(body, &[]),
        });
        let kept = keep(&fake, 6);
        kept.keeper.claimed("m", &claim());
        let seconds = seconds_until_lost(&kept).await;
        assert!((4.4..6.0).contains(&seconds), "lost after {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_is_tried_again_in_time_to_save_the_lease() {
    let calls = Mutex::new(0);
    let fake = FakeAws::new(move |operation, body| {
        if operation != RENEW {
            return batch(body, &[]);
        }
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        json!({ "__hang": if *calls == 1 { 600 } else { 0 } })
    });
    let kept = keep(&fake, 6);
    kept.keeper.claimed("m", &claim());
    pass(30.0).await;
    assert!(!kept.lost.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_refused_handle_loses_its_own_lease_and_no_other() {
    let fake = FakeAws::new(|_, body| {
        let entries = body["Entries"].as_array().unwrap();
        let bad = entries.iter().position(|entry| entry["ReceiptHandle"] == "bad");
        batch(body, &bad.map(|index| vec![(index, true)]).unwrap_or_default())
    });
    let kept = keep(&fake, 6);
    let bad = kept.keeper.hold(&message("b", "bad"), &CancellationToken::new()).unwrap();
    pass(30.0).await;
    assert!(bad.is_cancelled() && !kept.lost.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_failed_through_no_fault_of_ours_is_extended_again_soon() {
    let first = Mutex::new(true);
    let fake = FakeAws::new(move |_, body| {
        let failed = std::mem::take(&mut *first.lock().unwrap());
        batch(body, if failed { &[(0, false)] } else { &[] })
    });
    let kept = keep(&fake, 6);
    pass(3.0).await;
    assert_eq!(fake.count(EXTEND), 2);
    assert!(!kept.lost.is_cancelled());
}

/// An endpoint whose extensions fail until some seconds have passed, and when each was asked for.
fn failing_for(seconds: f64) -> (FakeAws, Arc<Mutex<Vec<f64>>>) {
    let (began, asked) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let seen = asked.clone();
    let fake = FakeAws::new(move |_, body| {
        let now = began.elapsed().as_secs_f64();
        seen.lock().unwrap().push(now);
        let all = body["Entries"].as_array().unwrap().len();
        let failed: Vec<_> = (0..all).map(|index| (index, false)).collect();
        batch(body, if now < seconds { &failed } else { &[] })
    });
    (fake, asked)
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_fails_is_repeated_ever_more_seldom_at_random_and_up_to_the_end() {
    let mut gaps = Vec::new();
    for _ in 0..20 {
        let (fake, asked) = failing_for(f64::MAX);
        let lost = seconds_until_lost(&keep(&fake, 60)).await;
        assert!((58.0..59.5).contains(&lost), "lost after {lost} s");
        let asked = asked.lock().unwrap().clone();
        assert!((8..70).contains(&asked.len()), "{} calls, and not four a second", asked.len());
        let last = asked.last().unwrap();
        assert!(*last < 60.0 && lost - last < 15.0, "the last at {last} s");
        gaps.push(asked.windows(2).map(|two| two[1] - two[0]).collect::<Vec<_>>());
    }
    let of = |place: usize| gaps.iter().map(move |all| all[place]).sum::<f64>() / 20.0;
    assert!(of(5) > 2.0 * of(0), "{} s, and then {} s", of(0), of(5));
    let longest = |all: &Vec<f64>| (all.iter().copied().fold(0.0, f64::max) * 4.0) as u64;
    let mut longest: Vec<_> = gaps.iter().map(longest).collect();
    longest.sort_unstable();
    longest.dedup();
    assert!(longest.len() > 5, "twenty keepers kept time together: {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_failed_for_most_of_the_visibility_still_saves_the_lease() {
    for _ in 0..20 {
        let (fake, _) = failing_for(50.0);
        let kept = keep(&fake, 60);
        pass(120.0).await;
        assert!(!kept.lost.is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_in_one_call_is_repeated_in_one_call_and_dragged_along_by_no_other() {
    let (fake, asked) = failing_for(f64::MAX);
    let kept = keep(&fake, 60);
    for n in 0..9 {
        kept.keeper.hold(&message(&n.to_string(), "h"), &CancellationToken::new()).unwrap();
    }
    seconds_until_lost(&kept).await;
    let calls = asked.lock().unwrap().len();
    assert!(calls < 70, "{calls} calls for ten messages");
}

#[tokio::test(start_paused = true)]
async fn no_repeated_heartbeat_follows_the_delete() {
    let (fake, asked) = failing_for(f64::MAX);
    let kept = keep(&fake, 60);
    while asked.lock().unwrap().len() < 4 {
        pass(0.1).await;
    }
    kept.keeper.let_go("m", false).await.unwrap();
    let calls = asked.lock().unwrap().len();
    pass(120.0).await;
    assert_eq!(asked.lock().unwrap().len(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_while_an_extension_is_on_its_way_goes_on_with_the_newer_handle() {
    let fake = FakeAws::new(|_, body| {
        let old = body["Entries"][0]["ReceiptHandle"] == "h";
        let mut answer = batch(body, if old { &[(0, true)] } else { &[] });
        answer["__hang"] = json!(1);
        answer
    });
    let kept = keep(&fake, 6);
    while fake.count(EXTEND) == 0 {
        pass(0.1).await;
    }
    assert!(kept.keeper.hold(&message("m", "newer"), &CancellationToken::new()).is_none());
    pass(20.0).await;
    assert!(!kept.lost.is_cancelled(), "the old handle was refused, the newer one is good");
    assert_eq!(kept.keeper.let_go("m", false).await.unwrap().handle, "newer");
}

#[tokio::test(start_paused = true)]
async fn letting_go_waits_for_the_extension_on_its_way_and_none_follows() {
    let fake = FakeAws::new(|_, body| {
        let mut answer = batch(body, &[]);
        answer["__hang"] = json!(1.5);
        answer
    });
    let kept = keep(&fake, 6);
    while fake.count(EXTEND) == 0 {
        pass(0.1).await;
    }
    let asked = Instant::now();
    let gone = kept.keeper.let_go("m", false).await.unwrap();
    assert!(asked.elapsed().as_secs_f64() > 1.0, "a delete would overtake the extension");
    assert_eq!(gone.until, Instant::now() + Duration::from_secs(6), "it was extended meanwhile");
    pass(30.0).await;
    assert_eq!(fake.count(EXTEND), 1);
}

#[tokio::test(start_paused = true)]
async fn many_messages_are_extended_ten_to_a_call() {
    let fake = FakeAws::new(|_, body| batch(body, &[]));
    let kept = keep(&fake, 60);
    for n in 0..39 {
        kept.keeper.hold(&message(&n.to_string(), "h"), &CancellationToken::new()).unwrap();
    }
    pass(21.0).await;
    let calls = fake.count(EXTEND);
    assert!((4..=8).contains(&calls), "{calls} calls for 40 messages");
}

#[tokio::test(start_paused = true)]
async fn the_beats_of_many_workers_spread_out_and_each_comes_in_time() {
    let mut beats = Vec::new();
    for _ in 0..40 {
        let fake = FakeAws::new(|_, body| batch(body, &[]));
        let kept = keep(&fake, 600);
        while fake.count(EXTEND) == 0 {
            pass(0.25).await;
        }
        beats.push(kept.began.elapsed().as_secs_f64());
    }
    let (first, last) =
        beats.iter().fold((f64::MAX, 0.0f64), |(a, b), it| (a.min(*it), b.max(*it)));
    // A third of the visibility, less up to a fifth of that.
    assert!(first >= 159.0 && last <= 202.0, "{beats:?}");
    assert!(last - first > 20.0, "all within {} s of each other", last - first);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_long_on_its_way_does_not_replace_a_newer_handle() {
    let keeper = keeper(&FakeAws::new(|_, body| batch(body, &[])), 60);
    let delivered = |handle: &str, count| {
        let mut message = message("m", handle);
        Arc::make_mut(&mut message.delivery).receive_count = count;
        keeper.hold(&message, &CancellationToken::new()).is_some()
    };
    assert!(delivered("second", 2));
    assert!(!delivered("first", 1) && !delivered("third", 3) && !delivered("late", 2));
    assert_eq!(keeper.let_go("m", false).await.unwrap().handle, "third");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_with_its_queue_has_a_reason_of_its_own() {
    let deleted = "com.amazonaws.sqs#QueueDoesNotExist";
    for (answer, wanted) in [
        (json!({ "__status": 400, "__type": deleted, "message": "no such queue" }), true),
        (json!({ "__hang": 600 }), false),
    ] {
        let keeper = keeper(&FakeAws::new(move |_, _| answer.clone()), 6);
        keeper.hold(&message("m", "h"), &CancellationToken::new()).unwrap();
        let running = tokio::spawn(keeper.clone().run(CancellationToken::new()));
        pass(5.5).await;
        assert_eq!(keeper.held()["m"].no_queue, wanted);
        assert!(keeper.held()["m"].cancel.is_cancelled());
        running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_deleted_is_known_until_it_is_and_extended_no_more() {
    let fake = FakeAws::new(|_, body| batch(body, &[]));
    let kept = keep(&fake, 6);
    let (keeper, stop) = (&kept.keeper, CancellationToken::new());
    let going = |handle: &str| vec![Going { id: "m".to_owned(), handle: handle.to_owned() }];
    assert_eq!(keeper.let_go("m", true).await.unwrap().handle, "h");
    pass(20.0).await;
    assert_eq!(fake.count(EXTEND), 0);
    assert!(!kept.lost.is_cancelled());
    assert_eq!(keeper.left(going("h"), &[true]), going("h"), "to be tried again");
    assert!(keeper.hold(&message("m", "newer"), &stop).is_none());
    assert_eq!(keeper.left(going("h"), &[false]), going("newer"), "deleted by an old handle");
    assert!(keeper.left(going("newer"), &[false]).is_empty());
    assert!(keeper.hold(&message("m", "newest"), &stop).is_some(), "it is deleted, and sent again");
}

#[tokio::test(start_paused = true)]
async fn the_twelve_hours_are_counted_from_the_newest_receive() {
    let keeper = keeper(&FakeAws::new(|_, body| batch(body, &[])), 43_200);
    keeper.hold(&message("m", "h"), &CancellationToken::new()).unwrap();
    pass(20_000.0).await;
    assert!(keeper.hold(&message("m", "newer"), &CancellationToken::new()).is_none());
    let mut held = keeper.held();
    let beat = held.get_mut("m").unwrap().beat("m", Instant::now(), MAX_VISIBILITY).unwrap();
    assert_eq!((beat.handle.as_str(), beat.visibility), ("newer", LONGEST));
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_does_not_put_off_the_renewal_of_a_claim() {
    let keeper = keeper(&FakeAws::new(|_, body| batch(body, &[])), 60);
    keeper.hold(&message("m", "h"), &CancellationToken::new()).unwrap();
    keeper.claimed("m", &claim());
    let due = keeper.held()["m"].due;
    pass(15.0).await;
    assert!(keeper.hold(&message("m", "newer"), &CancellationToken::new()).is_none());
    assert_eq!(keeper.held()["m"].due, due);
}
