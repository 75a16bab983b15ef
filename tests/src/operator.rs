//! The operator's command on a world's stack.

use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::{World, binary};

impl World {
    /// Runs `flotilla` with these arguments; gives its exit code and all that it said.
    pub async fn flotilla(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().await.expect("the command runs");
        let text = [output.stdout, output.stderr].concat();
        let code = output.status.code().expect("an exit code");
        (code, String::from_utf8_lossy(&text).into_owned())
    }

    /// Starts `flotilla` with these arguments; what it says is kept.
    pub fn flotilla_started(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("flotilla"));
        command.args(arguments).env("FLOTILLA_STACK", self.stack().name());
        command.env("FLOTILLA_CACHE", self.folder()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}
