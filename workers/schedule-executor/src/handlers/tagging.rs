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

/// The ARNs of a region's resources that carry the tag with one of its values. What one service
/// refuses to tell does not hide what the others know, nor what it told before.
pub async fn tagged(sdk: &SdkConfig, caller: &Caller, tag: &Tag) -> Found {
    let (client, groups) = (Client::new(sdk), Groups::new(sdk, caller.clone()));
    let mut found = Found::default();
    for values in tag.values.chunks(VALUES) {
        let told = with(&client, caller, (tag.key.as_str(), values), &mut found.arns).await;
        let of_groups = groups.tagged((tag.key.as_str(), values), &mut found.arns).await;
        found.refused = told.err().or(of_groups.err()).or(found.refused);
    }
    found
}

/// Page by page, each a call of its own at the rate that the service takes: what is refused as too
/// much is one page, and not all that was read before it.
async fn with(
    client: &Client,
    caller: &Caller,
    (key, values): (&str, &[String]),
    arns: &mut Vec<String>,
) -> Result<(), Refusal> {
    let filter = TagFilter::builder().key(key).set_values(Some(values.to_vec())).build();
    let kinds = KINDS.map(str::to_owned).to_vec();
    let mut token = None::<String>;
    loop {
        let call = || {
            let call = client.get_resources().tag_filters(filter.clone());
            let call = call.set_resource_type_filters(Some(kinds.clone()));
            call.set_pagination_token(token.clone()).send()
        };
        let page = caller.call(call).await?;
        let found = page.resource_tag_mapping_list.unwrap_or_default().into_iter();
        arns.extend(found.filter_map(|it| it.resource_arn));
        token = page.pagination_token.filter(|it| !it.is_empty());
        if token.is_none() {
            return Ok(());
        }
    }
}
