//! The pages of the index (PEP 503 and PEP 691): a wheel for every version with a source.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::Arc,
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::{Path, State as Shared},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use compile_worker::{
    builder::BuilderInfo,
    builds::{Row, State},
    ecosystem::About,
    keys::sha256,
    names::{WheelName, normalize},
    options::Options,
    pypi::sources,
    upstream::Project,
    versions::canonical,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Packages, accept::Form, answer::Refusal, builds::log_path, held};

/// What stays as it is in one part of a path.
const IN_PART: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'=').remove(b',');

/// Upstream may take so long, where its page was not seen yet; then what the table knows counts.
const PATIENCE: Duration = Duration::from_secs(6);
/// What is said of a page while upstream does not answer (RFC 7234: 110 is a stale answer).
const REMEMBERED: &str =
    "110 flotilla \"upstream does not answer: these are the versions that were seen before\"";

/// A page, as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Page {
    form: Form,
    /// Whether upstream did not answer, and this is what was known before.
    remembered: bool,
    etag: String,
    body: Bytes,
}

/// A line of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    filename: String,
    url: String,
    sha256: Option<String>,
    requires_python: Option<String>,
    yanked: Option<String>,
    failed: Option<Trouble>,
}

/// Why a version was not built.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    reason: String,
    retry_at: u64,
    log: Option<String>,
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
    packages.options(&optset).await?;
    let form = Form::wanted(&headers)?;
    let names = packages.names().await?;
    let body = if form == Form::Json {
        let projects: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        json!({ "meta": { "api-version": "1.0" }, "projects": projects }).to_string()
    } else {
        let lines = names.iter().map(|name| format!("<a href=\"{name}/\">{name}</a><br>\n"));
        document("Packages", &lines.collect::<String>())
    };
    Ok(Page::new(form, body, false).answer(&headers))
}

/// `GET /o/{optset}/simple`: its address as it is written in full.
pub(super) async fn root_with_slash() -> Redirect {
    Redirect::permanent("simple/")
}

/// `GET /o/{optset}/simple/{name}`: there is one spelling of a page's address.
pub(super) async fn with_slash(Path((_, name)): Path<(String, String)>) -> Redirect {
    Redirect::permanent(&format!("{}/", part(&name)))
}

/// `GET /o/{optset}/simple/{name}/`: a wheel for every version with a source.
pub(super) async fn project(
    Shared(packages): Shared<Arc<Packages>>,
    Path((optset, name)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let form = Form::wanted(&headers)?;
    let name = normalize(&name).map_err(Refusal::Absent)?;
    let may_hold =
        method == Method::GET && !packages.hold().is_zero() && Form::takes_html(&headers);
    let page = packages.page(&optset, &name, form);
    match tokio::time::timeout(held::PATIENCE, page).await {
        Ok(Ok(page)) => Ok(page.answer(&headers)),
        // One that had versions and is gone is not waited for.
        Ok(Err(Refusal::Absent(_))) if may_hold && !packages.knew(&name).await? => {
            Ok(held::page(packages, optset, name))
        }
        Ok(Err(why)) => Err(why),
        Err(_) => {
            let what = format!("upstream takes long to say what there is of {name}; ask again");
            Err(Refusal::Later(what, 2))
        }
    }
}

/// Makes the page of a project (normalised name).
pub(super) async fn page(
    packages: &Packages,
    options: &Options,
    name: &str,
    form: Form,
) -> Result<Arc<Page>, Refusal> {
    let Links { links, remembered } = links_of(packages, options, name).await?;
    let body = if form == Form::Json {
        json_page(name, &links)
    } else {
        document(&title(name), &lines(&links))
    };
    Ok(Arc::new(Page::new(form, body, remembered)))
}

/// The lines of the page of a project.
pub(super) async fn project_lines(
    packages: &Packages,
    optset: &str,
    name: &str,
) -> Result<String, Refusal> {
    let found = links_of(packages, &packages.options(optset).await?, name).await?;
    Ok(lines(&found.links))
}

pub(super) fn title(name: &str) -> String {
    format!("Links for {name}")
}

fn lines(links: &[Link]) -> String {
    links.iter().map(Link::html).collect()
}

/// The lines of a page.
struct Links {
    links: Vec<Link>,
    /// Whether they are of what was known before, since upstream does not answer.
    remembered: bool,
}

async fn links_of(packages: &Packages, options: &Options, name: &str) -> Result<Links, Refusal> {
    let builder = packages.builder().await?;
    let late = || Refusal::Later(format!("upstream takes long to say what there is of {name}"), 2);
    let project = tokio::time::timeout(PATIENCE, packages.project(name)).await;
    let project = match project.unwrap_or_else(|_| Err(late())) {
        Err(why @ Refusal::Later(..)) => {
            let (versions, rows) = packages.remembered(name).await?;
            if versions.is_empty() {
                return Err(why);
            }
            let links =
                remembered(name, &builder, &versions, &of_version(&rows, options, &builder));
            return Ok(Links { links, remembered: true });
        }
        found => found?,
    };
    let natives = packages.natives(name, &project).await;
    let rows = packages.rows(name).await?;
    let rows = of_version(&rows, options, &builder);
    let links = links(name, &builder, (&*project, &natives), &rows);
    Ok(Links { links, remembered: false })
}

/// What there is of a project that upstream says nothing of: the versions that are known, under the
/// names that the built ones have.
fn remembered(
    name: &str,
    builder: &BuilderInfo,
    versions: &BTreeMap<String, About>,
    rows: &HashMap<String, &Row>,
) -> Vec<Link> {
    let link = |(version, about): (&String, &About)| {
        let row = rows.get(&canonical(version)).copied();
        let built = row.and_then(|row| match &row.state {
            State::Done(artifact) => WheelName::parse(&artifact.filename),
            _ => None,
        });
        let pure = built.filter(WheelName::is_pure);
        let filename = builder.predict(name, version, pure.as_ref()).to_string();
        let About { requires_python, yanked } = about.clone();
        Link { requires_python, yanked, ..Link::of(name, version, filename, row) }
    };
    versions.iter().map(link).collect()
}

/// The rows of an option set and this builder, by version in its one spelling.
fn of_version<'r>(
    rows: &'r [Row],
    options: &Options,
    builder: &BuilderInfo,
) -> HashMap<String, &'r Row> {
    let options = options.to_string();
    let mine = |row: &&Row| row.options == options && row.parts["builder"] == builder.image;
    rows.iter().filter(mine).map(|row| (canonical(&row.version), row)).collect()
}

fn links(
    name: &str,
    builder: &BuilderInfo,
    (project, natives): (&Project, &HashMap<String, bool>),
    rows: &HashMap<String, &Row>,
) -> Vec<Link> {
    let mut pure = pure(builder, project);
    let nothing = natives.iter().filter(|(_, native)| !**native);
    pure.extend(nothing.map(|(it, _)| (canonical(it), WheelName::pure(name, it))));
    let mut links = Vec::new();
    for (version, file) in sources(name, &project.files) {
        let one = canonical(version);
        let filename = builder.predict(name, version, pure.get(&one)).to_string();
        let link = Link::of(name, version, filename, rows.get(&one).copied());
        let (requires_python, yanked) = (file.requires_python.clone(), file.yanked.clone());
        links.push(Link { requires_python, yanked, ..link });
    }
    links
}

/// Upstream's own pure wheels, by version; but those beside which it has one for the machine that builds
/// here: these are for who cannot compile.
fn pure(builder: &BuilderInfo, project: &Project) -> BTreeMap<String, WheelName> {
    let wheels = || project.files.iter().filter_map(|file| WheelName::parse(&file.filename));
    let pure = wheels().filter(WheelName::is_pure);
    let mut pure: BTreeMap<String, WheelName> =
        pure.map(|it| (canonical(&it.version), it)).collect();
    for compiled in wheels().filter(|it| it.is_for(&builder.platform)) {
        pure.remove(&canonical(&compiled.version));
    }
    pure
}

impl Trouble {
    /// Nothing where it was our fault: the next who asks has it tried again.
    fn of(row: &Row) -> Option<Self> {
        let State::Failed(failed) = &row.state else { return None };
        if failed.ours {
            return None;
        }
        let log = failed.log.is_some().then(|| log_path(&row.request));
        Some(Self { reason: failed.reason.clone(), retry_at: failed.retry_at, log })
    }

    /// For people who look at the page. An installer takes a link for a file by the end of its name.
    fn html(&self) -> String {
        let text = format!("not built: {}; may be tried again {}", self.reason, self.when());
        let log = self.log.as_ref().map(|log| format!("; <a href=\"{}\">log</a>", escaped(log)));
        format!("<small>{}{}</small>", escaped(&text), log.unwrap_or_default())
    }

    fn when(&self) -> String {
        let at =
            i64::try_from(self.retry_at).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
        at.map_or_else(|| "never".to_owned(), |at| at.to_string())
    }
}

impl Link {
    fn of(name: &str, version: &str, filename: String, row: Option<&Row>) -> Self {
        let url = format!("../../wheels/{name}/{}/{}", part(version), part(&filename));
        let sha256 = row.and_then(|row| match &row.state {
            State::Done(artifact) => Some(artifact.sha256.clone()),
            _ => None,
        });
        let failed = row.and_then(Trouble::of);
        Self { filename, url, sha256, requires_python: None, yanked: None, failed }
    }

    fn html(&self) -> String {
        let mut attributes = String::new();
        let mut add = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                let _ = write!(attributes, " {name}=\"{}\"", escaped(value));
            }
        };
        add("data-requires-python", &self.requires_python);
        add("data-yanked", &self.yanked);
        // Each version has metadata, built or not. It has only the name of PEP 714: who looks for the one
        // before it (pip 22.3 to 23.1) fails over `true` in JSON, and over a name in capitals anywhere.
        add("data-core-metadata", &Some("true".to_owned()));
        let hash = self.sha256.as_ref().map(|hash| format!("#sha256={hash}")).unwrap_or_default();
        let (url, name) = (escaped(&self.url), escaped(&self.filename));
        let failed = self.failed.as_ref().map(Trouble::html).unwrap_or_default();
        format!("<a href=\"{url}{hash}\"{attributes}>{name}</a> {failed}<br>\n")
    }

    fn json(&self) -> Value {
        let hashes: BTreeMap<_, _> = self.sha256.iter().map(|hash| ("sha256", hash)).collect();
        let mut file = json!({
            "filename": self.filename, "url": self.url, "hashes": hashes, "core-metadata": true,
        });
        if let Some(python) = &self.requires_python {
            file["requires-python"] = json!(python);
        }
        if let Some(why) = &self.yanked {
            file["yanked"] = if why.is_empty() { json!(true) } else { json!(why) };
        }
        if let Some(failed) = &self.failed {
            file["_failed"] = json!({
                "reason": failed.reason, "retry-at": failed.when(), "log": failed.log,
            });
        }
        file
    }
}

fn json_page(name: &str, links: &[Link]) -> String {
    let files: Vec<Value> = links.iter().map(Link::json).collect();
    json!({ "meta": { "api-version": "1.0" }, "name": name, "files": files }).to_string()
}

fn document(title: &str, lines: &str) -> String {
    format!("{}{lines}{FOOT}", head(title))
}

/// How a page begins.
pub(super) fn head(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html><head><meta name=\"pypi:repository-version\" content=\"1.0\">\
         <title>{title}</title></head><body>\n"
    )
}

/// How a page ends.
pub(super) const FOOT: &str = "</body></html>\n";

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

impl Page {
    fn new(form: Form, body: String, remembered: bool) -> Self {
        // Two forms may be of the same bytes, and are not the same.
        let etag = format!("\"{}\"", &sha256(format!("{}\n{body}", form.kind()).as_bytes())[..32]);
        Self { form, remembered, etag, body: body.into() }
    }

    /// Its bytes.
    pub(super) fn size(&self) -> usize {
        self.body.len()
    }

    /// The page, or word that the reader has it already.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let about = [
            (header::ETAG, self.etag.clone()),
            (header::CACHE_CONTROL, "max-age=0".to_owned()),
            (header::VARY, "Accept".to_owned()),
        ];
        let old = self.remembered.then_some([(header::WARNING, REMEMBERED)]);
        let about = (old, about);
        if is_known(headers, &self.etag) {
            return (StatusCode::NOT_MODIFIED, about).into_response();
        }
        (about, [(header::CONTENT_TYPE, self.form.kind())], self.body.clone()).into_response()
    }
}

/// Whether the reader has what has this ETag.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|it| it.to_str().ok());
    // A weak tag is as good as a strong one here (RFC 9110, 13.1.2).
    let same = |it: &str| matches!(it.trim(), "*") || it.trim().trim_start_matches("W/") == etag;
    lines.flat_map(|line| line.split(',')).any(same)
}

#[cfg(test)]
mod tests;
