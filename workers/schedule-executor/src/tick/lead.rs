//! How long contexts and tags take to be ready, as their resources took lately.

use std::collections::HashMap;

use flotilla_runtime::Failure;
use serde_json::json;

use super::Sources;
use crate::{
    arn::{Arn, Home},
    rows::{Context, ResourceRow, Scheduling, Service, Tag, stage_of},
};

/// The stage of each resource that is waited for, by its key.
type Stages = HashMap<String, usize>;

impl Sources {
    /// Tells a context that is to be ready by its time how long that takes. What is new is kept with
    /// it, where the preview finds it.
    pub(super) async fn know_lead(
        &self,
        context: &mut Context,
        row: &ResourceRow,
    ) -> Result<(), Failure> {
        let stages = || stages_of(&self.home, context, row);
        let Some(lead) = self.new_lead(&context.scheduling, stages).await? else { return Ok(()) };
        context.scheduling.lead = lead;
        self.store.set_context(&context.id, &json!({ "leadSeconds": lead })).await.map(drop)
    }

    /// The same of a tag, of what carried it when that was looked up last.
    pub(super) async fn know_lead_of_tag(&self, tag: &mut Tag) -> Result<(), Failure> {
        if !tag.scheduling.ready_by {
            return Ok(());
        }
        let arns = self.store.members(&tag.key).await?.arns;
        let stages = || members(&self.home, &arns);
        let Some(lead) = self.new_lead(&tag.scheduling, stages).await? else { return Ok(()) };
        tag.scheduling.lead = lead;
        self.store.set_tag(&tag.key, &json!({ "leadSeconds": lead })).await.map(drop)
    }

    /// How long stages take one after the other, each as long as its slowest resource; none where that
    /// is known, or nobody asks.
    async fn new_lead(
        &self,
        scheduling: &Scheduling,
        stages: impl FnOnce() -> Stages,
    ) -> Result<Option<i64>, Failure> {
        if !scheduling.ready_by {
            return Ok(None);
        }
        let stages = stages();
        let keys: Vec<String> = stages.keys().cloned().collect();
        let mut longest = HashMap::<usize, i64>::new();
        for (key, held) in self.store.held(&keys).await? {
            let stage = longest.entry(stages[&key]).or_default();
            *stage = (*stage).max(held.lead);
        }
        let lead = longest.values().sum();
        Ok(Some(lead).filter(|lead| *lead != scheduling.lead))
    }
}

/// Those of a context. What is taken out is waited for by nobody.
fn stages_of(home: &Home, context: &Context, row: &ResourceRow) -> Stages {
    let all = row.lists.iter().flat_map(|(service, list)| {
        list.id.iter().zip(&list.scheduled).map(|(id, takes)| (*service, id, *takes))
    });
    let taking = all.filter(|(_, _, takes)| *takes);
    let stage = |(service, id, _): (Service, &String, bool)| {
        let key = home.target(service, id).ok()?.key();
        Some((key, stage_of(&context.stages, service, id)))
    };
    taking.filter_map(stage).collect()
}

/// Those of a tag, which are started together.
fn members(home: &Home, arns: &[String]) -> Stages {
    let key = |arn: &String| home.target(Arn::parse(arn)?.service()?, arn).ok().map(|it| it.key());
    arns.iter().filter_map(key).map(|key| (key, 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_of_a_context_makes_nobody_start_earlier() {
        let home = Home { account: String::new(), region: "r".to_owned() };
        let context = json!({ "contextID": "web", "stages": [["rds"]] });
        let context: Context = serde_json::from_value(context).unwrap();
        let instances = json!({ "id": ["i-1", "i-2"], "isScheduled": [true, false] });
        let resources = json!({ "rds:instance": ["orders"], "ec2:instance": instances });
        let row = ResourceRow::from_json("web", &resources).unwrap();
        let found = stages_of(&home, &context, &row);
        let known = |key: &str| found.get(key).copied();
        assert_eq!(known("rds:instance/r/orders"), Some(0));
        assert_eq!((known("ec2:instance/r/i-1"), known("ec2:instance/r/i-2")), (Some(1), None));
    }

    #[test]
    fn what_carries_a_tag_is_known_by_its_key_wherever_it_is() {
        let home = Home { account: "123456789012".to_owned(), region: "eu-west-1".to_owned() };
        let arns = ["db:orders", "og:options", "cluster:sales"]
            .map(|it| format!("arn:aws:rds:us-east-1:210987654321:{it}"));
        let found = members(&home, &arns);
        let place = "210987654321/us-east-1";
        let keys = [format!("rds:instance/{place}/orders"), format!("rds:cluster/{place}/sales")];
        assert!(found.len() == 2 && keys.iter().all(|key| found[key] == 0), "{found:?}");
    }
}
