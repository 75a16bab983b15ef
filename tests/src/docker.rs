//! The Docker engine, seen from outside the worker.

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::Stdio,
};

use jiff::Timestamp;
use tokio::{
    io::AsyncReadExt,
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

const ENGINE: &str = "/var/run/docker.sock";

/// The containers, running or not, of the worker with this id. The engine is asked itself: to start its
/// command takes fifty times as long, and who waits for a container asks ten times a second.
pub fn containers(worker_id: &str) -> Vec<String> {
    let filter = format!("%7B%22label%22%3A%5B%22flotilla.worker%3D{worker_id}%22%5D%7D");
    let path = format!("/containers/json?all=true&filters={filter}");
    let answer = answer(&path).expect("the engine answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.split(' ').nth(1) == Some("200"), "{path}: {answer}");
    let all: Vec<Container> = serde_json::from_str(body).expect("a list of containers");
    all.into_iter().map(|it| it.id).collect()
}

#[derive(serde::Deserialize)]
struct Container {
    #[serde(rename = "Id")]
    id: String,
}

/// The engine's whole answer. HTTP/1.0, so that it ends with the connection, in one piece.
fn answer(path: &str) -> std::io::Result<String> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = host.strip_prefix("unix://").unwrap_or(ENGINE);
    let mut engine = std::os::unix::net::UnixStream::connect(socket)?;
    write!(engine, "GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = String::new();
    engine.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A look at the containers of a worker that are started.
#[derive(Debug)]
pub struct Starts(tokio::process::Child);

impl Starts {
    /// Those that are started from now on.
    pub fn of(worker_id: &str) -> Self {
        let now = Timestamp::now();
        let since = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
        let label = format!("label=flotilla.worker={worker_id}");
        let mut events = tokio::process::Command::new("docker");
        events.args(["events", "--since", &since, "--filter", "event=start", "--filter", &label]);
        events.args(["--format", "{{.ID}}"]).stdout(Stdio::piped()).kill_on_drop(true);
        Self(events.spawn().expect("the docker command"))
    }

    /// How many there were so far.
    pub async fn count(mut self) -> usize {
        self.0.kill().await.expect("it runs");
        let mut said = String::new();
        let mut events = self.0.stdout.take().expect("a pipe");
        events.read_to_string(&mut said).await.expect("what it said");
        said.lines().count()
    }
}

/// A socket in front of the engine that can be opened and shut: an engine that does not answer.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
    open: Option<JoinHandle<()>>,
}

impl Gate {
    /// A gate at `path`, shut.
    pub fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// What `DOCKER_HOST` must be to go through the gate.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Lets connections through to the engine.
    pub fn open(&mut self) {
        let listener = UnixListener::bind(&self.path).expect("a socket in a fresh folder");
        self.open = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut far = UnixStream::connect(ENGINE).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        }));
    }

    /// Cuts every connection and refuses new ones.
    pub async fn shut(&mut self) {
        if let Some(open) = self.open.take() {
            open.abort();
            let _ = open.await;
        }
        let _ = std::fs::remove_file(&self.path);
    }
}
