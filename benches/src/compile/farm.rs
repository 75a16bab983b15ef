//! A gateway and a compile worker, on a stack of their own.

use std::{path::PathBuf, process::Stdio, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    Trouble, http,
    process::{CONSUMER_CORE, ENDPOINT_CORE, Process, sibling},
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
    stack: String,
}

impl Farm {
    pub(super) async fn start() -> Result<Self, Trouble> {
        let stack = format!("bench-compile-{}", std::process::id());
        let created = command_line(&["stack", "create", "--json", "--name", &stack]).await?;
        let outputs: Value = serde_json::from_str(&created)
            .map_err(|e| Trouble::new(format!("the stack's outputs are no JSON: {e}")))?;
        match Self::on(&stack, &outputs).await {
            Ok(farm) => Ok(farm),
            Err(why) => {
                command_line(&["stack", "delete", "--name", &stack]).await?;
                Err(why)
            }
        }
    }

    async fn on(stack: &str, outputs: &Value) -> Result<Self, Trouble> {
        let (address, health) = (http::free_address()?, http::free_address()?);
        let worker_id = format!("{stack}-worker");
        let mut command = program("compile-worker", outputs);
        command.env("FLOTILLA_QUEUE_URL", text(outputs, "CompileQueueUrl"));
        command.env("FLOTILLA_LEDGER_TABLE", text(outputs, "LedgerTableName"));
        command.env("FLOTILLA_PAYLOADS_BUCKET", text(outputs, "PayloadsBucketName"));
        command.env("FLOTILLA_HTTP_ADDR", &health).env("FLOTILLA_WORKER_ID", &worker_id);
        // Builds compete with nobody but the load: the gateway is the one that is measured.
        let worker = Process::start(command, ENDPOINT_CORE, Stdio::null())?;
        let mut command = program("gateway", outputs);
        command.env("FLOTILLA_COMPILE_QUEUE_URL", text(outputs, "CompileQueueUrl"));
        command.env("FLOTILLA_GATEWAY_ADDR", &address);
        let gateway = Process::start(command, CONSUMER_CORE, Stdio::null())?;
        let farm = Self { address, worker_id, gateway, worker, stack: stack.to_owned() };
        let ready = http::until_ready(&health, "/readyz", PATIENCE).await;
        let ready = ready.and(http::until_ready(&farm.address, "/time", PATIENCE).await);
        let words = || farm.worker.last_words() + &farm.gateway.last_words();
        ready.map_err(|why| Trouble::new(format!("{why}{}", words())))?;
        Ok(farm)
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
        command_line(&["stack", "delete", "--name", &self.stack]).await.map(drop)
    }
}

fn program(name: &str, outputs: &Value) -> Command {
    let mut command = Command::new(sibling(name));
    command.env("FLOTILLA_ARTIFACTS_BUCKET", text(outputs, "ArtifactsBucketName"));
    command.env("FLOTILLA_BUILDS_TABLE", text(outputs, "BuildsTableName"));
    command.env("FLOTILLA_PACKAGES_TABLE", text(outputs, "PackagesTableName"));
    command
}

fn text<'a>(outputs: &'a Value, name: &str) -> &'a str {
    outputs[name].as_str().unwrap_or_default()
}

/// What the operator's command says.
async fn command_line(arguments: &[&str]) -> Result<String, Trouble> {
    let program =
        std::env::var_os("FLOTILLA_BENCH_CLI").map_or_else(|| sibling("flotilla"), PathBuf::from);
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let failed =
        |e: String| Trouble::new(format!("{} {}: {e}", program.display(), arguments.join(" ")));
    let output = command.output().await.map_err(|e| failed(e.to_string()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(failed(output.status.to_string())),
    }
}
