//! A source distribution, looked into without running anything of it.

use std::{
    io::{Cursor, Read},
    sync::Arc,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::Deserialize;
use zip::ZipArchive;

use crate::error::Stopped;

/// Unpacked, a source has at most this many bytes and files.
const SIZE_LIMIT: u64 = 768 << 20;
const FILES_LIMIT: usize = 100_000;
const TEXT_LIMIT: u64 = 1 << 20;
/// The first of January 1980, before which a zip has no dates.
const ZIP_EPOCH: u64 = 315_532_800;

/// What a source says of how it is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Requirements of the build (PEP 508).
    pub requires: Vec<String>,
    /// The build backend, `module:object`.
    pub backend: String,
    /// Folders of the source that the backend is imported from.
    pub backend_path: Vec<String>,
    /// When its newest file was written, in Unix seconds.
    pub newest: u64,
    /// Its PKG-INFO, where it has one.
    pub pkg_info: Option<String>,
}

#[derive(Deserialize, Default)]
struct Pyproject {
    #[serde(rename = "build-system")]
    build_system: Option<BuildSystem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BuildSystem {
    requires: Vec<String>,
    build_backend: Option<String>,
    #[serde(default)]
    backend_path: Vec<String>,
}

impl Source {
    /// Looks into a `.tar.gz`.
    ///
    /// # Errors
    /// When it is none, is too large unpacked, or its pyproject.toml is not what PEP 518 says.
    pub fn read(archive: &[u8]) -> Result<Self, Stopped> {
        let broken = |e: std::io::Error| Stopped::theirs(format!("the source is broken: {e}"));
        let mut tar = tar::Archive::new(GzDecoder::new(archive).take(SIZE_LIMIT));
        let (mut pyproject, mut pkg_info) = (None, None);
        let (mut newest, mut size) = (ZIP_EPOCH, 0_u64);
        for (count, entry) in tar.entries().map_err(broken)?.enumerate() {
            let mut entry = entry.map_err(broken)?;
            size = size.saturating_add(entry.size());
            if count > FILES_LIMIT || size > SIZE_LIMIT {
                return Err(Stopped::theirs("the source is too large when it is unpacked"));
            }
            newest = newest.max(entry.header().mtime().unwrap_or(0));
            if is_at_top(&entry.path_bytes(), b"pyproject.toml") {
                pyproject = Some(text(&mut entry).map_err(broken)?);
            } else if is_at_top(&entry.path_bytes(), b"PKG-INFO") {
                // Some are older than UTF-8.
                pkg_info = Some(lossy(&mut entry).map_err(broken)?);
            }
        }
        let source = Self::from_pyproject(pyproject.as_deref().unwrap_or_default(), newest)?;
        Ok(Self { pkg_info, ..source })
    }

    fn from_pyproject(text: &str, newest: u64) -> Result<Self, Stopped> {
        let bad = |e: toml::de::Error| Stopped::theirs(format!("pyproject.toml: {}", e.message()));
        let pyproject: Pyproject = toml::from_str(text).map_err(bad)?;
        let legacy = || "setuptools.build_meta:__legacy__".to_owned();
        let mut source = match pyproject.build_system {
            Some(system) => Self {
                requires: system.requires,
                backend: system.build_backend.unwrap_or_else(legacy),
                backend_path: system.backend_path,
                newest,
                pkg_info: None,
            },
            None => Self {
                requires: vec!["setuptools>=40.8.0".to_owned()],
                backend: legacy(),
                backend_path: Vec::new(),
                newest,
                pkg_info: None,
            },
        };
        // What setuptools asks for only when it runs, unless it is a recent one.
        if source.backend.starts_with("setuptools.") {
            source.requires.push("wheel".to_owned());
        }
        Ok(source)
    }
}

/// How a zip begins.
const ZIP: &[u8] = b"PK";

/// The same source as a `.tar.gz`, which is what builds are given: older ones are zips.
///
/// # Errors
/// When a zip is broken, or too large when it is unpacked.
pub fn as_tar(archive: Arc<[u8]>) -> Result<Arc<[u8]>, Stopped> {
    if !archive.starts_with(ZIP) {
        return Ok(archive);
    }
    let broken = |e: std::io::Error| Stopped::theirs(format!("the source is broken: {e}"));
    let mut zip = ZipArchive::new(Cursor::new(&archive)).map_err(|e| broken(e.into()))?;
    let too_large = || Stopped::theirs("the source is too large when it is unpacked");
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut left = SIZE_LIMIT;
    for index in 0..zip.len() {
        let file = zip.by_index(index).map_err(|e| broken(e.into()))?;
        let Some(path) = file.enclosed_name().filter(|_| file.is_file()) else { continue };
        let mode = file.unix_mode().unwrap_or(0o644) & 0o777;
        let mut bytes = Vec::new();
        file.take(left + 1).read_to_end(&mut bytes).map_err(broken)?;
        left = left.checked_sub(bytes.len() as u64).ok_or_else(too_large)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode | 0o600);
        header.set_mtime(ZIP_EPOCH);
        tar.append_data(&mut header, path, bytes.as_slice()).map_err(broken)?;
    }
    let packed = tar.into_inner().and_then(GzEncoder::finish).map_err(broken)?;
    Ok(packed.into())
}

/// The PKG-INFO of a source, of which no more is unpacked than leads to it.
///
/// # Errors
/// When it is none.
pub fn pkg_info(archive: &[u8]) -> std::io::Result<Option<String>> {
    if archive.starts_with(ZIP) {
        let mut zip = ZipArchive::new(Cursor::new(archive))?;
        let name = zip.file_names().find(|name| is_at_top(name.as_bytes(), b"PKG-INFO"));
        let Some(name) = name.map(str::to_owned) else { return Ok(None) };
        return lossy(&mut zip.by_name(&name)?).map(Some);
    }
    let mut tar = tar::Archive::new(GzDecoder::new(archive).take(SIZE_LIMIT));
    for entry in tar.entries()?.take(FILES_LIMIT) {
        let mut entry = entry?;
        if is_at_top(&entry.path_bytes(), b"PKG-INFO") {
            return lossy(&mut entry).map(Some);
        }
    }
    Ok(None)
}

fn text(entry: &mut impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    entry.take(TEXT_LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

fn lossy(entry: &mut impl Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    entry.take(TEXT_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a path is this file of the one folder at the top.
fn is_at_top(path: &[u8], file: &[u8]) -> bool {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let mut parts = path.split(|b| *b == b'/');
    parts.next().is_some_and(|top| !top.is_empty())
        && parts.next() == Some(file)
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requires(text: &str) -> Vec<String> {
        Source::from_pyproject(text, 0).unwrap().requires
    }

    #[test]
    fn a_source_without_a_word_is_built_the_old_way() {
        assert_eq!(requires(""), ["setuptools>=40.8.0", "wheel"]);
        assert_eq!(requires("[tool.x]\na = 1"), ["setuptools>=40.8.0", "wheel"]);
    }

    #[test]
    fn a_backend_is_taken_as_it_is_said() {
        let text =
            "[build-system]\nrequires = [\"flit_core >=3\"]\nbuild-backend = \"flit_core.x\"";
        assert_eq!(requires(text), ["flit_core >=3"]);
        assert!(matches!(
            Source::from_pyproject("[build-system]", 0),
            Err(Stopped::Theirs(why)) if why.contains("requires")
        ));
    }

    #[test]
    fn only_the_top_folders_pyproject_counts() {
        for (path, is) in [
            ("a-1.0/pyproject.toml", true),
            ("./a-1.0/pyproject.toml", true),
            ("pyproject.toml", false),
            ("a-1.0/b/pyproject.toml", false),
        ] {
            assert_eq!(is_at_top(path.as_bytes(), b"pyproject.toml"), is, "{path}");
        }
    }

    #[test]
    fn a_zip_is_built_like_any_other_source() {
        use std::io::Write;
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        for (path, text) in [
            ("a-1.0/pyproject.toml", "[build-system]\nrequires = ['b']\nbuild-backend = 'c'\n"),
            ("a-1.0/PKG-INFO", "Name: a\n"),
            ("a-1.0/a.py", "x = 1"),
        ] {
            zip.start_file(path, options).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        let bytes: Arc<[u8]> = zip.finish().unwrap().into_inner().into();
        assert_eq!(pkg_info(&bytes).unwrap().as_deref(), Some("Name: a\n"));
        let tar = as_tar(Arc::clone(&bytes)).unwrap();
        let source = Source::read(&tar).unwrap();
        assert_eq!((source.requires, source.backend), (vec!["b".to_owned()], "c".to_owned()));
        assert_eq!(source.pkg_info.as_deref(), Some("Name: a\n"));
        assert_eq!(as_tar(Arc::clone(&tar)).unwrap(), tar);
        assert!(matches!(as_tar(bytes[..50].into()), Err(Stopped::Theirs(_))));
    }

    #[test]
    fn what_is_no_archive_is_the_packages_fault() {
        assert!(matches!(Source::read(b"not a tar"), Err(Stopped::Theirs(_))));
    }
}
