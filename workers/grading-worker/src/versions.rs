//! Which versions of a submission's files belong together.

use std::{collections::HashSet, time::SystemTime};

use aws_sdk_s3::types::{DeleteMarkerEntry, ObjectVersion};

/// All versions of the files of one folder.
#[derive(Debug, Default)]
pub struct Listing {
    versions: Vec<ObjectVersion>,
    deleted: HashSet<String>,
}

/// The program that belongs to a json.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Belongs<'a> {
    /// This one.
    Program(&'a ObjectVersion),
    /// It may still be on its way; if it does not come, this one was meant, if any.
    Awaited(Option<&'a ObjectVersion>),
}

impl Listing {
    /// Adds a page of the listing, newest versions first.
    pub fn add(&mut self, versions: &[ObjectVersion], markers: &[DeleteMarkerEntry]) {
        self.versions.extend_from_slice(versions);
        let newest = markers.iter().filter(|marker| marker.is_latest() == Some(true));
        self.deleted.extend(newest.filter_map(|marker| marker.key().map(str::to_owned)));
    }

    /// The versions of a key, the newest first.
    pub fn of(&self, key: &str) -> Vec<&ObjectVersion> {
        let mut versions: Vec<_> = self.versions.iter().filter(|v| v.key() == Some(key)).collect();
        // S3 lists the newest first; a stable sort keeps that within one second.
        versions.sort_by_key(|version| std::cmp::Reverse(stored_at(version)));
        versions
    }

    /// The place among the versions of `key` of the one asked for, or of the newest; none if
    /// the object is not there or was deleted.
    pub fn chosen(&self, key: &str, wanted: Option<&str>) -> Option<usize> {
        let versions = self.of(key);
        let named = wanted.and_then(|id| versions.iter().position(|v| version_of(v) == id));
        let there = !versions.is_empty() && !self.deleted.contains(key);
        named.or(there.then_some(0))
    }

    /// The program (`py`) that belongs to version number `index` of `json`: the one it names; for
    /// an older json the one that was there then; else the newest, unless that is so old that it
    /// belonged to the json before.
    pub fn belonging(
        &self,
        json: &str,
        index: usize,
        py: &str,
        named: Option<&str>,
    ) -> Belongs<'_> {
        let (jsons, programs) = (self.of(json), self.of(py));
        let named = programs.iter().find(|program| Some(version_of(program)) == named);
        if let Some(program) = named {
            return Belongs::Program(program);
        }
        if index > 0 {
            let at = stored_at(jsons[index]);
            let then = programs.iter().find(|p| stored_at(p) <= at).or(programs.last());
            return then.map_or(Belongs::Awaited(None), |program| Belongs::Program(program));
        }
        let newest = programs.first().filter(|_| !self.deleted.contains(py)).copied();
        let previous = jsons.get(1).map(|json| stored_at(json));
        match newest {
            Some(program) => {
                // Within one second of the json before, the numbers of versions tell: each json
                // that came with a program has one.
                let paired = programs.len() >= jsons.len();
                let since = |at| stored_at(program) > at || (stored_at(program) == at && paired);
                let ours = previous.is_none_or(since);
                if ours { Belongs::Program(program) } else { Belongs::Awaited(Some(program)) }
            }
            None => Belongs::Awaited(None),
        }
    }
}

/// The version id; the ETag in a bucket without versions.
pub fn version_of(version: &ObjectVersion) -> &str {
    let id = version.version_id().filter(|v| !v.is_empty() && *v != "null");
    id.or(version.e_tag()).unwrap_or_default().trim_matches('"')
}

/// When a version was stored; S3 tells whole seconds.
pub fn stored_at(version: &ObjectVersion) -> SystemTime {
    let time = version.last_modified().and_then(|t| SystemTime::try_from(*t).ok());
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::DateTime;

    use super::*;

    fn version(key: &str, id: &str, at: i64) -> ObjectVersion {
        let modified = DateTime::from_secs(at);
        ObjectVersion::builder().key(key).version_id(id).last_modified(modified).build()
    }

    fn listing(versions: &[(&str, &str, i64)], deleted: &[&str]) -> Listing {
        let versions: Vec<_> = versions.iter().map(|(k, id, at)| version(k, id, *at)).collect();
        let marker = |key: &&str| DeleteMarkerEntry::builder().key(*key).is_latest(true).build();
        let markers: Vec<_> = deleted.iter().map(marker).collect();
        let mut listing = Listing::default();
        listing.add(&versions, &markers);
        listing
    }

    fn belongs<'a>(listing: &'a Listing, index: usize, named: Option<&str>) -> (bool, &'a str) {
        match listing.belonging("j", index, "p", named) {
            Belongs::Program(program) => (true, version_of(program)),
            Belongs::Awaited(program) => (false, program.map_or("none", version_of)),
        }
    }

    #[test]
    fn the_newest_json_has_the_newest_program() {
        let listing =
            listing(&[("j", "j2", 20), ("j", "j1", 10), ("p", "p2", 20), ("p", "p1", 9)], &[]);
        assert_eq!(listing.chosen("j", None), Some(0));
        assert_eq!(belongs(&listing, 0, None), (true, "p2"));
    }

    #[test]
    fn an_older_json_has_the_program_of_its_time() {
        let listing =
            listing(&[("j", "j2", 20), ("j", "j1", 10), ("p", "p2", 20), ("p", "p1", 9)], &[]);
        assert_eq!(listing.chosen("j", Some("j1")), Some(1));
        assert_eq!(belongs(&listing, 1, None), (true, "p1"));
    }

    #[test]
    fn a_program_of_the_json_before_is_used_only_when_no_newer_one_comes() {
        let listing = listing(&[("j", "j2", 20), ("j", "j1", 10), ("p", "p1", 9)], &[]);
        assert_eq!(belongs(&listing, 0, None), (false, "p1"));
    }

    #[test]
    fn within_one_second_the_numbers_of_versions_tell() {
        let jsons = [("j", "j2", 12), ("j", "j1", 10), ("p", "p1", 10)];
        assert_eq!(belongs(&listing(&jsons, &[]), 0, None), (false, "p1"));
        let both = [("j", "j2", 10), ("j", "j1", 10), ("p", "p2", 10), ("p", "p1", 10)];
        assert_eq!(belongs(&listing(&both, &[]), 0, None), (true, "p2"));
    }

    #[test]
    fn a_json_may_name_its_program() {
        let listing = listing(&[("j", "j1", 20), ("p", "p2", 19), ("p", "p1", 9)], &[]);
        assert_eq!(belongs(&listing, 0, Some("p1")), (true, "p1"));
        assert_eq!(belongs(&listing, 0, Some("gone")), (true, "p2"));
    }

    #[test]
    fn what_was_deleted_is_not_there_unless_its_version_is_named() {
        let listing = listing(&[("j", "j1", 20), ("p", "p1", 19)], &["j", "p"]);
        assert_eq!(listing.chosen("j", None), None);
        assert_eq!(listing.chosen("j", Some("j1")), Some(0));
        assert_eq!(belongs(&listing, 0, None), (false, "none"));
        assert_eq!(belongs(&listing, 0, Some("p1")), (true, "p1"));
    }
}
