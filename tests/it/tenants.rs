//! A tenant has no more slots than it may have.

use std::time::Duration;

use flotilla_tests::{World, eventually};
use serde_json::json;

use crate::scripted::Running;

#[tokio::test]
async fn a_tenant_with_many_messages_leaves_slots_to_others() {
    let world = World::new().await;
    let url = &world.outputs().grading_queue_url;
    for n in 0..12 {
        let tenant = if n < 9 { "a" } else { "b" };
        let body = json!({ "id": format!("{tenant}{n}"), "seconds": 1.0 }).to_string();
        let call = world.aws.sqs.send_message().queue_url(url).message_body(body);
        call.message_group_id(tenant).send().await.unwrap();
    }
    let settings = [("FLOTILLA_SLOTS", "6"), ("FLOTILLA_TENANT_SLOTS", "2")];
    let worker = Running::start(&world, &settings).await;
    let mut most = 0;
    eventually("all effects", Duration::from_secs(90), async || {
        let rows = world.ledger().await.into_iter();
        let claimed = rows.filter(|row| row["state"].as_s().unwrap() == "claimed");
        let of_a = claimed.filter(|row| row["effect"].as_s().unwrap().starts_with("scripted/a"));
        most = most.max(of_a.count());
        (worker.done.lock().unwrap().len() == 12).then_some(())
    })
    .await;
    world.until_queue_is_empty().await;
    let done = worker.done.lock().unwrap().clone();
    assert_eq!(most, 2, "slots of a tenant that may have two");
    let last = done.iter().rposition(|id| id.starts_with('b')).unwrap();
    assert!(last < 11, "b waited for all of a: {done:?}");
    // What went back for want of a slot was no attempt.
    assert_eq!(worker.stop().await, 12);
}
