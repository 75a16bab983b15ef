//! What is built and not used is forgotten: marked, and after a grace deleted.

use std::{collections::BTreeSet, time::Duration};

use flotilla_runtime::Failure;

use crate::{
    builds::{Builds, Row, State, now},
    config::Retention,
    publish::Artifacts,
};

/// Marks what nobody downloaded for long, and deletes what is marked for long. A download in
/// between takes the mark away, and a row that has lost it is not deleted.
pub(crate) async fn sweep(
    retention: Retention,
    builds: &Builds,
    artifacts: &Artifacts,
    rows: &[Row],
) -> Result<(), Failure> {
    let mut gone = Vec::new();
    for row in rows {
        match fate(retention, row, now()) {
            Fate::Keep => {}
            Fate::Mark => drop(builds.mark(row).await?),
            Fate::Delete if builds.forget(row).await? => gone.push(row),
            Fate::Delete => {}
        }
    }
    // The same bytes may be what another row points to.
    let left = rows.iter().filter(|row| !gone.iter().any(|it| it.request == row.request));
    let used: BTreeSet<&str> = left.flat_map(objects).collect();
    for row in gone {
        tracing::info!(row.package, row.version, row.options, "forgotten");
        for object in objects(row).filter(|object| !used.contains(object)) {
            artifacts.delete(object).await?;
        }
    }
    Ok(())
}

/// Deletes what no row points to and is older than the grace: what a build stored that was cut off
/// before its row said so, and the logs of tries that were followed by others.
pub(crate) async fn sweep_strays(
    retention: Retention,
    builds: &Builds,
    artifacts: &Artifacts,
) -> Result<(), Failure> {
    if retention.unused == 0 {
        return Ok(());
    }
    let old = artifacts.older_than(Duration::from_secs(retention.grace)).await?;
    // Read after the list: what was committed meanwhile is not swept.
    let rows = builds.all().await?;
    let used: BTreeSet<&str> = rows.iter().flat_map(objects).collect();
    for stray in old.iter().filter(|key| !used.contains(key.as_str())) {
        tracing::info!(key = stray, "of no build: deleted");
        artifacts.delete(stray).await?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Mark,
    Delete,
}

fn fate(retention: Retention, row: &Row, now: u64) -> Fate {
    let used = row.ended_at.max(row.downloaded_at);
    let Some(used) = used.filter(|_| retention.unused > 0 && row.state != State::Ordered) else {
        return Fate::Keep;
    };
    match row.marked_at {
        Some(marked) if marked + retention.grace <= now => Fate::Delete,
        None if used + retention.unused <= now => Fate::Mark,
        _ => Fate::Keep,
    }
}

/// The objects that a row points to.
fn objects(row: &Row) -> impl Iterator<Item = &str> {
    let (blob, metadata, log) = match &row.state {
        State::Done(it) => (Some(it.blob.as_str()), it.metadata.as_deref(), Some(it.log.as_str())),
        State::Failed(failed) => (None, None, failed.log.as_deref()),
        State::Ordered => (None, None, None),
    };
    [blob, metadata, log].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::builds::Failed;

    #[test]
    fn age_is_counted_from_the_last_download_and_grace_from_the_mark() {
        let retention = Retention { unused: 100, grace: 10 };
        let fate = |downloaded_at, marked_at, now| {
            let failed = Failed { reason: String::new(), ours: false, log: None, retry_at: 0 };
            let row = Row {
                package: "pypi/a".into(),
                version: "1".into(),
                options: "default".into(),
                request: "k".into(),
                parts: Value::Null,
                epoch: 1,
                ordered_at: 0,
                ended_at: Some(1000),
                downloaded_at,
                marked_at,
                state: State::Failed(failed),
                lock: None,
                live: None,
                verdict: None,
                groups: BTreeSet::new(),
            };
            super::fate(retention, &row, now)
        };
        assert_eq!((fate(None, None, 1099), fate(None, None, 1100)), (Fate::Keep, Fate::Mark));
        assert_eq!(fate(Some(1050), None, 1149), Fate::Keep);
        assert_eq!(fate(None, Some(1100), 1109), Fate::Keep);
        assert_eq!(fate(None, Some(1100), 1110), Fate::Delete);
    }
}
