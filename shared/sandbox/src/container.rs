//! One container with a supervisor that answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use flotilla_supervisor::PROTOCOL_VERSION;
use flotilla_supervisor::protocol::{Reply, Request};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::SandboxError;
use crate::engine::Engine;
use crate::link::Link;

/// From the start of a container to the supervisor's first word.
const READY: Duration = Duration::from_secs(20);
/// For an answer that takes no work.
const ANSWER: Duration = Duration::from_secs(3);

/// The right to have one container, and whom to tell when it is free again.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) changed: Arc<Notify>,
}

/// A container on the engine. However it is dropped, it is removed, and its slot is free only then.
#[derive(Debug)]
struct Body {
    engine: Engine,
    name: String,
    slot: Option<Slot>,
    runtime: Handle,
}

impl Body {
    async fn remove(mut self) {
        remove(&self.engine, &self.name).await;
        release(self.slot.take());
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let (engine, name) = (self.engine.clone(), std::mem::take(&mut self.name));
        self.runtime.spawn(async move {
            remove(&engine, &name).await;
            release(Some(slot));
        });
    }
}

/// What cannot be removed now is remembered for the sweep.
async fn remove(engine: &Engine, name: &str) {
    if let Err(error) = engine.remove(name).await {
        tracing::warn!(cell = name, %error, "a cell could not be removed; a later sweep will");
        engine.leave_over(name);
    }
}

fn release(slot: Option<Slot>) {
    if let Some(Slot { permit, changed }) = slot {
        drop(permit);
        changed.notify_waiters();
    }
}

/// A cell that is ready for work.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) link: Link,
    body: Body,
    /// The tenant it served; it never serves another.
    pub(crate) tenant: Option<String>,
    /// How often it was loaded.
    pub(crate) submissions: u32,
    /// When it was created.
    pub(crate) born: Instant,
}

impl Container {
    /// Starts a container and waits until its supervisor has proved that it works.
    pub(crate) async fn start(
        engine: &Engine,
        create: ContainerCreateBody,
        slot: Slot,
    ) -> Result<Self, SandboxError> {
        let name = format!("flotilla-cell-{}", uuid::Uuid::new_v4().simple());
        let (engine, slot) = (engine.clone(), Some(slot));
        let body = Body { engine, name, slot, runtime: Handle::current() };
        let link = match greet(&body, create).await {
            Ok(link) => link,
            Err(error) => {
                body.remove().await;
                return Err(error);
            }
        };
        Ok(Self { link, body, tenant: None, submissions: 0, born: Instant::now() })
    }

    /// The container's name, for logs.
    pub(crate) fn name(&self) -> &str {
        &self.body.name
    }

    /// Whether it still answers.
    pub(crate) async fn answers(&mut self) -> bool {
        matches!(self.ask(&Request::Ping, "answering a ping").await, Ok(Reply::Pong))
    }

    /// Sends what is answered at once.
    pub(crate) async fn ask(
        &mut self,
        request: &Request,
        doing: &'static str,
    ) -> Result<Reply, SandboxError> {
        self.link.send(request).await?;
        self.link.receive_within(ANSWER, doing).await
    }

    /// Removes it, and comes back when it is gone.
    pub(crate) async fn remove(self) {
        // The end of its input ends the supervisor; removing is what makes sure.
        let Self { link, body, .. } = self;
        drop(link);
        body.remove().await;
    }
}

async fn greet(body: &Body, create: ContainerCreateBody) -> Result<Link, SandboxError> {
    let mut link = Link::new(body.engine.start(&body.name, create).await?);
    ready(&mut link).await?;
    Ok(link)
}

async fn ready(link: &mut Link) -> Result<(), SandboxError> {
    match link.receive_within(READY, "starting").await? {
        Reply::Ready { version: PROTOCOL_VERSION, .. } => Ok(()),
        Reply::Ready { version, .. } => Err(SandboxError::Protocol(format!(
            "the image's supervisor speaks version {version}, this program {PROTOCOL_VERSION}: \
             build the image anew"
        ))),
        Reply::Unsupported { namespaces: true, why } => {
            Err(SandboxError::NamespacesForbidden { why })
        }
        Reply::Unsupported { why, .. } => Err(SandboxError::CellUnusable { why }),
        other => Err(SandboxError::Protocol(format!("its first word was {other:?}"))),
    }
}
