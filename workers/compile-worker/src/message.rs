//! What arrives on the queue of the compile worker.

use std::collections::BTreeMap;

use flotilla_runtime::once::Once;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{builds::package_key, pypi::PYPI};

/// A message: `{"build": {…}}` and `{"refresh": {…}}`, which the fleet sends itself, and what
/// anybody may send: `{"package", "version", "options", "ecosystem"}`, or the original's
/// `{"category", "nameShort", "version", "useflag", …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "Once")]
pub enum CompileMessage {
    /// Compile a package.
    Build(BuildOrder),
    /// Look for new versions.
    Refresh(RefreshOrder),
    /// Mend what was missed, and forget what nobody wants any more.
    Reconcile(Reconcile),
    /// Build an artifact a second time, and compare.
    Twice(TwiceOrder),
    /// Somebody wants a package, for whom no row stands yet.
    #[serde(untagged)]
    Wish(Wish),
}

/// A build that was asked for; its row stands already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildOrder {
    /// The package manager's world.
    #[serde(default = "pypi")]
    pub ecosystem: String,
    /// The package, normalised.
    pub name: String,
    /// The version, as upstream writes it.
    pub version: String,
    /// The canonical option set.
    pub options: String,
    /// The request key, which its row has too.
    pub request: String,
    /// Which try of this request: one more after a failure that was forgotten, or a lost blob.
    pub epoch: u64,
}

/// The slow look at all rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reconcile {}

/// A second build of what is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwiceOrder {
    /// The order that it was built by.
    pub order: BuildOrder,
    /// When somebody asked, in Unix milliseconds: asked again, it is compared again.
    pub asked_at: u64,
}

/// Which packages to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshOrder {
    /// The ecosystem of the one that is named.
    #[serde(default = "pypi", skip_serializing_if = "is_pypi")]
    pub ecosystem: String,
    /// This one; without a name, all that changed, or all of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The serial of its change, which its page must not be older than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u64>,
    /// Whether it is looked at although its page seems to be the one that is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// A package that somebody wants, in his own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The ecosystem, or a category that stands for one.
    #[serde(default = "pypi")]
    pub ecosystem: String,
    /// The package.
    pub package: String,
    /// The version.
    pub version: String,
    /// The options: by name, or as one text of options or USE flags.
    #[serde(default)]
    pub options: Wanted,
}

/// Options as somebody writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Wanted {
    /// As one text.
    Text(String),
    /// By name.
    Named(BTreeMap<String, Value>),
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Named(BTreeMap::new())
    }
}

/// The original's message, of which the rest repeats what is here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Original {
    category: String,
    name_short: String,
    version: String,
    #[serde(default)]
    useflag: String,
}

impl Default for RefreshOrder {
    fn default() -> Self {
        Self { ecosystem: pypi(), name: None, serial: None, whole: false }
    }
}

fn is_pypi(ecosystem: &str) -> bool {
    ecosystem == PYPI
}

fn pypi() -> String {
    PYPI.to_owned()
}

impl BuildOrder {
    /// The table's key of its package.
    pub fn package(&self) -> String {
        package_key(&self.ecosystem, &self.name)
    }
}

impl From<Original> for Wish {
    fn from(it: Original) -> Self {
        Self {
            ecosystem: it.category,
            package: it.name_short,
            version: it.version,
            options: Wanted::Text(it.useflag),
        }
    }
}

impl TryFrom<Once> for CompileMessage {
    type Error = String;

    fn try_from(message: Once) -> Result<Self, String> {
        message.value.try_into()
    }
}

impl TryFrom<Value> for CompileMessage {
    type Error = String;

    fn try_from(message: Value) -> Result<Self, String> {
        let has = |name: &str| message.get(name).is_some();
        if has("build") {
            return part(&message["build"], "build").map(Self::Build);
        }
        if has("refresh") {
            return part(&message["refresh"], "refresh").map(Self::Refresh);
        }
        if has("reconcile") {
            return part(&message["reconcile"], "reconcile").map(Self::Reconcile);
        }
        if has("twice") {
            return part(&message["twice"], "twice").map(Self::Twice);
        }
        if has("nameShort") {
            return part(&message, "nameShort").map(|it: Original| Self::Wish(it.into()));
        }
        part(&message, "package").map(Self::Wish)
    }
}

fn part<T: DeserializeOwned>(value: &Value, what: &str) -> Result<T, String> {
    T::deserialize(value).map_err(|e| format!("{what}: {e}"))
}

impl CompileMessage {
    /// The message that looks at all packages of the list.
    pub fn refresh_all() -> Self {
        Self::Refresh(RefreshOrder::default())
    }

    /// The body to send.
    ///
    /// # Errors
    /// Never for a message of this type.
    pub fn body(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// The JSON Schema of what anybody may send.
pub fn schema() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A message to the compile worker",
        "type": "object",
        "oneOf": [
            {
                "title": "a package",
                "required": ["package", "version"],
                "not": { "anyOf": [{ "required": ["nameShort"] }, { "required": ["refresh"] }] },
                "properties": {
                    "package": text, "version": text,
                    "ecosystem": { "type": "string", "default": PYPI },
                    "options": { "type": ["object", "string"] },
                },
            },
            {
                "title": "a package, in the original's words",
                "required": ["category", "nameShort", "version"],
                "properties": {
                    "packageExpression": text, "nameLong": text, "category": text,
                    "nameShort": text, "version": text, "useflag": text,
                },
            },
            {
                "title": "look for new versions",
                "required": ["refresh"],
                "properties": {
                    "refresh": { "type": "object", "properties": { "name": text } },
                },
            },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> CompileMessage {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_scheduled_message_is_a_refresh_of_all() {
        let message = parsed(r#"{"refresh":{}}"#);
        assert_eq!(message, CompileMessage::refresh_all());
        assert_eq!(message.body().unwrap(), r#"{"refresh":{}}"#);
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        for text in [
            r#"{"build":{"ecosystem":"pypi","name":"a","version":"1","options":"default","request":"k","epoch":1}}"#,
            r#"{"refresh":{"name":"a"}}"#,
            r#"{"ecosystem":"pypi","package":"a","version":"1","options":{"opt":3}}"#,
        ] {
            assert_eq!(parsed(text).body().unwrap(), text);
        }
    }

    #[test]
    fn the_originals_message_is_a_wish() {
        let message = parsed(
            r#"{"packageExpression":"dev-python/tree-1.7.0","nameLong":"dev-python/tree",
                "category":"dev-python","nameShort":"tree","version":"1.7.0","useflag":"lto -debug"}"#,
        );
        let CompileMessage::Wish(wish) = message else { panic!("no wish") };
        assert_eq!((wish.ecosystem.as_str(), wish.package.as_str()), ("dev-python", "tree"));
        assert_eq!(wish.options, Wanted::Text("lto -debug".into()));
    }

    #[test]
    fn what_is_unknown_is_ignored_and_what_is_wrong_refused() {
        assert_eq!(parsed(r#"{"refresh":{"all":1},"x":1}"#), CompileMessage::refresh_all());
        for (bad, word) in [
            ("{}", "package"),
            ("7", "package"),
            (r#"{"build":{}}"#, "build: missing field `name`"),
            (r#"{"refresh":{"name":1}}"#, "refresh"),
            (r#"{"package":"a"}"#, "version"),
            (r#"{"package":"a","version":1}"#, "string"),
            (r#"{"nameShort":"a","version":"1"}"#, "category"),
            (r#"{"package":"a","version":"1","version":"2"}"#, "version is there twice"),
        ] {
            let why = serde_json::from_str::<CompileMessage>(bad).unwrap_err().to_string();
            assert!(why.contains(word), "{bad}: {why}");
        }
    }
}
