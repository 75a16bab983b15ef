//! Which resources carry the tags: every account and region is asked, several at a time.

use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::{
    Sources,
    planned::{Planned, Wish},
};
use crate::{
    handlers::{
        Refusal,
        tagging::{Found, tagged},
    },
    rows::{Service, Tag},
};

/// How many places are asked at a time.
const AT_ONCE: usize = 16;

impl Sources {
    /// Plans the wishes of tags. A place that cannot be asked is written down, and keeps nobody
    /// back: the next tick asks it again.
    pub(super) async fn tags(
        &self,
        wishes: &[(Tag, Wish)],
        tick: Timestamp,
        planned: &mut Planned,
    ) {
        let own = String::new();
        let (mut places, mut asked) = (Vec::new(), Vec::new());
        for (tag, wish) in wishes {
            if tag.values.is_empty() {
                planned.idle(&wish.source, tick, "empty", "it has no values");
                continue;
            }
            for account in std::iter::once(&own).chain(&self.tag_accounts) {
                for region in &self.regions {
                    places.push((wish, account, region));
                    asked.push(self.tagged(account, region, tag));
                }
            }
        }
        let found: Vec<Found> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        for ((wish, account, region), found) in places.into_iter().zip(found) {
            found.arns.iter().for_each(|arn| planned.arn(arn, wish, tick));
            if let Some(why) = found.refused {
                let place = format!("{account}/{region}");
                let what = format!("looking it up in {region}: {}", why.message);
                planned.unseen(&wish.source, tick, why.kind, (&place, &what));
            }
        }
    }

    async fn tagged(&self, account: &str, region: &str, tag: &Tag) -> Found {
        let sdk = match self.places.at(account, region).await {
            Ok(sdk) => sdk,
            Err(refusal) => return Found::nothing(refusal),
        };
        // The tagging service has one limit for all kinds; EC2's stands for it.
        let caller = self.limits.caller(&format!("tags of {account}"), region, Service::Ec2);
        tagged(&sdk, &caller, tag).await
    }
}

impl Found {
    fn nothing(refusal: Refusal) -> Self {
        Self { arns: Vec::new(), refused: Some(refusal) }
    }
}
