//! What a listener asks for.
//!
//! `{"subscribe": {"devices": […], "zones": […], "prefixes": […], "kinds": […], "statuses": […],
//! "events": ["problem", "reading"]}, "from": POSITION}`: of each list that is there, one must fit;
//! a single text stands for a list of one. `from` has what was missed told first. A later
//! subscription takes the place of the one before, and `{"unsubscribe": true}` ends it.

use anomaly_worker::{
    engine::Kind,
    reading::check_id,
    tables::{Said, Status},
};
use serde::{Deserialize, Serialize};

use super::{
    event::Event,
    filter::{About, Filter},
    position::Position,
    zones::Zones,
};

/// The longest list.
const LIST: usize = 200;
/// What is told.
const EVENTS: [&str; 2] = ["problem", "reading"];

/// What a listener said.
#[derive(Debug)]
pub(super) enum Asked {
    /// To be told this, from there on or from now on.
    Subscribe(Box<Subscription>, Option<Position>),
    /// To be told nothing.
    Unsubscribe,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    subscribe: Option<Wanted>,
    unsubscribe: Option<bool>,
    from: Option<String>,
}

/// What is wanted, as it is asked for and as it is confirmed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(alias = "device", deserialize_with = "one_or_many")]
    pub(super) devices: Vec<String>,
    #[serde(alias = "zone", deserialize_with = "one_or_many")]
    pub(super) zones: Vec<String>,
    #[serde(alias = "prefix", deserialize_with = "one_or_many")]
    pub(super) prefixes: Vec<String>,
    #[serde(alias = "kind", deserialize_with = "one_or_many")]
    pub(super) kinds: Vec<String>,
    #[serde(alias = "status", deserialize_with = "one_or_many")]
    pub(super) statuses: Vec<String>,
    #[serde(alias = "event", deserialize_with = "one_or_many")]
    pub(super) events: Vec<String>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts")]
    enum Given {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Given::deserialize(from)? {
        Given::One(one) => vec![one],
        Given::Many(many) => many,
    })
}

/// What a listener is told.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub(super) wanted: Wanted,
    filter: Filter,
}

impl Subscription {
    /// What is wanted, checked.
    ///
    /// # Errors
    /// Says what cannot be asked for.
    pub(super) fn new(mut wanted: Wanted) -> Result<Self, String> {
        for (what, list) in wanted.lists() {
            if list.len() > LIST {
                return Err(format!("{what}: {} are more than {LIST}", list.len()));
            }
        }
        for id in wanted.devices.iter().chain(&wanted.prefixes).chain(&wanted.zones) {
            check_id(id)?;
        }
        for list in [&mut wanted.kinds, &mut wanted.statuses] {
            list.iter_mut().for_each(|it| *it = capitals(it));
        }
        check_names("kinds", &wanted.kinds, &kinds())?;
        check_names("statuses", &wanted.statuses, &Status::ALL.map(Status::name))?;
        check_names("events", &wanted.events, &EVENTS)?;
        let filter = Filter {
            devices: wanted.devices.clone(),
            zones: wanted.zones.clone(),
            prefixes: wanted.prefixes.clone(),
            kinds: wanted.kinds.clone(),
            statuses: wanted.statuses.clone(),
            ..Filter::default()
        };
        Ok(Self { wanted, filter })
    }

    /// Whether this is to be told.
    pub(super) fn admits(&self, event: &Event, zones: &Zones) -> bool {
        let events = &self.wanted.events;
        (events.is_empty() || events.iter().any(|it| it == event.what))
            && self.filter.admits(&event.about(), zones)
    }
}

impl Subscription {
    /// Whether a problem of these devices and of this kind is meant.
    pub(super) fn means(&self, devices: &[String], kind: &str, zones: &Zones) -> bool {
        let about = About { devices, kind, status: None, opened: None };
        self.filter.admits(&about, zones)
    }
}

/// What an event can be of: the kinds of problems, and what is said of a reading.
pub(super) fn kinds() -> Vec<&'static str> {
    let said = [Said::Ok.name(), Said::LastSensor.name()];
    Kind::ALL.into_iter().map(Kind::name).chain(said).collect()
}

/// A name in capitals; an underscore stands for a space.
pub(super) fn capitals(name: &str) -> String {
    name.trim().to_ascii_uppercase().replace('_', " ")
}

/// Refuses what is not among these.
pub(super) fn check_names(what: &str, list: &[String], known: &[&str]) -> Result<(), String> {
    match list.iter().find(|it| !known.contains(&it.as_str())) {
        None => Ok(()),
        Some(other) => Err(format!("{what}: {other:.60?} is none of {}", known.join(", "))),
    }
}

impl Wanted {
    fn lists(&self) -> [(&'static str, &Vec<String>); 6] {
        [
            ("devices", &self.devices),
            ("zones", &self.zones),
            ("prefixes", &self.prefixes),
            ("kinds", &self.kinds),
            ("statuses", &self.statuses),
            ("events", &self.events),
        ]
    }
}

/// What a listener's message asks for.
///
/// # Errors
/// Says why it cannot be asked.
pub(super) fn read(text: &str) -> Result<Asked, String> {
    let message: Message = serde_json::from_str(text).map_err(|e| {
        format!("this was not understood: {e}; say {{\"subscribe\": {{\"devices\": [\"01\"]}}}}")
    })?;
    let from = message.from.as_deref().map(position).transpose()?;
    match (message.subscribe, message.unsubscribe) {
        (Some(wanted), None) => Ok(Asked::Subscribe(Box::new(Subscription::new(wanted)?), from)),
        (None, Some(true)) if from.is_none() => Ok(Asked::Unsubscribe),
        (None, None) if from.is_some() => {
            Ok(Asked::Subscribe(Box::new(Subscription::new(Wanted::default())?), from))
        }
        _ => Err("say either subscribe, with or without from, or \"unsubscribe\": true".to_owned()),
    }
}

/// A position that came back.
///
/// # Errors
/// Says that it is none.
pub(super) fn position(text: &str) -> Result<Position, String> {
    Position::from_text(text)
        .map_err(|_| "this is no position: give one that came with an event, unchanged".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_read_in_every_spelling() {
        for text in [
            r#"{"subscribe":{"devices":["01"],"kinds":["OBSTRUCTION"]}}"#,
            r#"{"subscribe":{"device":"01","kind":"obstruction"}}"#,
        ] {
            let Asked::Subscribe(it, None) = read(text).unwrap() else { panic!("{text}") };
            assert_eq!(
                (it.wanted.devices, it.wanted.kinds),
                (vec!["01".into()], vec!["OBSTRUCTION".into()])
            );
        }
        assert!(matches!(read(r#"{"unsubscribe":true}"#), Ok(Asked::Unsubscribe)));
        assert!(matches!(read(r#"{"subscribe":{}}"#), Ok(Asked::Subscribe(..))));
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        let many = format!(r#"{{"subscribe":{{"devices":["{}"]}}}}"#, "a\",\"".repeat(LIST));
        for (text, why) in [
            ("hello", "not understood"),
            ("[]", "not understood"),
            ("{}", "either"),
            (r#"{"unsubscribe":false}"#, "either"),
            (r#"{"subscribe":{},"unsubscribe":true}"#, "either"),
            (r#"{"subscribe":{"colour":"red"}}"#, "colour"),
            (r#"{"subscribe":{"devices":7}}"#, "a text or a list"),
            (r#"{"subscribe":{"devices":["a/b"]}}"#, "slash"),
            (r#"{"subscribe":{"zone":""}}"#, "empty"),
            (r#"{"subscribe":{"kinds":["LEAK"]}}"#, "none of"),
            (r#"{"subscribe":{"status":"lost"}}"#, "none of"),
            (r#"{"subscribe":{"events":["device"]}}"#, "none of"),
            (r#"{"subscribe":{},"from":"x"}"#, "no position"),
            (&many, "more than"),
        ] {
            assert!(read(text).unwrap_err().contains(why), "{text:.60}");
        }
    }
}
