//! The log of decisions.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use flotilla_runtime::failure::Failure;
use serde::Serialize;

use super::metrics;

/// Where decisions are written down, a line each.
pub(super) struct Log(Box<dyn Write + Send>);

impl Log {
    /// The file at this path, or the standard output.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self(Box::new(io::stdout()))) };
        let file = appended(path).map_err(|e| {
            let what = format!("the decision log {} (FLOTILLA_DECISION_LOG)", path.display());
            Failure::permanent("log", what).caused_by(e)
        })?;
        Ok(Self(Box::new(file)))
    }

    /// Writes a line. What cannot be logged is done all the same: the fleet matters more.
    pub(super) fn write(&mut self, what: &impl Serialize) {
        let line = serde_json::to_string(what).map_err(io::Error::from);
        // In one write: whoever ends the process between two leaves no half of a line without an end.
        let written = line.and_then(|line| {
            self.0.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.0.flush())
        });
        if let Err(error) = written {
            metrics::unlogged();
            tracing::error!(%error, "a decision was not logged");
        }
    }
}

/// A file at its end, on a line of its own: the last one may have been cut off.
fn appended(path: &Path) -> io::Result<File> {
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions");
        std::fs::write(&path, "{\"half").unwrap();
        Log::open(Some(&path)).unwrap().write(&json!({}));
        Log::open(Some(&path)).unwrap().write(&json!([]));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"half\n{}\n[]\n");
    }
}
