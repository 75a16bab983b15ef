//! The dead letters of a queue: read without being used up, and sent back.

mod clock;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, Message, MessageAttributeValue,
    MessageSystemAttributeName as System, QueueAttributeName as Attribute,
};
use flotilla_runtime::{payload::Payloads, queue, tally};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use self::clock::Clock;
use crate::{
    aws::Clients,
    console::one_line,
    error::{Doing, Error},
    stop::Stop,
};

/// How long letters are out of sight while they are looked through: as long as a look may take,
/// since one that comes back meanwhile would be seen twice.
const HOLD: Duration = Duration::from_secs(300);
/// The attribute that says why.
const WHY: &str = "flotilla";
/// The most that SQS gives or takes at once.
const BATCH: usize = 10;
/// So many receives in a row that bring nothing are the end of a queue: SQS asks a part of its
/// hosts at a time.
const EMPTY: usize = 2;
/// So many receives in a row that bring only letters that were seen before: others than those do not
/// come any more. SQS gives a letter again once it has been out of sight for as long as it may.
const VAIN: usize = 200;
/// How often it is tried to make letters visible again.
const TRIES: u32 = 4;

/// Why a message is dead, as its worker wrote it; see the runtime's dead letters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Why {
    pub(crate) reason: String,
    pub(crate) kind: String,
    pub(crate) worker: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) trace_id: Option<String>,
    /// The id that it had on its queue.
    pub(crate) message_id: Option<String>,
    pub(crate) receive_count: Option<u32>,
    /// The URL of the queue that it was on.
    pub(crate) queue: Option<String>,
    /// Where the last lines of its log are, `s3://bucket/key`.
    pub(crate) log: Option<String>,
}

/// A dead letter, out of sight of others for now.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Letter {
    /// Its id on the dead-letter queue.
    pub(crate) id: String,
    /// When it was put there, in milliseconds of the Unix epoch.
    pub(crate) sent_at: u64,
    #[serde(flatten)]
    pub(crate) why: Why,
    /// The tenant.
    pub(crate) group: Option<String>,
    /// The trace of AWS X-Ray that it is of.
    pub(crate) trace_header: Option<String>,
    pub(crate) body: String,
    /// Those of its message, the binary ones in Base64.
    #[serde(serialize_with = "as_json")]
    attributes: queue::Told,
    /// What its worker has told, where its attributes lie in S3.
    #[serde(skip)]
    aside: Option<Value>,
    /// The name of the queue that SQS itself moved it from.
    #[serde(skip)]
    moved_from: Option<String>,
    #[serde(skip)]
    handle: String,
}

/// What became of a letter that was to go back.
#[derive(Debug)]
pub(crate) enum Redriven {
    /// It is on its queue, under this id.
    Sent(String),
    /// Its queue is gone, say, or does not take it: this is no fault of the other letters.
    Refused(Error),
}

fn as_json<S: Serializer>(attributes: &queue::Told, to: S) -> Result<S::Ok, S::Error> {
    queue::as_json(attributes).serialize(to)
}

/// What a worker has told; another attribute of this name is the sender's, and stays.
fn told(attribute: &MessageAttributeValue) -> Option<Value> {
    let told: Value = serde_json::from_str(attribute.string_value()?).ok()?;
    (told["reason"].is_string() && told["kind"].is_string()).then_some(told)
}

impl Letter {
    fn read(message: Message) -> Option<Self> {
        let system = |name: System| message.attributes()?.get(&name).cloned();
        let sent_at = system(System::SentTimestamp).and_then(|ms| ms.parse::<u64>().ok());
        let group = system(System::MessageGroupId);
        let trace_header = system(System::AwsTraceHeader);
        let moved_from = system(System::DeadLetterQueueSourceArn);
        let moved_from = moved_from.and_then(|arn| Some(arn.rsplit_once(':')?.1.to_owned()));
        let mut attributes = message.message_attributes.unwrap_or_default();
        let told = attributes.get(WHY).and_then(told);
        if let Some(told) = &told {
            attributes.remove(WHY);
            // What there was no room for beside the reason stands in it.
            attributes.extend(queue::unfolded(told));
        }
        let aside = told.clone().filter(queue::is_aside);
        // SQS itself moves what was received too often, and writes no reason.
        let unknown = || Why {
            reason: match &moved_from {
                Some(name) => {
                    format!("SQS moved it: it was received more often than {name} allows")
                }
                None => "no worker wrote why: SQS moved it, or somebody sent it here".to_owned(),
            },
            kind: "unknown".to_owned(),
            ..Why::default()
        };
        Some(Self {
            id: message.message_id?,
            sent_at: sent_at.unwrap_or_default(),
            why: told.and_then(|it| serde_json::from_value(it).ok()).unwrap_or_else(unknown),
            group,
            trace_header,
            body: message.body.unwrap_or_default(),
            attributes,
            handle: message.receipt_handle?,
            aside,
            moved_from,
        })
    }

    /// Reads its body, where that lies in S3.
    ///
    /// # Errors
    /// Where S3 does not have it any more, or does not answer.
    pub(crate) async fn read_body(&mut self, payloads: &Payloads) -> Result<(), Error> {
        let body = payloads.expand(&self.body).await.map_err(|e| Error::Fleet(e.to_string()))?;
        self.body = body.into_owned();
        Ok(())
    }

    /// Reads its attributes, where those lie in S3.
    ///
    /// # Errors
    /// As [`read_body`](Self::read_body).
    pub(crate) async fn read_attributes(&mut self, payloads: &Payloads) -> Result<(), Error> {
        self.attributes = self.attributes(payloads).await?;
        Ok(())
    }

    /// The attributes that its message had.
    async fn attributes(&self, payloads: &Payloads) -> Result<queue::Told, Error> {
        let mut all = self.attributes.clone();
        if let Some(told) = &self.aside {
            let aside = queue::enclosed(payloads, told).await;
            all.extend(aside.map_err(|e| Error::Fleet(e.to_string()))?);
        }
        Ok(all)
    }

    /// The attributes that are known, a line each: `NAME (TYPE): VALUE`.
    pub(crate) fn attribute_lines(&self) -> impl Iterator<Item = String> {
        queue::as_json(&self.attributes).into_iter().map(|(name, value)| {
            let text = |field: &str| value[field].as_str().unwrap_or_default();
            let said = format!("{}{}", text("text"), text("base64"));
            format!("{} ({}): {}", one_line(&name), one_line(text("type")), one_line(&said))
        })
    }

    /// Whether it has this id, here or on the queue that it came from.
    pub(crate) fn is(&self, id: &str) -> bool {
        self.id == id || self.why.message_id.as_deref() == Some(id)
    }

    /// How long it has been dead.
    pub(crate) fn age(&self) -> Duration {
        SystemTime::now().duration_since(self.sent()).unwrap_or_default()
    }

    /// Whether it is what became of one of these messages, by their ids: SQS itself moves a message with its id.
    pub(crate) fn was_one_of(&self, messages: &HashSet<String>) -> bool {
        let own = self.why.message_id.as_ref();
        messages.contains(&self.id) || own.is_some_and(|id| messages.contains(id))
    }

    /// Whether it was dead already at this time.
    pub(crate) fn was_dead_at(&self, time: SystemTime) -> bool {
        self.sent() < time
    }

    /// The queue that it goes back to: its own, or this one where nobody says which that is.
    pub(crate) fn home<'q>(&'q self, otherwise: &'q str) -> Cow<'q, str> {
        match (&self.why.queue, &self.moved_from) {
            // The same queue may have another host, seen from another machine.
            (Some(own), _) if name(own) != name(otherwise) => own.into(),
            (None, Some(own)) if own != name(otherwise) => {
                let beside = otherwise.len() - name(otherwise).len();
                format!("{}{own}", &otherwise[..beside]).into()
            }
            _ => otherwise.into(),
        }
    }

    fn sent(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.sent_at)
    }
}

/// A queue's name: the last part of its URL.
fn name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// Receives since the last that brought something new.
#[derive(Debug, Default)]
struct Looks {
    empty: usize,
    vain: usize,
}

/// What a receive means for those that look through a queue.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// There is something new.
    New,
    /// There may be more.
    Again,
    /// There is no more.
    End,
    /// There may be more, and it does not come.
    Vain,
}

impl Looks {
    /// A receive brought so many letters, and so many new ones.
    fn noted(&mut self, given: usize, new: usize) -> Look {
        match (given, new) {
            (0, _) => self.empty += 1,
            (_, 0) => (self.empty, self.vain) = (0, self.vain + 1),
            _ => return Look::New,
        }
        match (self.empty, self.vain) {
            (EMPTY.., _) => Look::End,
            (_, VAIN..) => Look::Vain,
            _ => Look::Again,
        }
    }
}

/// A dead-letter queue that is being looked through.
pub(crate) struct DeadLetters<'a> {
    clients: &'a Clients,
    url: &'a str,
    stop: &'a Stop,
    /// The letters that are out of sight, with their handles.
    seen: HashMap<String, String>,
}

impl<'a> DeadLetters<'a> {
    pub(crate) fn new(clients: &'a Clients, url: &'a str, stop: &'a Stop) -> Self {
        Self { clients, url, stop, seen: HashMap::new() }
    }

    /// The next letters that were not seen yet; none at the end, which is where the queue gives no
    /// letters at all. Whoever is asked to stop is between two receives then: what one that is cut off
    /// brings would be out of sight for nobody.
    pub(crate) async fn next(&mut self) -> Result<Vec<Letter>, Error> {
        let mut looks = Looks::default();
        loop {
            self.go_on()?;
            let (given, letters) = self.receive().await?;
            match looks.noted(given, letters.len()) {
                Look::New => return Ok(letters),
                Look::Again => {}
                Look::End => return Ok(Vec::new()),
                Look::Vain => {
                    let (url, seen) = (self.url, self.seen.len());
                    return Err(Error::Fleet(format!(
                        "{url} gave {VAIN} times in a row what was seen already ({seen} letters): \
                         others may be left; run it again"
                    )));
                }
            }
        }
    }

    /// An error once the operator has asked to stop.
    pub(crate) fn go_on(&self) -> Result<(), Error> {
        if self.stop.is_asked() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// The time by the clock that letters are dated by, to the second; by the operator's own where SQS does
    /// not tell.
    pub(crate) async fn now(&self) -> Result<SystemTime, Error> {
        let (clock, call) = (Clock::default(), self.clients.sqs.get_queue_attributes());
        let call = call.queue_url(self.url).attribute_names(Attribute::QueueArn);
        let asked = call.customize().interceptor(clock.clone()).send().await;
        asked.doing(|| format!("asking {} for the time", self.url))?;
        Ok(clock.time().unwrap_or_else(SystemTime::now))
    }

    /// How many letters SQS counts on the queue, visible or not (approximately).
    pub(crate) async fn counted(&self) -> Result<u64, Error> {
        let names = [
            Attribute::ApproximateNumberOfMessages,
            Attribute::ApproximateNumberOfMessagesNotVisible,
            Attribute::ApproximateNumberOfMessagesDelayed,
        ];
        let call = self.clients.sqs.get_queue_attributes().queue_url(self.url);
        let answer = call.set_attribute_names(Some(names.to_vec())).send().await;
        let answer = answer.doing(|| format!("counting the letters of {}", self.url))?;
        let count = |name| answer.attributes()?.get(name)?.parse::<u64>().ok();
        Ok(names.iter().filter_map(count).sum())
    }

    /// How many letters the queue gave, and those of them that were not seen yet.
    async fn receive(&mut self) -> Result<(usize, Vec<Letter>), Error> {
        let call = self.clients.sqs.receive_message().queue_url(self.url);
        let call = call.max_number_of_messages(BATCH as i32).wait_time_seconds(1);
        let call = call.visibility_timeout(HOLD.as_secs() as i32);
        let call = call.message_attribute_names("All").message_system_attribute_names(System::All);
        let answer = call.send().await.doing(|| format!("receiving from {}", self.url))?;
        let messages = answer.messages.unwrap_or_default();
        let given = messages.len();
        let letters = messages.into_iter().filter_map(Letter::read);
        let new = |it: &Letter| self.seen.insert(it.id.clone(), it.handle.clone()).is_none();
        Ok((given, letters.filter(new).collect()))
    }

    /// Puts a letter back on its queue as it was before it died, and takes it off this one. Cut
    /// off between the two, it is on both, which workers take for a duplicate.
    pub(crate) async fn redrive(
        &mut self,
        letter: &Letter,
        queue: &str,
        payloads: &Payloads,
    ) -> Result<Redriven, Error> {
        let fifo = queue.ends_with(".fifo");
        let attributes = match letter.attributes(payloads).await {
            Ok(attributes) => attributes,
            Err(error) => return Ok(Redriven::Refused(error)),
        };
        let call = self.clients.sqs.send_message().queue_url(queue).message_body(&letter.body);
        let call = call.set_message_attributes(Some(attributes));
        let call =
            call.set_message_system_attributes(queue::traced(letter.trace_header.as_deref()));
        let call = call.set_message_group_id(letter.group.clone());
        let call = call.set_message_deduplication_id(fifo.then(|| letter.id.clone()));
        let answer = call.send().await;
        let refused = answer.as_ref().is_err_and(|error| error.as_service_error().is_some());
        let sent = match answer.doing(|| format!("sending dead letter {} to {queue}", letter.id)) {
            Ok(sent) => sent,
            Err(error) if refused => return Ok(Redriven::Refused(error)),
            Err(error) => return Err(error),
        };
        tally::sent(queue, 1);
        self.delete(letter).await?;
        Ok(Redriven::Sent(sent.message_id.unwrap_or_default()))
    }

    /// Takes a letter off the queue for good.
    pub(crate) async fn delete(&mut self, letter: &Letter) -> Result<(), Error> {
        let call = self.clients.sqs.delete_message().queue_url(self.url);
        let deleted = call.receipt_handle(&letter.handle).send().await;
        deleted.doing(|| format!("deleting dead letter {} from its queue", letter.id))?;
        self.seen.remove(&letter.id);
        Ok(())
    }

    /// Makes all that is left visible again; gives how many that are. A batch that fails keeps no other
    /// out of sight.
    pub(crate) async fn put_back(&mut self) -> Result<usize, Error> {
        let handles: Vec<_> = self.seen.drain().map(|(_, handle)| handle).collect();
        let (mut left, mut why) = (0, None);
        for batch in handles.chunks(BATCH) {
            match self.show(batch.to_vec()).await {
                Ok(()) => {}
                Err((count, error)) => (left, why) = (left + count, why.or(error)),
            }
        }
        match (left, why) {
            (0, _) => Ok(handles.len()),
            (left, why) => Err(Error::Fleet(format!(
                "{left} dead letters of {} could not be put back: they are out of sight for up to {} \
                 s more{}",
                self.url,
                HOLD.as_secs(),
                why.map(|error| format!(" ({})", crate::chain(&error))).unwrap_or_default()
            ))),
        }
    }

    /// Makes these visible again, or tells how many are not, and why. What SQS refuses since its handle is
    /// out of date is not ours any more, and so visible or in another's hand.
    async fn show(&self, mut handles: Vec<String>) -> Result<(), (usize, Option<Error>)> {
        for _ in 0..TRIES {
            let failed = self.show_once(&handles).await.map_err(|e| (handles.len(), Some(e)))?;
            handles = failed.into_iter().filter_map(|place| handles.get(place).cloned()).collect();
            if handles.is_empty() {
                return Ok(());
            }
        }
        Err((handles.len(), None))
    }

    /// The places of those that SQS could not make visible now.
    async fn show_once(&self, handles: &[String]) -> Result<Vec<usize>, Error> {
        let entries = handles.iter().enumerate().map(|(index, handle)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder();
            entry.id(index.to_string()).receipt_handle(handle).visibility_timeout(0).build()
        });
        let entries = entries.collect::<Result<_, _>>();
        let entries = entries.map_err(|e| Error::Fleet(format!("a batch of letters: {e}")))?;
        let call = self.clients.sqs.change_message_visibility_batch().queue_url(self.url);
        let put = call.set_entries(Some(entries)).send().await;
        let put = put.doing(|| format!("making the dead letters of {} visible again", self.url))?;
        let theirs = put.failed().iter().filter(|failed| !failed.sender_fault());
        Ok(theirs.filter_map(|failed| failed.id().parse().ok()).collect())
    }
}

#[cfg(test)]
mod tests;
