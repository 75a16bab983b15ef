//! A way to the engine that can be held up and cut.

use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) struct Proxy {
    path: PathBuf,
    task: JoinHandle<()>,
    held: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) fn new_path() -> PathBuf {
        std::env::temp_dir().join(format!("flotilla-proxy-{}.sock", uuid::Uuid::new_v4()))
    }

    pub(crate) async fn open(path: PathBuf) -> Self {
        let _stale = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let (held, is_held) = watch::channel(false);
        let task = tokio::spawn(async move {
            // Dropped with the task, and the connections with it.
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                connections.spawn(connection(near, is_held.clone()));
            }
        });
        Self { path, task, held }
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// From now on everything stands still, or moves on with nothing lost.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub(crate) async fn cut(self) -> PathBuf {
        self.task.abort();
        let _cancelled = self.task.await;
        std::fs::remove_file(&self.path).unwrap();
        self.path
    }
}

async fn connection(near: UnixStream, held: watch::Receiver<bool>) {
    let far = UnixStream::connect("/var/run/docker.sock").await.unwrap();
    let ((near_out, near_in), (far_out, far_in)) = (near.into_split(), far.into_split());
    let there = pump(near_out, far_in, held.clone());
    tokio::join!(there, pump(far_out, near_in, held));
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut held: watch::Receiver<bool>,
) {
    let mut chunk = vec![0; 64 << 10];
    loop {
        let n = from.read(&mut chunk).await.unwrap_or(0);
        if held.wait_for(|held| !held).await.is_err() {
            return;
        }
        if n == 0 || to.write_all(&chunk[..n]).await.is_err() {
            let _gone = to.shutdown().await;
            return;
        }
    }
}
