//! A stack of the project's own template, for what is measured on the endpoint of the environment.

use std::{path::PathBuf, process::Stdio};

use serde_json::Value;
use tokio::process::Command;

use crate::{Trouble, process::sibling};

/// A stack: queues, tables and buckets.
#[derive(Debug)]
pub struct Stack {
    name: String,
    outputs: Value,
}

impl Stack {
    /// Creates one for a bench.
    ///
    /// # Errors
    /// When the operator's command cannot: with what it said.
    pub async fn create(bench: &str) -> Result<Self, Trouble> {
        let name = format!("bench-{bench}-{}", std::process::id());
        let created = command_line(&["stack", "create", "--json", "--name", &name]).await?;
        let outputs = serde_json::from_str(&created)
            .map_err(|e| Trouble::new(format!("the stack's outputs are no JSON: {e}")))?;
        Ok(Self { name, outputs })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An output of its template; empty where there is none.
    pub fn output(&self, name: &str) -> &str {
        self.outputs[name].as_str().unwrap_or_default()
    }

    /// Deletes it.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn delete(self) -> Result<(), Trouble> {
        command_line(&["stack", "delete", "--name", &self.name]).await.map(drop)
    }
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
