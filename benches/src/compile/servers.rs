//! The servers that the gateway is compared with, serving the same page and the same wheel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use flotilla_runtime::payload::hex;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::{
    Trouble, http,
    process::{CONSUMER_CORE, Process},
};

/// How long a server may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is served: the page of a package in the index, and one of its wheels.
pub(super) struct Content {
    /// The package.
    pub(super) name: String,
    /// The page, as the gateway gave it.
    pub(super) page: Vec<u8>,
    /// The names of the files on the page.
    pub(super) files: Vec<String>,
    /// The one that is fetched.
    pub(super) wheel: String,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
}

/// A server that is up.
pub(super) struct Server {
    pub(super) process: Process,
    pub(super) address: String,
    /// What is asked for, in turns.
    pub(super) paths: [String; 2],
    _folder: tempfile::TempDir,
}

/// The command that starts a server, and the paths that it then serves.
type Started = (Command, [String; 2]);

/// A server of somebody else's.
pub(super) struct Peer {
    pub(super) figure: &'static str,
    pub(super) target: f64,
    /// The folder of its files below `benches/peers`.
    pub(super) installed_by: &'static str,
    start: fn(&Path, &Path, &Content, &str) -> Result<Started, Trouble>,
}

/// Those that are compared.
pub(super) const PEERS: &[Peer] = &[
    Peer { figure: "compile.hit_ratio_to_nginx", target: 0.5, installed_by: "nginx", start: nginx },
    Peer {
        figure: "compile.hit_ratio_to_pypiserver",
        target: 1.0,
        installed_by: "pypi-servers",
        start: pypiserver,
    },
    Peer {
        figure: "compile.hit_ratio_to_devpi",
        target: 1.0,
        installed_by: "pypi-servers",
        start: devpi,
    },
];

impl Peer {
    /// Starts it, installed at `place`, on the core of what is measured.
    pub(super) async fn start(&self, place: &Path, content: &Content) -> Result<Server, Trouble> {
        let folder = tempfile::tempdir().map_err(|e| Trouble::new(format!("a folder: {e}")))?;
        let address = http::free_address()?;
        let (command, paths) = (self.start)(place, folder.path(), content, &address)?;
        let process = Process::start(command, CONSUMER_CORE, Stdio::null())?;
        for path in &paths {
            let ready = http::until_ready(&address, path, PATIENCE).await;
            ready.map_err(|why| Trouble::new(format!("{why}{}", process.last_words())))?;
        }
        Ok(Server { process, address, paths, _folder: folder })
    }
}

/// One worker, sendfile, no log; the page is a file, and a wheel is sent elsewhere as the gateway
/// does it.
fn nginx(
    place: &Path,
    folder: &Path,
    content: &Content,
    address: &str,
) -> Result<Started, Trouble> {
    let (page, wheel) =
        (format!("/simple/{}/", content.name), format!("/wheels/{}", content.wheel));
    let elsewhere = format!("http://127.0.0.1:1/{}?{}", content.wheel, "s".repeat(400));
    write(&folder.join("page.html"), &content.page)?;
    let folder_name = folder.display();
    let config = format!(
        "worker_processes 1; pid {folder_name}/pid; error_log stderr crit; daemon off;\n\
         {user}events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n\
         open_file_cache max=100; default_type text/html;\n\
         client_body_temp_path {folder_name}/b; proxy_temp_path {folder_name}/p;\n\
         fastcgi_temp_path {folder_name}/f; uwsgi_temp_path {folder_name}/u; scgi_temp_path {folder_name}/s;\n\
         server {{ listen {address}; location = {page} {{ root {folder_name}; try_files /page.html =404; }}\n\
         location = {wheel} {{ return 302 {elsewhere}; }} }} }}\n",
        user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" },
    );
    write(&folder.join("nginx.conf"), config.as_bytes())?;
    let mut command = Command::new(place.join("usr/sbin/nginx"));
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    command.args(["-e", "stderr"]);
    Ok((command, [page, wheel]))
}

/// With the directory cached in memory; of the servers that it knows it takes Waitress, which is
/// installed beside it.
fn pypiserver(
    place: &Path,
    folder: &Path,
    content: &Content,
    address: &str,
) -> Result<Started, Trouble> {
    let files = files(folder, content)?;
    let (host, port) = address.split_once(':').unwrap_or((address, "0"));
    let mut command = Command::new(place.join("venv/bin/pypi-server"));
    command.args(["run", "--interface", host, "--port", port, "--server", "auto"]);
    command.args(["--backend", "cached-dir", "--disable-fallback", "--log-stream", "none"]);
    command.arg(files);
    let paths = [format!("/simple/{}/", content.name), format!("/packages/{}", content.wheel)];
    Ok((command, paths))
}

/// An index of its own that holds the files: made, filled and served by a script beside its
/// requirements.
fn devpi(
    place: &Path,
    folder: &Path,
    content: &Content,
    address: &str,
) -> Result<Started, Trouble> {
    let files = files(folder, content)?;
    let mut command = Command::new(place.join("venv/bin/python"));
    command.arg(place.join("devpi.py")).arg(folder.join("devpi")).arg(files).arg(address);
    // Files stand under their hash: three digits of it, and thirteen more.
    let hash = hex(&Sha256::digest(&content.bytes));
    let (three, thirteen) = (&hash[..3], &hash[3..16]);
    let paths = [
        format!("/bench/index/+simple/{}/", content.name),
        format!("/bench/index/+f/{three}/{thirteen}/{}", content.wheel),
    ];
    Ok((command, paths))
}

/// A folder with all files of the page; but for the one that is fetched, they hold their names.
fn files(folder: &Path, content: &Content) -> Result<PathBuf, Trouble> {
    let files = folder.join("files");
    fs::create_dir(&files).map_err(|e| Trouble::new(format!("{}: {e}", files.display())))?;
    for name in &content.files {
        write(&files.join(name), name.as_bytes())?;
    }
    write(&files.join(&content.wheel), &content.bytes)?;
    Ok(files)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    fs::write(path, bytes).map_err(|e| Trouble::new(format!("{}: {e}", path.display())))
}
