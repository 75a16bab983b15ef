//! A FIFO queue in memory, with SQS's rule: nothing of a group is given to anybody while a message
//! of it is in hand.

use super::*;

/// A message as the test wants it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) id: String,
    pub(super) group: String,
    pub(super) ms: u64,
    /// How often it fails before it succeeds.
    pub(super) fails: u32,
    pub(super) fate: &'static str,
}

pub(super) fn sent(id: &str, group: &str, ms: u64, fails: u32, fate: &'static str) -> Sent {
    Sent { id: id.to_owned(), group: group.to_owned(), ms, fails, fate }
}

/// A message as the queue has it.
pub(super) struct Kept {
    pub(super) sent: Sent,
    pub(super) visible_at: Instant,
    pub(super) receives: u32,
    pub(super) deleted: bool,
}

#[derive(Default)]
pub(super) struct Shelf {
    pub(super) messages: Vec<Kept>,
    /// Deletes in their order.
    pub(super) deleted: Vec<String>,
    /// What went to the dead-letter queue.
    pub(super) dead: Vec<Value>,
    /// Visibilities that were set, by message.
    pub(super) visibilities: Vec<(String, u64)>,
    /// One delete in so many is answered with an error.
    pub(super) bad_deletes: usize,
    pub(super) deletes: usize,
    /// The message whose extensions are refused.
    pub(super) refused: Option<String>,
}

impl Shelf {
    pub(super) fn answer(&mut self, operation: &str, body: &Value) -> Value {
        match operation {
            "ReceiveMessage" => self.receive(body),
            "DeleteMessageBatch" => self.delete(body),
            "ChangeMessageVisibilityBatch" => self.change(body),
            "SendMessage" => {
                self.dead.push(body.clone());
                json!({ "MessageId": "d", "MD5OfMessageBody": "" })
            }
            _ => json!({}),
        }
    }

    fn receive(&mut self, body: &Value) -> Value {
        let (now, visibility) = (Instant::now(), body["VisibilityTimeout"].as_u64().unwrap());
        let held = self.messages.iter().filter(|it| !it.deleted && it.visible_at > now);
        let locked: Vec<_> = held.map(|it| it.sent.group.clone()).collect();
        let free = |it: &&mut Kept| !it.deleted && !locked.contains(&it.sent.group);
        let most = body["MaxNumberOfMessages"].as_u64().unwrap() as usize;
        let mut given = Vec::new();
        for kept in self.messages.iter_mut().filter(free).take(most) {
            kept.visible_at = now + Duration::from_secs(visibility);
            kept.receives += 1;
            let Sent { id, group, ms, fails, fate } = &kept.sent;
            let order = json!({ "id": id, "ms": ms, "fails": fails, "fate": fate });
            given.push(json!({
                "MessageId": id,
                "ReceiptHandle": format!("{id}#{}", kept.receives),
                "Body": order.to_string(),
                "Attributes": {
                    "ApproximateReceiveCount": kept.receives.to_string(),
                    "MessageGroupId": group,
                },
            }));
        }
        json!({ "Messages": given, "__hang": if given.is_empty() { 0.1 } else { 0.01 } })
    }

    /// The message of a handle, if that is its newest.
    fn named(&mut self, handle: &Value) -> Option<&mut Kept> {
        let (id, receives) = handle.as_str().unwrap().split_once('#').unwrap();
        let kept = self.messages.iter_mut().find(|it| it.sent.id == id).unwrap();
        (kept.receives.to_string() == receives && !kept.deleted).then_some(kept)
    }

    fn delete(&mut self, body: &Value) -> Value {
        self.deletes += 1;
        if self.bad_deletes > 0 && self.deletes.is_multiple_of(self.bad_deletes) {
            return json!({ "__status": 500, "__hang": 0.2 });
        }
        let mut failed = Vec::new();
        for (index, entry) in body["Entries"].as_array().unwrap().iter().enumerate() {
            let Some(kept) = self.named(&entry["ReceiptHandle"]) else {
                failed.push((index, true));
                continue;
            };
            kept.deleted = true;
            let id = kept.sent.id.clone();
            self.deleted.push(id);
        }
        batch(body, &failed)
    }

    fn change(&mut self, body: &Value) -> Value {
        let mut failed = Vec::new();
        for (index, entry) in body["Entries"].as_array().unwrap().iter().enumerate() {
            let seconds = entry["VisibilityTimeout"].as_u64().unwrap();
            let refused = self.refused.clone().filter(|_| seconds > 0);
            let kept = self.named(&entry["ReceiptHandle"]);
            let Some(kept) = kept.filter(|it| Some(&it.sent.id) != refused.as_ref()) else {
                failed.push((index, true));
                continue;
            };
            kept.visible_at = Instant::now() + Duration::from_secs(seconds);
            let id = kept.sent.id.clone();
            self.visibilities.push((id, seconds));
        }
        batch(body, &failed)
    }
}
