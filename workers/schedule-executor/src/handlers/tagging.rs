//! Which resources carry a tag.

use aws_config::SdkConfig;
use aws_sdk_resourcegroupstagging::{Client, types::TagFilter};

use super::{Caller, Refusal, groups::Groups};
use crate::rows::Tag;

/// The kinds of resources that can be switched, as the tagging service calls them.
const KINDS: [&str; 5] =
    ["ec2:instance", "rds:db", "rds:cluster", "appstream:fleet", "ecs:service"];

/// The ARNs of a region's resources that carry the tag with one of its values, page by page.
///
/// # Errors
/// When a service refuses to tell.
pub async fn tagged(sdk: &SdkConfig, caller: &Caller, tag: &Tag) -> Result<Vec<String>, Refusal> {
    let client = Client::new(sdk);
    let filter = TagFilter::builder().key(&tag.key).set_values(Some(tag.values.clone())).build();
    let kinds = KINDS.map(str::to_owned).to_vec();
    let call = || {
        let call = client.get_resources().tag_filters(filter.clone());
        let call = call.set_resource_type_filters(Some(kinds.clone()));
        call.into_paginator().items().send().collect::<Result<Vec<_>, _>>()
    };
    let found = caller.call(call).await?.into_iter();
    let mut arns: Vec<String> = found.filter_map(|it| it.resource_arn).collect();
    arns.append(&mut Groups::new(sdk, caller.clone()).tagged(tag).await?);
    Ok(arns)
}
