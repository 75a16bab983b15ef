//! Receives that run ahead of the slots, of which there are four.

use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;

const CALL: f64 = 0.01;

/// A queue that is never empty, on which every call takes some time. Of its messages, the first so
/// many take none, and those after them a minute.
fn endless(short: usize, given: Arc<AtomicUsize>) -> FakeAws {
    FakeAws::new(move |operation, body| match operation {
        "ReceiveMessage" => {
            let most = body["MaxNumberOfMessages"].as_u64().unwrap() as usize;
            let first = given.fetch_add(most, Ordering::SeqCst);
            let one = |n: usize| {
                let seconds = if n < short { 0.0 } else { 60.0 };
                let mut one = message(&n.to_string(), &n.to_string(), nap(seconds));
                one["Attributes"]["MessageGroupId"] = json!(n.to_string());
                one
            };
            let messages: Vec<_> = (first..first + most).map(one).collect();
            json!({ "__hang": CALL, "Messages": messages })
        }
        "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => batch(body, &[]),
        _ => json!({}),
    })
}

/// How many messages were worked on in two seconds, on a queue of this URL and with this setting.
async fn done(url: &'static str, more: (&'static str, &'static str)) -> u32 {
    let fake = endless(usize::MAX, Arc::default());
    let running = start_on(&fake, url, &[AHEAD, more]);
    sleep(Duration::from_secs(2)).await;
    running.shutdown.cancel();
    let done = running.runs.load(Ordering::SeqCst);
    running.ended.await.unwrap();
    done
}

const MAIN: &str = "http://q/main";
/// Eight messages a slot.
const AHEAD: (&str, &str) = ("FLOTILLA_RECEIVE_AHEAD", "32");
const NOTHING: (&str, &str) = ("FLOTILLA_RETRY_FIRST_SECONDS", "1");
/// What four slots can do in two seconds with calls of 10 ms.
const BY_SLOTS: u32 = 800;

#[tokio::test(start_paused = true)]
async fn short_jobs_on_a_deep_queue_are_not_bounded_by_a_call_for_each_slot() {
    let done = done(MAIN, NOTHING).await;
    assert!(done > 4 * BY_SLOTS, "{done}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_received_ahead_on_a_fifo_queue_for_bounded_tenants_or_where_it_is_forbidden() {
    let cases = [
        ("http://q/main.fifo", NOTHING),
        (MAIN, ("FLOTILLA_TENANT_SLOTS", "4")),
        (MAIN, ("FLOTILLA_RECEIVE_AHEAD", "0")),
    ];
    for (url, more) in cases {
        let done = done(url, more).await;
        assert!((BY_SLOTS / 4..=BY_SLOTS).contains(&done), "{done} with {more:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_jobs_are_long_no_more_is_received_than_there_are_slots() {
    let given = Arc::new(AtomicUsize::new(0));
    let fake = endless(0, given.clone());
    let running = start_on(&fake, MAIN, &[AHEAD, ("FLOTILLA_GRACE_SECONDS", "0")]);
    sleep(Duration::from_secs(50)).await;
    assert_eq!(given.load(Ordering::SeqCst), 4);
    running.shutdown.cancel();
    running.ended.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]
    /// Jobs become long of a sudden, or the worker is stopped in full career: what was received ahead
    /// goes back at once and untouched, and nothing is forgotten.
    #[test]
    fn what_was_received_ahead_in_vain_goes_back_at_once(short in 1000usize..3000, stop in 200u64..900) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(sudden(short, Duration::from_millis(stop)));
    }
}

async fn sudden(short: usize, stop: Duration) {
    let given = Arc::new(AtomicUsize::new(0));
    let fake = endless(short, given.clone());
    let running = start_on(&fake, MAIN, &[AHEAD, ("FLOTILLA_GRACE_SECONDS", "0")]);
    sleep(stop).await;
    while stop > Duration::from_millis(500) && given.load(Ordering::SeqCst) < short {
        sleep(Duration::from_millis(10)).await;
    }
    if given.load(Ordering::SeqCst) >= short {
        // A call's time, what it waits for a slot, and what the acknowledgement waits for others.
        sleep(Duration::from_millis(300)).await;
    }
    let ran = running.runs.load(Ordering::SeqCst) as usize;
    if given.load(Ordering::SeqCst) >= short {
        assert_eq!(ran, short + 4, "the long ones have the slots");
        let back = entries(&fake, "ChangeMessageVisibilityBatch").len();
        assert_eq!(back, given.load(Ordering::SeqCst) - ran, "all others are back by now");
    }
    running.shutdown.cancel();
    running.ended.await.unwrap();
    let back = entries(&fake, "ChangeMessageVisibilityBatch");
    assert!(back.iter().all(|(_, visibility)| *visibility == Some(0)), "{back:?}");
    let done = entries(&fake, "DeleteMessageBatch").len();
    assert_eq!(back.len() + done, given.load(Ordering::SeqCst), "each goes back or is done");
}
