//! The ecosystems of a worker.

use flotilla_runtime::Failure;

use crate::{
    builder::{BuilderInfo, Workshop},
    crates::Crates,
    ecosystem::{Ecosystem, Grammar, Made, Versions, names},
    error::Stopped,
    message::BuildOrder,
    progress::Progress,
    pypi::Pypi,
};

/// One of each.
#[derive(Debug)]
pub struct Ecosystems {
    /// PyPI, which a worker must be able to build of.
    pub pypi: Pypi,
    /// crates.io, where the image of its builds is there.
    pub crates: Crates,
}

impl Ecosystems {
    /// Where packages of an ecosystem are built.
    ///
    /// # Errors
    /// When there is no such ecosystem, or its image is not there.
    pub async fn builder(&self, name: &str) -> Result<(&'static Grammar, &BuilderInfo), Failure> {
        let (grammar, workshop): (_, &Workshop) = match name {
            it if it == self.pypi.grammar().name => (self.pypi.grammar(), self.pypi.workshop()),
            it if it == self.crates.grammar().name => {
                (self.crates.grammar(), self.crates.workshop())
            }
            _ => return Err(unknown(name)),
        };
        Ok((grammar, &workshop.get().await?.1))
    }

    /// As [`Ecosystem::make`], by the ecosystem of the order. What it takes is kept in a box: a future
    /// is as large as the largest that it may await, and messages of all kinds have the same.
    ///
    /// # Errors
    /// As [`Ecosystem::make`].
    pub async fn make(&self, order: &BuildOrder, progress: &Progress<'_>) -> Result<Made, Stopped> {
        match order.ecosystem.as_str() {
            it if it == self.pypi.grammar().name => Box::pin(self.pypi.make(order, progress)).await,
            it if it == self.crates.grammar().name => {
                Box::pin(self.crates.make(order, progress)).await
            }
            other => Err(unknown(other).into()),
        }
    }

    /// The image that packages of an ecosystem are built in, by its digest, once it is known.
    pub fn image(&self, name: &str) -> Option<String> {
        let crates = name == self.crates.grammar().name;
        let workshop = if crates { self.crates.workshop() } else { self.pypi.workshop() };
        workshop.image()
    }

    /// Waits until the containers of builds that have ended are gone.
    pub async fn removed(&self) {
        tokio::join!(self.pypi.workshop().removed(), self.crates.workshop().removed());
    }

    /// As [`Ecosystem::versions`], of this ecosystem.
    ///
    /// # Errors
    /// As [`Ecosystem::versions`].
    pub async fn versions(
        &self,
        ecosystem: &str,
        name: &str,
        validator: Option<&str>,
    ) -> Result<Option<Versions>, Failure> {
        match ecosystem {
            it if it == self.pypi.grammar().name => self.pypi.versions(name, validator).await,
            it if it == self.crates.grammar().name => self.crates.versions(name, validator).await,
            other => Err(unknown(other)),
        }
    }
}

fn unknown(name: &str) -> Failure {
    let known: Vec<&str> = names().collect();
    let what = format!("there is no ecosystem {name:?}; there are: {}", known.join(", "));
    Failure::permanent("ecosystem", what)
}
