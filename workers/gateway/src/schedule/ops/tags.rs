//! What can be asked of tags and their values.

use schedule_executor::{rows::Tag, store::Said};
use serde_json::{Value, json};

use super::{Done, Refused, Source, bad, check, check_key, read};
use crate::schedule::{
    Schedules,
    tried::{self, Came},
};

impl Schedules {
    /// Registers a tag, or changes it; a dry run tells what it would be.
    pub async fn register_tag(&self, request: &Value, dry: bool) -> Done<Tag> {
        let tag: Tag = read(request)?;
        check_key("tagKey", &tag.key)?;
        check(&tag.scheduling)?;
        check_values(&tag.values)?;
        if dry {
            let (old, said) = (self.store.tag(&tag.key).await?, Said::of(request));
            let known = old.as_ref().filter(|_| !said.values).map(|it| it.values.clone());
            let values = known.unwrap_or(tag.values);
            let scheduling = tried::kept(tag.scheduling, old.map(|it| it.scheduling), said);
            return Ok(Tag { scheduling, values, ..tag });
        }
        self.store.put_tag(&tag, Said::of(request)).await?;
        self.tag(&tag.key).await
    }

    /// Forgets a tag.
    pub(in crate::schedule) async fn unregister_tag(&self, key: &str, dry: bool) -> Done<Came> {
        check_key("tagKey", key)?;
        if dry {
            return self.tag(key).await.map(|_| Some(Value::Null));
        }
        let found = self.store.drop_tag(key).await?;
        found.then_some(None).ok_or_else(|| Source::Tag(key.to_owned()).missing())
    }

    /// A tag.
    pub async fn tag(&self, key: &str) -> Done<Tag> {
        let found = self.store.tag(key).await?;
        found.ok_or_else(|| Source::Tag(key.to_owned()).missing())
    }

    /// Adds a value to a tag; one that is there already stays.
    pub(in crate::schedule) async fn add_value(
        &self,
        key: &str,
        value: &str,
        dry: bool,
    ) -> Done<Came> {
        let mut tag = self.tag(key).await?;
        check_values(&[value.to_owned()])?;
        let add = |values: &mut Vec<String>| {
            let new = !values.iter().any(|it| it == value);
            if new {
                values.push(value.to_owned());
            }
            new
        };
        if dry {
            add(&mut tag.values);
            return Ok(Some(json!({ "tagValues": tag.values })));
        }
        self.store.change_values(key, add).await?;
        Ok(None)
    }

    /// Takes a value out of a tag.
    pub(in crate::schedule) async fn remove_value(
        &self,
        key: &str,
        value: &str,
        dry: bool,
    ) -> Done<Came> {
        let mut tag = self.tag(key).await?;
        let remove = |values: &mut Vec<String>| {
            let count = values.len();
            values.retain(|it| it != value);
            values.len() < count
        };
        let found = match dry {
            true => remove(&mut tag.values),
            false => self.store.change_values(key, remove).await?,
        };
        let missing = || Refused::Missing(format!("{value:?} is no value of tag {key:?}"));
        found.then_some(()).ok_or_else(missing)?;
        Ok(dry.then(|| json!({ "tagValues": tag.values })))
    }
}

fn check_values(values: &[String]) -> Done<()> {
    if values.iter().any(|it| it.chars().count() > 256) {
        return Err(bad("a tag's value has 256 characters at most"));
    }
    Ok(())
}
