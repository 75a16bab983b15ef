//! What somebody wants, in his own words, as a request.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    builder::BuilderInfo,
    builds::{PYPI, Request},
    message::{Wanted, Wish},
    names::normalize,
    options::{BadOptions, Options},
};

/// Which ecosystem a category stands for, beside those that are called like one.
pub type Categories = BTreeMap<String, String>;

impl Wanted {
    /// The option set.
    ///
    /// # Errors
    /// As [`Options::from_pairs`].
    pub fn options(&self) -> Result<Options, BadOptions> {
        match self {
            Self::Text(text) => text.parse(),
            Self::Named(named) => {
                Options::from_pairs(named.iter().map(|(name, value)| (name, text(value))))
            }
        }
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
pub fn ecosystem(category: &str, categories: &Categories) -> Result<String, String> {
    let mapped = categories.get(category).map_or(category, String::as_str);
    if mapped == PYPI {
        return Ok(mapped.to_owned());
    }
    let known: Vec<&str> =
        [PYPI].into_iter().chain(categories.keys().map(String::as_str)).collect();
    Err(format!("there is no ecosystem {category:?}; there are: {}", known.join(", ")))
}

impl Wish {
    /// The request for it, from this builder.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn request(&self, categories: &Categories, info: &BuilderInfo) -> Result<Request, String> {
        ecosystem(&self.ecosystem, categories)?;
        let options = self.options.options().map_err(|why| why.to_string())?;
        let name = normalize(&self.package)?;
        Request::new(&name, &self.version, options, info).map_err(|why| why.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_the_same_as_text_and_by_name() {
        let named = |value: Value| serde_json::from_value::<Wanted>(value).unwrap().options();
        let text = named(json!("opt=3 +lto -debug extras=b+a")).unwrap();
        let list = json!({"opt": 3, "lto": true, "debug": false, "extras": ["a", "b"]});
        assert_eq!(named(list).unwrap(), text);
        assert_eq!(named(json!({})).unwrap(), Options::default());
        assert!(named(json!({"lto": {}})).is_err());
    }

    #[test]
    fn a_category_stands_for_an_ecosystem_by_configuration() {
        let categories = Categories::from([("dev-python".to_owned(), PYPI.to_owned())]);
        assert_eq!(ecosystem("dev-python", &categories).as_deref(), Ok(PYPI));
        assert_eq!(ecosystem("pypi", &categories).as_deref(), Ok(PYPI));
        let why = ecosystem("app-text", &categories).unwrap_err();
        assert!(why.contains("app-text") && why.contains("pypi, dev-python"), "{why}");
    }
}
