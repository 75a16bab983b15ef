//! What is wanted of each package, by the roots and by what was chosen so far.

use std::collections::{BTreeMap, BTreeSet};

use pep440_rs::{Operator, Version, VersionSpecifiers};

use super::Pick;
use crate::{builder::BuilderInfo, error::Stopped, requirement::Requirement};

/// A build is given at most so many packages.
pub(super) const PACKAGES: usize = 500;

/// All that is wanted of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) specifiers: Vec<VersionSpecifiers>,
    pub(super) extras: BTreeSet<String>,
    /// Versions that were tried, and with which nothing went together.
    pub(super) banned: BTreeSet<Version>,
}

pub(super) type Wants = BTreeMap<String, Wanted>;

impl Wanted {
    pub(super) fn takes(&self, version: &Version) -> bool {
        !self.banned.contains(version) && self.specifiers.iter().all(|it| it.contains(version))
    }

    /// Whether somebody names the one version that he wants.
    pub(super) fn is_pinned(&self) -> bool {
        self.specifiers.iter().any(is_pin)
    }

    /// That there is no wheel of a package that will do.
    pub(super) fn unmet(&self, name: &str) -> Stopped {
        let specifiers = self.specifiers.iter().filter(|it| !it.is_empty());
        let specifiers: Vec<_> = specifiers.map(ToString::to_string).collect();
        let what = format!("{name} {}", specifiers.join(", "));
        Stopped::theirs(format!("no wheel satisfies the build requirement {}", what.trim()))
    }
}

/// Whether this names one version (`==` without a wildcard, or `===`).
pub fn is_pin(specifiers: &VersionSpecifiers) -> bool {
    specifiers.iter().any(|it| matches!(it.operator(), Operator::Equal | Operator::ExactEqual))
}

/// What the roots and the present choice want together.
pub(super) fn wants(
    roots: &[Requirement],
    picks: &BTreeMap<String, Pick>,
    builder: &BuilderInfo,
) -> Result<Wants, Stopped> {
    let mut wants = Wants::new();
    for requirement in roots {
        add(&mut wants, requirement, builder, &BTreeSet::new())?;
    }
    // Only what is reached from the roots counts; a cycle ends by the growth of `done`.
    let mut done = BTreeSet::new();
    while let Some(name) = wants.keys().find(|name| !done.contains(*name)).cloned() {
        let extras = wants[&name].extras.clone();
        for requirement in picks.get(&name).map(|pick| &pick.requires).into_iter().flatten() {
            add(&mut wants, requirement, builder, &extras)?;
        }
        done.insert(name);
    }
    Ok(wants)
}

fn add(
    wants: &mut Wants,
    requirement: &Requirement,
    builder: &BuilderInfo,
    extras: &BTreeSet<String>,
) -> Result<(), Stopped> {
    if !requirement.applies(builder, extras) {
        return Ok(());
    }
    let name = &requirement.name;
    if requirement.names_url {
        return Err(Stopped::theirs(format!(
            "the build requirement {name} names a URL; only packages of the index are used"
        )));
    }
    let wanted = wants.entry(name.clone()).or_default();
    wanted.extras.extend(requirement.extras.iter().cloned());
    wanted.specifiers.push(requirement.specifiers.clone());
    match wants.len() > PACKAGES {
        true => Err(Stopped::theirs(format!("the build requires over {PACKAGES} packages"))),
        false => Ok(()),
    }
}
