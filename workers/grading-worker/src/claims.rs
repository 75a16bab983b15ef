//! What a submission's json says of it.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::names::{Problem, Submission};

/// What a submission's json says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The place that it names.
    pub place: Submission,
    /// The tokens of the students who hand it in.
    pub tokens: Vec<String>,
    /// The version of the program that belongs to it, where whoever uploaded both says so.
    pub py_version: Option<String>,
    /// It has an id under each of the two names, and they differ.
    pub two_ids: bool,
}

#[derive(Deserialize)]
struct Raw {
    subid: Option<String>,
    submissionid: Option<String>,
    admin: String,
    event: String,
    problem: String,
    tokens: Vec<String>,
    py_version: Option<String>,
}

impl Claims {
    /// Reads the json: an object with `subid` (or `submissionid`), `admin`, `event`, `problem` and
    /// `tokens`.
    ///
    /// # Errors
    /// Says what is missing or wrong.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let fields: Map<String, Value> = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        let raw: Raw = serde_json::from_value(fields.into()).map_err(|e| e.to_string())?;
        let two_ids = raw.subid.is_some() && raw.submissionid.is_some();
        let two_ids = two_ids && raw.subid != raw.submissionid;
        let subid = raw.subid.or(raw.submissionid).ok_or("missing field `subid`")?;
        let problem = Problem::new(&raw.admin, &raw.event, &raw.problem)?;
        let place = Submission::new(problem, &subid)?;
        Ok(Self { place, tokens: raw.tokens, py_version: raw.py_version, two_ids })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn json(with: &[(&str, Value)], without: &str) -> Vec<u8> {
        let mut json = json!({ "admin": "a", "event": "e", "problem": "p", "tokens": ["t"] });
        for (name, value) in with {
            json[*name] = value.clone();
        }
        json.as_object_mut().unwrap().remove(without);
        json.to_string().into_bytes()
    }

    #[test]
    fn the_id_has_two_names() {
        for name in ["subid", "submissionid"] {
            let claims = Claims::parse(&json(&[(name, "s".into())], "")).unwrap();
            assert_eq!((claims.place.subid.as_str(), claims.two_ids), ("s", false));
        }
        let both = |other: &str| {
            let ids = [("subid", "s".into()), ("submissionid", other.into())];
            Claims::parse(&json(&ids, "")).unwrap()
        };
        assert!(!both("s").two_ids);
        assert!(both("t").two_ids);
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let id = ("subid", Value::from("s"));
        for field in ["admin", "event", "problem", "tokens"] {
            let why = Claims::parse(&json(std::slice::from_ref(&id), field)).unwrap_err();
            assert!(why.contains(field), "{why}");
        }
        assert!(Claims::parse(&json(&[], "")).unwrap_err().contains("subid"));
        assert!(Claims::parse(br#"["s","a","e","p",["t"]]"#).is_err());
        let climbing = [id, ("admin", "..".into())];
        assert!(Claims::parse(&json(&climbing, "")).unwrap_err().contains("admin"));
    }
}
