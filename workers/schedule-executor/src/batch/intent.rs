//! What is about to be done is written down first: whoever dies at it has said so.

use flotilla_runtime::Failure;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{Hands, case::Case, outcome::made_good};
use crate::{audit::Entry, message::Batch, plan::Step};

/// How long a tick may have waited, in seconds.
const WAITED: i64 = 3600;
/// How many resources are looked up at a time.
const AT_ONCE: usize = 8;

/// Whether an act at this tick can be of the transition that a resource is at, and is none that was
/// cut off long before it. A tick that waited may be older than what it was planned for.
fn is_of(case: &Case<'_>, tick: &str) -> bool {
    let tick = tick.parse::<Timestamp>();
    tick.is_ok_and(|tick| tick.as_second() >= case.item.since.as_second() - WAITED)
}

impl Hands {
    /// Writes a row for each act before it, and which bulk action can be undone. What only mends
    /// drift is not what anybody wants undone.
    pub(super) async fn intend(&self, batch: &Batch, cases: &[Case<'_>]) -> Result<(), Failure> {
        let rows: Vec<Entry> = cases.iter().flat_map(|it| it.intention(batch)).collect();
        if rows.is_empty() {
            self.unchanged(batch).await?;
        }
        let drift = batch.occasion.starts_with("tick ");
        if rows.iter().any(|row| row.resource.starts_with("bulk/")) && !drift {
            self.store.note_bulk(&batch.bulk, batch.actor == "hand", batch.tick).await?;
        }
        self.audit.write(rows).await
    }

    /// Nothing of a hand's batch is done: who undoes it is not to wait for it.
    pub(super) async fn unchanged(&self, batch: &Batch) -> Result<(), Failure> {
        match batch.actor == "hand" && !batch.dry_run {
            true => self.store.note_unchanged(&batch.bulk).await,
            false => Ok(()),
        }
    }

    /// The rows of an attempt before this one that died between its act and what it would have
    /// said of it: the resource is where the act was to bring it, so the act took place.
    pub(super) async fn made_good(
        &self,
        batch: &Batch,
        cases: &[Case<'_>],
        entries: &mut Vec<Entry>,
    ) -> Result<(), Failure> {
        let there =
            cases.iter().filter(|it| matches!(it.step, Step::Skip("already" | "on_its_way", _)));
        let look = async |case: &Case<'_>| {
            let found = self.audit.intended(&case.key).await?;
            let found = found.filter(|it| it.action == batch.action && is_of(case, &it.tick));
            Ok::<_, Failure>(found.map(|it| case.signed(made_good(batch, case.item, &it))))
        };
        let looks = there.map(look).collect::<Vec<_>>();
        let found = stream::iter(looks).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        for row in found.into_iter().flatten() {
            // In place of the skip: it was this worker, after all.
            entries.retain(|it| it.resource != row.resource);
            entries.push(row);
        }
        Ok(())
    }
}
