//! Child processes: started apart from the terminal's signals, stopped by their id, and tied to
//! the life of this process.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

use crate::{
    console::note,
    error::{Doing, Error},
    signing::SETTING,
    stop::Stop,
};

/// How much of a child's output is kept for the error that may need it.
const KEPT_LINES: usize = 25;
/// How much of one line is kept, in bytes; workers write far shorter ones.
const KEPT_OF_LINE: usize = 16 << 10;

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Log,
}

/// The last lines that a child said.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

/// How a child has ended.
#[derive(Debug)]
pub(crate) struct End {
    /// Whether it said that all was well.
    pub(crate) orderly: bool,
    /// Its exit status in words.
    pub(crate) how: String,
}

impl Process {
    /// Starts `program`; its output is kept, and with `echo` printed too, each line after the
    /// child's name.
    pub(crate) fn start(
        name: &str,
        program: &Path,
        variables: &[(&str, String)],
        echo: bool,
    ) -> Result<Self, Error> {
        let mut command = told(program, variables);
        // Ctrl-C in the terminal reaches this process alone, which stops its children in order.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().doing(|| format!("starting {}", program.display()))?;
        let log = Log::default();
        log.follow(child.stdout.take(), name, echo);
        log.follow(child.stderr.take(), name, echo);
        Ok(Process { name: name.to_owned(), child, log })
    }

    /// Waits for the child to end by itself.
    pub(crate) async fn ended(&mut self) -> End {
        match self.child.wait().await {
            Ok(status) => End { orderly: status.success(), how: status.to_string() },
            Err(error) => End { orderly: false, how: error.to_string() },
        }
    }

    /// What it said last, for an error.
    pub(crate) fn last_words(&self) -> String {
        let lines = self.log.lines();
        lines.iter().map(|line| format!("\n  {}: {line}", self.name)).collect()
    }

    /// Asks the child to end and waits up to `grace`, then ends it by force; a second signal to
    /// this process does so at once. Says whether it ended in time.
    pub(crate) async fn stop(mut self, grace: Duration, stop: &Stop) -> bool {
        self.signal(Signal::SIGTERM);
        let in_time = tokio::select! {
            _ = self.child.wait() => true,
            () = tokio::time::sleep(grace) => false,
            () = stop.impatient() => false,
        };
        if !in_time {
            // An error means that it has just ended by itself.
            let _ = self.child.kill().await;
        }
        in_time
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id {
            // As above: there may be nobody left to hear it.
            let _ = kill(Pid::from_raw(id), signal);
        }
    }
}

/// A program with these variables. The key that statements are signed with is not handed down: a
/// worker runs what others wrote, and only who is told of the key by name may know it.
fn told(program: &Path, variables: &[(&str, String)]) -> Command {
    let mut command = tied(program);
    command.env_remove(SETTING);
    command.envs(variables.iter().map(|(key, value)| (key, value)));
    command
}

/// A command that ends when this process does, however it ends: `kill -9` leaves it no time to
/// stop its children. Where `setpriv` (util-linux) is missing it is the bare program.
fn tied(program: &Path) -> Command {
    match find("setpriv") {
        None => Command::new(program),
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args([OsStr::new("--pdeathsig"), OsStr::new("TERM"), OsStr::new("--")]);
            command.arg(program);
            command
        }
    }
}

/// The program of this name beside this executable, or else on PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = beside.into_iter().chain(std::env::split_paths(&path));
    places.map(|place| place.join(name)).find(|file| file.is_file())
}

/// The next line, whatever its bytes are and however long it is: what is over the limit is read
/// and thrown away. `None` at the end.
async fn next_line(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let (mut line, mut length) = (Vec::new(), 0);
    loop {
        let read = stream.fill_buf().await.ok()?;
        if read.is_empty() && length == 0 {
            return None;
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        let part = &read[..end.unwrap_or(read.len())];
        line.extend_from_slice(&part[..part.len().min(KEPT_OF_LINE - line.len())]);
        length += part.len();
        let (ends, used) = (end.is_some() || read.is_empty(), end.map_or(read.len(), |at| at + 1));
        stream.consume(used);
        if ends {
            let cut = if length > line.len() { "…" } else { "" };
            return Some(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned() + cut);
        }
    }
}

impl Log {
    fn follow(
        &self,
        stream: Option<impl AsyncRead + Unpin + Send + 'static>,
        name: &str,
        echo: bool,
    ) {
        let Some(stream) = stream else { return };
        let (log, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            while let Some(line) = next_line(&mut stream).await {
                if echo {
                    note(format!("[{name}] {line}"));
                }
                log.keep(line);
            }
        });
    }

    fn keep(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        if lines.len() > KEPT_LINES {
            lines.pop_front();
        }
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signing_key_is_handed_down_to_nobody_who_is_not_told_of_it() {
        let key = |variables: &[(&str, String)]| {
            let command = told(Path::new("worker"), variables);
            let mut all = command.as_std().get_envs();
            all.find_map(|(name, value)| (name == SETTING).then(|| value.map(OsStr::to_owned)))
        };
        assert_eq!(key(&[("A", "b".to_owned())]), Some(None), "it is taken away");
        assert_eq!(key(&[(SETTING, "k.pem".to_owned())]), Some(Some("k.pem".into())));
    }

    #[tokio::test]
    async fn a_line_that_is_no_text_does_not_end_the_log() {
        let mut stream: &[u8] = b"a\xffb\n\nlast";
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut stream).await {
            lines.push(line);
        }
        assert_eq!(lines, ["a\u{fffd}b", "", "last"]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let text = ["x".repeat(1 << 20), "next".to_owned()].join("\n");
        let mut stream = BufReader::new(text.as_bytes());
        let line = next_line(&mut stream).await.unwrap();
        assert_eq!(line.len(), KEPT_OF_LINE + "…".len());
        assert_eq!(next_line(&mut stream).await.as_deref(), Some("next"));
    }
}
