//! The lines of a group's requirements, as requests.

use compile_worker::{
    builds::Request,
    crates::{self, Release},
    ecosystem::Grammar,
    message::{self, Wanted},
    pypi::sources,
    requirement::{Requirement, requirement},
    resolve::{is_pin, runs_on},
    upstream::Project,
};
use pep440_rs::Version;

use super::List;
use crate::packages::{Packages, answer::Refusal};

/// A group has at most this many requirements.
pub(super) const LIMIT: usize = 1000;
/// They have at most this many bytes: all of a group is one row, and a row has 400 KB at most.
const BYTES: usize = 64 << 10;

/// What became of a requirement.
pub(super) enum Wish {
    /// Its build is ordered.
    Ordered(Box<Request>),
    /// It is for other places.
    Elsewhere,
}

/// The requirements, without comments and empty lines.
pub(super) fn lines(list: List) -> Result<Vec<String>, Refusal> {
    let lines = match list {
        List::Entries(entries) => entries,
        List::Text(text) => {
            let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
            joined.lines().map(str::to_owned).collect()
        }
    };
    let bare = lines.iter().map(|line| without_comment(line).trim().to_owned());
    let all: Vec<String> = bare.filter(|line| !line.is_empty()).collect();
    if all.is_empty() || all.len() > LIMIT {
        let what = format!("a group has 1 to {LIMIT} requirements, not {}", all.len());
        return Err(Refusal::Bad(what));
    }
    let bytes: usize = all.iter().map(String::len).sum();
    match bytes > BYTES {
        true => Err(Refusal::Impossible(format!(
            "the requirements of a group have {BYTES} bytes at most, not {bytes}: make two of it"
        ))),
        false => Ok(all),
    }
}

/// A comment begins a line, or follows a blank.
fn without_comment(line: &str) -> &str {
    let begins = |at: &usize| *at == 0 || line[..*at].ends_with([' ', '\t']);
    let mut signs = line.match_indices('#').map(|(at, _)| at);
    signs.find(begins).map_or(line, |at| &line[..at])
}

/// A requirement whose build is ordered. One that cannot be is refused by itself, whatever becomes of
/// the others.
pub(super) async fn ordered(
    packages: &Packages,
    grammar: &'static Grammar,
    text: &str,
    options: &Wanted,
) -> Result<Wish, Refusal> {
    let found = match grammar.name == crates::GRAMMAR.name {
        true => Some(find_crate(packages, text).await?),
        false => find(packages, text).await?,
    };
    let Some((package, version)) = found else { return Ok(Wish::Elsewhere) };
    let (ecosystem, options) = (grammar.name.to_owned(), options.clone());
    let wish = message::Wish { ecosystem, package, version, options };
    let request = packages.wished(&wish).await?;
    packages.ordered(&request).await?;
    Ok(Wish::Ordered(Box::new(request)))
}

/// A crate, written as `cargo install` takes it: `NAME` or `NAME@VERSION`.
async fn find_crate(packages: &Packages, text: &str) -> Result<(String, String), Refusal> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name.trim(), Some(version.trim().to_owned())),
        None => (text.trim(), None),
    };
    let spelled = (crates::GRAMMAR.package)(name).map_err(Refusal::Impossible)?;
    let version = match version {
        Some(version) => Some(version),
        None => newest_crate(&packages.releases(&spelled).await?),
    };
    let none = || Refusal::Absent(format!("the registry has no crate {name}"));
    Ok((name.to_owned(), version.ok_or_else(none)?))
}

/// The newest of these that was not withdrawn; a pre-release only where there is nothing else.
fn newest_crate(releases: &[Release]) -> Option<String> {
    let there = releases.iter().filter(|it| !it.yanked);
    let parsed = there.filter_map(|it| Some((semver::Version::parse(&it.version).ok()?, it)));
    let newest = parsed.max_by_key(|(it, _)| (it.pre.is_empty(), it.clone()));
    newest.map(|(_, release)| release.version.clone())
}

/// What pip would choose of a line of a requirements file: the newest version that it allows.
/// `None` where its marker does not hold. Extras make no other wheel.
async fn find(packages: &Packages, text: &str) -> Result<Option<(String, String)>, Refusal> {
    let (what, hashes) = parted(text).map_err(Refusal::Impossible)?;
    let it = requirement(what).map_err(Refusal::Impossible)?;
    if it.names_url {
        let why = format!("{:?} names a URL; name a version of the index", it.text);
        return Err(Refusal::Impossible(why));
    }
    let builder = packages.builder().await?;
    if !it.applies(&builder, &Default::default()) {
        return Ok(None);
    }
    let project = packages.project(&it.name).await?;
    let version = newest(&it, &hashes, &project, &builder.python);
    let with = if hashes.is_empty() { "" } else { " and has one of these hashes" };
    let none =
        || Refusal::Absent(format!("upstream has no source that satisfies {:?}{with}", it.text));
    Ok(Some((it.name.clone(), version.ok_or_else(none)?)))
}

/// The requirement, and the hashes that its source may have.
fn parted(text: &str) -> Result<(&str, Vec<&str>), String> {
    if text.starts_with('-') {
        return Err(format!("{text:?} is an option of pip; a group has only requirements"));
    }
    let mut parts = text.split(" --");
    let what = parts.next().unwrap_or_default().trim();
    let hash = |option: &'_ str| {
        let value = option.trim().strip_prefix("hash").map(|it| it.trim_start_matches(['=', ' ']));
        value.map(str::trim).and_then(|it| it.strip_prefix("sha256:")).map(str::len)
    };
    let mut hashes = Vec::new();
    for option in parts {
        match hash(option) {
            Some(length) => hashes.push(&option.trim()[option.trim().len() - length..]),
            None => {
                return Err(format!("{what:?}: only --hash=sha256:… may follow, not --{option}"));
            }
        }
    }
    Ok((what, hashes))
}

/// The newest version with a source: no pre-release and nothing withdrawn that is not asked for, and
/// nothing that is not for this Python.
fn newest(
    wanted: &Requirement,
    hashes: &[&str],
    project: &Project,
    python: &str,
) -> Option<String> {
    let specifiers = &wanted.specifiers;
    let pinned = is_pin(specifiers);
    let previews = specifiers.iter().any(|it| it.version().any_prerelease());
    let candidates =
        sources(&wanted.name, &project.files).into_iter().filter_map(|(written, it)| {
            let version: Version = written.parse().ok()?;
            let of_hash = |it: &String| hashes.iter().any(|hash| hash.eq_ignore_ascii_case(it));
            let good = specifiers.contains(&version)
                && (pinned || it.yanked.is_none())
                && runs_on(it.requires_python.as_deref(), python)
                && (hashes.is_empty() || it.sha256.as_ref().is_some_and(of_hash));
            good.then_some(((previews || !version.any_prerelease(), version), written))
        });
    candidates.max_by_key(|(order, _)| order.clone()).map(|(_, written)| written.to_owned())
}

#[cfg(test)]
mod tests {
    use compile_worker::upstream::File;

    use super::*;

    #[test]
    fn the_newest_crate_is_a_release_where_there_is_one_that_was_not_withdrawn() {
        let newest = |all: &[(&str, bool)]| {
            let release = |(version, yanked): &(&str, bool)| Release {
                name: "a".into(),
                version: (*version).to_owned(),
                sha256: String::new(),
                yanked: *yanked,
            };
            newest_crate(&all.iter().map(release).collect::<Vec<_>>())
        };
        let all = [("1.9.0", false), ("1.10.0", false), ("1.11.0", true), ("2.0.0-rc.1", false)];
        assert_eq!(newest(&all).as_deref(), Some("1.10.0"));
        assert_eq!(newest(&[("2.0.0-rc.1", false), ("1", false)]).as_deref(), Some("2.0.0-rc.1"));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn a_requirements_file_is_read_without_its_comments() {
        let text = "# all\n\na==1.0 # this\n  b>=2,\\\n <3\n#c\nd#e\nf\t# g\n  # h\n";
        let all = lines(List::Text(text.to_owned())).unwrap();
        assert_eq!(all, ["a==1.0", "b>=2,  <3", "d#e", "f"]);
        let elsewhere = lines(List::Text(text.replace('\n', "\r\n"))).unwrap();
        assert_eq!(elsewhere, all, "as other systems end their lines");
        assert!(lines(List::Entries(Vec::new())).is_err());
        assert!(lines(List::Entries(vec!["a".into(); LIMIT + 1])).is_err());
        let long = vec!["a".repeat(100); 900];
        assert!(matches!(lines(List::Entries(long)), Err(Refusal::Impossible(_))));
    }

    fn project() -> Project {
        let file = |(name, python, yanked): (&str, &str, bool)| File {
            filename: name.to_owned(),
            sha256: Some(format!("00{name}")),
            requires_python: Some(python.to_owned()),
            yanked: yanked.then(String::new),
            ..File::default()
        };
        let files = [
            ("a-1.0.tar.gz", ">=3.8", false),
            ("a-1.1.tar.gz", "", false),
            ("a-1.2.tar.gz", "", true),
            ("a-1.3.tar.gz", ">=3.13", false),
            ("a-2.0rc1.tar.gz", "", false),
            ("a-1.4-py3-none-any.whl", "", false),
        ];
        Project { files: files.map(file).into(), ..Project::default() }
    }

    #[test]
    fn a_group_chooses_what_pip_would() {
        for (text, version) in [
            ("a", Some("1.1")),
            ("A[fast]<1.1", Some("1.0")),
            ("a==1.2", Some("1.2")),
            ("a==1.2.*", None),
            ("a>=1.2", Some("2.0rc1")),
            ("a>=1.2,<2", None),
            ("a==1.3", None),
            ("a>=2.0rc1", Some("2.0rc1")),
            ("a --hash=sha256:00a-1.0.tar.gz", Some("1.0")),
            ("a --hash=sha256:ff --hash sha256:00A-1.1.TAR.GZ", Some("1.1")),
            ("a==1.0 --hash=sha256:ff", None),
        ] {
            let (what, hashes) = parted(text).unwrap();
            let wanted = requirement(what).unwrap();
            let found = newest(&wanted, &hashes, &project(), "3.11.2");
            assert_eq!(found.as_deref(), version, "{text}");
        }
    }

    #[test]
    fn options_of_pip_are_no_requirements() {
        for bad in
            ["-r other.txt", "--index-url http://x.test", "a --hash=md5:00", "a --no-binary :all:"]
        {
            assert!(parted(bad).is_err(), "{bad}");
        }
    }
}
