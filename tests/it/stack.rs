//! The stack is what its template says, and what the endpoint drops of it is known.

use flotilla_cli::{
    aws::Clients,
    stack::{Gaps, Stack, Template},
};
use flotilla_tests::World;
use serde_norway::Value;

#[tokio::test]
async fn an_upload_of_a_json_and_nothing_else_becomes_a_message() {
    let world = World::new().await;
    world.put("submissions/a/e/p/s/s.py", "print()").await;
    world.put("problems/a/e/p/x.json", "{}").await;
    assert_eq!(world.left_on(&world.outputs().grading_queue_url).await, 0);
    world.put("submissions/a/e/p/s/s.json", "{").await;
    world.until_messages(1).await;
    let mut worker = world.grading_worker().ready().await;
    assert!(world.dead_letters(1).await[0].body.contains("s.json"));
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_stack_is_what_its_template_says_and_nothing_is_left_of_it() {
    let aws = Clients::from_env().await;
    let template = Template::data().unwrap().with("Protect", "false").with("Clock", "DISABLED");
    let stack = Stack::create(&aws, "it-compared", &template).await.unwrap();
    stack.check(&template, &Gaps::known().unwrap()).await.unwrap();
    let other = template.with("Clock", "ENABLED");
    assert!(stack.check(&other, &Gaps::known().unwrap()).await.is_err(), "a difference is found");
    stack.delete().await.unwrap();
    assert!(Stack::open(&aws, "it-compared").await.is_err());
}

#[tokio::test]
async fn a_difference_that_is_not_listed_fails_and_leaves_no_stack() {
    let aws = Clients::from_env().await;
    let template = Template::data().unwrap().with("Protect", "false").with("Clock", "DISABLED");
    let nothing_known = Gaps::parse("").unwrap();
    let made = Stack::create_with_gaps(&aws, "it-unlisted", &template, &nothing_known).await;
    let why = made.unwrap_err().to_string();
    assert!(why.contains("LifecycleConfiguration"), "{why}");
    assert!(Stack::open(&aws, "it-unlisted").await.is_err());
}

#[tokio::test]
async fn a_listed_gap_that_has_vanished_fails_too() {
    let aws = Clients::from_env().await;
    let template = Template::data().unwrap().with("Protect", "false").with("Clock", "DISABLED");
    let endpoint = &aws.endpoint;
    let known = include_str!("../../deploy/dev/known-gaps.toml");
    let vanished = format!(
        "{known}\n[[gap]]\nendpoint = {:?}\nversion = {:?}\nresource = \"GradingQueue\"\n\
         property = \"VisibilityTimeout\"\nreason = \"none\"\nfill = false\n",
        endpoint.name, endpoint.version,
    );
    let gaps = Gaps::parse(&vanished).unwrap();
    let why = Stack::create_with_gaps(&aws, "it-vanished", &template, &gaps).await.unwrap_err();
    assert!(why.to_string().contains("GradingQueue"), "{why}");
    assert!(Stack::open(&aws, "it-vanished").await.is_err());
}

#[test]
fn no_queue_moves_a_message_before_its_attempts_are_used_up_and_none_forgets_one_within_14_days() {
    let text = include_str!("../../deploy/cfn/data.yaml");
    let data: Value = serde_norway::from_str(text).unwrap();
    let (resources, mut consumed) = (data["Resources"].as_mapping().unwrap(), 0);
    for (name, queue) in resources.iter().filter(|(_, it)| it["Type"] == "AWS::SQS::Queue") {
        let queue = &queue["Properties"];
        assert_eq!(queue["MessageRetentionPeriod"], 14 * 24 * 3600, "{name:?}");
        if let Some(policy) = queue.get("RedrivePolicy") {
            assert_eq!(policy["maxReceiveCount"], 1000, "{name:?}");
            consumed += 1;
        }
    }
    assert_eq!(consumed, 5);
    let ledger = &data["Resources"]["LedgerTable"]["Properties"]["TimeToLiveSpecification"];
    assert_eq!(
        (&ledger["AttributeName"], &ledger["Enabled"]),
        (&"expires_at".into(), &true.into())
    );
}
