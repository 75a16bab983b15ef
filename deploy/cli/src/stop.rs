//! Being asked to stop: Ctrl-C, SIGTERM or a closed terminal once to drain, twice to end at once.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::error::{Doing, Error};

/// How often this process was asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<u32>);

impl Stop {
    /// Listens for SIGINT, SIGTERM and SIGHUP from now on, in place of their default effect.
    pub(crate) fn on_signals() -> Result<Self, Error> {
        let listen = |kind| signal(kind).doing(|| "listening for signals".to_owned());
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hangup = listen(SignalKind::hangup())?;
        let (sender, receiver) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                sender.send_modify(|asked| *asked += 1);
            }
        });
        Ok(Stop(receiver))
    }

    /// One that was asked as often already, and never again.
    #[cfg(test)]
    pub(crate) fn asked_already(times: u32) -> Self {
        Stop(watch::channel(times).1)
    }

    /// Returns once this process was asked to stop.
    pub(crate) async fn asked(&self) {
        self.times(1).await;
    }

    /// Returns once this process was asked again.
    pub(crate) async fn impatient(&self) {
        self.times(2).await;
    }

    /// Whether this process was asked to stop.
    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Whether this process was asked again.
    pub(crate) fn is_impatient(&self) -> bool {
        *self.0.borrow() > 1
    }

    async fn times(&self, times: u32) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|asked| *asked >= times).await.is_err() {
            // Nobody listens any more: nothing can be asked.
            std::future::pending::<()>().await;
        }
    }
}
