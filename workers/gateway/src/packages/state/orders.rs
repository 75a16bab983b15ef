//! From what somebody wants to its row.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_sdk_sqs::types::QueueAttributeName;
use compile_worker::{
    builder::BuilderInfo,
    builds::{Again, Ordered, RESEND_SECONDS, Request, Row, State, now, one_spelling},
    ecosystem::Grammar,
    message::{CompileMessage, TwiceOrder, Wish},
    names::normalize,
    pypi::{self, PYPI},
    wish,
};
use flotilla_runtime::{Failure, failure::chain, tally, trace};

use super::{GLANCE, Packages};
use crate::packages::answer::Refusal;

/// Which trace a message belongs to.
type Traced = Option<HashMap<String, aws_sdk_sqs::types::MessageAttributeValue>>;

/// How many messages are on a queue.
const COUNTS: [QueueAttributeName; 3] = [
    QueueAttributeName::ApproximateNumberOfMessages,
    QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
];

/// How often who waits orders again: a message may be lost.
pub(in crate::packages) const AGAIN: Duration = Duration::from_secs(30);

impl Packages {
    /// What builds of PyPI are made in.
    pub(in crate::packages) async fn builder(&self) -> Result<Arc<BuilderInfo>, Refusal> {
        self.builder_of(PYPI).await
    }

    async fn builder_of(&self, ecosystem: &str) -> Result<Arc<BuilderInfo>, Refusal> {
        let none = || {
            let what = format!("no compile worker that builds of {ecosystem} has started yet");
            Refusal::Later(what, 5)
        };
        let look_up =
            async |_| Ok(Arc::new(self.table.builder(ecosystem).await?.ok_or_else(none)?));
        self.builders.get(ecosystem, look_up).await
    }

    /// The ecosystem that a name or a category stands for.
    pub(in crate::packages) fn ecosystem(&self, name: &str) -> Result<&'static Grammar, Refusal> {
        wish::ecosystem(name, &self.config.categories).map_err(Refusal::Impossible)
    }

    /// The request for a package by the words of its user.
    pub(in crate::packages) async fn request(
        &self,
        name: &str,
        version: &str,
        options: compile_worker::options::Options,
    ) -> Result<Request, Refusal> {
        let name = normalize(name).map_err(Refusal::Absent)?;
        Ok(Request::new(PYPI, &name, version, options, &*self.builder().await?)?)
    }

    /// The request that a wheel's address stands for, a second old at most.
    pub(in crate::packages) async fn request_at(
        &self,
        (optset, name, version): (&str, &str, &str),
    ) -> Result<Arc<Request>, Refusal> {
        let key = format!("{optset}\n{name}\n{version}");
        let read = async |_| {
            let options = self.options(optset).await?;
            Ok(Arc::new(self.request(name, version, options).await?))
        };
        self.requests.get(&key, read).await
    }

    /// The request for what somebody wants.
    pub(in crate::packages) async fn wished(&self, wish: &Wish) -> Result<Request, Refusal> {
        let grammar = self.ecosystem(&wish.ecosystem)?;
        // What is wrong with it is said also where nobody builds yet.
        wish.options.options(&grammar.options)?;
        (grammar.package)(&wish.package).map_err(Refusal::Impossible)?;
        let builder = self.builder_of(grammar.name).await?;
        wish.request(grammar, &builder).map_err(Refusal::Impossible)
    }

    /// The row of a request, whose build is started if need be.
    pub(in crate::packages) async fn ordered(
        &self,
        request: &Request,
    ) -> Result<Arc<Row>, Refusal> {
        let (row, again) = match self.row(&request.package(), &request.key).await? {
            Some(row) => match &row.state {
                State::Done(artifact) if self.is_there(artifact).await? => return Ok(row),
                State::Done(_) => (row, Again::Lost),
                State::Ordered if self.is_unheard(&row).await? => (row, Again::Unheard),
                _ => (row, Again::Expired),
            },
            None => return self.open(&self.spelled(request).await?, Again::Expired).await,
        };
        self.open(&Request { version: row.version.clone(), ..request.clone() }, again).await
    }

    /// Whether an order is old and nothing is on the queue or in hand: its message was lost.
    async fn is_unheard(&self, row: &Row) -> Result<bool, Refusal> {
        let old = row.ordered_at + RESEND_SECONDS <= now();
        Ok(old && self.idle.get("", async |_| Ok(self.queue.is_empty().await?)).await?)
    }

    /// The row of a request that is built again although it has ended.
    pub(in crate::packages) async fn retried(
        &self,
        request: &Request,
    ) -> Result<Arc<Row>, Refusal> {
        self.open(request, Again::Retry).await
    }

    /// Refuses what no worker can build again as it was: in an image that nobody has any more.
    pub(in crate::packages) async fn check_builder(&self, row: &Row) -> Result<(), Refusal> {
        let (ecosystem, _) = row.named();
        let image = row.parts["builder"].as_str().unwrap_or_default();
        if self.builder_of(ecosystem).await?.image == image
            || self.table.is_alive(ecosystem, image).await?
        {
            return Ok(());
        }
        let (package, version) = (&row.package, &row.version);
        Err(Refusal::Impossible(format!(
            "{package} {version} was built in the image {image}, which no worker has now; ask for \
             it anew"
        )))
    }

    /// Opens the row and sends the message in one go, whoever stops to listen meanwhile: a row whose
    /// message was not sent would wait for whoever asks two minutes later.
    async fn open(&self, request: &Request, again: Again) -> Result<Arc<Row>, Refusal> {
        let (builds, queue) = (self.builds.clone(), self.queue.clone());
        // Of the request, which a task of its own knows nothing of.
        let traced = trace::attributes();
        let order = {
            let request = request.clone();
            async move {
                let order = match builds.order(&request, again).await? {
                    Ordered::Stands(row) => return Ok(Some(Arc::from(row))),
                    Ordered::Send(order) => order,
                };
                let sent = queue.send(&CompileMessage::Build(order.clone()), traced).await;
                let noted = match sent {
                    Ok(()) => builds.sent(&order).await,
                    Err(_) => builds.unsent(&order).await,
                };
                if let Err(why) = noted {
                    tracing::warn!(%why, "an order of which it is not noted whether it was sent");
                }
                sent.map(|()| None)
            }
        };
        let early = |e| Failure::transient("order", format!("an order ended early: {e}"));
        if let Some(row) = tokio::spawn(order).await.map_err(early)?? {
            return Ok(row);
        }
        let (package, key) = (request.package(), &request.key);
        self.rows.forget(key);
        let row = self.row(&package, key).await?;
        row.ok_or_else(|| Refusal::Later(format!("the row of {package} is gone; ask again"), 1))
    }

    /// The request, with its version as upstream spells it.
    async fn spelled(&self, request: &Request) -> Result<Request, Refusal> {
        let Request { ecosystem, name, version, .. } = request;
        let asked = one_spelling(ecosystem, version);
        let there = self.versions(ecosystem, name).await?;
        let own = there.into_iter().find(|it| one_spelling(ecosystem, it) == asked);
        match own {
            Some(own) => Ok(Request { version: own, ..request.clone() }),
            None => Err(self.without_source(request).await?),
        }
    }

    /// Why there is nothing to build.
    async fn without_source(&self, request: &Request) -> Result<Refusal, Refusal> {
        let Request { ecosystem, name, version, .. } = request;
        let unchecked = ecosystem == PYPI
            && pypi::is_unchecked(name, &self.project(name).await?.files, version);
        let hash = if unchecked { " with a SHA-256 or SHA-512 to check it against" } else { "" };
        Ok(Refusal::Absent(format!("upstream has no source of {name} {version}{hash}")))
    }

    /// Waits until a build has ended, at most until then.
    pub(in crate::packages) async fn ended(
        &self,
        request: &Request,
        until: Instant,
    ) -> Result<Arc<Row>, Refusal> {
        let (mut row, mut ordered) = (self.ordered(request).await?, Instant::now());
        while row.state == State::Ordered && Instant::now() < until {
            tokio::time::sleep(GLANCE / 2).await;
            if ordered.elapsed() >= AGAIN {
                (row, ordered) = (self.ordered(request).await?, Instant::now());
            } else if let Some(now) = self.row(&request.package(), &request.key).await? {
                row = now;
            }
        }
        Ok(row)
    }

    /// Has a worker build an artifact a second time.
    pub(in crate::packages) async fn twice(
        &self,
        request: &Request,
        epoch: u64,
    ) -> Result<(), Refusal> {
        let asked_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let asked_at = u64::try_from(asked_at.as_millis()).unwrap_or_default();
        let twice = TwiceOrder { order: request.order(epoch), asked_at };
        self.send(&CompileMessage::Twice(twice)).await
    }

    /// Has the workers look for new versions.
    pub(in crate::packages) async fn refresh(&self) -> Result<(), Refusal> {
        let message = CompileMessage::refresh_all();
        Ok(self.refreshes.send(&message, trace::attributes()).await?)
    }

    /// Puts a message on the workers' queue.
    pub(in crate::packages) async fn send(&self, message: &CompileMessage) -> Result<(), Refusal> {
        Ok(self.queue.send(message, trace::attributes()).await?)
    }
}

/// The workers' queue.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) client: aws_sdk_sqs::Client,
    pub(super) url: String,
}

impl Queue {
    /// Whether no message is on it, visible or in hand, as far as SQS knows.
    async fn is_empty(&self) -> Result<bool, Failure> {
        let call = self.client.get_queue_attributes().queue_url(&self.url);
        let answer = call.set_attribute_names(Some(COUNTS.to_vec())).send().await;
        let failed = |why| Failure::transient("sqs", format!("GetQueueAttributes: {why}"));
        let counts = answer.map_err(|e| failed(chain(&e)))?.attributes.unwrap_or_default();
        Ok(COUNTS.iter().all(|name| counts.get(name).is_some_and(|count| count == "0")))
    }

    async fn send(&self, message: &CompileMessage, traced: Traced) -> Result<(), Failure> {
        let body = message.body().map_err(|e| Failure::permanent("message", e.to_string()))?;
        let call = self.client.send_message().queue_url(&self.url).message_body(body);
        let call = call.set_message_attributes(traced);
        let failed = |why| Failure::transient("sqs", format!("SendMessage: {why}"));
        call.send().await.map_err(|e| failed(chain(&e)))?;
        tally::sent(&self.url, 1);
        Ok(())
    }
}
