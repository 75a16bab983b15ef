//! Which resources carry a tag.

use aws_config::SdkConfig;
use aws_sdk_resourcegroupstagging::{Client, types::TagFilter};

use super::{Caller, Refusal, groups::Groups};
use crate::rows::Tag;

/// The kinds of resources that can be switched, as the tagging service calls them.
const KINDS: [&str; 5] =
    ["ec2:instance", "rds:db", "rds:cluster", "appstream:fleet", "ecs:service"];

/// The most values that a filter takes.
const VALUES: usize = 20;

/// What a look-up found, and why that may not be all.
#[derive(Debug, Default)]
pub struct Found {
    /// ARNs.
    pub arns: Vec<String>,
    /// What one of the services refused.
    pub refused: Option<Refusal>,
}

/// The ARNs of a region's resources that carry the tag with one of its values, page by page. What
/// one service refuses to tell does not hide what the others know.
pub async fn tagged(sdk: &SdkConfig, caller: &Caller, tag: &Tag) -> Found {
    let (client, groups) = (Client::new(sdk), Groups::new(sdk, caller.clone()));
    let mut found = Found::default();
    for values in tag.values.chunks(VALUES) {
        for told in
            [with(&client, caller, &tag.key, values).await, groups.tagged(&tag.key, values).await]
        {
            match told {
                Ok(mut arns) => found.arns.append(&mut arns),
                Err(refusal) => found.refused = Some(refusal),
            }
        }
    }
    found
}

async fn with(
    client: &Client,
    caller: &Caller,
    key: &str,
    values: &[String],
) -> Result<Vec<String>, Refusal> {
    let filter = TagFilter::builder().key(key).set_values(Some(values.to_vec())).build();
    let kinds = KINDS.map(str::to_owned).to_vec();
    let call = || {
        let call = client.get_resources().tag_filters(filter.clone());
        let call = call.set_resource_type_filters(Some(kinds.clone()));
        call.into_paginator().items().send().collect::<Result<Vec<_>, _>>()
    };
    let found = caller.call(call).await?.into_iter();
    Ok(found.filter_map(|it| it.resource_arn).collect())
}
