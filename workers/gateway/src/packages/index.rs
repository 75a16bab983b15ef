//! The pages of the index (PEP 503 and PEP 691): a wheel for every version with a source.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use axum::{
    extract::{Path, State as Shared},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use compile_worker::{
    builder::BuilderInfo,
    builds::{Request, State},
    keys::sha256,
    names::{WheelName, normalize, sdist_version},
    options::Options,
    upstream::Project,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Packages, answer::Refusal};

const JSON: &str = "application/vnd.pypi.simple.v1+json";
const HTML: &str = "text/html; charset=utf-8";
/// What stays as it is in one part of a path.
const IN_PART: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'=').remove(b',');

/// A line of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    filename: String,
    url: String,
    sha256: Option<String>,
    requires_python: Option<String>,
    yanked: Option<String>,
}

/// One part of a path, encoded.
pub(super) fn part(text: &str) -> String {
    utf8_percent_encode(text, IN_PART).to_string()
}

/// `GET /o/{optset}/simple/`: the packages that are known here.
pub(super) async fn root(
    Shared(packages): Shared<Arc<Packages>>,
    Path(optset): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    optset.parse::<Options>()?;
    let names = packages.names().await?;
    if wants_json(&headers) {
        let projects: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        let page = json!({ "meta": { "api-version": "1.0" }, "projects": projects });
        return Ok(page_of(&headers, JSON, page.to_string()));
    }
    let lines = names.iter().map(|name| format!("<a href=\"{name}/\">{name}</a><br>\n"));
    Ok(page_of(&headers, HTML, document("Packages", &lines.collect::<String>())))
}

/// `GET /o/{optset}/simple/{name}`: there is one spelling of a page's address.
pub(super) async fn with_slash(Path((_, name)): Path<(String, String)>) -> Redirect {
    Redirect::permanent(&format!("{}/", part(&name)))
}

/// `GET /o/{optset}/simple/{name}/`: a wheel for every version with a source.
pub(super) async fn project(
    Shared(packages): Shared<Arc<Packages>>,
    Path((optset, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let options: Options = optset.parse()?;
    let name = normalize(&name).map_err(Refusal::Absent)?;
    let (builder, project) = (packages.builder().await?, packages.project(&name).await?);
    let rows = packages.rows(&name).await?;
    let built: BTreeMap<&str, &str> = rows
        .iter()
        .filter_map(|row| match &row.state {
            State::Done(artifact) => Some((row.request.as_str(), artifact.sha256.as_str())),
            _ => None,
        })
        .collect();
    let links = links(&name, &options, &builder, &project, &built)?;
    if wants_json(&headers) {
        return Ok(page_of(&headers, JSON, json_page(&name, &links)));
    }
    let lines: String = links.iter().map(Link::html).collect();
    Ok(page_of(&headers, HTML, document(&format!("Links for {name}"), &lines)))
}

fn links(
    name: &str,
    options: &Options,
    builder: &BuilderInfo,
    project: &Project,
    built: &BTreeMap<&str, &str>,
) -> Result<Vec<Link>, Refusal> {
    let wheels = project.files.iter().filter_map(|file| WheelName::parse(&file.filename));
    let pure: BTreeMap<String, WheelName> =
        wheels.filter(WheelName::is_pure).map(|wheel| (wheel.version.clone(), wheel)).collect();
    let (mut links, mut seen) = (Vec::new(), BTreeSet::new());
    for file in project.files.iter().filter(|file| file.sha256.is_some()) {
        let Some(version) = sdist_version(name, &file.filename).filter(|it| seen.insert(*it))
        else {
            continue;
        };
        let filename = builder.predict(name, version, pure.get(version)).to_string();
        let request = Request::new(name, version, options.clone(), builder)?;
        let url = format!("../../wheels/{name}/{}/{}", part(version), part(&filename));
        links.push(Link {
            filename,
            url,
            sha256: built.get(request.key.as_str()).map(|hash| (*hash).to_owned()),
            requires_python: file.requires_python.clone(),
            yanked: file.yanked.clone(),
        });
    }
    Ok(links)
}

impl Link {
    fn html(&self) -> String {
        let mut attributes = String::new();
        let mut add = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                let _ = write!(attributes, " {name}=\"{}\"", escaped(value));
            }
        };
        add("data-requires-python", &self.requires_python);
        add("data-yanked", &self.yanked);
        let hash = self.sha256.as_ref().map(|hash| format!("#sha256={hash}")).unwrap_or_default();
        let (url, name) = (escaped(&self.url), escaped(&self.filename));
        format!("<a href=\"{url}{hash}\"{attributes}>{name}</a><br>\n")
    }

    fn json(&self) -> Value {
        let hashes: BTreeMap<_, _> = self.sha256.iter().map(|hash| ("sha256", hash)).collect();
        let mut file = json!({ "filename": self.filename, "url": self.url, "hashes": hashes });
        if let Some(python) = &self.requires_python {
            file["requires-python"] = json!(python);
        }
        if let Some(why) = &self.yanked {
            file["yanked"] = if why.is_empty() { json!(true) } else { json!(why) };
        }
        file
    }
}

fn json_page(name: &str, links: &[Link]) -> String {
    let files: Vec<Value> = links.iter().map(Link::json).collect();
    json!({ "meta": { "api-version": "1.0" }, "name": name, "files": files }).to_string()
}

fn document(title: &str, lines: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html><head><meta name=\"pypi:repository-version\" content=\"1.0\">\
         <title>{title}</title></head><body>\n{lines}</body></html>\n"
    )
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    accept.contains("application/vnd.pypi.simple.v1+json")
}

/// A page, or word that the reader has it already.
fn page_of(headers: &HeaderMap, kind: &'static str, body: String) -> Response {
    let etag = format!("\"{}\"", &sha256(body.as_bytes())[..32]);
    let has = headers.get(header::IF_NONE_MATCH).and_then(|it| it.to_str().ok());
    let about = [
        (header::ETAG, etag.clone()),
        (header::CACHE_CONTROL, "max-age=0".to_owned()),
        (header::VARY, "Accept".to_owned()),
    ];
    if has.is_some_and(|has| has == "*" || has.split(',').any(|it| it.trim() == etag)) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(header::CONTENT_TYPE, kind)], body).into_response()
}

#[cfg(test)]
mod tests {
    use compile_worker::upstream::File;

    use super::*;

    fn builder() -> BuilderInfo {
        BuilderInfo {
            image: "i".into(),
            abi: "cp311".into(),
            python: "3.11.2".into(),
            platform: "linux_x86_64".into(),
            glibc: "2.36".into(),
            wheels: Vec::new(),
        }
    }

    fn file(filename: &str) -> File {
        let sha256 = Some("00".into());
        File { filename: filename.into(), url: "u".into(), sha256, ..File::default() }
    }

    #[test]
    fn every_version_with_a_source_has_a_wheel() {
        let yanked = File {
            yanked: Some("a \"bad\" one".into()),
            requires_python: Some(">=3.8".into()),
            ..file("A_B-2.0.tar.gz")
        };
        let files = vec![
            file("a-b-1.0.tar.gz"),
            file("a_b-1.0-py3-none-any.whl"),
            yanked,
            file("a_b-2.0-cp311-cp311-manylinux2014_x86_64.whl"),
            file("a_b-3.0-py3-none-any.whl"),
        ];
        let project = Project { files, ..Project::default() };
        let links =
            links("a-b", &Options::default(), &builder(), &project, &BTreeMap::new()).unwrap();
        let names: Vec<_> = links.iter().map(|link| link.filename.as_str()).collect();
        assert_eq!(names, ["a_b-1.0-py3-none-any.whl", "a_b-2.0-cp311-cp311-linux_x86_64.whl"]);
        let html = links[1].html();
        assert!(html.contains("data-requires-python=\"&gt;=3.8\""), "{html}");
        assert!(html.contains("data-yanked=\"a &quot;bad&quot; one\""), "{html}");
        assert_eq!(links[1].json()["yanked"], "a \"bad\" one");
    }
}
