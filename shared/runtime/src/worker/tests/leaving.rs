//! How messages leave: deletes, delays, and leases that end before their jobs.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_message_whose_delete_was_given_up_is_done_with_when_it_comes_again() {
    let (first, again) = (message("m", "h", nap(0.0)), received("m", "newer", nap(0.0), 2));
    let fake = fake(
        vec![(0.0, vec![first]), (20.0, vec![]), (20.0, vec![]), (20.0, vec![again])],
        |body| match body["Entries"][0]["ReceiptHandle"].as_str() {
            Some("newer") => batch(body, &[]),
            _ => batch(body, &[(0, false)]),
        },
    );
    let running = start(&fake, "60");
    sleep(Duration::from_secs(70)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    assert_eq!(entries(&fake, "DeleteMessageBatch").last().unwrap().0, "newer");
    assert_eq!(running.runs.load(Ordering::SeqCst), 2, "it is held no more");
}

#[tokio::test(start_paused = true)]
async fn messages_that_end_together_are_deleted_and_put_off_ten_to_a_call() {
    let one = |n: usize, fail: bool| {
        let id = format!("{fail}-{n}");
        message(&id, &id, json!({ "seconds": 1.0, "fail": fail }))
    };
    let ten = |fail| (0..10).map(|n| one(n, fail)).collect::<Vec<_>>();
    let fake = fake(vec![(0.0, ten(false)), (0.0, ten(true))], |b| batch(b, &[]));
    let running = start_on(&fake, "http://q/main", &[("FLOTILLA_SLOTS", "20")]);
    sleep(Duration::from_secs(5)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    assert_eq!(entries(&fake, "DeleteMessageBatch").len(), 10);
    assert_eq!(entries(&fake, "ChangeMessageVisibilityBatch").len(), 10);
    for call in ["DeleteMessageBatch", "ChangeMessageVisibilityBatch"] {
        assert_eq!(fake.count(call), 1, "{call}");
    }
    assert_eq!(crate::tally::gone_of("http://q/main"), 10, "those that come again are not gone");
}

#[tokio::test(start_paused = true)]
async fn what_fails_near_the_end_of_its_twelve_hours_is_put_off_no_further_than_that() {
    let bad = json!({ "seconds": 43_100.0, "fail": true });
    let ten: Vec<_> = (0..10).map(|n| message(&n.to_string(), "h", bad.clone())).collect();
    let fake = fake(vec![(0.0, ten)], |b| batch(b, &[]));
    let more = [
        ("FLOTILLA_SLOTS", "10"),
        ("FLOTILLA_VISIBILITY_SECONDS", "43200"),
        ("FLOTILLA_RETRY_FIRST_SECONDS", "900"),
    ];
    let running = start_on(&fake, "http://q/main", &more);
    for _ in 0..43 {
        sleep(Duration::from_millis(100)).await;
        tokio::time::advance(Duration::from_secs(1000)).await;
    }
    let before = entries(&fake, "ChangeMessageVisibilityBatch").len();
    sleep(Duration::from_secs(110)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    let delays = entries(&fake, "ChangeMessageVisibilityBatch").split_off(before);
    assert_eq!(delays.len(), 10, "{delays:?}");
    assert!(delays.iter().all(|(_, delay)| *delay <= Some(100)), "{delays:?}");
}

/// A queue that gives a message, and once more with a newer handle where that is asked for, and extends
/// neither.
fn unextended(again: bool) -> FakeAws {
    let first = message("m", "h", nap(600.0));
    let second = received("m", "newer", nap(600.0), 2);
    let receives = [vec![first], if again { vec![second] } else { Vec::new() }];
    let receives = Mutex::new(VecDeque::from(receives));
    FakeAws::new(move |operation, body| match operation {
        "ReceiveMessage" => {
            let next = receives.lock().unwrap().pop_front();
            let seconds = if next.is_some() { 1.0 } else { 20.0 };
            json!({ "__hang": seconds, "Messages": next.unwrap_or_default() })
        }
        "ChangeMessageVisibilityBatch" => {
            let extends = |entry: &Value| entry["VisibilityTimeout"] != 0;
            let all = body["Entries"].as_array().unwrap().iter().enumerate();
            let refused: Vec<_> = all.filter(|it| extends(it.1)).map(|it| (it.0, true)).collect();
            batch(body, &refused)
        }
        "DeleteMessageBatch" => batch(body, &[]),
        _ => json!({}),
    })
}

#[tokio::test(start_paused = true)]
async fn who_lost_a_lease_touches_its_message_no_more_unless_it_came_here_again() {
    for (again, shown) in [(false, vec![]), (true, vec![("newer".to_owned(), Some(0))])] {
        let fake = unextended(again);
        let running = start(&fake, "60");
        sleep(Duration::from_secs(40)).await;
        let mut changed = entries(&fake, "ChangeMessageVisibilityBatch");
        changed.retain(|(_, visibility)| *visibility == Some(0));
        assert_eq!(changed, shown, "again: {again}");
        assert!(entries(&fake, "DeleteMessageBatch").is_empty());
        running.shutdown.cancel();
        running.ended.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_finishes_in_the_grace_is_extended_until_it_does() {
    let fake = fake(vec![(0.0, vec![message("m", "h", nap(50.0))])], |b| batch(b, &[]));
    let more = [("FLOTILLA_VISIBILITY_SECONDS", "6"), ("FLOTILLA_WAIT_SECONDS", "1")];
    let running = start_on(&fake, "http://q/main", &more);
    sleep(Duration::from_secs(1)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    assert_eq!(entries(&fake, "DeleteMessageBatch"), [("h".to_owned(), None)]);
    let extended = entries(&fake, "ChangeMessageVisibilityBatch").len();
    assert!(extended >= 50 / 6, "{extended} extensions in 50 s of the grace");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_says_why_and_where_and_under_whose_hands_its_message_died() {
    let mut bad = received("m", "h", json!("no nap"), 3);
    let id = "0af7651916cd43dd8448eb211c80319c";
    let trace = format!("00-{id}-b7ad6b7169203331-01");
    bad["MessageAttributes"]["traceparent"] = json!({ "DataType": "String", "StringValue": trace });
    let fake = fake(vec![(0.0, vec![bad])], |b| batch(b, &[]));
    let running = start_on(&fake, "http://q/main", &[("FLOTILLA_WORKER_ID", "one")]);
    sleep(Duration::from_secs(1)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    let calls = fake.calls();
    let (_, letter) = calls.iter().find(|(call, _)| call == "SendMessage").unwrap();
    let attributes = &letter["MessageAttributes"];
    assert_eq!(attributes["traceparent"]["StringValue"], trace.as_str());
    let why = attributes["flotilla"]["StringValue"].as_str().unwrap();
    let mut why: Value = serde_json::from_str(why).unwrap();
    let reason = why["reason"].take();
    assert!(reason.as_str().unwrap().contains("no message for sleeper"), "{reason}");
    let wanted = json!({
        "reason": null, "kind": "unparsable", "job": "sleeper", "worker": "one", "image": null,
        "trace_id": id, "message_id": "m", "receive_count": 3, "queue": "http://q/main", "log": null,
    });
    assert_eq!(why, wanted);
}
