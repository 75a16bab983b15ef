//! A registry of crates, as cargo sees it: a sparse index, and the files of crates.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_runtime::Failure;
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::entry::Entry;
use crate::{
    ecosystem::Versions,
    keys::sha256,
    upstream::{bounded::Bounded, http::Http, validator::condition},
};

/// A page of the index has at most this many bytes, a crate this many.
const PAGE_LIMIT: usize = 32 << 20;
const CRATE_LIMIT: usize = 64 << 20;
/// Crates of so many bytes stay in memory.
const KEPT: usize = 64 << 20;
const PAGE_PATIENCE: Duration = Duration::from_secs(30);
const FILE_PATIENCE: Duration = Duration::from_secs(120);
/// A crate's name is at most this long.
const NAME_LIMIT: usize = 64;

/// A registry. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Registry {
    index: String,
    http: Http,
    /// What a file's address is made of, from the index or the settings.
    download: Arc<OnceCell<String>>,
    crates: Arc<Bounded<Arc<[u8]>>>,
}

/// A version of a crate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Release {
    /// The crate, as it is written.
    pub name: String,
    /// The version.
    #[serde(rename = "vers")]
    pub version: String,
    /// SHA-256 of its file.
    #[serde(rename = "cksum")]
    pub sha256: String,
    /// Whether it was withdrawn: nobody is to choose it who does not name it.
    #[serde(default)]
    pub yanked: bool,
}

/// A file of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) sha256: String,
}

#[derive(Deserialize)]
struct Config {
    dl: String,
}

impl Release {
    /// About how many bytes of memory one takes.
    pub const WEIGHT: usize = 200;
}

impl From<&Release> for Crate {
    fn from(it: &Release) -> Self {
        let Release { name, version, sha256, .. } = it.clone();
        Self { name, version, sha256 }
    }
}

impl From<&Entry> for Crate {
    fn from(it: &Entry) -> Self {
        let Entry { name, version, sha256, .. } = it.clone();
        Self { name, version, sha256 }
    }
}

/// The one spelling of a crate's name: lower case, as in addresses of the index.
///
/// # Errors
/// Says why this is no name.
pub(super) fn spelling(name: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let letter = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    match letter && name.len() <= NAME_LIMIT && name.bytes().all(plain) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(format!("{name:?} is no name of a crate")),
    }
}

impl Registry {
    /// The registry with the sparse index under `index` (`https://index.crates.io/`). Its files are
    /// where the index says, or at `download`, which is written as in the index.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(index: &str, download: Option<&str>) -> Result<Self, Failure> {
        let index = index.strip_prefix("sparse+").unwrap_or(index);
        Ok(Self {
            index: format!("{}/", index.trim_end_matches('/')),
            http: Http::new()?,
            download: Arc::new(OnceCell::new_with(download.map(str::to_owned))),
            crates: Arc::new(Bounded::new(KEPT)),
        })
    }

    /// The releases of a crate; none where there is no such crate.
    ///
    /// # Errors
    /// Transient when the index does not answer, or not with a page.
    pub async fn releases(&self, name: &str) -> Result<Vec<Release>, Failure> {
        let page = self.page(name, None).await?;
        page.map_or_else(|| Ok(Vec::new()), |page| read(name, &page.body))
    }

    /// The page of a crate, as it is; an empty one where there is no such crate.
    ///
    /// # Errors
    /// As [`releases`](Self::releases).
    pub(super) async fn text(&self, name: &str) -> Result<String, Failure> {
        let Ok(name) = spelling(name) else { return Ok(String::new()) };
        let page = self.page(&name, None).await?;
        Ok(page.map_or_else(String::new, |it| String::from_utf8_lossy(&it.body).into_owned()))
    }

    /// The versions of a crate, unless its page still has this validator; nothing where there is no such
    /// crate.
    ///
    /// # Errors
    /// As [`releases`](Self::releases).
    pub async fn versions(
        &self,
        name: &str,
        validator: Option<&str>,
    ) -> Result<Option<Versions>, Failure> {
        let Some(page) = self.page(name, validator).await? else {
            return Ok(None);
        };
        let all: BTreeSet<String> =
            read(name, &page.body)?.into_iter().map(|release| release.version).collect();
        Ok(Some(Versions {
            all,
            about: BTreeMap::new(),
            validator: page.validator,
            serial: None,
            digest: sha256(&page.body),
        }))
    }

    async fn page(
        &self,
        name: &str,
        validator: Option<&str>,
    ) -> Result<Option<crate::upstream::http::Page>, Failure> {
        let url = format!("{}{}", self.index, path(name));
        let headers: Vec<_> = validator.map(condition).into_iter().collect();
        let page = self.http.get(&url, &headers, PAGE_LIMIT, PAGE_PATIENCE).await?;
        match page.status {
            // 451: withdrawn for legal reasons, says cargo's book.
            304 | 404 | 410 | 451 => Ok(None),
            _ => page.expect_ok().map(|()| Some(page)),
        }
    }

    /// The bytes of a crate, checked against its hash; those in use stay in memory.
    ///
    /// # Errors
    /// Transient when it cannot be fetched, or is not what was published.
    pub(super) async fn archive(&self, it: &Crate) -> Result<Arc<[u8]>, Failure> {
        if let Some(bytes) = self.crates.get(&it.sha256) {
            return Ok(bytes);
        }
        let template = self.download.get_or_try_init(|| self.configured()).await?;
        let url = address(template, it);
        let page = self.http.get(&url, &[], CRATE_LIMIT, FILE_PATIENCE).await?;
        page.expect_ok()?;
        let found = sha256(&page.body);
        if found != it.sha256 {
            let Crate { name, version, sha256 } = it;
            let what = format!("{name} {version}: its SHA-256 is {found}, not {sha256}");
            return Err(Failure::transient("upstream_hash", what));
        }
        let bytes: Arc<[u8]> = page.body.into();
        self.crates.keep(&it.sha256, bytes.len(), Arc::clone(&bytes));
        Ok(bytes)
    }

    async fn configured(&self) -> Result<String, Failure> {
        let url = format!("{}config.json", self.index);
        let page = self.http.get(&url, &[], PAGE_LIMIT, PAGE_PATIENCE).await?;
        page.expect_ok()?;
        let config: Config = serde_json::from_slice(&page.body).map_err(|e| {
            Failure::transient(
                "upstream",
                format!("{url} is not the configuration of an index: {e}"),
            )
        })?;
        Ok(config.dl)
    }
}

/// The releases on a page of the index, a line of JSON for each.
fn read(name: &str, body: &[u8]) -> Result<Vec<Release>, Failure> {
    let failed = |why: String| {
        Failure::transient("upstream", format!("the page of {name} in the index of crates: {why}"))
    };
    let text = std::str::from_utf8(body).map_err(|e| failed(e.to_string()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).map_err(|e| failed(e.to_string()))).collect()
}

/// Where a crate stands in an index (the cargo book, "Index Format").
fn path(name: &str) -> String {
    match name.len() {
        0..=2 => format!("{}/{name}", name.len()),
        3 => format!("3/{}/{name}", &name[..1]),
        _ => format!("{}/{name}", prefix(name)),
    }
}

fn prefix(name: &str) -> String {
    match name.len() {
        0..=3 => path(name).rsplit_once('/').map_or(String::new(), |(prefix, _)| prefix.to_owned()),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    }
}

/// The address of a file (the cargo book, "Index Configuration").
fn address(template: &str, it: &Crate) -> String {
    let Crate { name, version, sha256 } = it;
    let lower = name.to_ascii_lowercase();
    let markers = [
        ("{crate}", name.clone()),
        ("{version}", version.clone()),
        ("{prefix}", prefix(name)),
        ("{lowerprefix}", prefix(&lower)),
        ("{sha256-checksum}", sha256.clone()),
    ];
    if !markers.iter().any(|(marker, _)| template.contains(marker)) {
        return format!("{}/{name}/{version}/download", template.trim_end_matches('/'));
    }
    markers.iter().fold(template.to_owned(), |url, (marker, value)| url.replace(marker, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_stands_where_the_cargo_book_says() {
        for (name, at) in [
            ("a", "1/a"),
            ("ab", "2/ab"),
            ("abc", "3/a/abc"),
            ("abcd", "ab/cd/abcd"),
            ("cargo-x", "ca/rg/cargo-x"),
        ] {
            assert_eq!(path(name), at);
        }
        let it = Crate { name: "MyCrate".into(), version: "1.0.0".into(), sha256: "00".into() };
        for (template, url) in [
            ("https://a/dl/", "https://a/dl/MyCrate/1.0.0/download"),
            ("https://a/{prefix}/{crate}-{version}.crate", "https://a/My/Cr/MyCrate-1.0.0.crate"),
            ("https://a/{lowerprefix}/{sha256-checksum}", "https://a/my/cr/00"),
        ] {
            assert_eq!(address(template, &it), url);
        }
    }

    #[test]
    fn names_have_one_spelling_and_paths_are_none() {
        assert_eq!(spelling("RipGrep").as_deref(), Ok("ripgrep"));
        for bad in ["", "../a", "a/b", "1a", "a b", "ä", &"a".repeat(65)] {
            assert!(spelling(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_is_a_line_for_each_release() {
        let line = r#"{"name":"a","vers":"1.0.0","deps":[],"cksum":"00","yanked":false,"v":2}"#;
        let releases = read("a", format!("{line}\n\n{line}\n").as_bytes()).unwrap();
        assert_eq!((releases.len(), releases[0].version.as_str()), (2, "1.0.0"));
        assert!(read("a", b"{}").is_err() && read("a", &[0xff]).is_err());
    }
}
