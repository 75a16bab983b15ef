//! What is built and not used is forgotten: marked, and after a grace deleted.

use std::{collections::BTreeSet, time::Duration};

use flotilla_runtime::Failure;

use crate::{
    builds::{Builds, Row, State, now},
    config::Retention,
    packages::Packages,
    publish::Artifacts,
};

/// Marks what nobody downloaded for long, and deletes the rows of what is marked for long. A download
/// in between takes the mark away, and a row that has lost it is not deleted. What they pointed to is
/// then of no row, and swept as such ([`sweep_strays`]).
pub(crate) async fn sweep(
    retention: Retention,
    builds: &Builds,
    packages: &Packages,
    rows: &[Row],
) -> Result<(), Failure> {
    let now = now();
    for row in rows {
        match fate(retention, row, now) {
            Fate::Keep => {}
            Fate::Mark => drop(builds.mark(row).await?),
            Fate::Delete if builds.forget(row).await? => {
                tracing::info!(row.package, row.version, row.options, "forgotten");
                if !is_wanted(retention, row, rows, now) {
                    packages.unwanted(&row.package, &row.options).await?;
                }
            }
            Fate::Delete => {}
        }
    }
    Ok(())
}

/// Whether somebody lately downloaded any version of a row's package with its options.
fn is_wanted(retention: Retention, row: &Row, rows: &[Row], now: u64) -> bool {
    let lately = |at: u64| at + retention.unused > now;
    let mut same = rows.iter().filter(|it| it.package == row.package && it.options == row.options);
    same.any(|it| it.downloaded_at.is_some_and(lately))
}

/// Deletes what no row points to and is older than the grace: the artifacts of rows that are gone,
/// what a build stored that was cut off before its row said so, and the logs of tries that were
/// followed by others. Who stores the same bytes again makes them young.
pub(crate) async fn sweep_strays(
    retention: Retention,
    builds: &Builds,
    artifacts: &Artifacts,
) -> Result<(), Failure> {
    if retention.unused == 0 {
        return Ok(());
    }
    let grace = Duration::from_secs(retention.grace);
    let old = artifacts.older_than(grace).await?;
    // Read after the list: what was committed meanwhile is not swept.
    let rows = builds.all().await?;
    let used: BTreeSet<&str> = rows.iter().flat_map(objects).collect();
    for stray in old.iter().filter(|key| !used.contains(key.as_str())) {
        // The sweep may have taken long: stored again meanwhile, it is about to be pointed to.
        if artifacts.is_older(stray, grace).await? {
            tracing::info!(key = stray, "of no build: deleted");
            artifacts.delete(stray).await?;
        }
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

    fn row(downloaded_at: Option<u64>, marked_at: Option<u64>) -> Row {
        let failed = Failed { reason: String::new(), ours: false, log: None, retry_at: 0 };
        Row {
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
            sent: true,
            groups: BTreeSet::new(),
            overtaken_by: None,
        }
    }

    #[test]
    fn age_is_counted_from_the_last_download_and_grace_from_the_mark() {
        let retention = Retention { unused: 100, grace: 10 };
        let fate = |downloaded_at, marked_at, now| {
            super::fate(retention, &row(downloaded_at, marked_at), now)
        };
        assert_eq!((fate(None, None, 1099), fate(None, None, 1100)), (Fate::Keep, Fate::Mark));
        assert_eq!(fate(Some(1050), None, 1149), Fate::Keep);
        assert_eq!(fate(None, Some(1100), 1109), Fate::Keep);
        assert_eq!(fate(None, Some(1100), 1110), Fate::Delete);
        let forever = Retention { unused: 0, grace: 10 };
        assert_eq!(super::fate(forever, &row(None, Some(1)), 1 << 40), Fate::Keep);
        let ordered = Row { state: State::Ordered, ..row(Some(1), Some(1)) };
        assert_eq!(super::fate(retention, &ordered, 1 << 40), Fate::Keep, "it is under way");
    }

    #[test]
    fn an_option_set_is_wanted_while_any_version_is_downloaded_with_it() {
        let retention = Retention { unused: 100, grace: 10 };
        let gone = row(None, Some(1100));
        let newer = |options: &str, downloaded_at| Row {
            version: "2".into(),
            options: options.into(),
            ..row(downloaded_at, None)
        };
        for (other, wanted) in [
            (newer("default", Some(1150)), true),
            (newer("default", Some(1010)), false),
            (newer("default", None), false),
            (newer("opt=3", Some(1150)), false),
        ] {
            let rows = [gone.clone(), other];
            assert_eq!(is_wanted(retention, &gone, &rows, 1200), wanted, "{:?}", rows[1]);
        }
    }
}
