//! Where this command keeps things, and the note by which other terminals find a running fleet.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error};

/// The cache: `FLOTILLA_CACHE`, or `flotilla` in the user's cache directory.
pub(crate) fn cache() -> Result<PathBuf, Error> {
    let set = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    set("FLOTILLA_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|it| it.join("flotilla")))
        .or_else(|| set("HOME").map(|it| it.join(".cache/flotilla")))
        .ok_or_else(|| Error::Fleet("set HOME or FLOTILLA_CACHE to a directory".to_owned()))
}

/// What `flotilla up` notes of its fleet while it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The process id of `flotilla up`.
    pub(crate) pid: u32,
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

/// A note on disk, locked for as long as its fleet is up: the lock ends with the process, however
/// that ends.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    _lock: File,
}

impl Note {
    /// The note of the fleet on `stack`, if one is up on this machine. A note that nobody holds
    /// any more is of a fleet that was killed.
    pub(crate) fn read(stack: &str) -> Option<Self> {
        let mut file = File::open(path(stack).ok()?).ok()?;
        if file.try_lock_shared().is_ok() {
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The stacks of all fleets that are up on this machine, in order of their names.
    pub(crate) fn all_up() -> Vec<String> {
        let files = running().ok().and_then(|folder| fs::read_dir(folder).ok());
        let files = files.into_iter().flatten().flatten().map(|file| file.path());
        let notes = files.filter(|path| path.extension().is_some_and(|it| it == "json"));
        let names = notes.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
        let mut up: Vec<String> = names.filter(|name| Self::read(name).is_some()).collect();
        up.sort();
        up
    }

    /// Whether there is a note of a fleet on `stack` that was killed.
    pub(crate) fn is_stale(stack: &str) -> bool {
        path(stack).is_ok_and(|path| path.is_file()) && Self::read(stack).is_none()
    }

    /// Writes the note, whole or not at all, and holds it.
    pub(crate) fn write(&self) -> Result<Held, Error> {
        let path = path(&self.stack)?;
        let doing = || format!("writing {}", path.display());
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Fleet(e.to_string()))?;
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).doing(doing)?;
        let draft = path.with_extension("new");
        let mut lock = File::create(&draft).doing(doing)?;
        lock.lock().doing(doing)?;
        lock.write_all(text.as_bytes()).doing(doing)?;
        fs::rename(&draft, &path).doing(doing)?;
        Ok(Held { path, _lock: lock })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What cannot be removed is ignored by its next reader: nobody holds it. The directory
        // goes with its last note.
        let _ = fs::remove_file(&self.path);
        let _ = self.path.parent().map(fs::remove_dir);
    }
}

/// The folder of what is there only while its fleet runs.
pub(crate) fn running() -> Result<PathBuf, Error> {
    Ok(cache()?.join("running"))
}

fn path(stack: &str) -> Result<PathBuf, Error> {
    Ok(running()?.join(format!("{stack}.json")))
}
