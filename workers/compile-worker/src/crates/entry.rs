//! A release as the index of a registry describes it: what it needs, and for which of its features
//! (the cargo book, "Index Format").

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// A release.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    #[serde(rename = "vers")]
    pub(super) version: String,
    #[serde(rename = "cksum")]
    pub(super) sha256: String,
    #[serde(default)]
    pub(super) yanked: bool,
    pub(super) rust_version: Option<String>,
    #[serde(default)]
    pub(super) deps: Vec<Dependency>,
    #[serde(default)]
    features: BTreeMap<String, Vec<String>>,
    /// Those that older cargos cannot read.
    #[serde(default)]
    features2: BTreeMap<String, Vec<String>>,
}

/// What a release needs.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Dependency {
    /// As the release calls it.
    name: String,
    /// As the registry calls it, where that is another name.
    package: Option<String>,
    pub(super) req: String,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default = "yes")]
    default_features: bool,
    kind: Option<String>,
    /// Another registry than this one.
    pub(super) registry: Option<String>,
}

/// A dependency that counts, and the features of it that are wanted.
pub(super) type Active<'e> = (&'e Dependency, BTreeSet<String>);

fn yes() -> bool {
    true
}

impl Dependency {
    /// Its name in the registry.
    pub(super) fn package(&self) -> &str {
        self.package.as_deref().unwrap_or(&self.name)
    }
}

impl Entry {
    /// What a crate itself needs, for all of its features, targets and tests: that is what cargo makes
    /// a lock of.
    pub(super) fn all(&self) -> Vec<Active<'_>> {
        let optional = self.deps.iter().filter(|it| it.optional).map(|it| it.name.clone());
        let features = self.features.keys().chain(self.features2.keys()).cloned();
        self.active_of(&features.chain(optional).collect(), |_| true)
    }

    /// What it needs as a dependency with these features, for all targets.
    pub(super) fn active(&self, features: &BTreeSet<String>) -> Vec<Active<'_>> {
        self.active_of(features, |it| it.kind.as_deref() != Some("dev"))
    }

    fn active_of<'e>(
        &'e self,
        features: &BTreeSet<String>,
        counts: impl Fn(&Dependency) -> bool,
    ) -> Vec<Active<'e>> {
        let (enabled, of_deps) = self.expanded(features);
        let deps = self.deps.iter().filter(|it| counts(it));
        let deps = deps.filter(|it| !it.optional || enabled.contains(it.name.as_str()));
        let with_features = |it: &'e Dependency| {
            let Dependency { name, features, default_features, .. } = it;
            let mut wanted: BTreeSet<String> = features.iter().cloned().collect();
            wanted.extend(default_features.then(|| "default".to_owned()));
            wanted.extend(of_deps.get(name.as_str()).into_iter().flatten().cloned());
            (it, wanted)
        };
        deps.map(with_features).collect()
    }

    /// The optional dependencies that features enable, and the features of dependencies that they
    /// want.
    fn expanded<'e>(
        &'e self,
        features: &'e BTreeSet<String>,
    ) -> (BTreeSet<&'e str>, BTreeMap<&'e str, BTreeSet<String>>) {
        let mut left: Vec<&str> = features.iter().map(String::as_str).collect();
        let (mut seen, mut enabled) = (BTreeSet::new(), BTreeSet::new());
        let mut of_deps = BTreeMap::<&str, BTreeSet<String>>::new();
        while let Some(feature) = left.pop() {
            if !seen.insert(feature) {
                continue;
            }
            if let Some(dep) = feature.strip_prefix("dep:") {
                enabled.insert(dep);
            } else if let Some((dep, its)) = feature.split_once('/') {
                let (dep, weak) = dep.strip_suffix('?').map_or((dep, false), |dep| (dep, true));
                of_deps.entry(dep).or_default().insert(its.to_owned());
                left.extend(Some(dep).filter(|_| !weak));
            } else {
                // A feature of that name, or an optional dependency, or both.
                enabled.insert(feature);
                let both =
                    self.features.get(feature).into_iter().chain(self.features2.get(feature));
                left.extend(both.flatten().map(String::as_str));
            }
        }
        (enabled, of_deps)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry() -> Entry {
        let dep = |name: &str, optional: bool, kind: &str| {
            json!({"name": name, "req": "^1", "features": ["own"], "optional": optional,
                "default_features": false, "target": null, "kind": kind})
        };
        serde_json::from_value(json!({
            "name": "a", "vers": "1.0.0", "cksum": "00", "yanked": false,
            "deps": [
                dep("always", false, "normal"), dep("maker", false, "build"),
                dep("tester", false, "dev"), dep("fast", true, "normal"),
                dep("deep", true, "normal"), dep("weak", true, "normal"),
            ],
            "features": {"default": ["std"], "std": ["always/std", "weak?/std"], "speed": ["fast"]},
            "features2": {"more": ["dep:deep", "speed"], "through": ["weak/x"]},
        }))
        .unwrap()
    }

    fn active(features: &[&str]) -> Vec<String> {
        let features = features.iter().map(|it| (*it).to_owned()).collect();
        let entry = entry();
        let names = entry.active(&features).into_iter().map(|(it, features)| {
            let features: Vec<_> = features.into_iter().collect();
            format!("{}[{}]", it.package(), features.join(","))
        });
        names.collect()
    }

    #[test]
    fn features_say_which_dependencies_count_and_with_which_features() {
        assert_eq!(active(&[]), ["always[own]", "maker[own]"]);
        assert_eq!(active(&["default"]), ["always[own,std]", "maker[own]"]);
        assert_eq!(active(&["more"]), ["always[own]", "maker[own]", "fast[own]", "deep[own]"]);
        assert_eq!(active(&["through", "std"])[2], "weak[own,std,x]");
        assert_eq!(active(&["nothing"]).len(), 2);
        let own = entry();
        let all: Vec<_> = own.all().into_iter().map(|(it, _)| it.package().to_owned()).collect();
        assert_eq!(all, ["always", "maker", "tester", "fast", "deep", "weak"]);
    }
}
