//! Where somebody is in the streams: after which record of each shard.
//!
//! It goes out with every event as an opaque text, and whoever brings it back is told what came
//! after it, by this gateway or another.

use std::{cmp::Ordering, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::ask::{Refused, cursor, place};

/// Where in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// At its beginning.
    Begin,
    /// After everything that was there when the position was first taken.
    Then,
    /// After the record of this number.
    After(String),
}

impl Mark {
    /// The number of the last record, where one was read.
    pub(super) fn number(&self) -> Option<&str> {
        match self {
            Self::After(number) => Some(number),
            _ => None,
        }
    }
}

/// Where in the stream of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Which stream: a table that is made anew has another.
    #[serde(rename = "s")]
    pub(super) stream: String,
    #[serde(rename = "m")]
    pub(super) marks: BTreeMap<String, Mark>,
}

/// Where in all streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// When it was first taken, in Unix milliseconds.
    #[serde(rename = "t")]
    pub(super) since: i64,
    #[serde(rename = "p")]
    pub(super) places: [Place; 2],
}

impl Position {
    /// Moves on to a record.
    pub(super) fn read(&mut self, stream: usize, shard: &str, number: &str) {
        let marks = &mut self.places[stream].marks;
        marks.insert(shard.to_owned(), Mark::After(number.to_owned()));
    }

    /// As an opaque text.
    pub(super) fn text(&self) -> String {
        cursor(self)
    }

    /// From its text.
    pub(super) fn from_text(text: &str) -> Result<Self, Refused> {
        place(text)
    }
}

/// Numbers of records in their order: as numbers, of however many digits.
pub(super) fn order(one: &str, other: &str) -> Ordering {
    let [one, other] = [one, other].map(|it| it.trim_start_matches('0'));
    one.len().cmp(&other.len()).then(one.cmp(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_position_comes_back_as_it_went_out(
            since: i64,
            marks in prop::collection::btree_map("[a-z0-9-]{1,40}", prop::option::of("[0-9]{0,40}"), 0..5),
        ) {
            let mark = |it: Option<String>| it.map_or(Mark::Then, Mark::After);
            let marks: BTreeMap<_, _> = marks.into_iter().map(|(id, it)| (id, mark(it))).collect();
            let place = Place { stream: "2026".to_owned(), marks };
            let empty = Place { stream: String::new(), marks: BTreeMap::new() };
            let position = Position { since, places: [place, empty] };
            prop_assert_eq!(Position::from_text(&position.text()).unwrap(), position);
        }

        #[test]
        fn numbers_are_ordered_as_numbers(one: u64, other: u64, width in 0..30_usize) {
            let (a, b) = (format!("{one:0width$}"), other.to_string());
            prop_assert_eq!(order(&a, &b), one.cmp(&other));
        }
    }

    #[test]
    fn nonsense_is_no_position() {
        for text in ["", "x", "e30", "bnVsbA", &"A".repeat(70_000)] {
            assert!(Position::from_text(text).is_err(), "{text:.20}");
        }
    }
}
