//! A small package index of the tests' own, with ETags.

mod page;

use std::{
    collections::BTreeMap,
    fmt::Write,
    io::{Cursor, Write as _},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use compile_worker::names::normalize;
use flate2::{Compression, write::GzEncoder};
use tokio::{net::TcpListener, task::JoinHandle};
use zip::write::SimpleFileOptions;

type Files = Arc<Mutex<Shelf>>;

/// What is published, and what of it was fetched.
#[derive(Debug, Default)]
struct Shelf {
    files: BTreeMap<String, Vec<u8>>,
    fetched: Vec<String>,
    /// The name of the package that changed, by serial from 1.
    changes: Vec<String>,
    /// Hashes that are not those of their files.
    lies: BTreeMap<String, String>,
    mood: Mood,
    /// What there was when it began to feel stale, and how many changes that were.
    old: Option<(BTreeMap<String, Vec<u8>>, usize)>,
    /// Projects that were asked for again and had not changed.
    unchanged: Vec<String>,
    /// Whether files are given in parts.
    parts: bool,
}

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// They are answered.
    #[default]
    Well,
    /// They are answered with 500.
    Failing,
    /// They are not answered.
    Hanging,
    /// Pages have nothing that they are known by.
    Unmarked,
    /// Pages say when they were last modified, and have no ETag.
    Dated,
    /// Pages are as they were when it began to feel so.
    Stale,
}

/// An index that serves what is put into it, until it is dropped.
#[derive(Debug)]
pub struct Index {
    files: Files,
    url: String,
    served: JoinHandle<()>,
}

impl Index {
    /// An empty index.
    pub async fn new() -> Self {
        let files = Files::default();
        let routes = Router::new()
            .route("/simple/{name}/", get(page::page))
            .route("/files/{filename}", get(file))
            .route("/pypi", post(changelog))
            .with_state(Arc::clone(&files));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/simple/", listener.local_addr().expect("an address"));
        let served = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        Self { files, url, served }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Publishes a source distribution of these files.
    pub fn publish(&self, name: &str, version: &str, files: &[(&str, &str)]) {
        let bytes = sdist(name, version, files);
        let filename = format!("{name}-{version}.tar.gz");
        self.put(&filename, bytes);
    }

    /// Publishes a file as it is.
    pub fn put(&self, filename: &str, bytes: Vec<u8>) {
        let mut shelf = self.files.lock().expect("no panic before");
        shelf.files.insert(filename.to_owned(), bytes);
        shelf.changes.push(package_of(filename).unwrap_or_default());
    }

    /// Takes a file away again.
    pub fn remove(&self, filename: &str) {
        self.files.lock().expect("no panic before").files.remove(filename);
    }

    /// Publishes a file with a hash that is not its own.
    pub fn put_as(&self, filename: &str, bytes: Vec<u8>, hash: &str) {
        self.put(filename, bytes);
        let mut shelf = self.files.lock().expect("no panic before");
        shelf.lies.insert(filename.to_owned(), hash.to_owned());
    }

    /// Tells the truth of a file again.
    pub fn mend(&self, filename: &str) {
        self.files.lock().expect("no panic before").lies.remove(filename);
    }

    /// What becomes of requests from now on.
    pub fn feels(&self, mood: Mood) {
        let mut shelf = self.files.lock().expect("no panic before");
        shelf.mood = mood;
        shelf.old = (mood == Mood::Stale).then(|| (shelf.files.clone(), shelf.changes.len()));
    }

    /// Gives files in parts from now on, to who asks for that.
    pub fn gives_parts(&self) {
        self.files.lock().expect("no panic before").parts = true;
    }

    /// Where its changelog is asked for.
    pub fn changelog(&self) -> String {
        self.url.replace("/simple/", "/pypi")
    }

    /// How often who asked for a project again was told that it had not changed.
    pub fn unchanged(&self, name: &str) -> usize {
        let shelf = self.files.lock().expect("no panic before");
        shelf.unchanged.iter().filter(|it| *it == name).count()
    }

    /// How often a file was fetched as a whole.
    pub fn fetched(&self, filename: &str) -> usize {
        let shelf = self.files.lock().expect("no panic before");
        shelf.fetched.iter().filter(|it| *it == filename).count()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.served.abort();
    }
}

/// A pure wheel of these files.
pub fn wheel(name: &str, version: &str, files: &[(&str, &str)]) -> Vec<u8> {
    wheel_that_says(name, version, "", files)
}

/// The same with more lines of METADATA.
pub fn wheel_that_says(name: &str, version: &str, more: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let folder = format!("{name}-{version}.dist-info");
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}");
    let about = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let own =
        [(format!("{folder}/METADATA"), metadata.as_str()), (format!("{folder}/WHEEL"), about)];
    let all = files.iter().map(|(path, text)| ((*path).to_owned(), *text)).chain(own);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut record = format!("{folder}/RECORD,,\n");
    for (path, text) in all {
        zip.start_file(&path, SimpleFileOptions::default()).expect("memory");
        zip.write_all(text.as_bytes()).expect("memory");
        let _ = writeln!(record, "{path},,");
    }
    zip.start_file(format!("{folder}/RECORD"), SimpleFileOptions::default()).expect("memory");
    zip.write_all(record.as_bytes()).expect("memory");
    zip.finish().expect("memory").into_inner()
}

/// A source distribution of these files, with a PKG-INFO unless there is one among them.
pub fn sdist(name: &str, version: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let info = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
    let zip = GzEncoder::new(Vec::new(), Compression::default());
    let mut tar = tar::Builder::new(zip);
    let own = files.iter().any(|(path, _)| *path == "PKG-INFO");
    let info = if own { None } else { Some(("PKG-INFO", info.as_str())) };
    for (path, text) in files.iter().chain(&info) {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        let path = format!("{name}-{version}/{path}");
        tar.append_data(&mut header, path, text.as_bytes()).expect("memory");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("memory")
}

fn package_of(filename: &str) -> Option<String> {
    let of = match filename.strip_suffix(".tar.gz") {
        Some(stem) => stem.rsplit_once('-'),
        None => filename.split_once('-'),
    };
    normalize(of?.0).ok()
}

/// XML-RPC: the last serial, or the events since the one in the call.
async fn changelog(State(files): State<Files>, call: String) -> String {
    let shelf = files.lock().expect("no panic before");
    let last = shelf.changes.len();
    let since = call.split("<int>").nth(1).and_then(|it| it.split('<').next());
    let answer = match since.and_then(|it| it.parse::<usize>().ok()) {
        None => format!("<int>{last}</int>"),
        Some(since) => {
            let changes = shelf.changes.iter().enumerate().skip(since);
            let events: String = changes
                .map(|(before, name)| {
                    let serial = before + 1;
                    format!(
                        "<value><array><data><value><string>{name}</string></value>\
                         <value><nil/></value><value><int>0</int></value>\
                         <value><string>new release</string></value>\
                         <value><int>{serial}</int></value></data></array></value>"
                    )
                })
                .collect();
            format!("<array><data>{events}</data></array>")
        }
    };
    format!(
        "<methodResponse><params><param><value>{answer}</value></param></params></methodResponse>"
    )
}

/// Nothing while it is well.
async fn unwell(files: &Files) -> Option<Response> {
    let mood = files.lock().expect("no panic before").mood;
    match mood {
        Mood::Well | Mood::Unmarked | Mood::Dated | Mood::Stale => None,
        Mood::Failing => Some(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
        Mood::Hanging => std::future::pending().await,
    }
}

async fn file(
    State(files): State<Files>,
    Path(filename): Path<String>,
    asked: HeaderMap,
) -> Response {
    if let Some(answer) = unwell(&files).await {
        return answer;
    }
    let mut shelf = files.lock().expect("no panic before");
    let found = shelf.files.get(&filename).cloned();
    if let Some(part) = found.as_deref().filter(|_| shelf.parts).and_then(|it| part(it, &asked)) {
        return part;
    }
    shelf.fetched.push(filename);
    found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

/// The part of a file that is asked for.
fn part(bytes: &[u8], asked: &HeaderMap) -> Option<Response> {
    let range = asked.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
    let last = last.min(bytes.len() - 1);
    let about = [(header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", bytes.len()))];
    let part = bytes.get(first..=last)?.to_vec();
    Some((StatusCode::PARTIAL_CONTENT, about, part).into_response())
}
