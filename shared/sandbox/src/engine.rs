//! The Docker engine, every call to it bounded in time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerSummary};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptions,
};
use futures::StreamExt;

use crate::{SandboxError, profile};

/// For any call but a ping.
const PATIENCE: Duration = Duration::from_secs(15);
/// For a ping, which health depends on.
const PING: Duration = Duration::from_secs(3);
/// The first runc without CVE-2024-21626.
const SAFE_RUNC: [u64; 3] = [1, 1, 12];

/// How a container ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopped {
    pub(crate) status: i64,
    /// A process in it was killed for want of memory.
    pub(crate) out_of_memory: bool,
}

/// A connection to the engine, and what was learned about it.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    docker: Docker,
    /// It puts AppArmor profiles on containers.
    pub(crate) apparmor: bool,
    /// Names of containers that could not be removed.
    left_over: Arc<Mutex<Vec<String>>>,
}

impl Engine {
    /// Connects to an address, else to `DOCKER_HOST` or the local socket, and looks at what answers.
    pub(crate) async fn connect(host: Option<&str>) -> Result<Self, SandboxError> {
        let doing = "connecting";
        let docker = match host {
            Some(host) => Docker::connect_with_host(host),
            None => Docker::connect_with_defaults(),
        };
        let docker = docker.map_err(|e| failed(doing, e))?;
        let docker = docker.with_timeout(PATIENCE);
        let docker = bounded(doing, PATIENCE, docker.negotiate_version()).await?;
        let info = bounded("asking what it can do", PATIENCE, docker.info()).await?;
        let options = info.security_options.unwrap_or_default();
        let apparmor = options.iter().any(|o| o.contains("apparmor"));
        let engine = Self { docker, apparmor, left_over: Arc::default() };
        engine.warn_of_old_runc().await?;
        Ok(engine)
    }

    async fn warn_of_old_runc(&self) -> Result<(), SandboxError> {
        let version = bounded("asking its version", PATIENCE, self.docker.version()).await?;
        let components = version.components.unwrap_or_default();
        let runc = components.iter().find(|component| component.name == "runc");
        if let Some(runc) = runc.filter(|runc| numbers(&runc.version) < SAFE_RUNC) {
            tracing::warn!(
                version = runc.version,
                "runc is older than 1.1.12 and has CVE-2024-21626 unless the distribution fixed it; \
                 update it"
            );
        }
        Ok(())
    }

    /// Whether it answers.
    pub(crate) async fn ping(&self) -> Result<(), SandboxError> {
        bounded("a ping", PING, self.docker.ping()).await.map(drop)
    }

    /// The id of an image that is there.
    pub(crate) async fn image_id(&self, image: &str) -> Result<String, SandboxError> {
        let inspected = timed("looking at the image", PATIENCE, self.docker.inspect_image(image));
        let inspected = inspected.await?.map_err(|e| missing_image(image, "the image", e))?;
        Ok(inspected.id.unwrap_or_else(|| image.into()))
    }

    /// Creates a container, attaches to it, and starts it. Whatever of it fails, the caller removes
    /// the container.
    pub(crate) async fn start(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<AttachContainerResults, SandboxError> {
        let image = body.image.clone().unwrap_or_default();
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let create = self.docker.create_container(Some(options), body);
        let created = timed("creating a cell", PATIENCE, create).await?;
        created.map_err(|e| missing_image(&image, "to create a cell", e))?;
        // Attached before the start, so that not even the first word is missed.
        let options =
            AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stderr(true);
        let attach = self.docker.attach_container(name, Some(options.stream(true).build()));
        let streams = bounded("to attach to a cell", PATIENCE, attach).await?;
        bounded("to start a cell", PATIENCE, self.docker.start_container(name, None)).await?;
        Ok(streams)
    }

    /// Kills and removes a container; one that is gone already is as good.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), SandboxError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let remove = self.docker.remove_container(name, Some(options));
        match timed("removing a cell", PATIENCE, remove).await? {
            // Not there, or being removed by the engine itself.
            Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) | Ok(()) => Ok(()),
            Err(error) => Err(failed("to remove a cell", error)),
        }
    }

    /// Remembers a container that could not be removed.
    pub(crate) fn leave_over(&self, name: &str) {
        self.left_over().push(name.into());
    }

    /// Removes what could not be removed before, or remembers it on.
    pub(crate) async fn remove_left_over(&self) {
        let names = std::mem::take(&mut *self.left_over());
        for name in names {
            if self.remove(&name).await.is_err() {
                self.leave_over(&name);
            }
        }
    }

    fn left_over(&self) -> MutexGuard<'_, Vec<String>> {
        // Nothing panics while it holds the lock, and a list of names has no broken state.
        self.left_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of a container that was started.
    pub(crate) async fn stopped(&self, name: &str) -> Result<Stopped, SandboxError> {
        let mut ends = self.docker.wait_container(name, None::<WaitContainerOptions>);
        // Its answer counts a status other than 0 as an error; the inspection tells more.
        while ends.next().await.is_some_and(|end| end.is_ok()) {}
        let inspect = self.docker.inspect_container(name, None::<InspectContainerOptions>);
        let state = bounded("to look at a build", PATIENCE, inspect).await?.state;
        let state = state.unwrap_or_default();
        if state.running == Some(true) {
            let (doing, why) = ("waiting for a build", "it lost the connection".to_owned());
            return Err(SandboxError::EngineUnreachable { doing, why });
        }
        Ok(Stopped {
            status: state.exit_code.unwrap_or(-1),
            out_of_memory: state.oom_killed == Some(true),
        })
    }

    /// All containers with our label, running or not.
    pub(crate) async fn ours(&self) -> Result<Vec<ContainerSummary>, SandboxError> {
        let filters = HashMap::from([("label", vec![profile::WORKER])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let list = self.docker.list_containers(Some(options));
        bounded("to list cells", PATIENCE, list).await
    }
}

async fn timed<T>(
    doing: &'static str,
    patience: Duration,
    call: impl Future<Output = T>,
) -> Result<T, SandboxError> {
    let late = |_| SandboxError::EngineUnreachable {
        doing,
        why: format!("no answer within {} s", patience.as_secs()),
    };
    tokio::time::timeout(patience, call).await.map_err(late)
}

async fn bounded<T>(
    doing: &'static str,
    patience: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, SandboxError> {
    timed(doing, patience, call).await?.map_err(|e| failed(doing, e))
}

fn failed(doing: &'static str, error: Error) -> SandboxError {
    match error {
        Error::DockerResponseServerError { message, status_code } => {
            SandboxError::Engine { doing, why: format!("{status_code}, {message}") }
        }
        other => SandboxError::EngineUnreachable { doing, why: other.to_string() },
    }
}

fn missing_image(image: &str, doing: &'static str, error: Error) -> SandboxError {
    match error {
        Error::DockerResponseServerError { status_code: 404, .. } => {
            SandboxError::ImageMissing { image: image.into() }
        }
        other => failed(doing, other),
    }
}

/// The first three numbers of a version.
fn numbers(version: &str) -> [u64; 3] {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("1.1.5+ds1-1+deb12u1") < SAFE_RUNC);
        assert!(numbers("1.1.12") >= SAFE_RUNC);
        assert!(numbers("1.3.0-rc.1") > SAFE_RUNC);
    }

    #[tokio::test]
    async fn a_container_that_could_not_be_removed_is_removed_later() {
        let engine = Engine::connect(None).await.unwrap();
        let name = format!("flotilla-cell-left-{}", uuid::Uuid::new_v4().simple());
        let image = std::env::var("FLOTILLA_SANDBOX_IMAGE");
        let image = Some(image.unwrap_or("flotilla-python3:latest".into()));
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let body = ContainerCreateBody { image, ..Default::default() };
        engine.docker.create_container(Some(options), body).await.unwrap();
        engine.leave_over(&name);
        engine.remove_left_over().await;
        assert!(engine.docker.inspect_container(&name, None).await.is_err());
        assert!(engine.left_over().is_empty());
    }
}
