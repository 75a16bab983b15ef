//! The pages of the package index, as installers read them.

use std::time::Duration;

use flotilla_tests::{Farm, SETUP, eventually, wheel_that_says};

const JSON: &str = "application/vnd.pypi.simple.v1+json";

fn setup(name: &str) -> String {
    SETUP.replace("setup(py", &format!("setup(name='{name}', version='1.0', py"))
}

/// Publishes a package whose source says for sure that it requires `requires`.
fn says(farm: &Farm, name: &str, requires: &str) {
    let info = format!(
        "Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\nRequires-Python: >=3.8\n{requires}"
    );
    let setup = setup(name);
    farm.index.publish(name, "1.0", &[("setup.py", &setup), ("tiny.py", ""), ("PKG-INFO", &info)]);
}

#[tokio::test]
async fn resolving_builds_nothing_where_the_source_says_what_it_requires() {
    let farm = Farm::new().await;
    says(&farm, "app", "Requires-Dist: base>=1\n");
    says(&farm, "base", "");
    let resolved = farm.world.uv(&farm.gateway, "default", "app").await.unwrap();
    assert_eq!(resolved.split_whitespace().collect::<Vec<_>>(), ["app==1.0", "base==1.0"]);
    let path = "/o/default/wheels/app/1.0/app-1.0-cp311-cp311-linux_x86_64.whl.metadata";
    let told = farm.gateway.ask("GET", path, &[], "").await;
    assert!(told.status == 200 && told.body.contains("Requires-Dist: base>=1"), "{told:?}");
    let known = [("If-None-Match", told.header("etag").unwrap())];
    assert_eq!(farm.gateway.ask("GET", path, &known, "").await.status, 304);
    assert_eq!((farm.begun().await, farm.index.fetched("app-1.0.tar.gz")), (0, 1));
    farm.end().await;
}

#[tokio::test]
async fn the_pip_that_comes_with_the_systems_python_gets_a_package() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    // Debian 12 has pip 23.0, which other Pythons before it in the PATH may hide.
    let got = farm.world.pip_of("/usr/bin/python3", &farm.gateway, "default", "tiny").await;
    assert!(got.as_ref().is_ok_and(|it| it.0.starts_with("tiny-1.0-")), "{got:?}");
    farm.end().await;
}

#[tokio::test]
async fn where_only_a_build_can_tell_its_metadata_is_the_wheels_own() {
    let farm = Farm::new().await;
    let setup = setup("teller").replace("py_modules", "install_requires=['base>2'], py_modules");
    farm.index.publish("teller", "1.0", &[("setup.py", &setup), ("tiny.py", "")]);
    let path = "/o/default/wheels/teller/1.0/teller-1.0-cp311-cp311-linux_x86_64.whl.metadata";
    let held = farm.gateway.ask("GET", path, &[], "").await;
    assert!(held.status == 302 && held.header("location").unwrap().starts_with(path), "{held:?}");
    let told = eventually("metadata", Duration::from_secs(180), async || {
        let told = farm.gateway.ask("GET", path, &[], "").await;
        (told.status != 302).then_some(told)
    })
    .await;
    // Older setuptools writes it as `base (>2)`.
    let plain = told.body.replace([' ', '(', ')'], "");
    assert!(told.status == 200 && plain.contains("Requires-Dist:base>2"), "{told:?}");
    assert_eq!(farm.begun().await, 1);
    farm.end().await;
}

#[tokio::test]
async fn both_forms_of_a_page_say_the_same_to_whoever_asks_for_them() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    farm.pip("default", "tiny").await.unwrap();
    farm.pure("tiny", "1.1");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let page = "/o/default/simple/tiny/";
    let html = farm.gateway.ask("GET", page, &[], "").await;
    assert!(html.header("content-type").unwrap().starts_with("text/html"), "{html:?}");
    let json = farm.gateway.ask("GET", page, &[("Accept", JSON)], "").await;
    assert_eq!(json.header("content-type"), Some(JSON));
    let files = json.json()["files"].as_array().unwrap().clone();
    assert_eq!(files.len(), 2);
    for file in &files {
        let (url, name) = (file["url"].as_str().unwrap(), file["filename"].as_str().unwrap());
        let hash = file["hashes"]["sha256"].as_str();
        let hash = hash.map(|hash| format!("#sha256={hash}")).unwrap_or_default();
        assert!(html.body.contains(&format!("<a href=\"{url}{hash}\"")), "{url}: {}", html.body);
        assert!(html.body.contains(&format!(">{name}</a>")), "{name}: {}", html.body);
        assert_eq!(file["core-metadata"], true);
    }
    assert!(files.iter().any(|file| file["hashes"]["sha256"].is_string()), "one is built");
    for (accept, answer) in [(JSON, &json), ("text/html", &html)] {
        let has = [("Accept", accept), ("If-None-Match", answer.header("etag").unwrap())];
        assert_eq!(farm.gateway.ask("GET", page, &has, "").await.status, 304, "{accept}");
    }
    let other = farm.gateway.ask("GET", page, &[("Accept", "image/png")], "").await;
    assert!(other.status == 406 && other.body.contains(JSON), "{other:?}");
    assert_eq!(farm.gateway.ask("HEAD", page, &[], "").await.status, 200);
    farm.end().await;
}

#[tokio::test]
async fn a_failed_build_is_shown_in_the_page_with_reason_log_and_time() {
    let farm = Farm::new().await;
    farm.broken("bad", "raise SystemExit('error: <no> such thing')\n");
    let told = farm.built("bad", "").await;
    let key = told["key"].as_str().unwrap();
    let page = "/o/default/simple/bad/";
    let html = farm.gateway.ask("GET", page, &[], "").await.body;
    assert!(html.contains("&lt;no&gt; such thing"), "{html}");
    assert!(html.contains(&format!("<a href=\"/v1/builds/{key}/log\">log</a>")), "{html}");
    assert!(html.contains("may be tried again 20"), "{html}");
    let json = farm.gateway.ask("GET", page, &[("Accept", JSON)], "").await.json();
    let failed = &json["files"][0]["_failed"];
    assert!(failed["reason"].as_str().unwrap().contains("such thing"), "{json}");
    let log = failed["log"].as_str().unwrap();
    assert_eq!(log, format!("/v1/builds/{key}/log"));
    let said = farm.gateway.ask("GET", log, &[], "").await;
    assert!(said.status == 200 && said.body.contains("error: <no> such thing"), "{said:?}");
    farm.end().await;
}

#[tokio::test]
async fn a_wheel_answers_head_and_ranges() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    let (name, bytes) = farm.pip("default", "tiny").await.unwrap();
    let path = format!("/o/default/wheels/tiny/1.0/{name}");
    let head = farm.gateway.ask("HEAD", &path, &[], "").await;
    let length = head.header("content-length").and_then(|it| it.parse().ok());
    assert_eq!(
        (head.status, length, head.header("accept-ranges")),
        (200, Some(bytes.len()), Some("bytes"))
    );
    let there = farm.gateway.ask("GET", &path, &[], "").await;
    let url = there.header("location").unwrap().strip_prefix("http://").unwrap();
    let (host, object) = url.split_once('/').unwrap();
    let part = farm.world.get_from(host, &format!("/{object}"), &[("Range", "bytes=0-1")]).await;
    assert_eq!((part.status, part.body.as_str()), (206, "PK"));
    farm.end().await;
}

#[tokio::test]
async fn resolving_builds_nothing_where_upstreams_wheel_can_be_read_in_parts() {
    let farm = Farm::new().await;
    // What is in it is larger than what is fetched of its end.
    let large: String =
        (0..60_000_u64).map(|n| format!("x{n} = {}\n", n * n * 7919 % 104_729)).collect();
    let more = "Requires-Python: >=3.8\nRequires-Dist: base>2\n";
    for name in ["teller", "whole"] {
        let setup = setup(name).replace("py_modules", "install_requires=['base>2'], py_modules");
        farm.index.publish(name, "1.0", &[("setup.py", &setup), ("tiny.py", "")]);
    }
    let bytes = wheel_that_says("teller", "1.0", more, &[("tiny.py", &large)]);
    assert!(bytes.len() > 128 << 10);
    farm.index.put("teller-1.0-py3-none-any.whl", bytes);
    farm.index.gives_parts();
    let path = "/o/default/wheels/teller/1.0/teller-1.0-py3-none-any.whl.metadata";
    let told = farm.gateway.ask("GET", path, &[], "").await;
    assert!(told.status == 200 && told.body.contains("Requires-Dist: base>2"), "{told:?}");
    assert_eq!(farm.gateway.ask("HEAD", path, &[], "").await.status, 200);
    assert_eq!((farm.begun().await, farm.index.fetched("teller-1.0-py3-none-any.whl")), (0, 0));
    // Of one without a wheel upstream only a build can tell.
    let path = "/o/default/wheels/whole/1.0/whole-1.0-py3-none-any.whl.metadata";
    let held = farm.gateway.ask("GET", path, &[], "").await;
    assert_eq!(held.status, 302, "{held:?}");
    farm.end().await;
}

#[tokio::test]
async fn a_wheel_that_upstream_gives_only_whole_is_not_fetched_for_its_metadata() {
    let farm = Farm::new().await;
    let setup = setup("teller").replace("py_modules", "install_requires=['base>2'], py_modules");
    farm.index.publish("teller", "1.0", &[("setup.py", &setup), ("tiny.py", "")]);
    let bytes = wheel_that_says("teller", "1.0", "Requires-Dist: base>2\n", &[]);
    farm.index.put("teller-1.0-py3-none-any.whl", bytes);
    let path = "/o/default/wheels/teller/1.0/teller-1.0-py3-none-any.whl.metadata";
    let told = eventually("metadata of the build", Duration::from_secs(180), async || {
        let told = farm.gateway.ask("GET", path, &[], "").await;
        (told.status != 302).then_some(told)
    })
    .await;
    let plain = told.body.replace([' ', '(', ')'], "");
    assert!(told.status == 200 && plain.contains("Requires-Dist:base>2"), "{told:?}");
    assert_eq!(farm.begun().await, 1);
    farm.end().await;
}

#[tokio::test]
async fn what_the_index_does_not_serve_it_says_in_words_with_the_right_headers() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        farm.gateway.ask(method, path, headers, "").await
    };
    for path in ["/nothing", "/o/default/simple/nobody/", "/o/default/wheels/tiny/1.0/x.whl"] {
        let answer = ask("GET", path, &[("Accept", JSON)]).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(answer.json()["error"].as_str().is_some_and(|it| !it.is_empty()), "{answer:?}");
    }
    for path in ["/o/default/simple/tiny/", "/o/default/simple/", "/package"] {
        let answer = ask("DELETE", path, &[]).await;
        let allowed = answer.header("allow").unwrap_or_default().to_owned();
        assert!(answer.status == 405 && allowed.contains("GET"), "{path}: {answer:?}");
        assert!(answer.json()["error"].as_str().unwrap().contains("DELETE"), "{answer:?}");
    }
    let whole = ask("GET", "/o/default/simple", &[]).await;
    assert_eq!((whole.status, whole.header("location")), (308, Some("simple/")), "{whole:?}");
    let none = ask("GET", "/o/default/simple/tiny/", &[("Accept", "image/png")]).await;
    assert_eq!((none.status, none.header("vary")), (406, Some("Accept")), "{none:?}");
    let bad = ask("GET", "/o/wings=2/simple/tiny/", &[]).await;
    assert!(bad.status == 422 && bad.body.contains("wings"), "{bad:?}");
    farm.end().await;
}

#[tokio::test]
async fn each_form_of_a_page_has_a_tag_of_its_own_that_any_way_of_asking_knows() {
    let farm = Farm::new().await;
    farm.pure("tiny", "1.0");
    for page in ["/o/default/simple/tiny/", "/o/default/simple/"] {
        let mut tags = Vec::new();
        for accept in [JSON, "text/html", "application/vnd.pypi.simple.v1+html"] {
            let whole = farm.gateway.ask("GET", page, &[("Accept", accept)], "").await;
            let tag = whole.header("etag").unwrap().to_owned();
            for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()]
            {
                let has = [("Accept", accept), ("If-None-Match", known.as_str())];
                let same = farm.gateway.ask("GET", page, &has, "").await;
                assert_eq!((same.status, same.body.as_str()), (304, ""), "{known}");
                assert_eq!(same.header("etag"), Some(&*tag));
                assert_eq!(same.header("vary"), Some("Accept"));
            }
            let head = farm.gateway.ask("HEAD", page, &[("Accept", accept)], "").await;
            assert_eq!((head.status, head.header("etag")), (200, Some(&*tag)), "{head:?}");
            assert_eq!(
                (head.header("content-type"), &*head.body),
                (whole.header("content-type"), "")
            );
            tags.push(tag);
        }
        tags.dedup();
        assert_eq!(tags.len(), 3, "{page}: {tags:?}");
    }
    farm.end().await;
}
