//! A small package index of the tests' own, with ETags.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use compile_worker::{keys::sha256, names::normalize};
use flate2::{Compression, write::GzEncoder};
use tokio::{net::TcpListener, task::JoinHandle};

type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

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
            .route("/simple/{name}/", get(page))
            .route("/files/{filename}", get(file))
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
        self.files.lock().expect("no panic before").insert(filename, bytes);
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.served.abort();
    }
}

/// A source distribution of these files, with a PKG-INFO.
pub fn sdist(name: &str, version: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let info = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
    let zip = GzEncoder::new(Vec::new(), Compression::default());
    let mut tar = tar::Builder::new(zip);
    for (path, text) in files.iter().chain(&[("PKG-INFO", info.as_str())]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        let path = format!("{name}-{version}/{path}");
        tar.append_data(&mut header, path, text.as_bytes()).expect("memory");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("memory")
}

async fn page(State(files): State<Files>, Path(name): Path<String>, asked: HeaderMap) -> Response {
    let mut lines = String::new();
    for (filename, bytes) in files.lock().expect("no panic before").iter() {
        let of = filename.rsplit_once('-').and_then(|(of, _)| normalize(of).ok());
        if of.as_deref() == Some(&name) {
            let hash = sha256(bytes);
            let _ = writeln!(lines, "<a href=\"/files/{filename}#sha256={hash}\">{filename}</a>");
        }
    }
    let etag = format!("\"{}\"", sha256(lines.as_bytes()));
    if lines.is_empty() {
        return StatusCode::NOT_FOUND.into_response();
    }
    if asked.get(header::IF_NONE_MATCH).is_some_and(|has| has == etag.as_str()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::ETAG, etag), (header::CONTENT_TYPE, "text/html".to_owned())], lines).into_response()
}

async fn file(State(files): State<Files>, Path(filename): Path<String>) -> Response {
    let found = files.lock().expect("no panic before").get(&filename).cloned();
    found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}
