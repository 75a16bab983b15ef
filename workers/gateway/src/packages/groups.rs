//! `/v1/groups`: a list of requirements, built in parallel, each told as it ends.

mod wanted;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State as Shared},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use compile_worker::{
    builds::{Request, Row, State},
    groups::Member,
    message::Wanted,
    pypi::PYPI,
};
use flotilla_runtime::Failure;
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use self::wanted::{LIMIT, Wish, lines, ordered};
use super::{
    Packages,
    answer::Refusal,
    builds::{describe, row},
    state::AGAIN,
};

/// So much is kept of why a requirement is refused: all of a group is one row.
const REASON: usize = 200;
/// How often something is said while nothing ends.
const BEAT: Duration = Duration::from_secs(15);
/// How many of them are looked up at once.
const AT_ONCE: usize = 16;
/// How often a member that is not built is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The body of `POST /v1/groups`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    requirements: List,
    #[serde(default)]
    options: Wanted,
    #[serde(default = "pypi")]
    ecosystem: String,
}

/// The query of a plain requirements file.
#[derive(Debug, Deserialize)]
pub(super) struct Beside {
    options: Option<String>,
    ecosystem: Option<String>,
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

/// `POST /v1/groups`: JSON with `requirements` and `options`, or a plain requirements file, with
/// `?options=` for all of it. Answers with a line of JSON for the group, one for each member as it ends, and a last one.
pub(super) async fn open(
    Shared(packages): Shared<Arc<Packages>>,
    Query(beside): Query<Beside>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let asked = asked(&headers, beside, &body)?;
    let grammar = packages.ecosystem(&asked.ecosystem)?;
    let requirements = lines(asked.requirements)?;
    // What is wrong with the options is wrong with all of it.
    asked.options.options(&grammar.options)?;
    let found = stream::iter(requirements.into_iter().map(|text| {
        let (packages, options) = (&packages, &asked.options);
        async move { (text.clone(), ordered(packages, grammar, &text, options).await) }
    }));
    let found: Vec<_> = found.buffered(AT_ONCE).collect().await;
    let (mut members, mut refused) = (Vec::new(), Vec::new());
    for (requirement, found) in found {
        match found {
            Ok(Wish::Ordered(request)) => members.push(member(requirement, &request)),
            Ok(Wish::Elsewhere) => refused.push(json!({
                "requirement": requirement, "state": "skipped",
                "reason": "its marker does not hold where builds are made",
            })),
            Err(why) => refused.push(json!({
                "requirement": requirement, "state": "refused",
                "reason": why.why().chars().take(REASON).collect::<String>(),
            })),
        }
    }
    let group = uuid::Uuid::new_v4().simple().to_string();
    let opening = opened(Arc::clone(&packages), group.clone(), members.clone(), json!(refused));
    // Of its own, so that one whose client hangs up waits for all that it has to wait for.
    let early = |e| Failure::transient("group", format!("a group was not opened: {e}"));
    tokio::spawn(opening).await.map_err(early)??;
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

fn asked(headers: &HeaderMap, beside: Beside, body: &[u8]) -> Result<Asked, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let says = |what: &str| kind.is_some_and(|kind| kind.starts_with(what));
    // curl calls everything a form, unless it is told otherwise.
    let seems = !says("application/json") && !body.trim_ascii_start().starts_with(b"{");
    if says("text/plain") || seems {
        let text = std::str::from_utf8(body).map_err(|e| Refusal::Bad(e.to_string()))?;
        let requirements = List::Text(text.to_owned());
        let options = beside.options.map(Wanted::Text).unwrap_or_default();
        let ecosystem = beside.ecosystem.unwrap_or_else(pypi);
        return Ok(Asked { requirements, options, ecosystem });
    }
    if beside.options.is_some() || beside.ecosystem.is_some() {
        let what = "options and ecosystem are said in the body, where that is JSON";
        return Err(Refusal::Bad(what.to_owned()));
    }
    serde_json::from_slice(body).map_err(|e| Refusal::Bad(format!("the body: {e}")))
}

fn member(requirement: String, request: &Request) -> Member {
    let (package, version, key) = (request.package(), request.version.clone(), request.key.clone());
    Member { requirement, package, version, key }
}

/// Writes the group, and has it wait for each of what is ordered; what has ended by then is told by us.
async fn opened(
    packages: Arc<Packages>,
    group: String,
    members: Vec<Member>,
    refused: Value,
) -> Result<(), Refusal> {
    let groups = packages.groups();
    groups.open(&group, &members, &refused).await?;
    let (group, asked) = (&group, |it: &Member| (it.package.clone(), it.key.clone()));
    let asked: Vec<(String, String)> = members.iter().map(asked).collect();
    let waits = stream::iter(
        asked
            .into_iter()
            .map(|(package, key)| async move { groups.wait_for(group, (&package, &key)).await }),
    );
    let waits: Vec<Result<(), Failure>> = waits.buffer_unordered(AT_ONCE).collect().await;
    waits.into_iter().collect::<Result<Vec<()>, Failure>>()?;
    Ok(groups.look_at(group).await?)
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
    let lines = kept_alive(lines.map(|line| format!("{line}\n")));
    let about = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (header::LOCATION, place),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::OK, about, Body::from_stream(lines)).into_response()
}

/// Blanks before the next line, which no reader of JSON minds, while there is nothing to say: what is
/// silent for long is cut off on the way.
pub(super) fn kept_alive(
    lines: impl Stream<Item = String> + Send + 'static,
) -> impl Stream<Item = Result<String, Infallible>> {
    stream::unfold(Box::pin(lines), |mut lines| async move {
        match tokio::time::timeout(BEAT, lines.next()).await {
            Ok(line) => Some((Ok(line?), lines)),
            Err(_) => Some((Ok(" ".to_owned()), lines)),
        }
    })
}

/// The line of a member, once it has ended.
async fn told(packages: &Arc<Packages>, headers: &HeaderMap, member: Member) -> Value {
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
    packages: &Arc<Packages>,
    headers: &HeaderMap,
    member: &Member,
) -> Result<(Row, Value), Refusal> {
    let mut ordered = Instant::now();
    loop {
        match row(packages, &member.key).await {
            Ok(row) if row.state != State::Ordered => {
                let told = describe(packages, headers, &row).await?;
                return Ok((row, told));
            }
            Ok(row) if ordered.elapsed() >= AGAIN => {
                if let Some(request) = row.request() {
                    // What cannot be sent now is sent with the next look, or by the reconciler.
                    let _ = packages.ordered(&request).await;
                }
                ordered = Instant::now();
            }
            // Not now: the build goes on.
            Ok(_) | Err(Refusal::Later(..)) => {}
            Err(why) => return Err(why),
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

    fn asked(kind: &str, body: &str) -> Result<Asked, Refusal> {
        let headers = [(header::CONTENT_TYPE, kind.parse().unwrap())].into_iter().collect();
        let beside = Beside { options: None, ecosystem: None };
        super::asked(&headers, beside, body.as_bytes())
    }

    #[test]
    fn a_list_is_read_whatever_curl_calls_it_and_a_mistyped_field_is_refused() {
        let form = "application/x-www-form-urlencoded";
        let json = r#" {"requirements": ["a==1", "b"], "options": "opt=3"}"#;
        for (kind, body) in [("text/plain", "a==1\nb"), (form, "a==1\nb"), (form, json)] {
            let requirements = lines(asked(kind, body).unwrap().requirements).unwrap();
            assert_eq!(requirements, ["a==1", "b"], "{kind}");
        }
        let why = asked("application/json", r#"{"requirements": ["a"], "option": "opt=3"}"#);
        assert!(why.unwrap_err().why().contains("unknown field `option`"));
        assert!(asked("application/json", "a==1").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_nothing_to_say_is_kept_alive() {
        let slow = stream::once(async {
            tokio::time::sleep(BEAT * 2 + Duration::from_secs(1)).await;
            "{}\n".to_owned()
        });
        let said: Vec<_> = kept_alive(slow).map(|line| line.unwrap_or_default()).collect().await;
        assert_eq!(said, [" ", " ", "{}\n"]);
    }
}
