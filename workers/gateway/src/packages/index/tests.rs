use compile_worker::upstream::File;

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
