//! JSON in which nothing that is read is there twice: which of two ids was meant, nobody can tell.
//!
//! A message type that is read from JSON says `#[serde(try_from = "Once")]`, and a field that is there
//! twice makes it unparsable.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Which fields are read, wherever they are.
pub trait Fields {
    /// Whether a field of this name is. What is ignored may be there as often as it likes.
    fn is_read(name: &str) -> bool;
}

/// All fields are read.
#[derive(Debug)]
pub struct All;

impl Fields for All {
    fn is_read(_: &str) -> bool {
        true
    }
}

/// A value without a field that is read twice in one object.
#[derive(Debug)]
pub struct Once<F = All> {
    /// The value.
    pub value: Value,
    fields: PhantomData<F>,
}

impl<'de, F: Fields> Deserialize<'de> for Once<F> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = from.deserialize_any(Seen(PhantomData::<F>))?;
        Ok(Self { value, fields: PhantomData })
    }
}

struct Seen<F>(PhantomData<F>);

impl<'de, F: Fields> Visitor<'de> for Seen<F> {
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
        while let Some(it) = all.next_element::<Once<F>>()? {
            items.push(it.value);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some((name, it)) = all.next_entry::<String, Once<F>>()? {
            if fields.contains_key(&name) && F::is_read(&name) {
                return Err(A::Error::custom(format!("{name} is there twice: send it once")));
            }
            fields.insert(name, it.value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Id;

    impl Fields for Id {
        fn is_read(name: &str) -> bool {
            name == "id"
        }
    }

    #[test]
    fn what_is_read_is_there_once_and_what_is_ignored_as_it_likes() {
        let text = r#"{"id":"01","x":1,"x":[{"y":null,"y":true}],"n":[-1,2,0.5,"a\u00e9"]}"#;
        let read: Once<Id> = serde_json::from_str(text).unwrap();
        assert_eq!(read.value, serde_json::from_str::<Value>(text).unwrap());
        let twice = r#"{"x":[{"id":"01","filling":1,"id":"02"}]}"#;
        let why = serde_json::from_str::<Once<Id>>(twice).unwrap_err().to_string();
        assert!(why.contains("id is there twice"), "{why}");
        let why = serde_json::from_str::<Once>(text).unwrap_err().to_string();
        assert!(why.contains("y is there twice"), "{why}");
    }
}
