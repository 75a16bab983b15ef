//! A template with its parameters put in, and what an API answers beside it.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};
use serde_norway::Value;

/// A CloudFormation template with values for its parameters.
#[derive(Debug)]
pub struct Template {
    body: Value,
    /// By parameter, pseudo parameter or resource.
    values: HashMap<String, String>,
}

impl Template {
    /// A template with its defaults, and what else is to be put in by name.
    ///
    /// # Panics
    /// When it is no YAML.
    pub fn new(text: &str, more: &[(&str, &str)]) -> Self {
        let body: Value = serde_norway::from_str(text).expect("a template");
        let mut values = HashMap::new();
        for (name, parameter) in body["Parameters"].as_mapping().into_iter().flatten() {
            let default = parameter.get("Default").and_then(word);
            values.extend(name.as_str().map(str::to_owned).zip(default));
        }
        values.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { body, values }
    }

    /// The properties of a resource, every value as text; `None` where its condition does not hold.
    pub fn properties(&self, resource: &str) -> Option<Json> {
        let resource = &self.body["Resources"][resource];
        let condition = resource.get("Condition").and_then(Value::as_str);
        condition.is_none_or(|name| self.holds(name)).then_some(())?;
        self.resolve(&resource["Properties"])
    }

    fn holds(&self, condition: &str) -> bool {
        self.is_true(&self.body["Conditions"][condition])
    }

    fn is_true(&self, test: &Value) -> bool {
        let Value::Tagged(call) = test else { panic!("{test:?} is no condition") };
        let given = call.value.as_sequence().expect("a list");
        if call.tag == "Not" {
            return !self.is_true(&given[0]);
        }
        assert!(call.tag == "Equals", "{test:?}");
        self.resolve(&given[0]) == self.resolve(&given[1])
    }

    fn resolve(&self, value: &Value) -> Option<Json> {
        match value {
            Value::Tagged(call) if call.tag == "If" => {
                let given = call.value.as_sequence().expect("a list");
                let holds = self.holds(given[0].as_str().expect("a condition"));
                self.resolve(&given[if holds { 1 } else { 2 }])
            }
            Value::Tagged(call) => self.called(&call.tag.to_string(), &call.value),
            Value::Sequence(all) => Some(all.iter().filter_map(|it| self.resolve(it)).collect()),
            Value::Mapping(all) => {
                let each = all.iter().filter_map(|(name, value)| {
                    Some((name.as_str()?.to_owned(), self.resolve(value)?))
                });
                Some(Json::Object(each.collect::<Map<_, _>>()))
            }
            plain => word(plain).map(Json::String),
        }
    }

    fn called(&self, function: &str, given: &Value) -> Option<Json> {
        let given = given.as_str().expect("a name");
        match function.trim_start_matches('!') {
            "Ref" if given == "AWS::NoValue" => None,
            "Sub" => {
                let put = |text: String, (name, value): (&String, &String)| {
                    text.replace(&format!("${{{name}}}"), value)
                };
                Some(Json::String(self.values.iter().fold(given.to_owned(), put)))
            }
            // What is made only with the stack stands for itself.
            _ => Some(Json::String(self.values.get(given).cloned().unwrap_or(given.to_owned()))),
        }
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(is) => Some(is.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// An action of a query API with these parameters.
pub(crate) fn query(action: &str, version: &str, parameters: &Json) -> String {
    let mut all = vec![format!("Action={action}&Version={version}")];
    flatten("", parameters, &mut all);
    all.join("&")
}

fn flatten(name: &str, value: &Json, all: &mut Vec<String>) {
    let within =
        |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    match value {
        Json::Object(fields) => fields.iter().for_each(|(key, it)| flatten(&within(key), it, all)),
        Json::Array(items) => {
            let numbered = (1..).zip(items);
            numbered.for_each(|(n, it)| flatten(&within(&format!("member.{n}")), it, all));
        }
        plain => {
            let text = plain.as_str().map_or_else(|| plain.to_string(), str::to_owned);
            let bytes = text.bytes().map(|byte| format!("%{byte:02X}"));
            all.push(format!("{name}={}", bytes.collect::<String>()));
        }
    }
}

/// What is within the first element of this name in an answer.
///
/// # Panics
/// When there is none.
pub fn answered(xml: &str, name: &str) -> Json {
    let start = format!("<{name}>");
    let (_, mut rest) = xml.split_once(&start).unwrap_or_else(|| panic!("no {name} in {xml}"));
    within(&mut rest)
}

/// What is up to the end of the element that was begun: a list of members, fields, or text.
fn within(rest: &mut &str) -> Json {
    let (mut members, mut fields, mut text) = (Vec::new(), Map::new(), String::new());
    while let Some((before, after)) = rest.split_once('<') {
        text += before;
        let (tag, after) = after.split_once('>').expect("the end of a tag");
        *rest = after;
        if tag.starts_with('/') {
            break;
        }
        let empty = tag.strip_suffix('/');
        let value = empty.map_or_else(|| within(rest), |_| Json::Null);
        match empty.unwrap_or(tag) {
            "member" => members.push(value),
            name => drop(fields.insert(name.to_owned(), value)),
        }
    }
    match (members.is_empty(), fields.is_empty()) {
        (false, _) => Json::Array(members),
        (true, false) => Json::Object(fields),
        (true, true) => {
            let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
            Json::String(plain.replace("&amp;", "&"))
        }
    }
}

/// Where what was found is not what was wanted; it may hold more.
pub fn difference(wanted: &Json, found: &Json) -> Option<String> {
    let number = |it: &Json| it.as_str().and_then(|text| text.parse::<f64>().ok());
    match (wanted, found) {
        (Json::Object(wanted), Json::Object(found)) => wanted.iter().find_map(|(name, value)| {
            let found = found.get(name).unwrap_or(&Json::Null);
            difference(value, found).map(|why| format!("{name}: {why}"))
        }),
        (Json::Array(all), Json::Array(found)) if all.len() == found.len() => {
            all.iter().zip(found).find_map(|(wanted, found)| difference(wanted, found))
        }
        _ if wanted == found => None,
        _ if number(wanted).is_some() && number(wanted) == number(found) => None,
        _ => Some(format!("{wanted} is wanted, and {found} is there")),
    }
}
