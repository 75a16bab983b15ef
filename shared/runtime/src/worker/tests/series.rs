//! What the series of a worker say, and how many there are of them, whatever comes.

use std::collections::BTreeSet;

use super::*;

/// What the exporter shows after this work.
fn exposition(work: impl Future<Output = ()>) -> String {
    let recorder = metrics::builder("job").unwrap().build_recorder();
    ::metrics::with_local_recorder(&recorder, || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(work);
    });
    recorder.handle().render()
}

/// Name and labels of every series of a worker that had so many messages, each with an id, a group, a
/// trace, a body and a reason of its own.
fn series_after(messages: usize) -> BTreeSet<String> {
    let text = exposition(worked_off(messages));
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

async fn worked_off(messages: usize) {
    let one = |n: usize| {
        let body = match n % 3 {
            0 => nap(0.001),
            1 => json!({ "seconds": 0.001, "fail": true }),
            _ => json!(format!("no message {n}")),
        };
        let id = format!("m-{n}");
        let mut one = received(&id, &id, body, 1 + (n % 3) as u32);
        one["Attributes"]["MessageGroupId"] = json!(format!("group-{n}"));
        one["MessageAttributes"]["traceparent"] = json!({
            "DataType": "String",
            "StringValue": format!("00-{:032x}-b7ad6b7169203331-01", n + 1),
        });
        one
    };
    let left = Mutex::new((0..messages).map(one).collect::<VecDeque<_>>());
    let fake = FakeAws::new(move |operation, body| match operation {
        "ReceiveMessage" => {
            let mut left = left.lock().unwrap();
            let most = body["MaxNumberOfMessages"].as_u64().unwrap() as usize;
            let some: Vec<_> = (0..most).map_while(|_| left.pop_front()).collect();
            json!({ "__hang": if some.is_empty() { 20.0 } else { 0.01 }, "Messages": some })
        }
        "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => batch(body, &[]),
        _ => json!({}),
    });
    let running = start(&fake, "60");
    sleep(Duration::from_secs(150)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    assert!(running.runs.load(Ordering::SeqCst) as usize >= messages / 2, "they were worked off");
}

#[test]
fn a_thousand_messages_have_no_more_series_than_a_dozen() {
    let (dozen, thousand) = (series_after(12), series_after(1000));
    assert!(!dozen.is_empty());
    let more: Vec<_> = thousand.difference(&dozen).collect();
    assert!(more.is_empty(), "{more:?}");
}

/// A worker that is stopped while it has one message in hand, and had four others and a duplicate before.
async fn seen_to_the_end() {
    let fail = json!({ "seconds": 0.001, "fail": true });
    let first = vec![
        message("good", "g", nap(0.001)),
        received("bad", "b", fail, 2),
        message("none", "n", json!("no message")),
        message("long", "l", nap(600.0)),
    ];
    let again = vec![received("long", "newer", nap(600.0), 2)];
    let fake = fake(vec![(0.0, first), (1.0, again), (1.0, vec![])], |b| batch(b, &[]));
    let more = [("FLOTILLA_GRACE_SECONDS", "1"), ("FLOTILLA_WAIT_SECONDS", "1")];
    let running = start_on(&fake, "http://q/main", &more);
    sleep(Duration::from_secs(4)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
}

#[test]
fn what_became_of_each_message_is_counted_once() {
    let text = exposition(seen_to_the_end());
    let queue = r#"worker="job",queue="main""#;
    let otel = r#"worker="job",messaging_system="aws_sqs",messaging_operation_name"#;
    let dispositions = format!("flotilla_dispositions_total{{{queue},disposition");
    for line in [
        format!(
            r#"messaging_client_consumed_messages_total{{{otel}="ReceiveMessage",messaging_destination_name="main"}} 5"#
        ),
        format!(r#"flotilla_queue_wait_seconds_count{{{queue}}} 3"#),
        format!(r#"flotilla_attempts_total{{{queue},attempt="1"}} 2"#),
        format!(r#"flotilla_attempts_total{{{queue},attempt="2"}} 1"#),
        format!(r#"{dispositions}="done",kind="none"}} 1"#),
        format!(r#"{dispositions}="retry",kind="ordered"}} 1"#),
        format!(r#"{dispositions}="dead",kind="unparsable"}} 1"#),
        format!(r#"{dispositions}="released",kind="none"}} 1"#),
        format!(r#"flotilla_duplicate_deliveries_total{{{queue},reason="held"}} 1"#),
        format!(r#"flotilla_receives_total{{{queue},result="messages"}} 2"#),
        format!(r#"flotilla_jobs_in_flight{{{queue}}} 0"#),
        format!(
            r#"messaging_process_duration_seconds_count{{{otel}="process",messaging_destination_name="main",disposition="released"}} 1"#
        ),
    ] {
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
}
