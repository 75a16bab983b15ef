//! Where this command keeps things, and the note by which other terminals find a running fleet.

use std::path::{Path, PathBuf};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error};

/// The cache: `FLOTILLA_CACHE`, or `flotilla` in the user's cache directory.
pub(crate) fn cache() -> Result<PathBuf, Error> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|it| !it.is_empty())
            .map(PathBuf::from)
    };
    set("FLOTILLA_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|it| it.join("flotilla")))
        .or_else(|| set("HOME").map(|it| it.join(".cache/flotilla")))
        .ok_or_else(|| Error::Fleet("set HOME or FLOTILLA_CACHE to a directory".to_owned()))
}

/// What `flotilla up` notes of its fleet while it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The process id of `flotilla up`.
    pub(crate) pid: i32,
    /// The endpoint's URL; none for AWS.
    pub(crate) endpoint: Option<String>,
    /// The stack's name.
    pub(crate) stack: String,
    /// Workers by id, with the address of their health pages.
    pub(crate) workers: Vec<WorkerNote>,
}

/// One worker in a [`Note`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorkerNote {
    /// The worker's id.
    pub(crate) id: String,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Note {
    /// The note of the fleet on `stack`, if one is running.
    pub(crate) fn read(stack: &str) -> Option<Self> {
        let text = std::fs::read_to_string(path(stack).ok()?).ok()?;
        let note: Note = serde_json::from_str(&text).ok()?;
        note.is_alive().then_some(note)
    }

    /// Writes the note, whole or not at all; only this user can read it.
    pub(crate) fn write(&self) -> Result<(), Error> {
        let path = path(&self.stack)?;
        let doing = || format!("writing {}", path.display());
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).doing(doing)?;
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Fleet(e.to_string()))?;
        let draft = path.with_extension("new");
        std::fs::write(&draft, text).doing(doing)?;
        std::fs::rename(&draft, &path).doing(doing)
    }

    /// Removes the note.
    pub(crate) fn remove(&self) {
        if let Ok(path) = path(&self.stack) {
            // What cannot be removed is ignored by the next reader: its process is gone.
            let _ = std::fs::remove_file(&path);
            let _ = path.parent().map(std::fs::remove_dir);
        }
    }

    fn is_alive(&self) -> bool {
        kill(Pid::from_raw(self.pid), None) != Err(Errno::ESRCH)
    }
}

fn path(stack: &str) -> Result<PathBuf, Error> {
    Ok(cache()?.join("running").join(format!("{stack}.json")))
}
