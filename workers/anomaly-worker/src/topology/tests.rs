//! Texts that are taken, and texts that are refused with the reason.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn toml(text: &str) -> Result<Topology, TopologyError> {
    Topology::parse(text, Format::Toml)
}

const FULL: &str = r#"
[defaults.edge]
tolerance = 5
[defaults.device]
interval = "1m"

[[chains]]
sensors = ["A01", "A02", "A03"]
delay = "90s"

[[edges]]
current = "B07"
following = "A03"
ratio = 0.8
debounce = "3m"
debounce_count = 2
tolerance = 1

[[devices]]
id = "B07"
zone = "north"
interval = 10
silence = "1h"
range = { min = 0, max = 100 }
threshold = { above = 90, hysteresis = 2 }
rate = { most = 10 }
stuck = { for = "2h", within = 0.1 }
drift = {}
seasonal = { period = "1d", buckets = 24 }
outlier = { deviations = 6 }
"#;

#[test]
fn chains_and_edges_have_their_own_rules_over_the_defaults() {
    let topology = toml(FULL).unwrap();
    assert!(!topology.derive && topology.edges.len() == 3);
    let ends: Vec<_> = topology.edges.iter().map(|it| (&*it.current, &*it.following)).collect();
    assert_eq!(ends, [("A01", "A02"), ("A02", "A03"), ("B07", "A03")]);
    assert_eq!((topology.edges[0].rule.tolerance, topology.edges[0].rule.delay), (5.0, 90_000));
    let rule = topology.edges[2].rule;
    assert_eq!((rule.tolerance, rule.ratio, rule.delay), (1.0, 0.8, 0));
    assert_eq!((rule.confirm.debounce, rule.confirm.count), (180_000, 2));
    let device = &topology.devices["B07"];
    assert_eq!((device.interval, device.silence), (Some(10_000), Some(3_600_000)));
    assert_eq!(device.zone.as_deref(), Some("north"));
    assert!(device.range.is_some() && device.outlier.is_some() && device.seasonal.is_some());
    assert_eq!(topology.device_default.silence, Some(180_000));
}

#[test]
fn json_says_the_same_as_toml() {
    let tree: serde_json::Value = toml::from_str(FULL).unwrap();
    assert_eq!(Topology::parse(&tree.to_string(), Format::Json).unwrap(), toml(FULL).unwrap());
}

#[test]
fn without_edges_sensors_are_joined_by_their_ids() {
    assert!(toml("derive = true").unwrap().derive);
    let why = toml("").unwrap_err().to_string();
    assert!(why.contains("derive = true"), "an empty file by mistake joins nothing: {why}");
    assert!(toml("derive = true\n[[chains]]\nsensors = ['x', 'y']").unwrap().derive);
}

/// Texts that are refused, each with a part of the reason.
const REFUSED: &[(&str, &str)] = &[
    ("tolerance = 1", "\"tolerance\" is not a key"),
    ("[[edges]]\ncurrent = 'a'\nfollowing = 'b'\ntolerence = 1", "edges[0]: \"tolerence\""),
    ("[[edges]]\ncurrent = 'a'", "edges[0]: following is missing"),
    ("[[edges]]\ncurrent = 'a'\nfollowing = 'a'", "does not follow itself"),
    ("[[edges]]\ncurrent = 'a/b'\nfollowing = 'a'", "slash"),
    ("[[chains]]\nsensors = ['a', 'b', 'a', 'b']", "edge a to b: it is there twice"),
    ("[[chains]]\nsensors = ['a']", "two at least"),
    ("[[chains]]\nsensors = ['c', 'a', 'b', 'a']", "chains[0]: sensors: a comes before b, and"),
    ("[defaults.edge]\ndebounce_sum = -1", "debounce_sum: -1 is negative"),
    ("[defaults.edge]\nclock = 'wrong'", "clock: "),
    ("[[chains]]\nsensors = ['1', '12']\n[[chains]]\nsensors = ['11', '2']", "named 112"),
    ("derive = true\n[[chains]]\nsensors = ['A1A', '2']", "edge A1 to A2"),
    ("[[devices]]\nid = 'a'\n[[devices]]\nid = 'a'", "device a is there twice"),
    ("[[devices]]\nid = 'a'\nrange = { min = 5, max = 1 }", "min is not below max"),
    ("[[devices]]\nid = 'a'\nrange = { min = 5, max = inf }", "max"),
    ("[[devices]]\nid = 'a'\ninterval = 'often'", "no duration"),
    ("[[devices]]\nid = 'a'\nthreshold = {}", "devices[0], threshold: say above"),
    ("[[devices]]\nid = 'a'\nzone = 7", "not a text"),
    ("[[devices]]\nid = 'a'\nthreshold = { above = 5, below = 9 }", "every level is above 5"),
    (
        "[[devices]]\nid = 'a'\nthreshold = { above = 9, below = 5, hysteresis = 2.5 }",
        "would never end",
    ),
    ("[defaults.edge]\ntolerance = nan", "defaults.edge.tolerance: NaN is not a finite number"),
    ("[defaults.edge]\ntolerance = -inf", "defaults.edge.tolerance: -inf is not a finite number"),
    ("[defaults.edge]\ndelay = -1", "defaults.edge: delay"),
    ("[defaults]\nedges = 1", "\"edges\" is not a key"),
    ("devices = 1", "not a list of tables"),
    ("a = [", "TOML parse error"),
    (
        "[[chains]]\nsensors = ['a', 'b']\ndelay = 1979-05-27",
        "chains[0].delay: 1979-05-27 is a date",
    ),
    ("[[devices]]\nid = 'a'\noutlier = { warm_up = 5000000 }", "from 1 to 1000000"),
];

#[test]
fn what_is_wrong_is_told_with_its_place_and_all_at_once() {
    for (text, wanted) in REFUSED {
        let error = toml(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    for (text, faults) in [
        ("[[edges]]\ncurrent = 'a'\n[[edges]]\nratio = 0", 4),
        // A list that cannot be read is not told to be too short as well.
        ("[[chains]]\nsensors = ['a/b', 'c']", 1),
    ] {
        let error = toml(text).unwrap_err();
        assert_eq!(error.faults.len(), faults, "{error}");
    }
    assert!(Topology::parse("[]", Format::Json).is_err());
    assert!(toml(&" ".repeat(TEXT_LIMIT + 1)).unwrap_err().to_string().contains("bytes"));
}

#[test]
fn json_that_says_something_twice_is_refused() {
    let text = r#"{"defaults":{"edge":{"tolerance":1,"tolerance":2}},"derive":true}"#;
    let why = Topology::parse(text, Format::Json).unwrap_err().to_string();
    assert!(why.contains("tolerance is there twice"), "{why}");
}

#[test]
fn two_topologies_do_not_join_by_ids_with_other_defaults() {
    let deriving = |tolerance: u32| {
        toml(&format!("derive = true\n[defaults.edge]\ntolerance = {tolerance}")).unwrap()
    };
    let plan = |a, b| {
        let both = [("one".to_owned(), deriving(a)), ("two".to_owned(), deriving(b))];
        Plan::of(&both, Rule::default())
    };
    let why = plan(1, 2).unwrap_err().to_string();
    assert!(why.contains("topologies one and two both have derive = true"), "{why}");
    assert!(plan(1, 1).is_ok());
}

#[test]
fn a_debounce_is_never_shorter_than_clocks_may_be_apart() {
    let rule = |text: &str| toml(&format!("derive = true\n[defaults.edge]\n{text}")).unwrap();
    let rule = |text| rule(text).edge_default;
    let both = |it: Rule| (it.clock, it.confirm.debounce);
    assert_eq!(both(rule("clock = '40s'")), (40_000, 40_000));
    assert_eq!(both(rule("clock = '40s'\ndebounce = '1m'")), (40_000, 60_000));
    assert_eq!(rule("debounce_sum = 12.5").confirm.sum, 12.5);
    assert_eq!((rule("between = '90s'").confirm.between, rule("").confirm.between), (90_000, 0));
}

#[test]
fn rings_are_taken_in_a_mesh() {
    let ring = toml("[[chains]]\nsensors = ['x', 'y', 'z', 'x']").unwrap();
    let plan = Plan::of(&[("ring".to_owned(), ring)], Rule::default()).unwrap();
    assert_eq!(plan.edges_of("x").len(), 2);
}

#[test]
fn a_plan_gives_every_device_its_edges_and_what_is_expected_of_it() {
    let plan = Plan::of(&[("one".to_owned(), toml(FULL).unwrap())], Rule::default()).unwrap();
    assert_eq!(plan.edges_of("A03").len(), 2);
    assert_eq!(plan.edges_of("A02")[0].rule.stale, [Some(180_000), Some(180_000)]);
    assert_eq!(plan.edges_of("B07")[0].rule.stale, [Some(3_600_000), Some(180_000)]);
    assert!(plan.edges_of("01").is_empty() && plan.device("01").silence.is_none());
    assert!(plan.expected().count() == 4 && plan.is_named("A01") && !plan.is_named("01"));
    assert_eq!(plan.rule("B07", "A03").ratio, 0.8);
    let plain = Plan::of(&[], Rule::default()).unwrap();
    let edges = plain.edges_of("02");
    let ends: Vec<_> = edges.iter().map(|it| (&*it.current, &*it.following)).collect();
    assert_eq!(ends, [("01", "02"), ("02", "03")]);
    assert!(edges.iter().all(|it| it.derived && it.rule == Rule::default()));
}

#[test]
fn an_edge_compares_no_word_that_it_calls_stale_or_that_a_silent_device_said_last() {
    let text = "[defaults.edge]\nstale = '150s'\n[[chains]]\nsensors = ['a', 'b', 'c']\n\
                [[devices]]\nid = 'b'\nsilence = '1m'\n[[devices]]\nid = 'c'\nsilence = '1h'";
    let plan = Plan::of(&[("one".to_owned(), toml(text).unwrap())], Rule::default()).unwrap();
    assert_eq!(plan.rule("a", "b").stale, [Some(150_000), Some(60_000)]);
    assert_eq!(plan.rule("b", "c").stale, [Some(60_000), Some(150_000)]);
    assert!(toml("[defaults.edge]\nstale = 0").is_err());
}

#[test]
fn two_topologies_do_not_speak_of_the_same() {
    let one = || toml("[[chains]]\nsensors = ['a', 'b']\n[[devices]]\nid = 'a'").unwrap();
    let two = [("one".to_owned(), one()), ("two".to_owned(), one())];
    let error = Plan::of(&two, Rule::default()).unwrap_err().to_string();
    assert!(error.contains("ab names problems of topology one and of two"), "{error}");
    assert!(error.contains("device a is in topology one and in two"), "{error}");
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in ".{0,200}", keys in prop::collection::vec("[a-z_]{1,9}", 0..5)) {
        let _ = toml(&text);
        let tree: serde_json::Map<_, _> =
            keys.into_iter().map(|key| (key, json!([{ "sensors": text }]))).collect();
        let _ = Topology::parse(&json!(tree).to_string(), Format::Json);
    }

    #[test]
    fn every_sensor_of_a_tree_has_an_edge_to_its_parent(parents in prop::collection::vec(any::<prop::sample::Index>(), 1..50)) {
        let edges = parents.iter().enumerate().map(|(number, parent)| json!({
            "current": format!("s{:04}", number + 1),
            "following": format!("s{:04}", parent.index(number + 1)),
        }));
        let text = json!({ "edges": edges.collect::<Vec<_>>() }).to_string();
        let tree = Topology::parse(&text, Format::Json).unwrap();
        let plan = Plan::of(&[("tree".to_owned(), tree)], Rule::default()).unwrap();
        for number in 1..=parents.len() {
            let id = format!("s{number:04}");
            let up = plan.edges_of(&id).iter().filter(|it| it.current == id).count();
            prop_assert_eq!(up, 1);
        }
    }
}
