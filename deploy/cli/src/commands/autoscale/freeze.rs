//! `flotilla autoscale freeze` and `thaw`.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue as Attr, ReturnValue};
use flotilla_autoscaling::FREEZE_ROW;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Group;
use crate::{
    console::out,
    error::{Doing, Error},
    signed,
    target::Target,
};

type Item = HashMap<String, Attr>;

pub(super) async fn freeze(of: &Group, why: &str) -> Result<(), Error> {
    let target = Target::find(&of.stack).await?;
    known(&target, &of.group).await?;
    let table = table(&target);
    let call = target.clients.dynamo.put_item().table_name(table);
    let call = call.item("group", Attr::S(of.group.clone()));
    let call = call.item("instance", Attr::S(FREEZE_ROW.to_owned()));
    let answer = call.item("why", Attr::S(why.to_owned())).send().await;
    answer.doing(|| format!("freezing group {} in table {table}", of.group))?;
    out(format!("the autoscaler of {} does nothing from its next turn on", of.group));
    Ok(())
}

pub(super) async fn thaw(of: &Group) -> Result<(), Error> {
    let target = Target::find(&of.stack).await?;
    let table = table(&target);
    let call = target.clients.dynamo.delete_item().table_name(table);
    let call = call.key("group", Attr::S(of.group.clone()));
    let call = call.key("instance", Attr::S(FREEZE_ROW.to_owned()));
    let answer = call.return_values(ReturnValue::AllOld).send().await;
    let answer = answer.doing(|| format!("thawing group {} in table {table}", of.group))?;
    if answer.attributes.is_some() {
        out(format!("the autoscaler of {} acts again", of.group));
        return Ok(());
    }
    known(&target, &of.group).await?;
    out(format!("the autoscaler of {} was not frozen", of.group));
    Ok(())
}

fn table(target: &Target) -> &str {
    &target.stack.outputs().fleet_table_name
}

/// Refuses a group that nobody has: whoever mistyped it would believe its autoscaler to be at rest.
/// A group is known by the rows of its workers and its autoscaler; before they ever ran, by itself.
async fn known(target: &Target, group: &str) -> Result<(), Error> {
    let told = told(target).await?;
    if told.contains(group) {
        return Ok(());
    }
    let silent = match is_there(target, group).await {
        Ok(true) => return Ok(()),
        Ok(false) => String::new(),
        Err(why) => format!(" (Auto Scaling does not tell: {})", crate::chain(&why)),
    };
    Err(Error::Usage(unknown(group, table(target), &told) + &silent))
}

fn unknown(group: &str, table: &str, told: &BTreeSet<String>) -> String {
    let names: Vec<&str> = told.iter().map(String::as_str).collect();
    let there = match names.is_empty() {
        true => format!("no group has a worker or an autoscaler in table {table} yet"),
        false => format!("there are {}", names.join(", ")),
    };
    format!("no group is called {group:?}: {there}")
}

/// The groups whose workers or autoscalers ever told of themselves.
async fn told(target: &Target) -> Result<BTreeSet<String>, Error> {
    let call = target.clients.dynamo.scan().table_name(table(target)).consistent_read(true);
    let call = call.projection_expression("#group, #instance");
    let call = call.expression_attribute_names("#group", "group");
    let call = call.expression_attribute_names("#instance", "instance");
    let mut items = call.into_paginator().items().send();
    let mut names = BTreeSet::new();
    while let Some(item) = items.next().await {
        let item = item.doing(|| format!("reading table {}", table(target)))?;
        names.extend(name(&item));
    }
    Ok(names)
}

/// The group of a row; what senders count stands in rows of its own, under no group's name.
fn name(item: &Item) -> Option<String> {
    let text = |field| item.get(field).and_then(|it: &Attr| it.as_s().ok());
    let (group, instance) = text("group").zip(text("instance"))?;
    (instance != FREEZE_ROW && !group.contains(':')).then(|| group.clone())
}

/// Whether Auto Scaling has it.
async fn is_there(target: &Target, group: &str) -> Result<bool, Error> {
    let named = utf8_percent_encode(group, NON_ALPHANUMERIC);
    let path = format!(
        "/?Action=DescribeAutoScalingGroups&AutoScalingGroupNames.member.1={named}&Version=2011-01-01"
    );
    let (status, body) = signed::get(&target.clients, "autoscaling", &path).await?;
    match status {
        200 => Ok(body.contains(&format!("<AutoScalingGroupName>{group}</AutoScalingGroupName>"))),
        _ => Err(Error::Fleet(format!("it answers {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_by_their_workers_and_not_by_senders_or_by_being_frozen() {
        let row = |group: &str, instance: &str| {
            let text = |text: &str| Attr::S(text.to_owned());
            Item::from([("group".to_owned(), text(group)), ("instance".to_owned(), text(instance))])
        };
        let rows = [
            row("b", "#owner"),
            row("a", "i-1"),
            row("a", "i-2"),
            row("sent:grading", "host-7"),
            row("typo", FREEZE_ROW),
        ];
        let names: BTreeSet<String> = rows.iter().filter_map(name).collect();
        let why = unknown("c", "fleet", &names);
        assert_eq!(why, "no group is called \"c\": there are a, b");
        let why = unknown("c", "fleet", &BTreeSet::new());
        assert!(why.contains("in table fleet yet"), "{why}");
    }
}
