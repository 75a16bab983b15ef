//! The operator's command on a world's stack.

use std::process::Stdio;

use tokio::process::Command;

use crate::{World, binary};

impl World {
    /// Runs `flotilla` with these arguments; gives its exit code and all that it said.
    pub async fn flotilla(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(binary("flotilla"));
        command.args(arguments).env("FLOTILLA_STACK", self.stack().name());
        command.env("FLOTILLA_CACHE", self.folder()).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.expect("the command runs");
        let text = [output.stdout, output.stderr].concat();
        let code = output.status.code().expect("an exit code");
        (code, String::from_utf8_lossy(&text).into_owned())
    }
}
