//! What a crate without a `Cargo.lock` is built with: for every requirement that it leads to, the
//! newest release that satisfies it. Cargo chooses among these in the container, as it would among all:
//! of two requirements on one crate the older of their newest releases satisfies both, if any does.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
};

use flotilla_runtime::Failure;
use futures::{StreamExt, TryStreamExt, stream};
use semver::{Version, VersionReq};

use super::{
    entry::{Active, Entry},
    registry::Crate,
};
use crate::error::Stopped;

/// A crate leads to at most so many others, whose pages have at most so many bytes.
const CRATES: usize = 1500;
const PAGES: usize = 96 << 20;
/// How many pages are fetched at once.
const AT_ONCE: usize = 8;
/// Rounds until the choice must stand still: each goes one dependency deeper.
const ROUNDS: usize = 200;

/// What is wanted of a crate by all that need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Need {
    requirements: BTreeSet<String>,
    features: BTreeSet<String>,
}

type Needs = BTreeMap<String, Need>;

/// What a release is chosen by, with the compiler that it needs, and its line in the index.
type Line = (Version, Option<Version>, String);

/// A page of the index.
type Page = Vec<Line>;

/// All that `root` may be built with by a compiler of this version; `page` gives the page of a crate.
///
/// # Errors
/// Theirs, naming the requirement that nothing satisfies; ours when the registry does not answer.
pub(super) async fn candidates<F>(
    root: &Entry,
    compiler: Option<&Version>,
    page: impl Fn(String) -> F,
) -> Result<Vec<Crate>, Stopped>
where
    F: Future<Output = Result<String, Failure>>,
{
    let (mut pages, mut bytes) = (BTreeMap::<String, Page>::new(), 0);
    let mut needs = Needs::new();
    add(&mut needs, root.all())?;
    for _ in 0..ROUNDS {
        let missing: Vec<String> =
            needs.keys().filter(|name| !pages.contains_key(*name)).cloned().collect();
        let fetched = stream::iter(missing).map(|name| {
            let text = page(name.clone());
            async move { Ok::<_, Failure>((name, text.await?)) }
        });
        for (name, text) in fetched.buffered(AT_ONCE).try_collect::<Vec<_>>().await? {
            bytes += text.len();
            pages.insert(name, read(&text));
        }
        if needs.len() > CRATES || bytes > PAGES {
            return Err(Stopped::theirs(format!("it leads to over {CRATES} crates")));
        }
        let chosen = chosen(&needs, &pages, compiler)?;
        let before = needs.clone();
        for (name, entry) in &chosen {
            let features = needs.get(name).map(|it| it.features.clone());
            add(&mut needs, entry.active(&features.unwrap_or_default()))?;
        }
        if needs == before {
            return Ok(chosen.iter().map(|(_, entry)| Crate::from(entry)).collect());
        }
    }
    Err(Stopped::theirs(format!("its dependencies are over {ROUNDS} deep")))
}

/// The releases of a page that anybody may choose. What is of a later format is passed over.
fn read(text: &str) -> Page {
    let line = |line: &str| {
        let entry: Entry = serde_json::from_str(line).ok()?;
        let version = Version::parse(&entry.version).ok().filter(|_| !entry.yanked)?;
        let needs = entry.rust_version.as_deref().and_then(whole);
        Some((version, needs, line.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// A version of the compiler, which may leave out its last part.
fn whole(text: &str) -> Option<Version> {
    Version::parse(text).or_else(|_| Version::parse(&format!("{text}.0"))).ok()
}

fn add(needs: &mut Needs, active: Vec<Active<'_>>) -> Result<(), Stopped> {
    for (dependency, features) in active {
        let name = dependency.package();
        if let Some(other) = &dependency.registry {
            return Err(Stopped::theirs(format!(
                "it needs {name} of the registry {other}; only crates.io is used"
            )));
        }
        let need = needs.entry(name.to_owned()).or_default();
        need.requirements.insert(dependency.req.clone());
        need.features.extend(features);
    }
    Ok(())
}

fn chosen(
    needs: &Needs,
    pages: &BTreeMap<String, Page>,
    compiler: Option<&Version>,
) -> Result<Vec<(String, Entry)>, Stopped> {
    let mut chosen = BTreeMap::new();
    for (name, need) in needs {
        for text in &need.requirements {
            let none =
                || Stopped::theirs(format!("nothing satisfies its requirement {name} {text}"));
            let requirement = VersionReq::parse(text).map_err(|_| none())?;
            let page = pages.get(name).map(Vec::as_slice).unwrap_or_default();
            let (version, line) = newest(page, &requirement, compiler).ok_or_else(none)?;
            let entry: Entry = serde_json::from_str(line).map_err(|_| none())?;
            chosen.insert((name.clone(), version.clone()), entry);
        }
    }
    Ok(chosen.into_iter().map(|((name, _), entry)| (name, entry)).collect())
}

/// The newest release that satisfies a requirement; one that this compiler is too old for only where
/// there is nothing else.
fn newest<'p>(
    page: &'p [Line],
    requirement: &VersionReq,
    compiler: Option<&Version>,
) -> Option<(&'p Version, &'p str)> {
    let fits = |needs: &Option<Version>| match (needs, compiler) {
        (Some(needs), Some(own)) => needs <= own,
        _ => true,
    };
    let satisfying = page.iter().filter(|(version, ..)| requirement.matches(version));
    let newest = satisfying.max_by_key(|(version, needs, _)| (fits(needs), version.clone()));
    newest.map(|(version, _, line)| (version, line.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn dep(name: &str, req: &str, features: &[&str]) -> Value {
        json!({"name": name, "req": req, "features": features, "optional": false,
            "default_features": true, "target": null, "kind": "normal"})
    }

    fn line(name: &str, version: &str, deps: &[Value], more: Value) -> String {
        let mut line = json!({"name": name, "vers": version, "deps": deps, "cksum": "00",
            "features": {}, "yanked": false});
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line.to_string()
    }

    async fn chosen(root: &[Value], lines: &[String]) -> Result<Vec<String>, String> {
        let root: Entry = serde_json::from_str(&line("app", "1.0.0", root, json!({}))).unwrap();
        let page = |name: String| {
            let mine = |it: &&String| it.contains(&format!("\"name\":\"{name}\",\"vers\""));
            let page = lines.iter().filter(mine).fold(String::new(), |a, b| format!("{a}{b}\n"));
            std::future::ready(Ok(page))
        };
        let compiler = Version::new(1, 85, 0);
        match candidates(&root, Some(&compiler), page).await {
            Ok(all) => Ok(all.iter().map(|it| format!("{} {}", it.name, it.version)).collect()),
            Err(Stopped::Theirs(fault)) => Err(fault.reason),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// A line whose name is followed by its version: keys of other JSON are sorted.
    fn of(name: &str, version: &str, deps: &[Value], more: Value) -> String {
        let text = line(name, version, deps, more);
        let rest: Value = serde_json::from_str(&text).unwrap();
        let mut rest = rest.as_object().unwrap().clone();
        rest.remove("name");
        rest.remove("vers");
        let rest = Value::Object(rest).to_string();
        format!("{{\"name\":\"{name}\",\"vers\":\"{version}\",{}", &rest[1..])
    }

    #[tokio::test]
    async fn each_requirement_has_the_newest_release_that_will_do() {
        let none = json!({});
        let lines = [
            of("a", "1.2.0", &[], none.clone()),
            of("a", "1.9.0", &[dep("c", "^0.3", &["x"])], none.clone()),
            of("a", "1.10.0", &[], json!({"yanked": true})),
            of("a", "1.9.5", &[], json!({"rust_version": "1.99"})),
            of("a", "2.0.0", &[], none.clone()),
            of("b", "0.1.0", &[dep("a", ">=1.0, <1.5", &[])], none.clone()),
            of("c", "0.3.7", &[], json!({"features2": {"x": ["dep:d"]}})),
            of("c", "0.4.0", &[], none.clone()),
        ];
        let found = chosen(&[dep("a", "^1", &[]), dep("b", "*", &[])], &lines).await;
        assert_eq!(found.unwrap(), ["a 1.2.0", "a 1.9.0", "b 0.1.0", "c 0.3.7"]);
        let why = chosen(&[dep("a", "^3", &[])], &lines).await.unwrap_err();
        assert_eq!(why, "nothing satisfies its requirement a ^3");
        let mut elsewhere = dep("a", "^1", &[]);
        elsewhere["registry"] = json!("https://x.test/index");
        assert!(chosen(&[elsewhere], &lines).await.unwrap_err().contains("x.test"));
    }

    #[tokio::test]
    async fn crates_that_need_each_other_come_to_an_end() {
        let lines = [
            of("a", "1.0.0", &[dep("b", "^1", &["deep"])], json!({})),
            of("b", "1.0.0", &[dep("a", "^1", &[])], json!({})),
        ];
        assert_eq!(chosen(&[dep("a", "^1", &[])], &lines).await.unwrap(), ["a 1.0.0", "b 1.0.0"]);
    }
}
