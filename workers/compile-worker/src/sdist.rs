//! A source distribution, looked into without running anything of it.

use std::{
    io::{Cursor, Read},
    sync::Arc,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::Deserialize;
use zip::ZipArchive;

use crate::{error::Stopped, names::normalize};

/// Unpacked, a source has at most this many bytes and files.
const SIZE_LIMIT: u64 = 768 << 20;
const FILES_LIMIT: usize = 100_000;
const TEXT_LIMIT: u64 = 1 << 20;
/// So much of one is unpacked at most for a look.
const GLANCE_LIMIT: u64 = 256 << 20;
/// Endings of files that are compiled: C, C++, Cython, Rust, Fortran, Objective-C, CUDA.
const SOURCES: [&str; 11] = ["c", "cc", "cpp", "cxx", "pyx", "rs", "f", "f90", "m", "mm", "cu"];
/// Folders whose files are no part of the wheel.
const ASIDE: [&str; 7] = ["test", "tests", "doc", "docs", "example", "examples", "benchmarks"];
/// What is required to build what is compiled.
const COMPILERS: [&str; 14] = [
    "cffi",
    "cmake",
    "cython",
    "maturin",
    "meson-python",
    "mypy",
    "nanobind",
    "ninja",
    "numpy",
    "pybind11",
    "scikit-build",
    "scikit-build-core",
    "setuptools-rust",
    "swig",
];
/// Words by which setuptools is told of it.
const EXTENSIONS: [&str; 4] = ["ext_modules", "cffi_modules", "rust_extensions", "ext_package"];
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

/// What a look into a source tells, without running anything of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Glance {
    /// Whether there is something to compile, so that its wheels are for one platform.
    pub native: bool,
    /// Its PKG-INFO, where it has one.
    pub pkg_info: Option<String>,
}

/// Looks into a source, of which no more is unpacked than it takes to tell.
///
/// # Errors
/// When it is none.
pub fn glance(archive: &[u8]) -> std::io::Result<Glance> {
    let mut glance = Glance::default();
    if archive.starts_with(ZIP) {
        let mut zip = ZipArchive::new(Cursor::new(archive))?;
        for index in 0..zip.len().min(FILES_LIMIT) {
            let mut file = zip.by_index(index)?;
            let path = file.name().to_owned();
            glance.see(path.as_bytes(), &mut file)?;
        }
        return Ok(glance);
    }
    let mut tar = tar::Archive::new(GzDecoder::new(archive).take(GLANCE_LIMIT));
    for entry in tar.entries()?.take(FILES_LIMIT) {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        glance.see(&path, &mut entry)?;
        if glance.native && glance.pkg_info.is_some() {
            break;
        }
    }
    Ok(glance)
}

impl Glance {
    fn see(&mut self, path: &[u8], file: &mut impl Read) -> std::io::Result<()> {
        let is = |name: &[u8]| is_at_top(path, name);
        if is(b"PKG-INFO") {
            // Some are older than UTF-8.
            self.pkg_info = Some(lossy(file)?);
        } else if is(b"pyproject.toml") {
            self.native |= wants_compiler(&lossy(file)?);
        } else if is(b"setup.py") || is(b"setup.cfg") {
            let text = lossy(file)?;
            self.native |= EXTENSIONS.iter().any(|word| text.contains(word));
        } else {
            self.native |= is_compiled(path);
        }
        Ok(())
    }
}

/// Whether a pyproject.toml requires what nobody requires who has nothing to compile. One that is
/// broken is not built at all.
fn wants_compiler(text: &str) -> bool {
    let pyproject = toml::from_str::<Pyproject>(text).unwrap_or_default();
    let requires = pyproject.build_system.map(|system| system.requires).unwrap_or_default();
    requires.iter().any(|it| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name = it.trim().split(|c| !plain(c)).next().unwrap_or_default();
        normalize(name).is_ok_and(|name| COMPILERS.contains(&name.as_str()))
    })
}

/// Whether a file is source code that is compiled, and no test or example.
fn is_compiled(path: &[u8]) -> bool {
    let path = String::from_utf8_lossy(path).to_ascii_lowercase();
    let mut folders: Vec<&str> = path.split('/').collect();
    let file = folders.pop().unwrap_or_default();
    let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
    SOURCES.contains(&ending) && !folders.iter().any(|it| ASIDE.contains(it))
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
    use std::io::Write;

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
            Err(Stopped::Theirs(why)) if why.reason.contains("requires")
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
        let told = Glance { native: false, pkg_info: Some("Name: a\n".to_owned()) };
        assert_eq!(glance(&bytes).unwrap(), told);
        let tar = as_tar(Arc::clone(&bytes)).unwrap();
        let source = Source::read(&tar).unwrap();
        assert_eq!((source.requires, source.backend), (vec!["b".to_owned()], "c".to_owned()));
        assert_eq!(source.pkg_info.as_deref(), Some("Name: a\n"));
        assert_eq!(as_tar(Arc::clone(&tar)).unwrap(), tar);
        assert!(matches!(as_tar(bytes[..50].into()), Err(Stopped::Theirs(_))));
    }

    #[test]
    fn what_leads_out_of_a_zip_is_left_out_and_what_nobody_may_read_can_be_read() {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for path in ["../out", "/etc/out", "a-1.0/../../out", "a-1.0/in"] {
            let options = zip::write::SimpleFileOptions::default().unix_permissions(0o111);
            zip.start_file(path, options).unwrap();
            zip.write_all(b"x").unwrap();
        }
        let tar = as_tar(zip.finish().unwrap().into_inner().into()).unwrap();
        let mut tar = tar::Archive::new(GzDecoder::new(&*tar));
        let entries = tar.entries().unwrap().map(|it| {
            let it = it.unwrap();
            (it.path().unwrap().display().to_string(), it.header().mode().unwrap())
        });
        let inside: Vec<_> = entries.filter(|it| !it.0.ends_with("etc/out")).collect();
        assert_eq!(inside, [("a-1.0/in".to_owned(), 0o711)]);
    }

    #[test]
    fn a_source_that_says_that_it_is_too_large_is_refused_before_it_is_unpacked() {
        let mut header = tar::Header::new_gnu();
        header.set_path("a-1.0/large").unwrap();
        header.set_size(SIZE_LIMIT + 1);
        header.set_cksum();
        let mut archive = GzEncoder::new(Vec::new(), Compression::fast());
        archive.write_all(header.as_bytes()).unwrap();
        let why = Source::read(&archive.finish().unwrap()).unwrap_err();
        assert!(matches!(why, Stopped::Theirs(why) if why.reason.contains("too large")));
    }

    fn native(files: &[(&str, &str)]) -> bool {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, format!("a-1.0/{path}"), text.as_bytes()).unwrap();
        }
        glance(&tar.into_inner().unwrap().finish().unwrap()).unwrap().native
    }

    #[test]
    fn a_source_tells_whether_its_wheels_are_for_one_platform() {
        let requires =
            |what: &str| format!("[build-system]\nrequires = ['setuptools', '{what}']\n");
        for path in ["src/a.c", "a/b.pyx", "src/lib.rs", "a/speed.CPP", "a/solve.f90"] {
            assert!(native(&[("setup.py", "setup()"), (path, "")]), "{path}");
        }
        for what in ["cffi>=1.0.0", "Cython", "setuptools_rust", "maturin>=1,<2", "mypy[x]==1.0"] {
            assert!(native(&[("pyproject.toml", &requires(what)), ("a.py", "")]), "{what}");
        }
        assert!(native(&[("setup.py", "setup(ext_modules=made())"), ("a.py", "")]));
        for pure in [
            vec![("setup.py", "setup()"), ("a.py", "")],
            vec![("setup.py", "setup()"), ("tests/data/x.c", ""), ("docs/y.rs", ""), ("a.h", "")],
            vec![("pyproject.toml", "[build-system]\nrequires = ['flit_core']\n")],
            vec![("pyproject.toml", "[build-system")],
        ] {
            assert!(!native(&pure), "{pure:?}");
        }
    }

    #[test]
    fn what_is_no_archive_is_the_packages_fault() {
        assert!(matches!(Source::read(b"not a tar"), Err(Stopped::Theirs(_))));
    }
}
