//! Which resources carry the tags: every account and region is asked, several at a time.

use flotilla_runtime::payload::hex;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    Sources,
    planned::{Planned, Wish},
};
use crate::{
    arn::short,
    handlers::{
        Refusal,
        tagging::{Found, tagged},
    },
    rows::{Service, Tag},
    store::Members,
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
        let notes = wishes.iter().map(|(tag, wish)| {
            let of = places.iter().zip(&found).filter(|((it, ..), _)| it.source == wish.source);
            self.note(tag, of.map(|(_, found)| found).collect(), tick)
        });
        stream::iter(notes.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect::<()>().await;
        for ((wish, account, region), found) in places.into_iter().zip(found) {
            found.arns.iter().for_each(|arn| planned.arn(arn, wish, tick));
            if let Some(why) = found.refused {
                let place = format!("{account}/{region}");
                let what = format!("looking it up in {region}: {}", why.message);
                planned.unseen(&wish.source, tick, why.kind, (&place, &what));
            }
        }
    }

    /// Keeps what was found of a tag for those who ask the tables alone. What could not be looked up
    /// everywhere is not all of it, and what cannot be kept is kept by the next tick.
    async fn note(&self, tag: &Tag, found: Vec<&Found>, tick: Timestamp) {
        if found.iter().any(|it| it.refused.is_some()) {
            return;
        }
        let mut arns: Vec<String> = found.iter().flat_map(|it| it.arns.clone()).collect();
        arns.sort_unstable();
        arns.dedup();
        let digest = hex(&Sha256::digest(arns.join("\n")));
        let members = Members { since: tick.to_string(), digest, parts: 0, arns };
        if let Err(why) = self.store.note_members(&tag.key, &members).await {
            tracing::warn!(tag = short(&tag.key), %why, "what carries a tag was not kept");
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
