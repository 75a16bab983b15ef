//! Which resources carry a tag.

use aws_config::SdkConfig;
use aws_sdk_resourcegroupstagging::{Client, types::TagFilter};

use super::{Refusal, in_region};
use crate::rows::Tag;

/// The kinds of resources that can be switched, as the tagging service calls them.
const KINDS: [&str; 3] = ["ec2:instance", "rds:db", "appstream:fleet"];

/// The ARNs of a region's resources that carry the tag with one of its values, page by page.
///
/// # Errors
/// When the tagging service refuses.
pub async fn tagged(sdk: &SdkConfig, region: &str, tag: &Tag) -> Result<Vec<String>, Refusal> {
    let client = Client::new(&in_region(sdk, region));
    let filter = TagFilter::builder().key(&tag.key).set_values(Some(tag.values.clone())).build();
    let kinds = KINDS.map(str::to_owned).to_vec();
    let call = client.get_resources().tag_filters(filter).set_resource_type_filters(Some(kinds));
    let pages = call.into_paginator().items().send();
    let found = pages.collect::<Result<Vec<_>, _>>().await.map_err(|e| Refusal::of(&e))?;
    Ok(found.into_iter().filter_map(|it| it.resource_arn).collect())
}
