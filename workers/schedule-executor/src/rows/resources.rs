//! The resources of a context.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Service;

/// The resources of one kind in a context: three lists of equal lengths, in a row as the text of
/// their JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Ids or ARNs.
    pub id: Vec<String>,
    /// Whether each takes part.
    #[serde(rename = "isScheduled", default)]
    pub scheduled: Vec<bool>,
    /// What else is known of each; empty for nothing.
    #[serde(default)]
    pub attrib: Vec<String>,
}

impl Resources {
    /// Reads the lists from JSON: an object of the three, its text, or a plain list of ids.
    /// Lists that are left out are filled.
    pub fn from_json(value: &Value) -> Option<Self> {
        let mut found: Self = match value {
            Value::String(text) => return Self::from_json(&serde_json::from_str(text).ok()?),
            Value::Array(_) => {
                Self { id: serde_json::from_value(value.clone()).ok()?, ..Self::default() }
            }
            _ => serde_json::from_value(value.clone()).ok()?,
        };
        let count = found.id.len();
        if found.scheduled.is_empty() {
            found.scheduled = vec![true; count];
        }
        if found.attrib.is_empty() {
            found.attrib = vec![String::new(); count];
        }
        let equal = found.scheduled.len() == count && found.attrib.len() == count;
        (equal && found.id.iter().all(|id| !id.trim().is_empty())).then_some(found)
    }

    /// Adds a resource, or changes what is known of it.
    pub fn add(&mut self, id: &str, scheduled: bool, attrib: &str) {
        self.remove(id);
        self.id.push(id.to_owned());
        self.scheduled.push(scheduled);
        self.attrib.push(attrib.to_owned());
    }

    /// Adds a resource, or changes of what is known of it that which is said: of a new one, that it takes
    /// part, and nothing else.
    pub fn change(&mut self, id: &str, scheduled: Option<bool>, attrib: Option<&str>) {
        let known = self.id.iter().position(|it| it == id);
        let took = known.and_then(|index| self.scheduled.get(index)).copied().unwrap_or(true);
        let had = known.and_then(|index| self.attrib.get(index)).cloned().unwrap_or_default();
        self.add(id, scheduled.unwrap_or(took), attrib.unwrap_or(&had));
    }

    /// Adds all of another list: one kind may be named twice, by its short name and by its long one.
    fn merge(&mut self, other: Self) {
        if self.id.is_empty() {
            *self = other;
            return;
        }
        let rest = other.scheduled.into_iter().zip(other.attrib);
        for (id, (scheduled, attrib)) in other.id.iter().zip(rest) {
            self.add(id, scheduled, &attrib);
        }
    }

    /// Takes a resource out. False when it was not in.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(index) = self.id.iter().position(|it| it == id) else {
            return false;
        };
        self.id.remove(index);
        self.scheduled.remove(index);
        self.attrib.remove(index);
        true
    }
}

/// The resources of a context, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceRow {
    /// The context.
    pub context: String,
    /// The lists.
    pub lists: Vec<(Service, Resources)>,
}

impl ResourceRow {
    /// Reads the resources of a registration: JSON, or its text, of an object from kind to
    /// [`Resources`], or a list of ARNs.
    pub fn from_json(context: &str, value: &Value) -> Option<Self> {
        let mut row = Self { context: context.to_owned(), lists: Vec::new() };
        match value {
            Value::Null => Some(row),
            Value::String(text) if text.trim().is_empty() => Some(row),
            Value::String(text) => Self::from_json(context, &serde_json::from_str(text).ok()?),
            Value::Array(arns) => {
                for arn in arns {
                    let arn = arn.as_str()?;
                    row.list(crate::arn::Arn::parse(arn)?.service()?).add(arn, true, "");
                }
                Some(row)
            }
            Value::Object(kinds) => {
                for (kind, list) in kinds.iter().filter(|(kind, _)| *kind != "contextID") {
                    row.list(Service::named(kind)?).merge(Resources::from_json(list)?);
                }
                Some(row)
            }
            _ => None,
        }
    }

    /// The list of a kind, empty where there was none.
    pub fn list(&mut self, service: Service) -> &mut Resources {
        let index = match self.lists.iter().position(|(it, _)| *it == service) {
            Some(index) => index,
            None => {
                self.lists.push((service, Resources::default()));
                self.lists.len() - 1
            }
        };
        &mut self.lists[index].1
    }

    /// The row as the original had it: each list as the text of its JSON.
    pub fn to_json(&self) -> Value {
        let mut row = Map::from_iter([("contextID".to_owned(), Value::from(&*self.context))]);
        for (service, list) in &self.lists {
            let text = serde_json::to_string(list).unwrap_or_default();
            row.insert(service.name().to_owned(), Value::String(text));
        }
        Value::Object(row)
    }
}
