//! Another index, as a client sees it: projects, their files, and the bytes of these.

mod http;
mod page;

use std::time::Duration;

use flotilla_runtime::Failure;

use self::http::Http;
pub use self::page::{File, Project};
use crate::keys::sha256;

/// A project's page has at most this many bytes.
const PAGE_LIMIT: usize = 32 << 20;
/// How long a page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a file may take.
const FILE_PATIENCE: Duration = Duration::from_secs(120);

/// What an index says when it is asked again.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The project's files.
    Project(Project),
    /// Nothing has changed since the page of this ETag.
    Unchanged,
    /// There is no such project.
    Absent,
}

/// A simple index (PEP 503 or PEP 691) under a URL. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Upstream {
    base: String,
    http: Http,
}

impl Upstream {
    /// The index under `base`, such as `https://pypi.org/simple/`.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(base: &str) -> Result<Self, Failure> {
        let base = format!("{}/", base.trim_end_matches('/'));
        Ok(Self { base, http: Http::new()? })
    }

    /// The files of a project (normalised name), unless its page still has this ETag.
    ///
    /// # Errors
    /// Transient when the index does not answer, or not with a page.
    pub async fn project(&self, name: &str, etag: Option<&str>) -> Result<Answer, Failure> {
        let url = format!("{}{name}/", self.base);
        let accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";
        let mut headers = vec![("accept", accept)];
        headers.extend(etag.map(|etag| ("if-none-match", etag)));
        let page = self.http.get(&url, &headers, PAGE_LIMIT, PAGE_PATIENCE).await?;
        match page.status {
            304 => return Ok(Answer::Unchanged),
            404 | 410 => return Ok(Answer::Absent),
            _ => page.expect_ok()?,
        }
        let digest = sha256(&page.body);
        let files = page::files(&page).map_err(|why| Failure::transient("upstream", why))?;
        Ok(Answer::Project(Project { etag: page.etag, digest, files }))
    }

    /// The bytes of a file, checked against its published hash.
    ///
    /// # Errors
    /// Transient when it cannot be fetched or is not what was published: uploads take time to be
    /// everywhere.
    pub async fn file(&self, file: &File, limit: usize) -> Result<Vec<u8>, Failure> {
        let page = self.http.get(&file.url, &[], limit, FILE_PATIENCE).await?;
        page.expect_ok()?;
        let (found, published) = (sha256(&page.body), file.sha256.as_deref().unwrap_or_default());
        if found != published {
            let name = &file.filename;
            let what = format!("{name}: its SHA-256 is {found}, the index says {published:?}");
            return Err(Failure::transient("upstream_hash", what));
        }
        Ok(page.body)
    }
}
