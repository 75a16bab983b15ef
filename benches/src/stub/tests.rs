//! The stub as the SDKs see it.

use aws_sdk_sqs::{
    Client,
    types::{
        ChangeMessageVisibilityBatchRequestEntry as Change,
        DeleteMessageBatchRequestEntry as Delete, MessageSystemAttributeName,
    },
};
use tokio::time::Instant;

use super::*;

/// A stub with `messages` on its queue and this latency, a client, and the queue's URL.
async fn stub(messages: u64, latency: Duration) -> (Arc<Stub>, Client, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let source = Source { template: r#"{"n":{n}}"#.to_owned(), left: messages, twice_every: 0 };
    let stub = Stub::new(&url, latency, HashMap::from([("q".to_owned(), source)]));
    tokio::spawn(stub.clone().serve(listener));
    let client = Client::from_conf(
        aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
            .region(aws_sdk_sqs::config::Region::new("us-east-1"))
            .credentials_provider(aws_sdk_sqs::config::Credentials::new(
                "a", "b", None, None, "test",
            ))
            .http_client(flotilla_runtime::aws::sdk_config().await.http_client().unwrap().clone())
            .endpoint_url(url)
            .build(),
    );
    let queue = client.get_queue_url().queue_name("q").send().await.unwrap();
    (stub, client, queue.queue_url.unwrap())
}

#[tokio::test]
async fn a_consumer_receives_deletes_and_hands_back_and_every_call_is_counted() {
    let (stub, client, url) = stub(3, Duration::ZERO).await;
    let call = client.receive_message().queue_url(&url).max_number_of_messages(10);
    let received =
        call.message_system_attribute_names(MessageSystemAttributeName::All).send().await;
    let messages = received.unwrap().messages.unwrap();
    let bodies: Vec<_> = messages.iter().map(|m| m.body().unwrap()).collect();
    assert_eq!(bodies, [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":2}"#]);
    let count =
        &messages[0].attributes().unwrap()[&MessageSystemAttributeName::ApproximateReceiveCount];
    assert_eq!((messages[0].md5_of_body().unwrap().len(), count.as_str()), (32, "1"));

    let handle = |i: usize| messages[i].receipt_handle().unwrap();
    let delete =
        |i: usize| Delete::builder().id(i.to_string()).receipt_handle(handle(i)).build().unwrap();
    let call = client.delete_message_batch().queue_url(&url).entries(delete(0)).entries(delete(1));
    let answer = call.send().await.unwrap();
    assert_eq!((answer.successful().len(), answer.failed().len()), (2, 0));

    let back = Change::builder().id("a").receipt_handle(handle(2)).visibility_timeout(0).build();
    let gone = Change::builder().id("b").receipt_handle(handle(0)).visibility_timeout(0).build();
    let call = client.change_message_visibility_batch().queue_url(&url);
    let answer = call.entries(back.unwrap()).entries(gone.unwrap()).send().await.unwrap();
    assert_eq!((answer.successful()[0].id(), answer.failed()[0].id()), ("a", "b"));
    assert!(answer.failed()[0].sender_fault());

    let counts = stub.counts().await;
    let expected = json!({ "visible": 1, "in_flight": 0, "received": 3, "deleted": 2 });
    assert_eq!(counts["queues"]["q"], expected);
    let calls = json!({
        "AmazonSQS.ChangeMessageVisibilityBatch": 1,
        "AmazonSQS.DeleteMessageBatch": 1,
        "AmazonSQS.GetQueueUrl": 1,
        "AmazonSQS.ReceiveMessage": 1,
    });
    assert_eq!(counts["calls"], calls);
}

#[tokio::test]
async fn a_long_poll_ends_with_what_is_sent_meanwhile() {
    let (_stub, client, url) = stub(0, Duration::ZERO).await;
    let (start, sent) = (Instant::now(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.send_message().queue_url(&url).message_body("late").send().await.unwrap()
    });
    let poll = client.receive_message().queue_url(&url).wait_time_seconds(20).send();
    let (poll, sent) = tokio::join!(poll, sent);
    let messages = poll.unwrap().messages.unwrap();
    assert_eq!(messages[0].message_id(), sent.message_id());
    assert!(start.elapsed() < Duration::from_secs(10), "it did not wait for its end");
}

#[tokio::test]
async fn every_call_takes_the_latency_and_calls_at_once_share_it() {
    let latency = Duration::from_millis(500);
    let (_stub, client, url) = stub(1000, latency).await;
    let start = Instant::now();
    let receive = || client.receive_message().queue_url(&url).send();
    receive().await.unwrap();
    assert!(start.elapsed() >= latency);
    let start = Instant::now();
    futures::future::join_all((0..20).map(|_| receive())).await;
    assert!(start.elapsed() < latency * 20, "twenty calls at once are not one after the other");
}
