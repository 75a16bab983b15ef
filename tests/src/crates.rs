//! A small registry of crates of the tests' own, with a sparse index.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use compile_worker::keys::sha256;
use flate2::{Compression, write::GzEncoder};
use tokio::{net::TcpListener, task::JoinHandle};

type Shelf = Arc<Mutex<BTreeMap<(String, String), Release>>>;

/// A crate, and what its line in the index says that it needs.
#[derive(Debug, Clone)]
struct Release {
    bytes: Vec<u8>,
    deps: String,
}

/// A registry that serves what is put into it, until it is dropped.
#[derive(Debug)]
pub struct Crates {
    shelf: Shelf,
    url: String,
    served: JoinHandle<()>,
}

impl Crates {
    /// An empty registry.
    pub async fn new() -> Self {
        let shelf = Shelf::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let config = format!("{{\"dl\":\"{url}/files\"}}");
        let routes = Router::new()
            .route("/index/config.json", get(config))
            .route("/index/{*path}", get(page))
            .route("/files/{name}/{version}/download", get(file))
            .with_state(Arc::clone(&shelf));
        let served = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        Self { shelf, url, served }
    }

    /// The address of its index.
    pub fn index(&self) -> String {
        format!("{}/index/", self.url)
    }

    /// Publishes a crate of these files; gives the hash that a lock names it with.
    pub fn publish(&self, name: &str, version: &str, files: &[(&str, &str)]) -> String {
        self.publish_needing(name, version, &[], files)
    }

    /// The same of a crate that needs others, each by its requirement.
    pub fn publish_needing(
        &self,
        name: &str,
        version: &str,
        needs: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> String {
        let deps = needs.iter().map(|(name, req)| {
            format!(
                "{{\"name\":\"{name}\",\"req\":\"{req}\",\"features\":[],\"optional\":false,\
                 \"default_features\":true,\"target\":null,\"kind\":\"normal\"}}"
            )
        });
        let deps = deps.collect::<Vec<_>>().join(",");
        let bytes = packed(name, version, files);
        let hash = sha256(&bytes);
        let key = (name.to_owned(), version.to_owned());
        self.shelf.lock().expect("no panic before").insert(key, Release { bytes, deps });
        hash
    }
}

impl Drop for Crates {
    fn drop(&mut self) {
        self.served.abort();
    }
}

/// A lock of a crate with these dependencies, each with its version and hash.
pub fn lock(name: &str, version: &str, dependencies: &[(&str, &str, &str)]) -> String {
    let mut text =
        format!("version = 4\n\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
    if !dependencies.is_empty() {
        let names: Vec<String> =
            dependencies.iter().map(|(name, ..)| format!("\"{name}\"")).collect();
        let _ = writeln!(text, "dependencies = [{}]", names.join(", "));
    }
    for (name, version, hash) in dependencies {
        let _ = write!(
            text,
            "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\
             source = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
             checksum = \"{hash}\"\n"
        );
    }
    text
}

fn packed(name: &str, version: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        let path = format!("{name}-{version}/{path}");
        tar.append_data(&mut header, path, text.as_bytes()).expect("memory");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("memory")
}

async fn page(State(shelf): State<Shelf>, Path(path): Path<String>) -> Response {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut lines = String::new();
    for ((it, version), Release { bytes, deps }) in shelf.lock().expect("no panic before").iter() {
        if it.to_lowercase() == name {
            let _ = writeln!(
                lines,
                "{{\"name\":\"{it}\",\"vers\":\"{version}\",\"deps\":[{deps}],\"features\":{{}},\
                 \"cksum\":\"{}\",\"yanked\":false}}",
                sha256(bytes)
            );
        }
    }
    match lines.is_empty() {
        true => StatusCode::NOT_FOUND.into_response(),
        false => lines.into_response(),
    }
}

async fn file(
    State(shelf): State<Shelf>,
    Path((name, version)): Path<(String, String)>,
) -> Response {
    let found = shelf.lock().expect("no panic before").get(&(name, version)).cloned();
    found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |it| it.bytes.into_response())
}
