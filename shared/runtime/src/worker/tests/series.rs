//! How many series a worker has, whatever comes.

use std::collections::BTreeSet;

use super::*;

/// Name and labels of every series of a worker that had so many messages, each with an id, a group, a
/// trace, a body and a reason of its own.
fn series_after(messages: usize) -> BTreeSet<String> {
    let recorder = metrics::builder("job").unwrap().build_recorder();
    ::metrics::with_local_recorder(&recorder, || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(worked_off(messages));
    });
    let text = recorder.handle().render();
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
