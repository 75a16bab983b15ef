//! Links problems with the problem that they follow from.

use std::collections::{HashMap, VecDeque};

use flotilla_runtime::Failure;
use futures::future::try_join_all;

use super::Worker;
use crate::{
    engine::{DeviceStand, EdgeStand, Episode},
    plans::Known,
    root::{Trouble, causes},
    tables::{EpisodeKey, Subject},
};

/// So many subjects are looked at around one that changed.
const AROUND: usize = 200;

impl Worker {
    /// Links what was told of a subject, and of those that fail together with it or did.
    pub(super) async fn link(&self, subject: &Subject) -> Result<(), Failure> {
        let known = self.plans.get().await?;
        let mut told: HashMap<Subject, Vec<Episode>> = HashMap::new();
        let mut near = VecDeque::from([(subject.clone(), true)]);
        while let Some((subject, begin)) = near.pop_front().filter(|_| told.len() < AROUND) {
            if told.contains_key(&subject) {
                continue;
            }
            let episodes = self.told(&subject).await?;
            if begin || !episodes.is_empty() {
                near.extend(neighbours(&known, &subject).map(|it| (it, false)));
            }
            told.insert(subject, episodes);
        }
        let troubles: Vec<Trouble> = told
            .into_iter()
            .flat_map(|(subject, all)| {
                all.into_iter().map(move |episode| Trouble { subject: subject.clone(), episode })
            })
            .collect();
        let key = |it: &Trouble| EpisodeKey {
            problem_id: it.subject.problem_id(it.episode.kind),
            opened: it.episode.opened.at,
        };
        let links = causes(&troubles).into_iter().enumerate().map(async |(number, cause)| {
            let cause = cause.map(|cause| key(&troubles[cause]));
            self.problems.link(&key(&troubles[number]), cause.as_ref()).await
        });
        try_join_all(links).await.map(drop)
    }

    async fn told(&self, subject: &Subject) -> Result<Vec<Episode>, Failure> {
        Ok(match subject {
            Subject::Edge { .. } => {
                let state = self.edges.load::<EdgeStand>(subject).await?;
                state.map(|it| it.1.told().to_vec()).unwrap_or_default()
            }
            Subject::Device(_) => {
                let state = self.edges.load::<DeviceStand>(subject).await?;
                state.map(|it| it.1.told().to_vec()).unwrap_or_default()
            }
        })
    }
}

/// What has a sensor in common with a subject.
fn neighbours(known: &Known, subject: &Subject) -> impl Iterator<Item = Subject> {
    let ends = std::iter::once(subject.current()).chain(subject.following());
    ends.flat_map(|id| known.subjects(id))
}
