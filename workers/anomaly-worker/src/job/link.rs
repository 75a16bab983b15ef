//! Links problems with the problem that they follow from.
//!
//! Links are a function of the table of problems ([`causes`]): whoever told something looks at all
//! problems that belong together with it, and writes what is linked otherwise; and looks once more,
//! since others may tell something meanwhile. In a process one does so for all who wait.

use std::collections::{BTreeSet, HashMap};

use flotilla_runtime::Failure;
use futures::{StreamExt, TryStreamExt, stream};

use super::Worker;
use crate::{
    plans::Known,
    root::{Times, Together, causes},
    tables::{EpisodeKey, Linked, Subject},
};

/// What is read and written at a time.
const AT_ONCE: usize = 16;
/// How often to look until nothing is linked otherwise.
const LOOKS: usize = 5;
/// Whose turn it is to link. No subject has this key.
const TURN: &str = "/links";

impl Worker {
    /// Links what was told of a subject since then (Unix milliseconds), and what belongs together
    /// with it or did.
    pub(super) async fn link(&self, subject: &Subject, since: i64) -> Result<(), Failure> {
        let mine = (subject.clone(), since);
        let waiting = || self.unlinked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        waiting().insert(mine.clone());
        let link = async || {
            let mut changed = std::mem::take(&mut *waiting());
            // Whoever took it before may have failed.
            changed.insert(mine.clone());
            for _ in 0..LOOKS {
                if self.link_around(&changed).await? == 0 {
                    break;
                }
            }
            Ok(())
        };
        self.turns.after_now(TURN, link).await
    }

    /// Links what belongs together with these; gives how many were linked otherwise.
    async fn link_around(&self, changed: &BTreeSet<(Subject, i64)>) -> Result<usize, Failure> {
        let known = self.plans.get().await?;
        let mut together = Together::new(|subject: &Subject| neighbours(&known, subject));
        changed.iter().for_each(|(subject, since)| together.begin(subject, *since));
        let mut links = HashMap::new();
        loop {
            let next = together.asks();
            if next.is_empty() {
                break;
            }
            let found = next.into_iter().map(|(subject, times)| self.found(&known, subject, times));
            let found: Vec<_> = found.collect();
            let found: Vec<_> = stream::iter(found).buffer_unordered(AT_ONCE).try_collect().await?;
            for (subject, found) in found {
                for Linked { episode, cause } in found {
                    links.insert(key(&subject, &episode), cause);
                    together.add(&subject, episode);
                }
            }
        }
        let troubles = together.troubles();
        let of = |it: usize| key(&troubles[it].subject, &troubles[it].episode);
        let wanted = causes(&troubles, &known.plan);
        let wanted = wanted.into_iter().enumerate();
        let wanted = wanted.map(|(it, cause)| (of(it), cause.map(of)));
        let other: Vec<_> = wanted.filter(|(key, cause)| links.get(key) != Some(cause)).collect();
        let writes = other.iter().map(|(key, cause)| self.problems.link(key, cause.as_ref()));
        let writes: Vec<_> = writes.collect();
        stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(other.len())
    }

    /// The problems of a subject that last at any time of these.
    async fn found(
        &self,
        known: &Known,
        subject: Subject,
        times: Times,
    ) -> Result<(Subject, Vec<Linked>), Failure> {
        let ids = problem_ids(known, &subject);
        let found = self.problems.lasting(&subject, &ids, times).await?;
        Ok((subject, found))
    }
}

fn key(subject: &Subject, episode: &crate::engine::Episode) -> EpisodeKey {
    let problem_id = subject.problem_id(episode.kind);
    EpisodeKey { problem_id, opened: episode.opened.at }
}

/// What has a sensor in common with a subject.
fn neighbours(known: &Known, subject: &Subject) -> Vec<Subject> {
    let ends = std::iter::once(subject.current()).chain(subject.following());
    ends.flat_map(|id| known.subjects(id)).collect()
}

/// The ids of a subject's problems.
fn problem_ids(known: &Known, subject: &Subject) -> Vec<String> {
    match subject {
        Subject::Edge { current, following } => vec![format!("{current}{following}")],
        Subject::Device(id) => {
            known.plan.device(id).kinds().map(|kind| subject.problem_id(kind)).collect()
        }
    }
}
