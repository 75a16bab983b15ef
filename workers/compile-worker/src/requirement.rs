//! Requirements (PEP 508), read within bounds. They come from everywhere, and whoever wrote them may
//! mean harm: a parser that goes one call deeper for every parenthesis is ended by a long line, and
//! one that keeps what it has read by a stream of them. So the marker is read here, and not by the
//! library that reads the rest.

mod marker;

use std::{collections::BTreeSet, str::FromStr};

use pep440_rs::VersionSpecifiers;
use pep508_rs::{VerbatimUrl, VersionOrUrl};

use self::marker::Marker;
use crate::builder::BuilderInfo;

/// A requirement has at most this many bytes.
const LENGTH_LIMIT: usize = 4 << 10;
/// So much of one that is refused is shown.
const SHOWN: usize = 100;

/// What somebody requires.
#[derive(Debug, Clone, PartialEq)]
pub struct Requirement {
    /// The package, normalised.
    pub name: String,
    /// Its extras that are wanted, normalised.
    pub extras: BTreeSet<String>,
    /// The versions that will do.
    pub specifiers: VersionSpecifiers,
    /// Whether it names a URL instead of versions.
    pub names_url: bool,
    /// As it was written, without its marker.
    pub text: String,
    marker: Option<Marker>,
}

/// Reads a requirement.
///
/// # Errors
/// Says what is wrong with it.
pub fn requirement(text: &str) -> Result<Requirement, String> {
    let bad = |why: String| format!("{:?}: {why}", shown(text));
    if text.len() > LENGTH_LIMIT {
        return Err(bad(format!("a requirement has at most {LENGTH_LIMIT} bytes")));
    }
    let (what, marker) = parted(text);
    // The rest of a URL is of no use here, and need not be one.
    let plain = what.split('@').next().unwrap_or_default().trim();
    let parsed = pep508_rs::Requirement::<VerbatimUrl>::from_str(plain)
        .map_err(|e| bad(e.message.to_string()))?;
    let marker = marker.map(Marker::parse).transpose().map_err(bad)?;
    Ok(Requirement {
        name: parsed.name.to_string(),
        extras: parsed.extras.iter().map(ToString::to_string).collect(),
        specifiers: match parsed.version_or_url {
            Some(VersionOrUrl::VersionSpecifier(specifiers)) => specifiers,
            _ => VersionSpecifiers::empty(),
        },
        names_url: plain.len() != what.trim().len(),
        text: what.trim().to_owned(),
        marker,
    })
}

impl Requirement {
    /// Whether it applies where this image builds, to who wants these extras of the package that
    /// says it.
    pub fn applies(&self, builder: &BuilderInfo, extras: &BTreeSet<String>) -> bool {
        let Some(marker) = &self.marker else { return true };
        match extras.is_empty() {
            true => marker.holds(builder, ""),
            false => extras.iter().any(|extra| marker.holds(builder, extra)),
        }
    }
}

/// What is required, and the marker: a semicolon ends versions, a blank and one ends a URL.
fn parted(text: &str) -> (&str, Option<&str>) {
    let first = text.split_once(';').unwrap_or((text, ""));
    let (what, marker) = match first.0.contains('@') {
        true => text.split_once(" ;").unwrap_or((text, "")),
        false => first,
    };
    (what, Some(marker).filter(|it| !it.trim().is_empty()))
}

fn shown(text: &str) -> &str {
    let end = text.char_indices().nth(SHOWN).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> BuilderInfo {
        BuilderInfo { python: "3.11.2".into(), ..BuilderInfo::default() }
    }

    fn applies(text: &str, extras: &[&str]) -> bool {
        let extras = extras.iter().map(|it| (*it).to_owned()).collect();
        requirement(text).unwrap().applies(&builder(), &extras)
    }

    #[test]
    fn a_requirement_is_read_in_all_of_its_parts() {
        let it = requirement("A.b[X_y, z] >=1, <2 ; python_version > '3'").unwrap();
        assert_eq!((it.name.as_str(), it.names_url), ("a-b", false));
        assert_eq!(it.extras.iter().collect::<Vec<_>>(), ["x-y", "z"]);
        assert!(it.specifiers.contains(&"1.5".parse().unwrap()));
        assert!(!it.specifiers.contains(&"2".parse().unwrap()));
        assert_eq!(it.text, "A.b[X_y, z] >=1, <2");
        assert!(requirement("a (>=1)").unwrap().specifiers.contains(&"1".parse().unwrap()));
        let url = requirement("a @ https://x.test/a;b.whl ; python_version > '3'").unwrap();
        assert!(url.names_url && url.marker.is_some());
        for bad in
            ["", "a b", "a ; x", "a ; os_name", "a ; os_name == 'x' junk", "a; (os_name=='a'"]
        {
            assert!(requirement(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_marker_says_what_the_standard_says() {
        for (marker, holds) in [
            ("python_version >= '3.8'", true),
            ("python_version < '3.8'", false),
            ("python_version < '3.9'", false),
            ("'3.10' <= python_version", true),
            ("python_full_version == '3.11.*'", true),
            ("python_version ~= '3.7'", true),
            ("python_version in '3.11, 3.12'", true),
            ("python_version not in '3.11 3.12'", false),
            ("sys_platform == 'win32'", false),
            ("'linux' in sys_platform", true),
            ("os_name=='posix'and platform_machine!=\"arm64\"", true),
            ("sys_platform == 'win32' or python_version > '3' and os_name == 'nt'", false),
            ("(sys_platform == 'win32' or python_version > '3') and os_name == 'posix'", true),
            ("platform_python_implementation == 'CPython'", true),
            ("extra == 'speed'", false),
            ("extra == ''", true),
        ] {
            assert_eq!(applies(&format!("a; {marker}"), &[]), holds, "{marker}");
        }
        assert!(applies("a; extra == 'Speed_Up'", &["docs", "speed-up"]));
        assert!(!applies("a; extra == 'speed' and os_name == 'nt'", &["speed"]));
    }

    #[test]
    fn any_number_of_parentheses_is_refused_and_nobody_dies_of_them() {
        for count in [60, 2000, 100_000] {
            let deep = format!("a; {}os_name == 'x'{}", "(".repeat(count), ")".repeat(count));
            assert!(requirement(&deep).is_err(), "{count}");
            assert!(requirement(&format!("a; {}", "(".repeat(count))).is_err(), "{count}");
        }
        let some = format!("a; {}os_name == 'posix'{}", "(".repeat(40), ")".repeat(40));
        assert!(requirement(&some).unwrap().applies(&builder(), &BTreeSet::new()));
    }

    #[test]
    fn a_marker_that_would_be_a_huge_table_takes_no_time() {
        let pairs = (0..70).map(|n| format!("extra=='a{n}'and extra=='b{n}'"));
        let text = format!("a;{}", pairs.collect::<Vec<_>>().join(" or "));
        assert!(!applies(&text, &["a1"]), "both cannot be");
    }
}
