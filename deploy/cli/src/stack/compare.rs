//! What a template asks for against what is there.

use std::fmt;

use serde_json::{Map, Value};

/// One point in which a resource is not what its template says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The logical name in the template.
    pub resource: String,
    /// Dotted path below the resource, for example `TimeToLiveSpecification.Enabled`; empty for
    /// the resource as a whole.
    pub property: String,
    /// What the template asks for, as JSON or words.
    pub expected: String,
    /// What the service's own API says.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.property.is_empty() { "" } else { "." };
        let Difference { resource, property, expected, found } = self;
        write!(f, "{resource}{dot}{property}: expected {expected}, found {found}")
    }
}

impl Difference {
    /// A resource that is missing altogether, or of a type that nobody compares.
    pub(crate) fn whole(resource: &str, expected: String, found: &str) -> Self {
        let (resource, found) = (resource.to_owned(), found.to_owned());
        Difference { resource, property: String::new(), expected, found }
    }
}

/// Every difference between the properties of a template and those found. What the template does
/// not name at the top level is the service's default and no difference; below that, values must
/// be equal.
pub(crate) fn properties(
    resource: &str,
    expected: &Map<String, Value>,
    found: &Map<String, Value>,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (name, value) in expected {
        walk(resource, name, value, found.get(name), &mut differences);
    }
    differences
}

fn walk(
    resource: &str,
    path: &str,
    expected: &Value,
    found: Option<&Value>,
    differences: &mut Vec<Difference>,
) {
    match (expected, found) {
        (Value::Object(left), Some(Value::Object(right))) => {
            let mut names: Vec<_> = left.keys().chain(right.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let below = format!("{path}.{name}");
                let wanted = left.get(name).unwrap_or(&Value::Null);
                walk(resource, &below, wanted, right.get(name), differences);
            }
        }
        (expected, Some(found)) if same(expected, found) => {}
        (Value::Null, None) => {}
        (expected, found) => differences.push(Difference {
            resource: resource.to_owned(),
            property: path.to_owned(),
            expected: said(Some(expected)),
            found: said(found),
        }),
    }
}

fn said(value: Option<&Value>) -> String {
    value.filter(|value| !value.is_null()).map_or_else(|| "nothing".to_owned(), Value::to_string)
}

/// Equal, lists in any order.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => same_items(left, right),
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|it| same(value, it)))
        }
        _ => left == right,
    }
}

fn same_items(left: &[Value], right: &[Value]) -> bool {
    let mut rest: Vec<&Value> = right.iter().collect();
    left.len() == right.len()
        && left.iter().all(|value| {
            let place = rest.iter().position(|other| same(value, other));
            place.map(|index| rest.swap_remove(index)).is_some()
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn compare(expected: Value, found: Value) -> Vec<String> {
        let (Value::Object(expected), Value::Object(found)) = (expected, found) else {
            panic!("objects are compared");
        };
        properties("R", &expected, &found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_values_and_unnamed_defaults_do_not_differ() {
        let expected = json!({"A": 1, "B": {"x": [1, {"y": 2}]}});
        let found = json!({"A": 1, "B": {"x": [{"y": 2}, 1]}, "Default": true});
        assert_eq!(compare(expected, found), Vec::<String>::new());
    }

    #[test]
    fn a_missing_property_is_reported() {
        assert_eq!(
            compare(json!({"Ttl": {"Enabled": true}}), json!({})),
            [r#"R.Ttl: expected {"Enabled":true}, found nothing"#]
        );
    }

    #[test]
    fn a_different_value_is_reported_where_it_differs() {
        assert_eq!(
            compare(json!({"A": {"b": 1, "c": 2}}), json!({"A": {"b": 1, "c": "2"}})),
            [r#"R.A.c: expected 2, found "2""#]
        );
    }

    #[test]
    fn an_extra_value_below_a_named_property_is_reported() {
        assert_eq!(
            compare(json!({"A": {"b": 1}}), json!({"A": {"b": 1, "open": true}})),
            ["R.A.open: expected nothing, found true"]
        );
    }

    #[test]
    fn lists_of_another_length_or_item_differ() {
        assert_eq!(compare(json!({"A": [1]}), json!({"A": [1, 1]})).len(), 1);
        assert_eq!(compare(json!({"A": [1, 1, 2]}), json!({"A": [1, 2, 2]})).len(), 1);
    }

    proptest! {
        #[test]
        fn a_value_never_differs_from_its_own_permutation(mut items: Vec<u8>, turn: usize) {
            let original = json!({ "A": items });
            if !items.is_empty() {
                let by = turn % items.len();
                items.rotate_left(by);
            }
            prop_assert_eq!(compare(original, json!({ "A": items })).len(), 0);
        }
    }
}
