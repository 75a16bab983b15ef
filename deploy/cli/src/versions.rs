//! Which of two uploads under one id is the later one.

use aws_sdk_s3::types::ObjectVersion;

use crate::{
    aws::Clients,
    error::{Doing, Error},
};

/// The place of a version of an object among all: the later of two is the greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// When it was stored, in seconds of unix time by the bucket's clock.
    pub(crate) at: u64,
    /// How many versions came before: tells apart those of one second.
    pub(crate) ordinal: u64,
}

/// The rank of a version of `key`, which is named by its id or its ETag; none where a bucket
/// without versions has lost it to a later upload.
pub(crate) async fn rank(
    clients: &Clients,
    bucket: &str,
    key: &str,
    version: &str,
) -> Result<Option<Rank>, Error> {
    let (mut all, mut next_key, mut next_version) = (Vec::new(), None, None);
    loop {
        let call = clients.s3.list_object_versions().bucket(bucket).prefix(key);
        let call = call.set_key_marker(next_key).set_version_id_marker(next_version);
        let page = call.send().await.doing(|| format!("listing versions of s3://{bucket}/{key}"));
        let page = page?;
        all.extend(page.versions.unwrap_or_default());
        if page.is_truncated != Some(true) {
            return Ok(rank_among(&all, key, version));
        }
        (next_key, next_version) = (page.next_key_marker, page.next_version_id_marker);
    }
}

/// `listed` has the newest first, as S3 does: that decides within one second.
fn rank_among(listed: &[ObjectVersion], key: &str, version: &str) -> Option<Rank> {
    let mut versions: Vec<_> = listed.iter().filter(|it| it.key() == Some(key)).collect();
    versions.sort_by_key(|it| std::cmp::Reverse(it.last_modified().copied()));
    let index = versions.iter().position(|it| name(it) == version)?;
    let at = versions[index].last_modified().map_or(0, |time| time.secs());
    let ordinal = (versions.len() - 1 - index) as u64;
    Some(Rank { at: u64::try_from(at).unwrap_or(0), ordinal })
}

fn name(version: &ObjectVersion) -> &str {
    let id = version.version_id().filter(|it| is_version(it));
    id.or(version.e_tag()).unwrap_or_default().trim_matches('"')
}

/// Whether this is the id of a version; `null` stands for that of a bucket that has none.
pub(crate) fn is_version(id: &str) -> bool {
    !id.is_empty() && id != "null"
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::DateTime;

    use super::*;

    fn listed(versions: &[(&str, &str, i64)]) -> Vec<ObjectVersion> {
        let version = |(key, id, at): &(&str, &str, i64)| {
            let version = ObjectVersion::builder().key(*key).version_id(*id).e_tag("\"tag\"");
            version.last_modified(DateTime::from_secs(*at)).build()
        };
        versions.iter().map(version).collect()
    }

    #[test]
    fn the_later_upload_has_the_greater_rank_within_one_second_too() {
        let listed =
            listed(&[("j", "new", 9), ("j", "mid", 9), ("j", "old", 8), ("j2", "other", 99)]);
        let rank = |version| rank_among(&listed, "j", version).unwrap();
        assert_eq!(rank("mid"), Rank { at: 9, ordinal: 1 });
        assert!(rank("old") < rank("mid") && rank("mid") < rank("new"));
        assert!(rank("new") < Rank { at: 10, ordinal: 0 });
        assert_eq!(rank_among(&listed, "j", "other"), None);
    }

    #[test]
    fn without_versions_the_etag_names_an_upload() {
        let listed = listed(&[("j", "null", 9)]);
        assert_eq!(rank_among(&listed, "j", "tag"), Some(Rank { at: 9, ordinal: 0 }));
        assert_eq!(rank_among(&listed, "j", "overwritten"), None);
    }
}
