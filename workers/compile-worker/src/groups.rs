//! Groups: builds that somebody asked for together, and wants to hear of when all have ended.
//!
//! A group's row is in the table of builds, under a key of its own, with the request keys that are
//! still open. Whoever ends a build takes it off the groups in its row (the gateway too, for a
//! build that had ended when the group came to it); who takes the last one off tells the topic,
//! and notes that. Cut off anywhere, the redelivered message does the rest again.

mod mend;

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue as Attr, ReturnValue},
};
use flotilla_runtime::{Failure, failure::chain};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::mend::members;
use crate::builds::{Builds, Row, State, now, set};

/// A topic takes messages of at most 256 KiB, envelope and all.
const EVENT: usize = 240 << 10;

/// The range key of a group's row.
const GROUP: &str = "group";

/// The groups in the table of builds. Clones share the clients.
#[derive(Debug, Clone)]
pub struct Groups {
    builds: Builds,
    client: Client,
    sns: aws_sdk_sns::Client,
    topic: Option<String>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What was asked for, as it was written.
    pub requirement: String,
    /// The table's key of the package.
    pub package: String,
    /// The version that was chosen.
    pub version: String,
    /// The request key.
    pub key: String,
}

impl Groups {
    /// Groups in the table of `builds`, whose ends a topic is told, if there is one.
    pub fn new(
        builds: Builds,
        client: Client,
        sns: aws_sdk_sns::Client,
        topic: Option<String>,
    ) -> Self {
        Self { builds, client, sns, topic }
    }

    /// Writes a group that waits for its members.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn open(
        &self,
        group: &str,
        members: &[Member],
        refused: &Value,
    ) -> Result<(), Failure> {
        let bad = |e: serde_json::Error| Failure::permanent("group", e.to_string());
        let mut item = key(group);
        item.insert("members".into(), Attr::S(serde_json::to_string(members).map_err(bad)?));
        item.insert("refused".into(), Attr::S(refused.to_string()));
        item.insert("created_at".into(), Attr::N(now().to_string()));
        let pending: std::collections::BTreeSet<String> =
            members.iter().map(|member| member.key.clone()).collect();
        if !pending.is_empty() {
            item.insert("pending".into(), Attr::Ss(pending.into_iter().collect()));
        }
        let call = self.client.put_item().table_name(self.builds.table()).set_item(Some(item));
        call.send().await.map(drop).map_err(|e| failed("PutItem", group, chain(&e)))
    }

    /// A build of a group has ended.
    ///
    /// # Errors
    /// Transient, when DynamoDB or SNS does not answer.
    pub async fn ended(&self, group: &str, row: &Row) -> Result<(), Failure> {
        self.over(group, &row.request).await?;
        self.builds.leave(row, group).await
    }

    /// There is nothing to wait for of a request any more.
    async fn over(&self, group: &str, request: &str) -> Result<(), Failure> {
        let call = self.client.update_item().table_name(self.builds.table());
        let call = call.set_key(Some(key(group))).update_expression("DELETE pending :key");
        let call = call
            .condition_expression("attribute_exists(members)")
            .expression_attribute_values(":key", Attr::Ss(vec![request.to_owned()]))
            .return_values(ReturnValue::AllNew);
        match call.send().await {
            Ok(answer) => self.look(group, &answer.attributes.unwrap_or_default()).await,
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(())
            }
            Err(e) => Err(failed("UpdateItem", group, chain(&e))),
        }
    }

    /// Has a group wait for the end of a request of a package, or takes it off where that is over.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    pub async fn wait_for(
        &self,
        group: &str,
        (package, request): (&str, &str),
    ) -> Result<(), Failure> {
        match self.builds.join((package, request), group).await? {
            Some(row) if row.state == State::Ordered => Ok(()),
            Some(row) => self.ended(group, &row).await,
            None => self.over(group, request).await,
        }
    }

    /// Tells of a group that has nothing to wait for.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    pub async fn look_at(&self, group: &str) -> Result<(), Failure> {
        match self.item(group).await? {
            Some(item) => self.look(group, &item).await,
            None => Ok(()),
        }
    }

    /// What is known of a group.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    pub async fn get(&self, group: &str) -> Result<Option<Value>, Failure> {
        match self.item(group).await? {
            Some(item) => self.describe(group, &item).await.map(Some),
            None => Ok(None),
        }
    }

    async fn look(&self, group: &str, item: &HashMap<String, Attr>) -> Result<(), Failure> {
        if !set(item, "pending").is_empty() || item.contains_key("completed_at") {
            return Ok(());
        }
        let event = self.describe(group, item).await?;
        self.publish(group, &event).await?;
        let call = self.client.update_item().table_name(self.builds.table());
        let call = call
            .set_key(Some(key(group)))
            .update_expression("SET completed_at = if_not_exists(completed_at, :now)")
            .expression_attribute_values(":now", Attr::N(now().to_string()));
        call.send().await.map(drop).map_err(|e| failed("UpdateItem", group, chain(&e)))
    }

    /// Before the row says so: told twice is better than never.
    async fn publish(&self, group: &str, event: &Value) -> Result<(), Failure> {
        let Some(topic) = &self.topic else { return Ok(()) };
        let call = self.sns.publish().topic_arn(topic).message(told(event));
        let sent = call.send().await;
        sent.map(drop).map_err(|e| {
            Failure::transient("sns", format!("Publish of group {group} to {topic}: {}", chain(&e)))
        })
    }

    async fn describe(&self, group: &str, item: &HashMap<String, Attr>) -> Result<Value, Failure> {
        let text = |name: &str| item.get(name).and_then(|it| it.as_s().ok());
        let members = members(item);
        let refused: Value =
            text("refused").and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
        let (mut counts, mut told) = (BTreeMap::<&str, usize>::new(), Vec::new());
        for member in &members {
            let row = self.builds.get(&member.package, &member.key).await?;
            let state = row.as_ref().map_or("gone", |row| row.state.name());
            *counts.entry(state).or_default() += 1;
            let mut member = json!(member);
            member["state"] = json!(state);
            told.push(member);
        }
        let pending = set(item, "pending").len();
        Ok(json!({
            "group": group, "state": if pending == 0 { "complete" } else { "open" },
            "pending": pending, "counts": counts, "members": told, "refused": refused,
        }))
    }

    async fn item(&self, group: &str) -> Result<Option<HashMap<String, Attr>>, Failure> {
        let call = self.client.get_item().table_name(self.builds.table()).consistent_read(true);
        let answer = call.set_key(Some(key(group))).send().await;
        Ok(answer.map_err(|e| failed("GetItem", group, chain(&e)))?.item)
    }
}

/// What the topic is told: without the members where these are too many for a message; the group's
/// page has them.
fn told(event: &Value) -> String {
    let whole = event.to_string();
    if whole.len() <= EVENT {
        return whole;
    }
    let mut short = event.clone();
    if let Some(event) = short.as_object_mut() {
        event.remove("members");
        event.remove("refused");
        event.insert("shortened".to_owned(), Value::Bool(true));
    }
    short.to_string()
}

fn key(group: &str) -> HashMap<String, Attr> {
    HashMap::from([
        ("package".to_owned(), Attr::S(format!("group:{group}"))),
        ("request".to_owned(), Attr::S(GROUP.to_owned())),
    ])
}

fn failed(what: &str, group: &str, why: String) -> Failure {
    Failure::transient("dynamodb", format!("{what} of group {group}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use flotilla_runtime::aws;

    use super::*;

    #[test]
    fn what_a_topic_is_told_fits_into_a_message() {
        let member = json!({"requirement": "a", "package": "pypi/a", "key": "0".repeat(64)});
        let event = |members| json!({"group": "g", "counts": {"done": members}, "members": vec![&member; members]});
        let small: Value = serde_json::from_str(&told(&event(3))).unwrap();
        assert_eq!(small, event(3));
        let large = told(&event(5000));
        let large: Value = serde_json::from_str(&large).unwrap();
        assert_eq!(large, json!({"group": "g", "counts": {"done": 5000}, "shortened": true}));
    }

    const TAKEN: &str = "<PublishResponse><PublishResult/></PublishResponse>";

    /// The calls to which the end of the last build of a group leads, where the row of the group says so
    /// and the topic answers with this status.
    async fn told_at_the_end(completed: bool, topic: u16) -> (bool, Vec<String>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let sdk = crate::fake::sdk(move |request| {
            let target = request.headers().get("x-amz-target").unwrap_or("SNS.Publish");
            let call = target.rsplit('.').next().unwrap().to_owned();
            let body = String::from_utf8_lossy(request.body().bytes().unwrap()).into_owned();
            let notes = body.contains("completed_at");
            heard.lock().unwrap().push(if notes {
                format!("{call} completed")
            } else {
                call.clone()
            });
            let mut row = json!({ "members": { "S": "[]" }, "refused": { "S": "[]" } });
            if completed {
                row["completed_at"] = json!({ "N": "5" });
            }
            match call.as_str() {
                "UpdateItem" => (200, json!({ "Attributes": row }).to_string().into_bytes()),
                _ => (topic, TAKEN.as_bytes().to_vec()),
            }
        });
        let builds = Builds::new(aws::dynamo_client(&sdk), "builds");
        let sns = aws_sdk_sns::Client::new(&sdk);
        let groups = Groups::new(builds, aws::dynamo_client(&sdk), sns, Some("topic".into()));
        let done = groups.over("g", "key").await.is_ok();
        let asked = asked.lock().unwrap().clone();
        (done, asked)
    }

    #[tokio::test]
    async fn a_group_is_told_before_it_is_noted_and_not_again_once_it_is() {
        let calls = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let whole = calls(&["UpdateItem", "Publish", "UpdateItem completed"]);
        assert_eq!(told_at_the_end(false, 200).await, (true, whole));
        assert_eq!(told_at_the_end(true, 200).await, (true, calls(&["UpdateItem"])));
        // Where it could not be told, whoever comes next tells it.
        let cut = calls(&["UpdateItem", "Publish"]);
        assert_eq!(told_at_the_end(false, 403).await, (false, cut));
    }
}
