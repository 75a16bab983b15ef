//! The choice while it is made: what was picked, and what was tried in vain.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use pep440_rs::Version;

use super::{
    Pick, newest, pick, vendored,
    wants::{Wanted, Wants, wants},
};
use crate::{builder::BuilderInfo, error::Stopped, requirement::Requirement, upstream::Upstream};

/// How many are looked up at once.
const AT_ONCE: usize = 8;

/// A choice on its way.
pub(super) struct Choice<'a> {
    upstream: &'a Upstream,
    builder: &'a BuilderInfo,
    roots: &'a [Requirement],
    /// What was chosen for each package so far.
    pub(super) picks: BTreeMap<String, Pick>,
    /// Versions whose own requirements left no wheel of another package.
    banned: BTreeMap<String, BTreeSet<Version>>,
    /// The first requirement that could not be met: what followed from it explains less.
    first: Option<(String, Wanted)>,
}

impl<'a> Choice<'a> {
    pub(super) fn new(
        upstream: &'a Upstream,
        builder: &'a BuilderInfo,
        roots: &'a [Requirement],
    ) -> Self {
        let (picks, banned) = (BTreeMap::new(), BTreeMap::new());
        Self { upstream, builder, roots, picks, banned, first: None }
    }

    /// Whether all that is wanted is picked, and what is picked is wanted; else a round of picks.
    pub(super) async fn is_whole(&mut self) -> Result<bool, Stopped> {
        let wants = self.wants()?;
        self.picks.retain(|name, _| wants.contains_key(name));
        let stale: Vec<(&String, &Wanted)> = wants
            .iter()
            .filter(|(name, wanted)| {
                self.picks.get(*name).is_none_or(|pick| !wanted.takes(&pick.version))
            })
            .collect();
        for some in stale.chunks(AT_ONCE) {
            let (upstream, builder) = (self.upstream, self.builder);
            let looked = some.iter().map(|(name, wanted)| pick(upstream, builder, name, wanted));
            let found = try_join_all(looked).await?;
            for ((name, wanted), found) in some.iter().zip(found) {
                match found {
                    Some(pick) => drop(self.picks.insert((*name).clone(), pick)),
                    None => return self.go_back(&wants, name, wanted).await.map(|()| false),
                }
            }
        }
        Ok(stale.is_empty())
    }

    /// Of what requires a package of which there is no wheel, takes back one: first one without which
    /// there is a wheel. What the roots say is never taken back.
    async fn go_back(&mut self, wants: &Wants, name: &str, wanted: &Wanted) -> Result<(), Stopped> {
        let (first, unmet) = self.first.get_or_insert_with(|| (name.to_owned(), wanted.clone()));
        let why = unmet.unmet(first);
        let mut culprit = None;
        for by in self.requiring(wants, name) {
            let helps = self.goes_without(&by, name).await?;
            if helps || culprit.is_none() {
                culprit = Some(by);
            }
            if helps {
                break;
            }
        }
        let Some((by, pick)) = culprit.and_then(|by| self.picks.remove_entry(&by)) else {
            return Err(why);
        };
        tracing::debug!(package = by, version = %pick.version, name, "an older one is tried");
        self.banned.entry(by).or_default().insert(pick.version);
        Ok(())
    }

    /// The packages whose picks narrow what there is of another.
    fn requiring(&self, wants: &Wants, name: &str) -> Vec<String> {
        let narrows = |(by, pick): &(&String, &Pick)| {
            let extras = wants.get(*by).map(|it| &it.extras);
            let own = |it: &&Requirement| it.name == name && !it.specifiers.is_empty();
            let applies =
                |it: &Requirement| extras.is_some_and(|extras| it.applies(self.builder, extras));
            *by != name && pick.requires.iter().filter(own).any(applies)
        };
        self.picks.iter().filter(narrows).map(|(by, _)| by.clone()).collect()
    }

    /// Whether there is a wheel of a package without what another requires of it.
    async fn goes_without(&mut self, by: &str, name: &str) -> Result<bool, Stopped> {
        let Some((by, pick)) = self.picks.remove_entry(by) else { return Ok(false) };
        let wants = self.wants();
        self.picks.insert(by, pick);
        match wants?.get(name) {
            None => Ok(true),
            Some(wanted) => {
                let project = self.upstream.kept(name).await?;
                let builder = self.builder;
                let there = newest(&project, builder, wanted).is_some();
                Ok(there || vendored(builder, name, wanted).is_some())
            }
        }
    }

    fn wants(&self) -> Result<Wants, Stopped> {
        let mut wants = wants(self.roots, &self.picks, self.builder)?;
        for (name, banned) in &self.banned {
            if let Some(wanted) = wants.get_mut(name) {
                wanted.banned.clone_from(banned);
            }
        }
        Ok(wants)
    }
}
