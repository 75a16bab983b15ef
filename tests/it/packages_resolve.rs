//! Which build requirements are chosen.

use flotilla_tests::{Farm, SETUP, wheel, wheel_that_says};
use serde_json::Value;

/// Publishes a package of version 1.0 whose build requires these.
fn requiring(farm: &Farm, name: &str, requires: &str) {
    let setup = SETUP.replace("setup(py", &format!("setup(name='{name}', version='1.0', py"));
    let project = format!(
        "[build-system]\nrequires = ['setuptools', 'wheel', {requires}]\n\
         build-backend = 'setuptools.build_meta'\n"
    );
    let files = [("pyproject.toml", project.as_str()), ("setup.py", &setup), ("tiny.py", "")];
    farm.index.publish(name, "1.0", &files);
}

fn locked(told: &Value) -> String {
    told["locked"]["wheels"].to_string()
}

#[tokio::test]
async fn an_older_requirement_is_taken_where_the_newest_contradicts() {
    let farm = Farm::new().await;
    for (version, requires) in [("2.0", "b>=2"), ("1.0", "b"), ("0.1", "b")] {
        let more = format!("Requires-Dist: {requires}\n");
        let bytes = wheel_that_says("a", version, &more, &[("a.py", "")]);
        farm.index.put(&format!("a-{version}-py3-none-any.whl"), bytes);
    }
    for version in ["1.0", "2.0"] {
        let bytes = wheel("b", version, &[("b.py", "")]);
        farm.index.put(&format!("b-{version}-py3-none-any.whl"), bytes);
    }
    requiring(&farm, "older", "'a', 'b<2'");
    let told = farm.built("older", "").await;
    assert_eq!(told["build"]["state"], "done", "{told}");
    let locked = locked(&told);
    assert!(locked.contains("\"a-1.0-") && locked.contains("\"b-1.0-"), "{locked}");
    requiring(&farm, "never", "'a>=2', 'b<2'");
    let told = farm.built("never", "").await;
    let why = told["build"]["reason"].as_str().unwrap_or_default();
    assert!(why.contains("no wheel satisfies the build requirement b"), "{told}");
    farm.end().await;
}
