//! Names of packages and of their files, as PyPI has them.

use std::fmt;

use crate::versions::{normal, parsed, same};

/// How the names of source distributions end; PyPI takes only the first today, and keeps the others (PEP 527).
const SDISTS: [&str; 5] = [".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz"];
/// A package's name is at most this long.
const NAME_LIMIT: usize = 100;

/// The normalised name of a package (PEP 503): lower case, `-` for any run of `-_.`.
///
/// # Errors
/// Says why this is no name.
pub fn normalize(name: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let (first, last) = (name.bytes().next(), name.bytes().last());
    if name.len() > NAME_LIMIT || !edge(first) || !edge(last) || !name.bytes().all(plain) {
        return Err(format!("{name:?} is no name of a package"));
    }
    let mut normal = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.push(c),
        }
    }
    Ok(normal)
}

/// The version in the name of a source distribution of `package` (normalised); `None` for any
/// other file.
pub fn sdist_version<'f>(package: &str, filename: &'f str) -> Option<&'f str> {
    let stem = SDISTS.into_iter().find_map(|end| filename.strip_suffix(end))?;
    let dashes = stem.match_indices('-').map(|(at, _)| stem.split_at(at));
    let fits = |(name, _): &(&str, &str)| normalize(name).is_ok_and(|name| name == package);
    let version = dashes.rev().find(fits).map(|(_, version)| &version[1..])?;
    // What is behind the name of a program that was packed for one platform is no version.
    parsed(version).map(|_| version)
}

/// The package (normalised) and the version that a wheel is of, by its name.
pub(crate) fn wheel_of(filename: &str) -> Option<(String, String)> {
    let wheel = WheelName::parse(filename)?;
    Some((normalize(&wheel.name).ok()?, wheel.version))
}

/// The minor version of the C library 2.x that a manylinux tag of the machine of `platform`
/// (`linux_x86_64`) asks for; `None` for any other tag.
pub fn manylinux(tag: &str, platform: &str) -> Option<u32> {
    let machine = platform.split_once('_').map_or(platform, |(_, machine)| machine);
    let policy = tag.strip_prefix("manylinux")?.strip_suffix(machine)?.strip_suffix('_')?;
    match policy {
        "1" => Some(5),
        "2010" => Some(12),
        "2014" => Some(17),
        policy => policy.strip_prefix("_2_")?.parse().ok(),
    }
}

/// The minor version of a C library 2.x.
pub fn minor_of_glibc(glibc: &str) -> Option<u32> {
    glibc.strip_prefix("2.")?.split('.').next()?.parse().ok()
}

/// The parts of a wheel's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelName {
    /// The distribution, as written.
    pub name: String,
    /// The version, as written.
    pub version: String,
    /// The compressed tags: python, ABI and platform, each joined with dots.
    pub tags: [String; 3],
}

impl WheelName {
    /// From a file's name; `None` if it is not a wheel's. A build number is passed over.
    pub fn parse(filename: &str) -> Option<Self> {
        let parts: Vec<&str> = filename.strip_suffix(".whl")?.split('-').collect();
        let (name, version, tags) = match parts[..] {
            [name, version, python, abi, platform] => (name, version, [python, abi, platform]),
            [name, version, _, python, abi, platform] => (name, version, [python, abi, platform]),
            _ => return None,
        };
        let tags = tags.map(str::to_owned);
        Some(Self { name: name.to_owned(), version: version.to_owned(), tags })
    }

    /// The name that a wheel of this package and version has.
    pub fn predicted(package: &str, version: &str, tags: [&str; 3]) -> Self {
        Self {
            name: package.replace('-', "_"),
            version: normal(version),
            tags: tags.map(str::to_owned),
        }
    }

    /// The name of one that any Python 3 can load, on any machine.
    pub fn pure(package: &str, version: &str) -> Self {
        Self::predicted(package, version, ["py3", "none", "any"])
    }

    /// Whether it is of this package and version, in whatever spelling.
    pub fn is_of(&self, package: &str, version: &str) -> bool {
        let own = matches!((normalize(&self.name), normalize(package)), (Ok(a), Ok(b)) if a == b);
        own && same(&self.version, version)
    }

    /// Whether it runs anywhere that this Python does.
    pub fn is_pure(&self) -> bool {
        self.tags[1] == "none" && self.tags[2] == "any"
    }

    /// Whether it is for machines of this platform (`linux_x86_64`) alone.
    pub fn is_for(&self, platform: &str) -> bool {
        let mut tags = self.tags[2].split('.');
        tags.any(|tag| tag == platform || manylinux(tag, platform).is_some())
    }

    /// Whether an interpreter of this ABI (`cp311`) can load it on a plain machine of this
    /// platform (`linux_x86_64`) with this C library, manylinux wheels included.
    pub fn fits(&self, abi: &str, platform: &str, glibc: &str) -> bool {
        let [python, abis, platforms] = &self.tags;
        let minor = |tag: &str, kind: &str| tag.strip_prefix(kind)?.parse::<u32>().ok();
        let own = minor(abi, "cp3").unwrap_or(0);
        let no_newer = |tag: &str, kind: &str| minor(tag, kind).is_some_and(|it| it <= own);
        let stable = abis.split('.').any(|tag| tag == "abi3");
        let python = python.split('.').any(|tag| {
            tag == abi || tag == "py3" || no_newer(tag, "py3") || (stable && no_newer(tag, "cp3"))
        });
        let abi = abis.split('.').any(|tag| tag == abi || tag == "none" || tag == "abi3");
        let library = minor_of_glibc(glibc).unwrap_or(0);
        let platform = platforms.split('.').any(|tag| {
            tag == "any"
                || tag == platform
                || manylinux(tag, platform).is_some_and(|needed| needed <= library)
        });
        python && abi && platform
    }
}

impl fmt::Display for WheelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [python, abi, platform] = &self.tags;
        write!(f, "{}-{}-{python}-{abi}-{platform}.whl", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_and_paths_refused() {
        assert_eq!(normalize("Zope.Interface__x").as_deref(), Ok("zope-interface-x"));
        for bad in ["", ".", "..", "a/b", "-a", "a-", "a b", "ä"] {
            assert!(normalize(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_version_of_a_source_is_what_follows_the_packages_name() {
        assert_eq!(sdist_version("markupsafe", "MarkupSafe-2.1.5.tar.gz"), Some("2.1.5"));
        assert_eq!(sdist_version("a-b", "a-b-1.0-rc1.tar.gz"), Some("1.0-rc1"));
        assert_eq!(sdist_version("a-b", "a_b-1.0.tar.gz"), Some("1.0"));
        assert_eq!(sdist_version("a", "a-b-1.0.tar.gz"), None);
        assert_eq!(sdist_version("a", "a-1.0.zip"), Some("1.0"));
        assert_eq!(sdist_version("a", "a-1.0.tgz"), Some("1.0"));
        assert_eq!(sdist_version("a", "a-1.0.tar.bz2"), Some("1.0"));
        assert_eq!(sdist_version("a", "a-1.0.tar.xz"), Some("1.0"));
        assert_eq!(sdist_version("a", "a-1.0.tar.Z"), None);
        assert_eq!(sdist_version("a", "a-1.0.win32.zip"), None);
        assert_eq!(sdist_version("a", "a-1.0.linux-x86_64.tar.gz"), None);
        assert_eq!(sdist_version("a", "a-1.0.exe"), None);
        assert_eq!(sdist_version("b", "a-1.0.tar.gz"), None);
    }

    #[test]
    fn wheels_are_told_apart_by_what_can_load_them() {
        let fits =
            |name: &str| WheelName::parse(name).unwrap().fits("cp311", "linux_x86_64", "2.36");
        for good in [
            "a-1-py3-none-any.whl",
            "a-1-py2.py3-none-any.whl",
            "a-1-py38-none-any.whl",
            "a-1-py311-none-linux_x86_64.whl",
            "a-1-cp311-cp311-linux_x86_64.whl",
            "a-1-cp37-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "a-1-cp311-cp311-manylinux_2_36_x86_64.whl",
            "a-1-cp311-cp311-manylinux_2_39_x86_64.manylinux2014_x86_64.whl",
        ] {
            assert!(fits(good), "{good}");
        }
        for bad in [
            "a-1-cp312-cp312-linux_x86_64.whl",
            "a-1-cp312-abi3-linux_x86_64.whl",
            "a-1-cp311-cp311-musllinux_1_1_x86_64.whl",
            "a-1-cp311-cp311-manylinux2014_aarch64.whl",
            "a-1-cp311-cp311-manylinux_2_39_x86_64.whl",
            "a-1-cp311-cp311-manylinux_x86_64.whl",
            "a-1-py2-none-any.whl",
            "a-1-py312-none-any.whl",
            "a-1-py3x-none-any.whl",
        ] {
            assert!(!fits(bad), "{bad}");
        }
    }
}
