//! Problems of edges and devices that the topologies do not have any more: nobody looks at these
//! again, so their problems end with them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flotilla_runtime::Failure;
use serde::{Serialize, de::DeserializeOwned};

use super::Worker;
use crate::{
    engine::{DeviceStand, EdgeStand, Machine},
    plans::Known,
    tables::{Subject, now_ms},
};

/// When to look once more: until then a comparison by the plan before may still have been under way.
const ONCE_MORE: Duration = Duration::from_secs(10);
/// How often an ending is tried while others write the same row.
const TRIES: u32 = 5;

/// For which version of the topologies it was looked, and when, and how often.
#[derive(Debug, Default)]
pub(super) struct Dropped(Mutex<Option<(u64, Instant, u32)>>);

impl Dropped {
    /// Whether it is time to look; notes that it is done.
    fn begin(&self, version: u64) -> bool {
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = match *looked {
            Some((of, at, times)) if of == version => {
                if times > 1 || at.elapsed() < ONCE_MORE {
                    return false;
                }
                times
            }
            _ => 0,
        };
        *looked = Some((version, Instant::now(), times + 1));
        // Where there never was a topology, all edges follow from the ids, and stay.
        version > 0
    }

    fn again(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Worker {
    /// Ends what lasts of edges and devices that the topologies do not have, once they changed.
    pub(super) async fn close_dropped(self: Arc<Self>) {
        let Ok(known) = self.plans.get().await else { return };
        if !self.dropped.begin(known.version) {
            return;
        }
        if let Err(failure) = self.close_all(&known).await {
            tracing::warn!("problems that no topology has any more end later: {failure}");
            self.dropped.again();
        }
    }

    async fn close_all(&self, known: &Known) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let (lasting, last) = self.edges.lasting(after.as_deref()).await?;
            for subject in lasting.iter().filter(|it| !known.has(it)) {
                match subject {
                    Subject::Edge { .. } => self.close::<EdgeStand>(subject).await?,
                    Subject::Device(_) => self.close::<DeviceStand>(subject).await?,
                }
            }
            after = last;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn close<M: Machine + Serialize + DeserializeOwned>(
        &self,
        subject: &Subject,
    ) -> Result<(), Failure> {
        for conflicts in 1..=TRIES {
            let Some((version, state)) = self.edges.load::<M>(subject).await? else {
                return Ok(());
            };
            let now = now_ms();
            let Some(next) = state.ended_at(now) else { return Ok(()) };
            if self.edges.end(&self.problems, subject, version, (&state, &next), now).await? {
                tracing::info!(subject = subject.key(), "its problems ended: no topology has it");
                return Ok(());
            }
            self.outrun(conflicts).await;
        }
        Err(super::conflict(subject))
    }
}
