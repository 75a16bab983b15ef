//! `/v1/groups`: a list of requirements, built in parallel, each told as it ends.

use std::{collections::BTreeSet, str::FromStr, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, State as Shared},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use compile_worker::{
    builds::{Request, Row, State},
    crates,
    groups::Member,
    message::{Wanted, Wish},
    pypi::PYPI,
};
use futures::{StreamExt, stream};
use pep440_rs::Version;
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Packages,
    answer::Refusal,
    builds::{describe, row},
};

/// A group has at most this many requirements.
const LIMIT: usize = 1000;
/// How many of them are looked up at once.
const AT_ONCE: usize = 16;
/// How often a member that is not built is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The body of `POST /v1/groups`.
#[derive(Debug, Deserialize)]
struct Asked {
    requirements: List,
    #[serde(default)]
    options: Wanted,
    #[serde(default = "pypi")]
    ecosystem: String,
}

/// Requirements, one an entry, or as the text of a requirements file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum List {
    Entries(Vec<String>),
    Text(String),
}

fn pypi() -> String {
    PYPI.to_owned()
}

/// `POST /v1/groups`: JSON with `requirements` and `options`, or a plain requirements file. Answers
/// with a line of JSON for the group, one for each member as it ends, and a last one.
pub(super) async fn open(
    Shared(packages): Shared<Arc<Packages>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let asked = asked(&headers, &body)?;
    let requirements = requirements(asked.requirements)?;
    let found = stream::iter(requirements.into_iter().map(|text| {
        let (packages, options, ecosystem) = (&packages, &asked.options, &asked.ecosystem);
        async move { (text.clone(), ordered(packages, ecosystem, &text, options).await) }
    }));
    let found: Vec<_> = found.buffered(AT_ONCE).collect().await;
    let (mut members, mut requests, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (requirement, found) in found {
        match found {
            Ok(request) => {
                members.push(member(requirement, &request));
                requests.push(request);
            }
            Err(why) => refused.push(json!({
                "requirement": requirement, "state": "refused", "reason": why.why(),
            })),
        }
    }
    let group = uuid::Uuid::new_v4().simple().to_string();
    packages.groups().open(&group, &members, &json!(refused)).await?;
    start(&packages, &group, &requests).await?;
    Ok(follow(packages, headers, group, members, refused))
}

/// `GET /v1/groups/{group}`: where a group stands.
pub(super) async fn group(
    Shared(packages): Shared<Arc<Packages>>,
    Path(group): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let found = packages.groups().get(&group).await?;
    found.map(Json).ok_or_else(|| Refusal::Absent(format!("there is no group {group:?}")))
}

fn asked(headers: &HeaderMap, body: &[u8]) -> Result<Asked, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("text/plain")) {
        let text = std::str::from_utf8(body).map_err(|e| Refusal::Bad(e.to_string()))?;
        let requirements = List::Text(text.to_owned());
        return Ok(Asked { requirements, options: Wanted::default(), ecosystem: pypi() });
    }
    serde_json::from_slice(body).map_err(|e| Refusal::Bad(format!("the body: {e}")))
}

/// The requirements, without comments and empty lines.
fn requirements(list: List) -> Result<Vec<String>, Refusal> {
    let lines = match list {
        List::Entries(entries) => entries,
        List::Text(text) => text.replace("\\\n", " ").lines().map(str::to_owned).collect(),
    };
    let bare = |line: &String| match line.split_once(" #") {
        _ if line.starts_with('#') => String::new(),
        Some((before, _)) => before.trim().to_owned(),
        None => line.trim().to_owned(),
    };
    let all: Vec<String> = lines.iter().map(bare).filter(|line| !line.is_empty()).collect();
    if all.is_empty() || all.len() > LIMIT {
        let what = format!("a group has 1 to {LIMIT} requirements, not {}", all.len());
        return Err(Refusal::Bad(what));
    }
    Ok(all)
}

/// A requirement whose build is ordered. One that cannot be is refused by itself, whatever becomes of
/// the others.
async fn ordered(
    packages: &Packages,
    ecosystem: &str,
    text: &str,
    options: &Wanted,
) -> Result<Request, Refusal> {
    let request = match ecosystem == crates::GRAMMAR.name {
        true => find_crate(packages, text, options).await?,
        false => find(packages, ecosystem, text, options).await?,
    };
    packages.ordered(&request).await?;
    Ok(request)
}

/// The request for a crate, written as `cargo install` takes it: `NAME` or `NAME@VERSION`.
async fn find_crate(packages: &Packages, text: &str, options: &Wanted) -> Result<Request, Refusal> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name.trim(), Some(version.trim().to_owned())),
        None => (text.trim(), None),
    };
    let ecosystem = crates::GRAMMAR.name;
    let spelled = (crates::GRAMMAR.package)(name).map_err(Refusal::Impossible)?;
    let version = match version {
        Some(version) => Some(version),
        None => newest(packages.versions(ecosystem, &spelled).await?),
    };
    let none = || Refusal::Absent(format!("the registry has no crate {name}"));
    let (package, version) = (name.to_owned(), version.ok_or_else(none)?);
    let (ecosystem, options) = (ecosystem.to_owned(), options.clone());
    packages.wished(&Wish { ecosystem, package, version, options }).await
}

/// The newest of these; a pre-release only where there is nothing else.
fn newest(versions: BTreeSet<String>) -> Option<String> {
    let parsed =
        versions.into_iter().filter_map(|it| Some((semver::Version::parse(&it).ok()?, it)));
    parsed.max_by_key(|(it, _)| (it.pre.is_empty(), it.clone())).map(|(_, written)| written)
}

/// The request for the newest version that a requirement allows.
async fn find(
    packages: &Packages,
    ecosystem: &str,
    text: &str,
    options: &Wanted,
) -> Result<Request, Refusal> {
    let parsed = Requirement::<VerbatimUrl>::from_str(text);
    let it = parsed.map_err(|e| Refusal::Impossible(format!("{text:?}: {}", e.message)))?;
    let name = it.name.to_string();
    let versions = packages.versions(PYPI, &name).await?;
    let allowed = |version: &Version| match &it.version_or_url {
        None => Ok(true),
        Some(VersionOrUrl::VersionSpecifier(specifiers)) => Ok(specifiers.contains(version)),
        Some(VersionOrUrl::Url(_)) => {
            Err(Refusal::Impossible(format!("{text:?} names a URL; name a version of the index")))
        }
    };
    let mut newest: Option<(bool, Version, &String)> = None;
    for written in &versions {
        let Ok(version) = written.parse::<Version>() else { continue };
        let candidate = (!version.any_prerelease(), version, written);
        if allowed(&candidate.1)? && newest.as_ref().is_none_or(|it| *it < candidate) {
            newest = Some(candidate);
        }
    }
    let none = || Refusal::Absent(format!("upstream has no source that satisfies {text:?}"));
    let (_, _, version) = newest.ok_or_else(none)?;
    let (package, version) = (name.clone(), version.clone());
    let (ecosystem, options) = (ecosystem.to_owned(), options.clone());
    packages.wished(&Wish { ecosystem, package, version, options }).await
}

fn member(requirement: String, request: &Request) -> Member {
    let (package, version, key) = (request.package(), request.version.clone(), request.key.clone());
    Member { requirement, package, version, key }
}

/// Has the group wait for each of what is ordered; what has ended by then is told by us.
async fn start(packages: &Packages, group: &str, requests: &[Request]) -> Result<(), Refusal> {
    let started = stream::iter(requests.iter().cloned().map(|request| async move {
        packages.builds().join(&request, group).await?;
        let row = packages.builds().get(&request.package(), &request.key).await?;
        match row.filter(|row| row.state != State::Ordered) {
            Some(row) => Ok(packages.groups().ended(group, &row).await?),
            None => Ok(()),
        }
    }));
    let started: Vec<Result<(), Refusal>> = started.buffer_unordered(AT_ONCE).collect().await;
    started.into_iter().collect::<Result<Vec<()>, Refusal>>()?;
    Ok(packages.groups().look_at(group).await?)
}

fn follow(
    packages: Arc<Packages>,
    headers: HeaderMap,
    group: String,
    members: Vec<Member>,
    refused: Vec<Value>,
) -> Response {
    let place = format!("/v1/groups/{group}");
    let all = members.len() + refused.len();
    let first = json!({ "group": group, "state": "open", "requirements": all });
    let head = stream::iter([first].into_iter().chain(refused));
    let (of_members, of_end) = (Arc::clone(&packages), packages);
    let ends = stream::iter(members).map(move |member| {
        let (packages, headers) = (Arc::clone(&of_members), headers.clone());
        async move { told(&packages, &headers, member).await }
    });
    let last = stream::once(async move { complete(&of_end, &group).await });
    // As many at once as there are: each only looks at its row.
    let lines = head.chain(ends.buffer_unordered(LIMIT)).chain(last);
    let lines = lines.map(|line| Ok::<_, std::convert::Infallible>(format!("{line}\n")));
    let about = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (header::LOCATION, place),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::OK, about, Body::from_stream(lines)).into_response()
}

/// The line of a member, once it has ended.
async fn told(packages: &Packages, headers: &HeaderMap, member: Member) -> Value {
    let mut line = json!(member);
    match ended(packages, headers, &member).await {
        Ok((row, told)) => {
            line["state"] = json!(row.state.name());
            for name in ["url", "log"] {
                line[name] = told[name].clone();
            }
            for name in ["filename", "sha256", "reason", "retry_at"] {
                if let Some(value) = told["build"].get(name) {
                    line[name] = value.clone();
                }
            }
        }
        Err(why) => {
            line["state"] = json!("unknown");
            line["reason"] = json!(why.why());
        }
    }
    line
}

async fn ended(
    packages: &Packages,
    headers: &HeaderMap,
    member: &Member,
) -> Result<(Row, Value), Refusal> {
    loop {
        let row = row(packages, &member.key).await?;
        if row.state != State::Ordered {
            let told = describe(packages, headers, &row).await?;
            return Ok((row, told));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The last line: what the topic is told, too.
async fn complete(packages: &Packages, group: &str) -> Value {
    match packages.groups().get(group).await {
        Ok(Some(mut told)) => {
            if let Some(told) = told.as_object_mut() {
                told.remove("members");
            }
            told
        }
        Ok(None) => json!({ "group": group, "state": "unknown" }),
        Err(why) => json!({ "group": group, "state": "unknown", "reason": why.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_crate_is_a_release_where_there_is_one() {
        let newest = |all: &[&str]| newest(all.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(newest(&["1.9.0", "1.10.0", "2.0.0-rc.1"]).as_deref(), Some("1.10.0"));
        assert_eq!(newest(&["2.0.0-rc.1", "1"]).as_deref(), Some("2.0.0-rc.1"));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn a_requirements_file_is_read_without_its_comments() {
        let text = "# all\n\na==1.0 # this\n  b>=2,\\\n <3\n#c\nd#e\n";
        let all = requirements(List::Text(text.to_owned())).unwrap();
        assert_eq!(all, ["a==1.0", "b>=2,  <3", "d#e"]);
        assert!(requirements(List::Entries(Vec::new())).is_err());
        assert!(requirements(List::Entries(vec!["a".into(); LIMIT + 1])).is_err());
    }
}
