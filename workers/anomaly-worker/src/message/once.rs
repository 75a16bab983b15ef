//! JSON in which nothing that is read is there twice: which of two ids was meant, nobody can tell.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// The fields that are read, wherever they are. What is ignored may be as it likes.
const READ: [&str; 11] = [
    "id",
    "filling",
    "at",
    "seq",
    "end_device_ids",
    "device_id",
    "uplink_message",
    "decoded_payload",
    "frm_payload",
    "f_cnt",
    "received_at",
];

/// A value without such a field twice in one object.
#[derive(Debug)]
pub(super) struct Once(pub(super) Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Seen).map(Self)
    }
}

struct Seen;

impl<'de> Visitor<'de> for Seen {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, it: bool) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_i64<E: Error>(self, it: i64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_u64<E: Error>(self, it: u64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_f64<E: Error>(self, it: f64) -> Result<Value, E> {
        Ok(Number::from_f64(it).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, it: &str) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_string<E: Error>(self, it: String) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Once(it)) = all.next_element()? {
            items.push(it);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some((name, Once(it))) = all.next_entry::<String, Once>()? {
            if READ.contains(&name.as_str()) && fields.contains_key(&name) {
                return Err(A::Error::custom(format!("{name} is there twice: send it once")));
            }
            fields.insert(name, it);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_there_once_and_what_is_ignored_as_it_likes() {
        let text = r#"{"id":"01","x":1,"x":[{"y":null,"y":true}],"n":[-1,2,0.5,"a\u00e9"]}"#;
        let Once(read) = serde_json::from_str(text).unwrap();
        assert_eq!(read, serde_json::from_str::<Value>(text).unwrap());
        for (text, name) in [
            (r#"{"id":"01","filling":1,"id":"02"}"#, "id is"),
            (r#"{"id":"01","filling":1,"filling":1}"#, "filling is"),
            (r#"{"uplink_message":{"f_cnt":1,"f_cnt":2}}"#, "f_cnt is"),
        ] {
            let why = serde_json::from_str::<Once>(text).unwrap_err().to_string();
            assert!(why.contains(name), "{text}: {why}");
        }
    }
}
