//! Problems as they are compared: what a row says that follows from readings.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Difference;
use crate::{
    root::{Paces, Trouble, causes},
    tables::Row,
};

/// A machine's episodes, as they are compared: by problem and opening.
pub(super) type Outline = BTreeMap<(String, i64), Value>;

/// The outlines of subjects, of whose problems these are all.
pub(super) fn outlines(troubles: Vec<Vec<Trouble>>, paces: &impl Paces) -> Vec<Outline> {
    let mut outlines = vec![Outline::new(); troubles.len()];
    let numbered = troubles.into_iter().enumerate();
    let mut all: Vec<(usize, Trouble)> =
        numbered.flat_map(|(number, some)| some.into_iter().map(move |it| (number, it))).collect();
    all.sort_by_key(|(_, it)| it.episode.opened.at);
    for (numbers, together) in apart(all) {
        let found = causes(&together, paces);
        for ((number, it), cause) in numbers.into_iter().zip(&together).zip(found) {
            let cause = cause.map(|it| key(&together[it]));
            outlines[number].insert(key(it), outlined(it, cause));
        }
    }
    outlines
}

/// Problems in order of their opening, parted where none lasts that opened before: what is in two parts
/// has nothing to do with one another.
fn apart(all: Vec<(usize, Trouble)>) -> Vec<(Vec<usize>, Vec<Trouble>)> {
    let (mut parts, mut until): (Vec<(Vec<usize>, Vec<Trouble>)>, _) = (Vec::new(), i64::MIN);
    for (number, it) in all {
        let end = it.episode.resolved.map_or(i64::MAX, |turn| turn.at);
        let begins = it.episode.opened.at > until;
        match parts.last_mut().filter(|_| !begins) {
            Some((numbers, together)) => {
                numbers.push(number);
                together.push(it);
            }
            None => parts.push((vec![number], vec![it])),
        }
        until = until.max(end);
    }
    parts
}

fn key(it: &Trouble) -> (String, i64) {
    (it.subject.problem_id(it.episode.kind), it.episode.opened.at)
}

fn outlined(Trouble { episode: it, .. }: &Trouble, cause: Option<(String, i64)>) -> Value {
    json!({
        "problem": it.kind.name(), "opened": it.opened.at, "opening": it.opened.evidence,
        "resolved": it.resolved.map(|turn| turn.at),
        "resolution": it.resolved.map(|turn| turn.evidence),
        "flaps": it.flaps, "recurrences": it.recurrences,
        "cause_id": cause.as_ref().map(|it| &it.0), "cause_opened": cause.as_ref().map(|it| it.1),
    })
}

/// When the problem of a row opened, in Unix milliseconds.
pub(super) fn opened(row: &Row) -> Option<i64> {
    field(row, "opened")?.as_i64()
}

/// A row of this problem as an episode is shown.
pub(super) fn shown(id: &str, row: &Row) -> Option<((String, i64), Value)> {
    let names = [
        "problem",
        "opened",
        "opening",
        "resolved",
        "resolution",
        "flaps",
        "recurrences",
        "cause_opened",
    ];
    let shown = names.into_iter().map(|name| (name.to_owned(), field(row, name).into()));
    // An id may look like JSON.
    let cause = row.get("cause_id").and_then(|it| it.as_s().ok());
    let shown = shown.chain([("cause_id".to_owned(), json!(cause))]);
    Some(((id.to_owned(), opened(row)?), Value::Object(shown.collect())))
}

/// A number of a row, or a text; a text that is JSON as what it is.
fn field(row: &Row, name: &str) -> Option<Value> {
    let value = row.get(name)?;
    match (value.as_n(), value.as_s()) {
        (Ok(number), _) => serde_json::from_str(number).ok(),
        (_, Ok(text)) if text.starts_with('{') => serde_json::from_str(text).ok(),
        (_, Ok(text)) => Some(json!(text)),
        _ => None,
    }
}

/// Where what was told and what is found are not the same.
pub(super) fn differences(told: &Outline, replayed: &Outline) -> Vec<Difference> {
    let keys: BTreeSet<_> = told.keys().chain(replayed.keys()).collect();
    let different = keys.into_iter().filter(|key| told.get(*key) != replayed.get(*key));
    let shown = |key: &(String, i64)| Difference {
        problem_id: key.0.clone(),
        opened: key.1,
        told: told.get(key).cloned(),
        replayed: replayed.get(key).cloned(),
    };
    different.map(shown).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue as Attr;

    use super::*;
    use crate::{
        engine::{Episode, Evidence, Kind, Sample, Turn},
        root::Pace,
        tables::Subject,
    };

    #[test]
    fn what_is_told_otherwise_not_at_all_or_without_reason_differs() {
        let of = |all: &[(&str, i64, u8)]| -> Outline {
            all.iter().map(|(id, at, it)| (((*id).to_owned(), *at), json!(it))).collect()
        };
        let told = of(&[("a", 1, 1), ("a", 2, 1), ("b", 1, 1)]);
        let replayed = of(&[("a", 1, 1), ("b", 1, 2), ("c", 3, 1)]);
        let found = differences(&told, &replayed);
        let outline: Vec<_> = found
            .iter()
            .map(|it| (it.problem_id.as_str(), it.opened, it.told.is_some(), it.replayed.is_some()))
            .collect();
        assert_eq!(outline, [("a", 2, true, false), ("b", 1, true, true), ("c", 3, false, true)]);
    }

    fn trouble(current: &str, following: &str, opened: i64, resolved: Option<i64>) -> Trouble {
        let said = |at| Some(Sample { at, filling: 1.0 });
        let evidence =
            |at| Evidence { current: said(at), following: said(at), ..Evidence::default() };
        let turn = |at| Turn { at, evidence: evidence(at) };
        let subject =
            Subject::Edge { current: current.to_owned(), following: following.to_owned() };
        let (opened, resolved) = (turn(opened), resolved.map(turn));
        let kind = Kind::Obstruction;
        let episode = Episode { kind, opened, resolved, flaps: 0, recurrences: 0, settled: false };
        Trouble { subject, episode }
    }

    #[test]
    fn what_a_problem_follows_from_is_compared_too() {
        let all = vec![
            vec![trouble("a", "b", 10, Some(20)), trouble("a", "b", 30, None)],
            vec![trouble("b", "c", 12, Some(15)), trouble("b", "c", 22, Some(25))],
        ];
        let found = outlines(all, &|_: &str| Pace::default());
        let cause =
            |of: usize, id: &str, at| found[of][&(id.to_owned(), at)]["cause_opened"].clone();
        assert_eq!((cause(0, "ab", 10), cause(0, "ab", 30)), (Value::Null, Value::Null));
        assert_eq!((cause(1, "bc", 12), cause(1, "bc", 22)), (json!(10), Value::Null));
        let mut row = Row::from([
            ("opened".to_owned(), Attr::N("12".to_owned())),
            ("problem".to_owned(), Attr::S("OBSTRUCTION".to_owned())),
            ("cause_id".to_owned(), Attr::S("{}".to_owned())),
            ("cause_opened".to_owned(), Attr::N("10".to_owned())),
        ]);
        let (key, told) = shown("bc", &row).unwrap();
        assert_eq!(
            (key.1, &told["cause_id"], &told["cause_opened"]),
            (12, &json!("{}"), &json!(10))
        );
        row.remove("cause_id");
        assert_eq!(shown("bc", &row).unwrap().1["cause_id"], Value::Null);
    }
}
