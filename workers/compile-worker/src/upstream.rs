//! Another index, as a client sees it: projects, their files, and the bytes of these.

mod anchor;
pub(crate) mod bounded;
mod changelog;
pub(crate) mod http;
mod page;
mod peek;
pub(crate) mod validator;

use std::{sync::Arc, time::Duration};

use flotilla_runtime::Failure;

use self::{
    bounded::Bounded,
    http::Http,
    peek::{End, Span, TAIL},
};
pub use self::{
    changelog::Changes,
    page::{File, Project},
};
use crate::keys::{sha256, sha512};

/// A project's page has at most this many bytes.
const PAGE_LIMIT: usize = 32 << 20;
/// A file's metadata has at most this many bytes.
const METADATA_LIMIT: usize = 4 << 20;
/// What is kept in memory: pages, and bytes of wheels.
const PAGES_KEPT: usize = 64;
const WHEELS_KEPT: usize = 96 << 20;
/// How long a page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a file may take.
const FILE_PATIENCE: Duration = Duration::from_secs(120);

/// What an index says when it is asked again.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The project's files.
    Project(Project),
    /// Nothing has changed since the page of this validator.
    Unchanged,
    /// There is no such project.
    Absent,
}

/// A simple index (PEP 503 or PEP 691) under a URL. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Upstream {
    base: String,
    http: Http,
    pages: Arc<Bounded<Arc<Project>>>,
    wheels: Arc<Bounded<Arc<[u8]>>>,
}

impl Upstream {
    /// The index under `base`, such as `https://pypi.org/simple/`.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(base: &str) -> Result<Self, Failure> {
        let base = format!("{}/", base.trim_end_matches('/'));
        let (pages, wheels) =
            (Arc::new(Bounded::new(PAGES_KEPT)), Arc::new(Bounded::new(WHEELS_KEPT)));
        Ok(Self { base, http: Http::new()?, pages, wheels })
    }

    /// The files of a project (normalised name), unless its page still has this validator.
    ///
    /// # Errors
    /// Transient when the index does not answer, or not with a page.
    pub async fn project(&self, name: &str, validator: Option<&str>) -> Result<Answer, Failure> {
        let url = format!("{}{name}/", self.base);
        let accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";
        let mut headers = vec![("accept", accept)];
        headers.extend(validator.map(validator::condition));
        let page = self.http.get(&url, &headers, PAGE_LIMIT, PAGE_PATIENCE).await?;
        match page.status {
            304 => return Ok(Answer::Unchanged),
            404 | 410 => return Ok(Answer::Absent),
            _ => page.expect_ok()?,
        }
        let digest = sha256(&page.body);
        let files = page::files(&page).map_err(|why| Failure::transient("upstream", why))?;
        let (validator, serial) = (page.validator, page.serial);
        Ok(Answer::Project(Project { validator, serial, digest, files }))
    }

    /// The files of a project; none where there is no project. Its page stays in memory, and is
    /// fetched again only where it has changed.
    ///
    /// # Errors
    /// As [`project`](Self::project).
    pub async fn kept(&self, name: &str) -> Result<Arc<Project>, Failure> {
        let kept = self.pages.get(name);
        let validator = kept.as_ref().and_then(|page| page.validator.clone());
        let page = match (self.project(name, validator.as_deref()).await?, kept) {
            (Answer::Project(project), _) => Arc::new(project),
            (Answer::Unchanged, Some(page)) => page,
            (Answer::Unchanged | Answer::Absent, _) => Arc::default(),
        };
        self.pages.keep(name, 1, Arc::clone(&page));
        Ok(page)
    }

    /// The metadata of a file, where the index serves it apart.
    ///
    /// # Errors
    /// Transient when it cannot be fetched or is not what was published.
    pub async fn metadata(&self, file: &File) -> Result<Option<String>, Failure> {
        let Some(hash) = &file.core_metadata else {
            return Ok(None);
        };
        let url = format!("{}.metadata", file.url);
        let page = self.http.get(&url, &[], METADATA_LIMIT, PAGE_PATIENCE).await?;
        page.expect_ok()?;
        if !hash.is_empty() && *hash != sha256(&page.body) {
            let what = format!("{url}: its SHA-256 is not what the index says");
            return Err(Failure::transient("upstream_hash", what));
        }
        Ok(Some(String::from_utf8_lossy(&page.body).into_owned()))
    }

    /// The METADATA inside a wheel, of which no more is fetched than that takes; nothing where it is
    /// not given in parts, or is no plain zip. What a part has cannot be checked against the hash of
    /// the whole: it is for who resolves, and no wheel is made of it.
    ///
    /// # Errors
    /// Transient when nobody answers.
    pub async fn peeked(&self, wheel: &File) -> Result<Option<String>, Failure> {
        let Some(first) = self.http.part(&wheel.url, (0, 1), PAGE_PATIENCE).await? else {
            return Ok(None);
        };
        let tail = (first.total.saturating_sub(TAIL), first.total);
        let Some(bytes) = self.part(wheel, tail).await? else { return Ok(None) };
        let mut end = End { from: tail.0, bytes };
        let Some(directory) = end.directory() else { return Ok(None) };
        if directory.0 < end.from {
            let before = self.part(wheel, (directory.0, end.from)).await?;
            let Some(mut bytes) = before else { return Ok(None) };
            bytes.append(&mut end.bytes);
            end = End { from: directory.0, bytes };
        }
        let Some(entry) = end.metadata(directory) else { return Ok(None) };
        match end.get(entry.span) {
            Some(bytes) => Ok(entry.text(bytes)),
            None => Ok(self.part(wheel, entry.span).await?.and_then(|it| entry.text(&it))),
        }
    }

    async fn part(&self, file: &File, span: Span) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.http.part(&file.url, span, PAGE_PATIENCE).await?.map(|part| part.bytes))
    }

    /// The bytes of a wheel, as [`file`](Self::file); those in use stay in memory.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub async fn wheel(&self, file: &File, limit: usize) -> Result<Arc<[u8]>, Failure> {
        let hash = file.hash().unwrap_or_default().to_owned();
        if let Some(bytes) = self.wheels.get(&hash) {
            return Ok(bytes);
        }
        let bytes: Arc<[u8]> = self.file(file, limit).await?.into();
        self.wheels.keep(&hash, bytes.len(), Arc::clone(&bytes));
        Ok(bytes)
    }

    /// The bytes of a file, checked against its published hash.
    ///
    /// # Errors
    /// Transient when it cannot be fetched or is not what was published: uploads take time to be
    /// everywhere.
    pub async fn file(&self, file: &File, limit: usize) -> Result<Vec<u8>, Failure> {
        let page = self.http.get(&file.url, &[], limit, FILE_PATIENCE).await?;
        page.expect_ok()?;
        let (kind, found) = match &file.sha256 {
            None if file.sha512.is_some() => ("SHA-512", sha512(&page.body)),
            _ => ("SHA-256", sha256(&page.body)),
        };
        let (name, published) = (&file.filename, file.hash().unwrap_or_default());
        if found != published {
            let what = format!("{name}: its {kind} is {found}, the index says {published:?}");
            return Err(Failure::transient("upstream_hash", what));
        }
        Ok(page.body)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// The address of who gives this to all who ask.
    async fn giving(body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        url
    }

    #[tokio::test]
    async fn what_is_not_of_the_published_hash_is_neither_taken_nor_kept() {
        let url = giving("what came").await;
        let upstream = Upstream::new(&url).unwrap();
        let (own, other) = (b"what came", b"what was published");
        for (sha256, sha512, is_taken) in [
            (Some(sha256(own)), None, true),
            (Some(sha256(other)), None, false),
            (None, Some(sha512(own)), true),
            (None, Some(sha512(other)), false),
            (None, None, false),
        ] {
            let file = File { url: url.clone(), sha256, sha512, ..File::default() };
            let came = upstream.wheel(&file, 100).await;
            assert_eq!(came.ok().as_deref(), is_taken.then_some(own.as_slice()), "{file:?}");
            let again = upstream.wheel(&file, 100).await;
            assert_eq!(again.is_ok(), is_taken, "{file:?}");
        }
        for (hash, is_taken) in [(sha256(own), true), (String::new(), true), (sha256(other), false)]
        {
            let file = File { url: url.clone(), core_metadata: Some(hash), ..File::default() };
            let told = upstream.metadata(&file).await;
            let taken = Some("what came".to_owned()).filter(|_| is_taken);
            assert_eq!(told.ok().flatten(), taken, "{file:?}");
        }
    }
}
