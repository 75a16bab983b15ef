//! A project's page, in JSON (PEP 691) or HTML (PEP 503).

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    anchor::{Attributes, anchors},
    http::Page,
};

/// A project, as its page tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Project {
    /// The page's validator: its ETag, else its Last-Modified.
    pub validator: Option<String>,
    /// The page's serial, where the index gives one: larger at every change.
    pub serial: Option<u64>,
    /// SHA-256 of the page.
    pub digest: String,
    /// Its files, in the page's order.
    pub files: Vec<File>,
}

impl Project {
    /// About how many bytes of memory it takes.
    pub fn weight(&self) -> usize {
        let texts = |it: &File| {
            let some = [&it.sha256, &it.sha512, &it.requires_python, &it.core_metadata, &it.yanked];
            let some: usize = some.into_iter().flatten().map(String::len).sum();
            it.filename.len() + it.url.len() + some
        };
        self.files.iter().map(|file| size_of::<File>() + texts(file)).sum()
    }
}

impl File {
    /// The hash that its bytes are checked against; nothing where none is published that is good enough.
    pub(crate) fn hash(&self) -> Option<&str> {
        self.sha256.as_deref().or(self.sha512.as_deref())
    }
}

/// A file of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct File {
    /// Its name.
    pub filename: String,
    /// Where it is.
    pub url: String,
    /// Its published SHA-256.
    pub sha256: Option<String>,
    /// Its published SHA-512, where no SHA-256 is.
    pub sha512: Option<String>,
    /// Which Python it wants, as a version specifier.
    pub requires_python: Option<String>,
    /// The SHA-256 of its metadata, where the index serves that apart (PEP 658); empty where the
    /// index does not say it.
    pub core_metadata: Option<String>,
    /// Why it was withdrawn (empty where nobody says), if it was.
    pub yanked: Option<String>,
}

#[derive(Deserialize)]
struct Simple {
    files: Vec<SimpleFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SimpleFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: std::collections::BTreeMap<String, String>,
    requires_python: Option<String>,
    #[serde(default)]
    yanked: Value,
    #[serde(default)]
    core_metadata: Value,
    #[serde(default)]
    dist_info_metadata: Value,
}

/// The files of a page.
pub(super) fn files(page: &Page) -> Result<Vec<File>, String> {
    let failed = |why: String| format!("{} is not the page of a project: {why}", page.url);
    let text = std::str::from_utf8(&page.body).map_err(|e| failed(e.to_string()))?;
    if text.trim_start().starts_with('{') {
        return from_json(text, &page.url).map_err(failed);
    }
    Ok(from_html(text, &page.url))
}

fn from_json(text: &str, base: &Url) -> Result<Vec<File>, String> {
    let simple: Simple = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let file = |it: SimpleFile| {
        let hash = |name: &str| it.hashes.get(name).map(|it| hex(it));
        Some(File {
            url: base.join(&it.url).ok()?.into(),
            sha512: hash("sha512").filter(|_| !it.hashes.contains_key("sha256")),
            sha256: hash("sha256"),
            filename: it.filename,
            requires_python: it.requires_python,
            core_metadata: told(&it.core_metadata).or_else(|| told(&it.dist_info_metadata)),
            yanked: match it.yanked {
                Value::Bool(true) => Some(String::new()),
                Value::String(why) => Some(why),
                _ => None,
            },
        })
    };
    Ok(simple.files.into_iter().filter_map(file).collect())
}

/// `true`, or the hashes of the metadata.
fn told(value: &Value) -> Option<String> {
    match value {
        Value::Bool(true) => Some(String::new()),
        Value::Object(hashes) => {
            Some(hex(hashes.get("sha256").and_then(Value::as_str).unwrap_or_default()))
        }
        _ => None,
    }
}

fn from_html(text: &str, base: &Url) -> Vec<File> {
    anchors(text).iter().filter_map(|attributes| file(attributes, base)).collect()
}

fn file(attributes: &Attributes, base: &Url) -> Option<File> {
    let mut url = base.join(attributes.get("href")?).ok()?;
    let hash = |name: &str| {
        let mut parts = url.fragment()?.split('&');
        parts.find_map(|it| Some(hex(it.strip_prefix(name)?.strip_prefix('=')?)))
    };
    let (sha256, sha512) = (hash("sha256"), hash("sha512"));
    url.set_fragment(None);
    let filename = url.path_segments()?.next_back().filter(|it| !it.is_empty())?;
    let filename = percent_encoding::percent_decode_str(filename).decode_utf8().ok()?.into_owned();
    Some(File {
        filename,
        url: url.into(),
        sha512: sha512.filter(|_| sha256.is_none()),
        sha256,
        requires_python: attributes.get("data-requires-python").map(str::to_owned),
        core_metadata: attributes
            .get("data-core-metadata")
            .or(attributes.get("data-dist-info-metadata"))
            .filter(|it| *it != "false")
            .map(|it| hex(it.strip_prefix("sha256=").unwrap_or_default())),
        yanked: attributes.get("data-yanked").map(str::to_owned),
    })
}

/// A hash as it is compared, however it is written.
fn hex(text: &str) -> String {
    text.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(body: &str) -> Vec<File> {
        let url = Url::parse("http://index.test/simple/a/").unwrap();
        let body = body.as_bytes().to_vec();
        files(&Page { url, status: 200, validator: None, serial: None, body }).unwrap()
    }

    #[test]
    fn both_kinds_of_page_say_the_same() {
        let html = page(
            "<!DOCTYPE html><html><body><h1>Links</h1>\n\
             <a href=\"../../f/a-1.0.tar.gz#sha256=00ff\" data-requires-python=\"&gt;=3.8\" \
             data-yanked=\"bad &amp; old\" data-core-metadata=\"sha256=11ee\">a-1.0.tar.gz</a><br/>\
             <a href='a%2B-1.whl'>x</a></body></html>",
        );
        let json = page(
            r#"{"meta":{"api-version":"1.1"},"name":"a","versions":["1.0"],"files":[
            {"filename":"a-1.0.tar.gz","url":"../../f/a-1.0.tar.gz","hashes":{"sha256":"00ff"},
             "requires-python":">=3.8","yanked":"bad & old","size":7,"core-metadata":{"sha256":"11ee"}},
            {"filename":"a+-1.whl","url":"a%2B-1.whl","hashes":{},"yanked":false}]}"#,
        );
        assert_eq!(html, json);
        assert_eq!(html[0].url, "http://index.test/f/a-1.0.tar.gz");
        assert_eq!(html[0].yanked.as_deref(), Some("bad & old"));
        assert_eq!(html[0].core_metadata.as_deref(), Some("11ee"));
        assert_eq!((&html[1].sha256, &html[1].core_metadata), (&None, &None));
    }

    #[test]
    fn a_sha512_stands_where_there_is_no_sha256() {
        let html = page("<a href=\"a-1.tgz#sha512=aa\">a</a><a href=\"b-1.tgz#md5=bb\">b</a>");
        let json = page(
            r#"{"files":[{"filename":"a-1.tgz","url":"a-1.tgz","hashes":{"md5":"0","sha512":"aa"}},
            {"filename":"b-1.tgz","url":"b-1.tgz","hashes":{"md5":"bb"}},
            {"filename":"c-1.tgz","url":"c-1.tgz","hashes":{"sha256":"cc","sha512":"dd"}}]}"#,
        );
        assert_eq!(html, json[..2]);
        let hashes: Vec<_> = json.iter().map(File::hash).collect();
        assert_eq!(hashes, [Some("aa"), None, Some("cc")]);
        assert_eq!(json[2].sha512, None);
    }

    #[test]
    fn a_page_is_read_as_the_standards_allow_it_to_be_written() {
        let html = page(
            "<!-- <a href=\"a-0.1.tar.gz#sha256=00\">a-0.1.tar.gz</a> -->\n\
             <A data-yanked HREF='a-1.0.tar.gz#sha256=00FF' data-requires-python='>=3.8'>a</A>\n\
             <a\nhref=\"a-1.1.tar.gz#egg=a&sha256=11\" data-yanked>a</a>",
        );
        let json = page(
            r#"{"files":[
            {"filename":"a-1.0.tar.gz","url":"a-1.0.tar.gz","hashes":{"sha256":"00FF"},
             "requires-python":">=3.8","yanked":true},
            {"filename":"a-1.1.tar.gz","url":"a-1.1.tar.gz","hashes":{"sha256":"11"},"yanked":true}]}"#,
        );
        assert_eq!(html, json);
        assert_eq!(html[0].sha256.as_deref(), Some("00ff"));
        assert!(
            html.iter().all(|it| it.yanked.as_deref() == Some("")),
            "withdrawn without a reason"
        );
    }

    #[test]
    fn a_broken_page_is_no_page() {
        let url = Url::parse("http://index.test/").unwrap();
        let broken = |body: &[u8]| Page {
            url: url.clone(),
            status: 200,
            validator: None,
            serial: None,
            body: body.to_vec(),
        };
        assert!(files(&broken(b"{\"files\":")).is_err());
        assert!(files(&broken(&[0xff, 0xfe])).is_err());
        assert!(files(&broken(b"<a href=")).unwrap().is_empty());
    }
}
