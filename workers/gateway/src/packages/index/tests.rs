use compile_worker::{
    builds::{Artifact, Failed},
    upstream::File,
};

use super::*;

fn builder() -> BuilderInfo {
    BuilderInfo {
        image: "i".into(),
        abi: "cp311".into(),
        python: "3.11.2".into(),
        platform: "linux_x86_64".into(),
        glibc: "2.36".into(),
        ..BuilderInfo::default()
    }
}

fn file(filename: &str) -> File {
    let sha256 = Some("00".into());
    File { filename: filename.into(), url: "u".into(), sha256, ..File::default() }
}

#[test]
fn what_is_remembered_of_versions_is_said_of_them_too() {
    let about = |python: Option<&str>, yanked: Option<&str>| About {
        requires_python: python.map(str::to_owned),
        yanked: yanked.map(str::to_owned),
    };
    let versions = BTreeMap::from([
        ("1.0".to_owned(), about(Some(">=3.8"), None)),
        ("2.0".to_owned(), about(None, Some("bad"))),
    ]);
    let links = remembered("a", &builder(), &versions, &HashMap::new());
    let said = |at: usize| (links[at].requires_python.as_deref(), links[at].yanked.as_deref());
    assert_eq!((said(0), said(1)), ((Some(">=3.8"), None), (None, Some("bad"))));
}

#[test]
fn what_upstream_compiles_for_this_machine_is_not_called_pure() {
    let wheel = |wheels: &[&str]| {
        let wheels = wheels.iter().map(|tags| file(&format!("a-1.0-{tags}.whl")));
        let files = wheels.chain([file("a-1.0.tar.gz")]).collect();
        let project = Project { files, ..Project::default() };
        let links = links("a", &builder(), (&project, &HashMap::new()), &HashMap::new());
        links[0].filename.clone()
    };
    let (pure, ours) = ("a-1.0-py3-none-any.whl", "a-1.0-cp311-cp311-linux_x86_64.whl");
    for machine in ["manylinux_2_17_x86_64.manylinux2014_x86_64", "linux_x86_64"] {
        assert_eq!(wheel(&["py3-none-any", &format!("cp39-cp39-{machine}")]), ours);
    }
    for machine in ["win_amd64", "macosx_11_0_arm64", "manylinux2014_aarch64"] {
        assert_eq!(wheel(&["py3-none-any", &format!("cp311-cp311-{machine}")]), pure);
    }
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
        file("a_b-4.0.tar.gz"),
        file("a_b-5.0.tar.gz"),
    ];
    let project = Project { files, ..Project::default() };
    let natives = HashMap::from([("4.0".to_owned(), false), ("5.0".to_owned(), true)]);
    let links = links("a-b", &builder(), (&project, &natives), &HashMap::new());
    let names: Vec<_> = links.iter().map(|link| link.filename.as_str()).collect();
    assert_eq!(
        names,
        [
            "a_b-1.0-py3-none-any.whl",
            "a_b-2.0-cp311-cp311-linux_x86_64.whl",
            // Without a wheel upstream, by what is in their sources.
            "a_b-4.0-py3-none-any.whl",
            "a_b-5.0-cp311-cp311-linux_x86_64.whl",
        ]
    );
    let html = links[1].html();
    assert!(html.contains("data-requires-python=\"&gt;=3.8\""), "{html}");
    assert!(html.contains("data-yanked=\"a &quot;bad&quot; one\""), "{html}");
    assert!(html.contains("data-core-metadata=\"true\""), "{html}");
    assert!(!html.contains("dist-info-metadata"), "{html}");
    assert!(links[1].json().get("dist-info-metadata").is_none());
    assert_eq!(links[1].json()["yanked"], "a \"bad\" one");
}

/// The row of a request for version 1.0 that was built by this builder.
fn row(options: &str, image: &str, state: State) -> Row {
    Row {
        package: "pypi/a".into(),
        version: "1.0".into(),
        options: options.into(),
        request: "key".into(),
        parts: json!({ "builder": image }),
        epoch: 1,
        ordered_at: 1,
        ended_at: None,
        downloaded_at: None,
        marked_at: None,
        state,
        lock: None,
        live: None,
        verdict: None,
        sent: true,
        groups: Default::default(),
        overtaken_by: None,
    }
}

fn done(sha256: &str) -> State {
    State::Done(Artifact {
        artifact: "artifact".into(),
        parts: BTreeMap::new(),
        filename: "a-1.0-py3-none-any.whl".into(),
        blob: "blob".into(),
        sha256: sha256.into(),
        size: 1,
        log: "log".into(),
        metadata: None,
        requires: Vec::new(),
        bundled: BTreeMap::new(),
        build_ms: 1,
    })
}

/// The line of version 1.0 of a project on the page of the default options.
fn line(rows: &[Row]) -> Link {
    let project = Project { files: vec![file("a-1.0.tar.gz")], ..Project::default() };
    let rows = of_version(rows, &Options::default(), &builder());
    links("a", &builder(), (&project, &HashMap::new()), &rows).remove(0)
}

#[test]
fn a_page_has_the_hashes_of_its_own_option_set_and_builder_alone() {
    let others = [row("opt=3", "i", done("01")), row("default", "j", done("02"))];
    assert_eq!(line(&others).sha256, None);
    let own = row("default", "i", done("03"));
    let rows = [&others[..], std::slice::from_ref(&own)].concat();
    assert_eq!(line(&rows).sha256.as_deref(), Some("03"));
    assert!(line(&rows).html().contains(".whl#sha256=03\""), "{}", line(&rows).html());
    assert_eq!(line(&rows).json()["hashes"], json!({ "sha256": "03" }));
}

#[test]
fn a_page_tells_why_a_version_was_not_built_but_not_what_was_our_fault() {
    let failed = |ours| {
        let log = Some("log".to_owned());
        let failed = Failed { reason: "no <cc>".into(), ours, log, retry_at: 1_700_000_000 };
        line(&[row("default", "i", State::Failed(failed))])
    };
    let html = failed(false).html();
    let told = "not built: no &lt;cc&gt;; may be tried again 2023-11-14T22:13:20Z";
    assert!(html.contains(told) && html.contains("href=\"/v1/builds/key/log\""), "{html}");
    assert_eq!(failed(false).json()["_failed"]["reason"], "no <cc>");
    assert!(!failed(true).html().contains("not built"), "{}", failed(true).html());
    assert!(failed(true).json().get("_failed").is_none());
}

#[test]
fn what_was_withdrawn_without_a_reason_is_said_to_be_in_both_forms() {
    let yanked = File { yanked: Some(String::new()), ..file("a-1.0.tar.gz") };
    let python = File { requires_python: Some(">=3.8".into()), ..file("a-2.0.tar.gz") };
    let project = Project { files: vec![yanked, python], ..Project::default() };
    let links = links("a", &builder(), (&project, &HashMap::new()), &HashMap::new());
    assert!(links[0].html().contains(" data-yanked=\"\""), "{}", links[0].html());
    assert_eq!(links[0].json()["yanked"], true);
    assert!(links[1].json().get("yanked").is_none() && !links[1].html().contains("data-yanked"));
    assert_eq!(links[1].json()["requires-python"], ">=3.8");
}
