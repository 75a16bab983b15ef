//! DynamoDB's expressions, as far as the ledger uses them: conditions of comparisons joined by
//! AND and OR, and updates with SET, ADD and REMOVE.

use serde_json::{Map, Value, json};

use super::Refusal;

/// An item: attribute names to typed values (`{"S": …}`, `{"N": …}`).
pub type Item = Map<String, Value>;

/// An expression's words, and what its placeholders stand for.
struct Words<'a> {
    rest: Vec<&'a str>,
    names: &'a Value,
    values: &'a Value,
}

/// Whether an item (an empty one where there is none) meets the condition of a request.
///
/// # Errors
/// Where the condition is not of the kind that is understood here.
pub fn holds(item: &Item, request: &Value) -> Result<bool, Refusal> {
    let Some(text) = request["ConditionExpression"].as_str() else {
        return Ok(true);
    };
    let mut words = Words::of(text, request);
    let held = words.any(item)?;
    match words.rest.is_empty() {
        true => Ok(held),
        false => Err(Refusal::invalid(&format!("what follows is not understood: {text}"))),
    }
}

/// Changes an item as the update of a request says.
///
/// # Errors
/// Where the update is not of the kind that is understood here.
pub fn update(item: &mut Item, request: &Value) -> Result<(), Refusal> {
    let text = request["UpdateExpression"].as_str().unwrap_or_default();
    let mut words = Words::of(text, request);
    let mut clause = "";
    while let Some(word) = words.next() {
        match (word, clause) {
            ("SET" | "ADD" | "REMOVE", _) => clause = if word == "SET" { "SET" } else { word },
            (",", _) => {}
            (name, "SET") => {
                words.expect("=")?;
                let value = words.operand(item)?;
                item.insert(words.name(name), value);
            }
            (name, "ADD") => {
                let (name, by) = (words.name(name), words.operand(item)?);
                let sum = number(item.get(&name)) + number(Some(&by));
                item.insert(name, json!({ "N": sum.to_string() }));
            }
            (name, "REMOVE") => drop(item.remove(&words.name(name))),
            _ => {
                return Err(Refusal::invalid(&format!("an update that is not understood: {text}")));
            }
        }
    }
    Ok(())
}

impl<'a> Words<'a> {
    fn of(text: &'a str, request: &'a Value) -> Self {
        let (names, values) =
            (&request["ExpressionAttributeNames"], &request["ExpressionAttributeValues"]);
        let mut rest: Vec<_> = text
            .split_inclusive([' ', '(', ')', ',', '=', '<'])
            .flat_map(|piece| {
                let cut =
                    piece.len() - usize::from(piece.ends_with([' ', '(', ')', ',', '=', '<']));
                [&piece[..cut], &piece[cut..]]
            })
            .filter(|word| !word.trim().is_empty())
            .collect();
        rest.reverse();
        Self { rest, names, values }
    }

    fn next(&mut self) -> Option<&'a str> {
        self.rest.pop()
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.rest.last() == Some(&word);
        if there {
            self.rest.pop();
        }
        there
    }

    fn expect(&mut self, word: &str) -> Result<(), Refusal> {
        let found = self.rest.last().copied().unwrap_or("the end");
        let wrong = || Refusal::invalid(&format!("{word} was expected, and not {found}"));
        self.take(word).then_some(()).ok_or_else(wrong)
    }

    fn any(&mut self, item: &Item) -> Result<bool, Refusal> {
        let mut held = self.all(item)?;
        while self.take("OR") {
            held |= self.all(item)?;
        }
        Ok(held)
    }

    fn all(&mut self, item: &Item) -> Result<bool, Refusal> {
        let mut held = self.one(item)?;
        while self.take("AND") {
            held &= self.one(item)?;
        }
        Ok(held)
    }

    fn one(&mut self, item: &Item) -> Result<bool, Refusal> {
        if self.take("(") {
            let held = self.any(item)?;
            self.expect(")")?;
            return Ok(held);
        }
        if self.take("attribute_not_exists") {
            self.expect("(")?;
            let name = self.next().map(|name| self.name(name)).unwrap_or_default();
            self.expect(")")?;
            return Ok(!item.contains_key(&name));
        }
        if self.take("attribute_exists") {
            self.expect("(")?;
            let name = self.next().map(|name| self.name(name)).unwrap_or_default();
            self.expect(")")?;
            return Ok(item.contains_key(&name));
        }
        let left = self.operand(item)?;
        let comparison = self.next().unwrap_or_default();
        let right = self.operand(item)?;
        match comparison {
            "=" => Ok(!left.is_null() && left == right),
            "<" => Ok(!left.is_null() && number(Some(&left)) < number(Some(&right))),
            other => {
                Err(Refusal::invalid(&format!("a comparison that is not understood: {other}")))
            }
        }
    }

    fn operand(&mut self, item: &Item) -> Result<Value, Refusal> {
        let word = self.next().ok_or_else(|| Refusal::invalid("an expression that ends early"))?;
        if word.starts_with(':') {
            return Ok(self.values[word].clone());
        }
        Ok(item.get(&self.name(word)).cloned().unwrap_or(Value::Null))
    }

    fn name(&self, word: &str) -> String {
        self.names[word].as_str().unwrap_or(word).to_owned()
    }
}

fn number(value: Option<&Value>) -> i64 {
    value.and_then(|v| v["N"].as_str()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(fields: Value) -> Item {
        fields.as_object().unwrap().clone()
    }

    fn claim(condition: &str) -> Value {
        json!({
            "ConditionExpression": condition,
            "ExpressionAttributeNames": { "#s": "state" },
            "ExpressionAttributeValues": { ":free": { "S": "free" }, ":claimed": { "S": "claimed" }, ":now": { "N": "100" } },
        })
    }

    #[test]
    fn a_claim_is_open_where_nobody_holds_it_or_the_lease_is_over() {
        let claim = claim(
            "attribute_not_exists(#s) OR #s = :free OR (#s = :claimed AND lease_until < :now)",
        );
        let held = |fields| holds(&item(fields), &claim).unwrap();
        assert!(held(json!({})));
        assert!(held(json!({ "state": { "S": "free" } })));
        assert!(held(json!({ "state": { "S": "claimed" }, "lease_until": { "N": "99" } })));
        assert!(!held(json!({ "state": { "S": "claimed" }, "lease_until": { "N": "101" } })));
        assert!(!held(json!({ "state": { "S": "done" }, "lease_until": { "N": "99" } })));
    }

    #[test]
    fn an_attribute_is_there_or_not() {
        let there = item(json!({ "state": { "S": "free" } }));
        let asked = |text: &str, row: &Item| holds(row, &claim(text)).unwrap();
        assert!(
            asked("attribute_exists(#s)", &there) && !asked("attribute_exists(#s)", &Item::new())
        );
        assert!(!asked("attribute_not_exists(#s)", &there));
    }

    #[test]
    fn an_update_sets_adds_and_removes() {
        let mut row = item(json!({ "generation": { "N": "4" }, "lease_until": { "N": "1" } }));
        let request = json!({
            "UpdateExpression": "SET #s = :s, owner = :s ADD generation :one, attempts :one REMOVE lease_until",
            "ExpressionAttributeNames": { "#s": "state" },
            "ExpressionAttributeValues": { ":s": { "S": "x" }, ":one": { "N": "1" } },
        });
        update(&mut row, &request).unwrap();
        let after = json!({
            "state": { "S": "x" }, "owner": { "S": "x" }, "generation": { "N": "5" }, "attempts": { "N": "1" },
        });
        assert_eq!(Value::Object(row), after);
    }

    #[test]
    fn what_is_not_understood_is_refused_and_never_held_for_true() {
        for text in ["#s > :free", "contains(#s, :free)", "#s = :free NOT #s", "#s"] {
            assert!(holds(&item(json!({})), &claim(text)).is_err(), "{text}");
        }
    }
}
