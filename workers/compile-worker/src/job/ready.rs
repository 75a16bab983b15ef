//! Whether a worker can build, and who is told so.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use flotilla_runtime::Failure;

use super::Compile;
use crate::{ecosystem::Ecosystem, error::sandbox_failure, pypi::PYPI};

/// How often it is said what builds are made in, and looked for the image of an ecosystem that is not
/// there.
const ANNOUNCED: Duration = Duration::from_secs(60);

impl Compile {
    pub(super) async fn ready_for_pypi(&self) -> Result<(), Failure> {
        let pypi = &self.ecosystems.pypi;
        let (builder, info) = pypi.workshop().get().await?;
        // Who asks for builds must know what they are made in.
        if let Some(first) = self.is_due(PYPI) {
            match self.packages.announce(PYPI, info, first).await {
                Err(why) if !first => tracing::warn!(%why, "not announced again"),
                said => said?,
            }
            self.announced(PYPI, true);
        }
        builder.check().await.map_err(sandbox_failure)
    }

    /// Says what crates are built in, where the image for it is there.
    pub(super) async fn ready_for_crates(&self) {
        let crates = &self.ecosystems.crates;
        let name = crates.grammar().name;
        let Some(first) = self.is_due(name) else { return };
        let announce = async {
            let (_, info) = crates.workshop().get().await?;
            self.packages.announce(name, info, first).await
        };
        let said = announce.await;
        self.announced(name, !first || said.is_ok());
        if let Err(why) = said {
            tracing::warn!(%why, "no crates are built here");
        }
    }

    /// Whether it is time to say what an ecosystem's builds are made in, and if so, whether it is for
    /// the first time.
    fn is_due(&self, ecosystem: &str) -> Option<bool> {
        let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        match announced.get(ecosystem) {
            None => Some(true),
            Some((at, said)) => (at.elapsed() >= ANNOUNCED).then_some(!said),
        }
    }

    fn announced(&self, ecosystem: &'static str, said: bool) {
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.insert(ecosystem, (Instant::now(), said));
    }
}
