//! Which wheels are chosen.

use super::{
    wants::{PACKAGES, wants},
    *,
};
use crate::builder::Vendored;

fn builder() -> BuilderInfo {
    let wheel = Vendored { filename: "wheel-0.38.4-py3-none-any.whl".into(), sha256: "w".into() };
    BuilderInfo {
        image: "i".into(),
        abi: "cp311".into(),
        python: "3.11.2".into(),
        platform: "linux_x86_64".into(),
        glibc: "2.36".into(),
        wheels: vec![wheel],
        ..BuilderInfo::default()
    }
}

fn project(files: &[(&str, Option<&str>, bool)]) -> Project {
    let file = |(name, python, yanked): &(&str, Option<&str>, bool)| File {
        filename: (*name).to_owned(),
        sha256: Some("00".into()),
        requires_python: python.map(str::to_owned),
        yanked: yanked.then(String::new),
        ..File::default()
    };
    Project { files: files.iter().map(file).collect(), ..Project::default() }
}

fn wanted(specifier: &str) -> Wanted {
    Wanted { specifiers: vec![specifier.parse().unwrap()], ..Wanted::default() }
}

#[test]
fn the_newest_wheel_that_fits_is_taken() {
    let project = project(&[
        ("a-1.10-py3-none-any.whl", None, false),
        ("a-1.9-py3-none-any.whl", None, false),
        ("a-1.11-py3-none-any.whl", Some(">=3.12"), false),
        ("a-1.12-py3-none-any.whl", None, true),
        ("a-1.13rc1-py3-none-any.whl", None, false),
        ("a-1.14-cp312-cp312-linux_x86_64.whl", None, false),
        ("a-1.15.tar.gz", None, false),
        ("a-1.16-cp311-cp311-manylinux_2_39_x86_64.whl", None, false),
        ("a-2.0-py3-none-any.whl", None, false),
    ]);
    let chosen = |specifier: &str| {
        newest(&project, &builder(), &wanted(specifier)).map(|(version, _)| version.to_string())
    };
    assert_eq!(chosen("<2").as_deref(), Some("1.10"));
    assert_eq!(chosen("==1.13rc1").as_deref(), Some("1.13rc1"));
    assert_eq!(chosen(">=3"), None);
}

#[test]
fn a_wheel_without_a_hash_to_check_it_by_is_none() {
    let mut project = project(&[
        ("a-1.0-py3-none-any.whl", None, false),
        ("a-2.0-py3-none-any.whl", None, false),
    ]);
    project.files[1].sha256 = None;
    let chosen = newest(&project, &builder(), &wanted(">=1")).map(|it| it.0.to_string());
    assert_eq!(chosen.as_deref(), Some("1.0"));
}

#[test]
fn a_pinned_requirement_may_be_withdrawn() {
    let project = project(&[
        ("x-0.9-py3-none-any.whl", None, false),
        ("x-1.0-py3-none-any.whl", None, true),
        ("x-1.1-1-py3-none-any.whl", None, false),
        ("x-1.1-2-py3-none-any.whl", None, true),
    ]);
    let chosen = |specifier: &str| {
        newest(&project, &builder(), &wanted(specifier)).map(|(_, file)| file.filename.as_str())
    };
    for pinned in ["==1.0", "===1.0", "==1.0.0,>0"] {
        assert_eq!(chosen(pinned), Some("x-1.0-py3-none-any.whl"), "{pinned}");
    }
    assert_eq!(chosen("==1.0.*"), None);
    assert_eq!(chosen("==1.1"), Some("x-1.1-1-py3-none-any.whl"), "one that stands goes first");
    assert_eq!(chosen("<1.1"), Some("x-0.9-py3-none-any.whl"));
}

#[test]
fn the_images_own_wheels_fill_in_within_their_version() {
    assert!(vendored(&builder(), "wheel", &wanted(">=0.30")).is_some());
    assert!(vendored(&builder(), "wheel", &wanted(">=99")).is_none());
    let unmet = wanted(">=99").unmet("wheel");
    assert!(matches!(unmet, Stopped::Theirs(why) if why.reason.contains("wheel >=99")));
}

#[test]
fn what_another_platform_needs_is_not_wanted() {
    let roots = ["a; sys_platform == 'win32'", "b>=1", "c; python_version < '3'"];
    let roots: Vec<_> = roots.iter().map(|text| parse(text).unwrap()).collect();
    let wants = wants(&roots, &BTreeMap::new(), &builder()).unwrap();
    assert_eq!(wants.keys().collect::<Vec<_>>(), ["b"]);
    assert!(matches!(parse("a b c"), Err(Stopped::Theirs(_))));
}

#[test]
fn an_extra_adds_its_own_requirements_and_no_others() {
    let info = "Provides-Extra: speed\nProvides-Extra: docs\nRequires-Dist: always\n\
        Requires-Dist: cython>=3; extra == \"speed\"\n\
        Requires-Dist: nothere; sys_platform == \"win32\" and extra == \"speed\"\n\
        Requires-Dist: sphinx; extra == 'docs'\n\nRequires-Dist: body; extra == 'speed'";
    let of = |extra: &str| of_extras(&builder(), info, extra.split('+'));
    assert_eq!(of("speed").unwrap(), ["cython>=3"]);
    assert_eq!(of("docs+speed").unwrap(), ["sphinx", "cython>=3"]);
    assert!(matches!(of("fast"), Err(Stopped::Theirs(why)) if why.reason.contains("docs, speed")));
}

#[test]
fn any_number_of_requirements_is_picked_and_each_again_that_another_narrows() {
    let names = |from: usize| (from..from + 40).map(|n| format!("p{n}")).collect::<Vec<_>>();
    let roots: Vec<_> = names(0).iter().map(|text| parse(text).unwrap()).collect();
    let pick = |requires: &str| Pick {
        version: "2".parse().unwrap(),
        filename: String::new(),
        sha256: String::new(),
        fetched: None,
        requires: vec![parse(requires).unwrap()],
    };
    let picks = BTreeMap::from([("p0".to_owned(), pick("p1<2")), ("p1".to_owned(), pick("deep"))]);
    let wants = wants(&roots, &picks, &builder()).unwrap();
    assert_eq!(wants.len(), 41, "a round wants all of them at once");
    assert!(!wants["p1"].takes(&"2".parse().unwrap()) && wants.contains_key("deep"));
    let many: Vec<_> = (0..=PACKAGES).map(|n| parse(&format!("p{n}")).unwrap()).collect();
    let over = super::wants::wants(&many, &BTreeMap::new(), &builder());
    assert!(matches!(over, Err(Stopped::Theirs(why)) if why.reason.contains("over 500")));
}
