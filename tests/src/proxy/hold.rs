//! A call that is held on its way, so that its worker can be killed just before or just after it.

use std::time::Duration;

use axum::response::Response;
use tokio::{
    sync::oneshot::{Receiver, Sender, channel},
    time::timeout,
};

use super::{Call, Shared};

/// Longer than any worker takes to make a call that it is to make.
const COMES: Duration = Duration::from_secs(60);

/// A call that is to be held, as the proxy knows it.
#[derive(Debug)]
pub(super) struct Hold {
    words: Vec<String>,
    came: Sender<()>,
    go: Receiver<()>,
    done: Sender<()>,
}

/// A call that is held. It is never answered, and done only if that is asked for.
#[derive(Debug)]
pub struct Held {
    came: Receiver<()>,
    go: Sender<()>,
    done: Receiver<()>,
}

impl Held {
    /// A call with all of these words in its body, to be held; and what holds it.
    pub(super) fn new(words: &[&str]) -> (Self, Hold) {
        let ((came_, came), (go, go_), (done_, done)) = (channel(), channel(), channel());
        let words = words.iter().map(|it| (*it).to_owned()).collect();
        (Self { came, go, done }, Hold { words, came: came_, go: go_, done: done_ })
    }

    /// Waits until the call has come.
    ///
    /// # Panics
    /// When it does not come for a minute.
    pub async fn came(&mut self) {
        let came = timeout(COMES, &mut self.came).await;
        came.expect("the call comes within a minute").expect("a proxy that is there");
    }

    /// Has the call done, and waits until it is. Who made it hears nothing of that.
    ///
    /// # Panics
    /// When the proxy is gone.
    pub async fn done_unheard(self) {
        self.go.send(()).expect("a proxy that is there");
        self.done.await.expect("an endpoint that answers");
    }
}

impl Hold {
    /// Whether this is the call.
    pub(super) fn is_for(&self, call: &Call) -> bool {
        let body = std::str::from_utf8(&call.body).unwrap_or_default();
        self.words.iter().all(|word| body.contains(word))
    }

    /// Holds the call; never answers.
    pub(super) async fn through(self, shared: &Shared, call: Call) -> Response {
        // Nobody may wait for it any more: then it is held for nobody.
        let _ = self.came.send(());
        if self.go.await.is_ok() {
            drop(shared.forward(call).await);
            let _ = self.done.send(());
        }
        std::future::pending().await
    }
}
