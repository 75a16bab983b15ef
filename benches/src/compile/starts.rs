//! The containers of a worker, as the Docker engine tells of them.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::Trouble;

/// How long after a build the engine's word of it may still come.
const LATE: Duration = Duration::from_millis(500);

/// What happened to containers, each with its time since 1970.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) starts: Vec<Duration>,
    pub(super) ends: Vec<Duration>,
}

/// Watches until it is asked what it saw.
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    _events: Child,
}

impl Watch {
    /// From now on, the containers with this label of a worker.
    pub(super) fn begin(worker_id: &str) -> Result<Self, Trouble> {
        let mut command = Command::new("docker");
        command.args(["events", "--filter", "type=container"]);
        command.args(["--filter", &format!("label=flotilla.worker={worker_id}")]);
        command.args(["--format", "{{.Action}} {{.TimeNano}}"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let failed = |e| Trouble::new(format!("docker events: {e}"));
        let mut events = command.spawn().map_err(failed)?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let kept = seen.clone();
        if let Some(output) = events.stdout.take() {
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    note(&kept, &line);
                }
            });
        }
        Ok(Self { seen, _events: events })
    }

    /// What was seen since it began.
    pub(super) async fn end(self) -> Seen {
        tokio::time::sleep(LATE).await;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn note(seen: &Mutex<Seen>, line: &str) {
    let Some((action, time)) = line.rsplit_once(' ') else { return };
    let time = Duration::from_nanos(time.parse().unwrap_or_default());
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match action {
        "start" => seen.starts.push(time),
        "die" => seen.ends.push(time),
        _ => {}
    }
}

/// The time since 1970.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
