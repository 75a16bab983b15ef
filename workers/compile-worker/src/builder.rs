//! What builds are made in: an image, and what it says of itself.

use std::{sync::Arc, time::Duration};

use flotilla_runtime::Failure;
use flotilla_sandbox::{Build, Builder};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::{container::answer, error::sandbox_failure, names::WheelName};

/// How long a job that has ended waits for its container to be gone.
const REMOVAL: Duration = Duration::from_secs(10);

/// A builder image, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BuilderInfo {
    /// The digest of the image.
    #[serde(default)]
    pub image: String,
    /// What it builds for: the ABI tag of its Python, such as `cp311`, or a target of Rust.
    pub abi: String,
    /// The full version of its Python, where that builds.
    #[serde(default)]
    pub python: String,
    /// What its compiler says of itself, where that is not of the image's distribution.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub compiler: String,
    /// The platform tag, such as `linux_x86_64`.
    pub platform: String,
    /// The version of its C library.
    pub glibc: String,
    /// Wheels that it brings along for what upstream does not have.
    #[serde(default)]
    pub wheels: Vec<Vendored>,
}

/// A wheel inside the builder image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vendored {
    /// Its name.
    pub filename: String,
    /// Its SHA-256.
    pub sha256: String,
}

impl BuilderInfo {
    /// The minor version of its Python, `3.11`.
    pub fn minor(&self) -> &str {
        let mut dots = self.python.match_indices('.');
        dots.nth(1).map_or(self.python.as_str(), |(end, _)| &self.python[..end])
    }

    /// The name that a wheel of this version will have: as one that is known to be pure, such as
    /// upstream's own, else for this image's Python and platform.
    pub fn predict(&self, name: &str, version: &str, pure: Option<&WheelName>) -> WheelName {
        let ours = [self.abi.as_str(), &self.abi, &self.platform];
        let tags = match pure {
            Some(wheel) => [wheel.tags[0].as_str(), &wheel.tags[1], &wheel.tags[2]],
            None => ours,
        };
        WheelName::predicted(name, version, tags)
    }
}

/// The builder, connected and asked when it is first needed: Docker may be up later than the
/// worker.
#[derive(Debug, Clone)]
pub struct Workshop {
    image: String,
    worker_id: String,
    open: Arc<OnceCell<(Builder, BuilderInfo)>>,
}

impl Workshop {
    /// A workshop that builds in `image`.
    pub fn new(image: &str, worker_id: &str) -> Self {
        Self { image: image.into(), worker_id: worker_id.into(), open: Arc::default() }
    }

    /// The builder, and what its image says of itself.
    ///
    /// # Errors
    /// When the engine or the image is not there, or the image is none of ours.
    pub async fn get(&self) -> Result<&(Builder, BuilderInfo), Failure> {
        self.open.get_or_try_init(|| self.connect()).await
    }

    /// The image by its digest, once it is known.
    pub fn image(&self) -> Option<String> {
        self.open.get().map(|(_, info)| info.image.clone())
    }

    /// Waits until the containers that have ended are gone, for a while at most: what the engine does
    /// not do in time goes on in the background.
    pub async fn removed(&self) {
        if let Some((builder, _)) = self.open.get() {
            let _ = tokio::time::timeout(REMOVAL, builder.removed()).await;
        }
    }

    async fn connect(&self) -> Result<(Builder, BuilderInfo), Failure> {
        let builder = Builder::connect(&self.image, &self.worker_id).await;
        let builder = builder.map_err(sandbox_failure)?;
        let probe = Build { arguments: vec!["probe".into()], ..Build::default() };
        let built = builder.run(probe).await.map_err(sandbox_failure)?;
        let described: Result<(BuilderInfo, &[u8]), String> = answer(&built.result);
        let (info, _) = described.map_err(|why| {
            let log = String::from_utf8_lossy(&built.log);
            let image = &self.image;
            Failure::permanent("builder_image", format!("{image} is no builder: {why}; {log}"))
        })?;
        let info = BuilderInfo { image: builder.image_id().to_owned(), ..info };
        Ok((builder, info))
    }
}
