//! Pythons that have the pip that they bring along.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::worker::outputs;

/// An environment of this Python with its pip. It takes seconds of a core to make, and is made once: it
/// stays among the build outputs, and nobody installs anything into it.
pub(crate) async fn with_pip(python: &str) -> PathBuf {
    let python = python.to_owned();
    tokio::task::spawn_blocking(move || found_or_made(&python)).await.expect("an environment")
}

fn found_or_made(python: &str) -> PathBuf {
    let said = Command::new(python).arg("--version").output().expect(python).stdout;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = format!("venv-{python}-{said}").chars().map(plain).collect();
    let folder = outputs().join(name);
    // Other tests, in processes of their own, may want it at the same time.
    let lock = File::create(folder.with_added_extension("lock")).expect("a file");
    lock.lock().expect("a lock");
    if !folder.join("complete").exists() {
        make(python, &folder);
    }
    folder.join("bin/python")
}

/// What was begun by a test that was ended meanwhile is made anew.
fn make(python: &str, folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    let done = Command::new(python).args(["-m", "venv"]).arg(folder).status().expect(python);
    assert!(done.success(), "{python} -m venv fails: is it installed?");
    File::create(folder.join("complete")).expect("a file");
}
