//! Whose a key is: a row of a request, or what was once built of one.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue as Attr, ReturnValue};
use flotilla_runtime::{Failure, failure::chain};

use super::{Builds, FORGOTTEN, OF, Request, Row, State, bad, now, number, row_key, text};
use crate::message::BuildOrder;

/// What a key is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyed {
    /// A request as it stands, or an artifact as it was built.
    Row(Box<Row>),
    /// An artifact of which nothing is known any more; what is in its place has this key.
    Overtaken(String),
}

impl Builds {
    /// What a request key or an artifact key is of.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn by_key(&self, key: &str) -> Result<Option<Keyed>, Failure> {
        let Some(pointer) = self.item(&pointer(key), OF).await? else {
            return Ok(None);
        };
        let text = |name: &str| pointer.get(name).and_then(|it| it.as_s().ok());
        let (Some(package), Some(request)) = (text("of_package"), text("of_request")) else {
            return Ok(None);
        };
        let row = self.get(package, request).await?;
        Ok(row.map(|row| keyed(row, key, &pointer)))
    }

    /// Says whose a request key is, before there is a row: a key that points nowhere is no key.
    /// Gives the first epoch of the row: no earlier row of this request had it.
    pub(super) async fn point(&self, it: &Request) -> Result<u64, Failure> {
        let call = self.update(&pointer(&it.key), OF);
        let call = call
            .update_expression("SET of_package = :package, of_request = :request")
            .expression_attribute_values(":package", text(&it.package()))
            .expression_attribute_values(":request", text(&it.key))
            .return_values(ReturnValue::AllNew);
        let answer =
            call.send().await.map_err(|e| self.failed("UpdateItem", &it.key, chain(&e)))?;
        let item = answer.attributes.unwrap_or_default();
        let forgotten = item.get(FORGOTTEN).and_then(|it| it.as_n().ok()?.parse::<u64>().ok());
        Ok(forgotten.unwrap_or(0) + 1)
    }
}

/// The row, or what it was when this artifact was built: a later try may have made another.
fn keyed(row: Row, key: &str, pointer: &HashMap<String, Attr>) -> Keyed {
    let own = match &row.state {
        State::Done(artifact) => artifact.artifact.as_str(),
        _ => &row.request,
    };
    if [own, &row.request].contains(&key) {
        return Keyed::Row(Box::new(row));
    }
    let by = own.to_owned();
    match built(pointer) {
        Some((state, epoch, at)) => Keyed::Row(Box::new(Row {
            state,
            epoch,
            ended_at: Some(at),
            lock: None,
            live: None,
            verdict: None,
            overtaken_by: Some(by),
            ..row
        })),
        None => Keyed::Overtaken(by),
    }
}

/// What was built, in which try, and when.
fn built(pointer: &HashMap<String, Attr>) -> Option<(State, u64, u64)> {
    let count = |name: &str| pointer.get(name)?.as_n().ok()?.parse().ok();
    let state = serde_json::from_str(pointer.get("detail")?.as_s().ok()?).ok()?;
    Some((state, count("epoch")?, count("ended_at")?))
}

/// The first part of the key of the row that says whose a key is; no package has it.
pub(super) fn pointer(key: &str) -> String {
    format!("key:{key}")
}

/// The item of an artifact key: whose it is, and all that was built, which another try of the request
/// does not change.
pub(super) fn pointer_item(
    key: &str,
    order: &BuildOrder,
    built: &State,
) -> Result<HashMap<String, Attr>, Failure> {
    let detail = serde_json::to_string(built).map_err(|e| bad(e.to_string()))?;
    let mut item = row_key(&pointer(key), OF);
    for (name, value) in [
        ("of_package", text(&order.package())),
        ("of_request", text(&order.request)),
        ("detail", text(&detail)),
        ("epoch", number(order.epoch)),
        ("ended_at", number(now())),
    ] {
        item.insert(name.to_owned(), value);
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::builds::{Artifact, row};

    fn artifact(key: &str, requires: &str) -> State {
        State::Done(Artifact {
            artifact: key.into(),
            parts: BTreeMap::from([("build_requires".into(), json!({ requires: "00" }))]),
            filename: "a-1.0-py3-none-any.whl".into(),
            blob: format!("blobs/{key}"),
            sha256: key.into(),
            size: 1,
            log: format!("logs/{key}"),
            metadata: None,
            requires: vec![requires.into()],
            bundled: BTreeMap::new(),
            build_ms: 1,
        })
    }

    fn standing(state: &State) -> Row {
        let item = HashMap::from(
            [
                ("package", text("pypi/a")),
                ("request", text("request")),
                ("version", text("1.0")),
                ("options", text("default")),
                ("parts", text(&Value::Null.to_string())),
                ("epoch", number(2)),
                ("ordered_at", number(1)),
                ("detail", text(&serde_json::to_string(state).unwrap())),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        row::read(&item).unwrap()
    }

    #[test]
    fn an_artifact_key_is_of_what_was_built_under_it_whatever_came_later() {
        let order = BuildOrder {
            ecosystem: "pypi".into(),
            name: "a".into(),
            version: "1.0".into(),
            options: "default".into(),
            request: "request".into(),
            epoch: 1,
        };
        let (first, second) = (artifact("first", "b-1"), artifact("second", "b-2"));
        let pointer = pointer_item("first", &order, &first).unwrap();
        let now = standing(&second);
        for own in ["request", "second"] {
            assert_eq!(keyed(now.clone(), own, &pointer), Keyed::Row(Box::new(now.clone())));
        }
        let Keyed::Row(old) = keyed(now.clone(), "first", &pointer) else { panic!("it is known") };
        assert_eq!((&old.state, old.epoch), (&first, 1));
        assert_eq!(old.overtaken_by.as_deref(), Some("second"));
        let gone = keyed(now, "first", &HashMap::new());
        assert_eq!(gone, Keyed::Overtaken("second".into()));
    }
}
