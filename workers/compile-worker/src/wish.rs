//! What somebody wants, in his own words, as a request.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    builder::BuilderInfo,
    builds::Request,
    ecosystem::{self, Grammar},
    message::{Wanted, Wish},
    options::{BadOptions, Options, Rules},
};

/// Which ecosystem a category stands for, beside those that are called like one.
pub type Categories = BTreeMap<String, String>;

impl Wanted {
    /// The option set.
    ///
    /// # Errors
    /// As [`Options::from_pairs`].
    pub fn options(&self, rules: &Rules) -> Result<Options, BadOptions> {
        match self {
            Self::Text(text) => Options::parse(text, rules),
            Self::Named(named) => {
                // A kind of options of which there is none.
                let none = |(name, value): &(&String, &Value)| {
                    value.as_object().is_some_and(Map::is_empty) && rules.is_kind(name)
                };
                let said: Vec<_> = named.iter().filter(|it| !none(it)).collect();
                said.iter().try_for_each(plain)?;
                Options::from_pairs(said.into_iter().flat_map(pairs), rules)
            }
        }
    }
}

/// Refuses a list as the value of `env.NAME` or `config.NAME`, which would not come to the build as one.
fn plain((name, value): &(&String, &Value)) -> Result<(), BadOptions> {
    let several = |it: &Value| it.is_array() || it.is_object() || it.is_null();
    let bad = match value {
        Value::Object(kind) => {
            let bad = kind.iter().find(|(_, it)| several(it));
            bad.map(|(inner, it)| (format!("{name}.{inner}"), it))
        }
        it => (name.contains('.') && several(it)).then(|| (name.to_string(), *it)),
    };
    bad.map_or(Ok(()), |(name, it)| {
        Err(BadOptions(format!("{name} cannot be {it}; it can be one text")))
    })
}

/// An option as it is written; of an object of options of a kind (`env`), each.
fn pairs((name, value): (&String, &Value)) -> Vec<(String, String)> {
    match value {
        Value::Object(kind) if !kind.is_empty() => {
            kind.iter().map(|(inner, value)| (format!("{name}.{inner}"), text(value))).collect()
        }
        value => vec![(name.clone(), text(value))],
    }
}

/// A value as an option is written; of a list, its parts.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text).collect::<Vec<_>>().join("+"),
        other => other.to_string(),
    }
}

/// The ecosystem that a name or category stands for.
///
/// # Errors
/// Names those that are known.
pub fn ecosystem(category: &str, categories: &Categories) -> Result<&'static Grammar, String> {
    let mapped = categories.get(category).map_or(category, String::as_str);
    ecosystem::named(mapped).ok_or_else(|| {
        let mut known: Vec<&str> = ecosystem::names().collect();
        known.extend(categories.keys().map(String::as_str));
        format!("there is no ecosystem {category:?}; there are: {}", known.join(", "))
    })
}

impl Wish {
    /// The request for it in this ecosystem, from its builder.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn request(&self, grammar: &Grammar, info: &BuilderInfo) -> Result<Request, String> {
        let options = self.options.options(&grammar.options).map_err(|why| why.to_string())?;
        let options = (grammar.settled)(options, info).map_err(|why| why.to_string())?;
        let name = (grammar.package)(&self.package)?;
        let request = Request::new(grammar.name, &name, &self.version, options, info);
        request.map_err(|why| why.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_the_same_as_text_and_by_name() {
        let rules = &crate::pypi::GRAMMAR.options;
        let named = |value: Value| serde_json::from_value::<Wanted>(value).unwrap().options(rules);
        let text = named(json!("opt=3 +lto -debug extras=b+a")).unwrap();
        let list = json!({"opt": 3, "lto": true, "debug": false, "extras": ["a", "b"]});
        assert_eq!(named(list).unwrap(), text);
        assert_eq!(named(json!({})).unwrap(), Options::default());
        assert_eq!(named(json!({"env": {}, "config_settings": {}})).unwrap(), Options::default());
        let lists = [json!({"config": {"a": ["b", "c"]}}), json!({"env.CFLAGS": ["-g"]})];
        let named_so = [json!({"lto": {}}), json!({"lto": {"x": "y"}}), json!({"speed": {}})];
        for bad in named_so.into_iter().chain(lists) {
            assert!(named(bad.clone()).is_err(), "{bad}");
        }
        let of_kinds = json!({"env": {"CFLAGS": "-O3 -g"}, "config-settings": {"a": "b"}});
        let text = named(json!("env.CFLAGS=-O3%20-g config.a=b")).unwrap();
        assert_eq!(named(of_kinds).unwrap(), text);
    }

    #[test]
    fn a_category_stands_for_an_ecosystem_by_configuration() {
        let categories = Categories::from([("dev-python".to_owned(), "pypi".to_owned())]);
        for (category, name) in [("dev-python", "pypi"), ("pypi", "pypi"), ("crates", "crates")] {
            assert_eq!(ecosystem(category, &categories).unwrap().name, name);
        }
        let why = ecosystem("app-text", &categories).unwrap_err();
        assert!(why.contains("app-text") && why.contains("pypi, crates, dev-python"), "{why}");
    }
}
