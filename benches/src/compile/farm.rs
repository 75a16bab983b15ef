//! A gateway and a compile worker, on a stack of their own.

use std::{process::Stdio, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    Trouble, http,
    process::{CONSUMER_CORE, ENDPOINT_CORE, Process, sibling},
    stack::Stack,
};

/// How long a process may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The farm.
pub(super) struct Farm {
    /// Where the gateway listens.
    pub(super) address: String,
    /// What the worker's containers are labelled with.
    pub(super) worker_id: String,
    pub(super) gateway: Process,
    worker: Process,
    stack: Stack,
}

impl Farm {
    pub(super) async fn start() -> Result<Self, Trouble> {
        let stack = Stack::create("compile").await?;
        match Self::on(&stack).await {
            Ok((address, worker_id, gateway, worker)) => {
                Ok(Self { address, worker_id, gateway, worker, stack })
            }
            Err(why) => {
                stack.delete().await?;
                Err(why)
            }
        }
    }

    async fn on(stack: &Stack) -> Result<(String, String, Process, Process), Trouble> {
        let (address, health) = (http::free_address()?, http::free_address()?);
        let worker_id = format!("{}-worker", stack.name());
        let mut command = program("compile-worker", stack);
        command.env("FLOTILLA_QUEUE_URL", stack.output("CompileQueueUrl"));
        command.env("FLOTILLA_LEDGER_TABLE", stack.output("LedgerTableName"));
        command.env("FLOTILLA_PAYLOADS_BUCKET", stack.output("PayloadsBucketName"));
        command.env("FLOTILLA_HTTP_ADDR", &health).env("FLOTILLA_WORKER_ID", &worker_id);
        // Builds compete with nobody but the load: the gateway is the one that is measured.
        let worker = Process::start(command, ENDPOINT_CORE, Stdio::null())?;
        let mut command = program("gateway", stack);
        command.env("FLOTILLA_COMPILE_QUEUE_URL", stack.output("CompileQueueUrl"));
        command.env("FLOTILLA_GATEWAY_ADDR", &address);
        let gateway = Process::start(command, CONSUMER_CORE, Stdio::null())?;
        let ready = http::until_ready(&health, "/readyz", PATIENCE).await;
        let ready = ready.and(http::until_ready(&address, "/time", PATIENCE).await);
        let words = || worker.last_words() + &gateway.last_words();
        ready.map_err(|why| Trouble::new(format!("{why}{}", words())))?;
        Ok((address, worker_id, gateway, worker))
    }

    /// Asks for a package and waits for it: the answer in the original's shape.
    pub(super) async fn package(
        &self,
        name: &str,
        version: &str,
        flags: &str,
    ) -> Result<Value, Trouble> {
        let flags = flags.replace('+', "%2B");
        let path = format!("/package?package={name}&version={version}&useflag={flags}&wait=1");
        let answer = http::get(&self.address, &path).await?;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        let body: Value = serde_json::from_str(&said).unwrap_or_default();
        match body["status"].as_str() {
            Some("SUCCESS") => Ok(body),
            _ => Err(Trouble::new(format!("{name} {version} {flags}: {said}"))),
        }
    }

    /// Ends both, and deletes the stack.
    pub(super) async fn stop(mut self) -> Result<(), Trouble> {
        for process in [&mut self.gateway, &mut self.worker] {
            process.signal(Signal::SIGTERM);
            process.ended(PATIENCE).await?;
        }
        self.stack.delete().await
    }
}

fn program(name: &str, stack: &Stack) -> Command {
    let mut command = Command::new(sibling(name));
    command.env("FLOTILLA_ARTIFACTS_BUCKET", stack.output("ArtifactsBucketName"));
    command.env("FLOTILLA_BUILDS_TABLE", stack.output("BuildsTableName"));
    command.env("FLOTILLA_PACKAGES_TABLE", stack.output("PackagesTableName"));
    command
}
