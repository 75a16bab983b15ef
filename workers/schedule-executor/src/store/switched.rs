//! Who switches something: an override of what nothing switches is only a row.

use flotilla_runtime::Failure;
use jiff::Timestamp;

use super::Store;
use crate::{
    arn::{Arn, Home, Scope, Target},
    plan::wanted,
    rows::{ResourceRow, Scheduling, Settings},
};

/// The context or tag by which something is switched, as the audit names it; else why nothing does.
pub type SwitchedBy = Result<String, String>;

impl Store {
    /// Who switches what an override is of, at the next tick.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer.
    pub async fn switched_by(
        &self,
        home: &Home,
        scope: &Scope,
        now: Timestamp,
    ) -> Result<SwitchedBy, Failure> {
        let settings = self.settings().await?;
        if !settings.running {
            return Ok(Err("the scheduler is stopped".to_owned()));
        }
        let row = match scope {
            Scope::Context(id) => self.context(id).await?.map(|it| it.scheduling),
            Scope::Tag(key) => self.tag(key).await?.map(|it| it.scheduling),
            Scope::Resource(target) => return self.goes_by(home, target, &settings, now).await,
        };
        let missing = || Err(format!("{} is not registered", scope.name()));
        Ok(row.map_or_else(missing, |row| acts(&scope.name(), &row, now)))
    }

    /// As a tick decides: the first context that has it and wants something, else the first tag.
    async fn goes_by(
        &self,
        home: &Home,
        target: &Target,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<SwitchedBy, Failure> {
        if let Some(entry) = settings.never_touched(target, &target.id, &home.account) {
            return Ok(Err(format!("it is on the never-touch list, as {entry:?}")));
        }
        let mut why = "no context has it, and no registered tag is known to be on it".to_owned();
        let rows = self.all_resources().await?;
        for context in self.contexts().await?.0 {
            let name = format!("context/{}", context.id);
            match part_of(home, target, (&rows, &context.id)) {
                None => {}
                Some(false) => why = format!("it is taken out of the schedule of {name}"),
                Some(true) => match acts(&name, &context.scheduling, now) {
                    Ok(name) => return Ok(Ok(name)),
                    Err(other) => why = other,
                },
            }
        }
        for tag in self.tags().await?.0 {
            let members = self.members(&tag.key).await?.arns;
            if members.iter().any(|arn| is(home, target, arn)) {
                match acts(&format!("tag/{}", tag.key), &tag.scheduling, now) {
                    Ok(name) => return Ok(Ok(name)),
                    Err(other) => why = other,
                }
            }
        }
        Ok(Err(why))
    }
}

/// Whether a schedule switches anything at an instant.
fn acts(name: &str, row: &Scheduling, now: Timestamp) -> SwitchedBy {
    match wanted(row, now) {
        Err(why) => Err(format!("{name}: {why}")),
        Ok(_) if row.dry_run => Err(format!("{name} is only tried (`dryRun`)")),
        Ok(_) => Ok(name.to_owned()),
    }
}

/// Whether a resource takes part in a context; none where the context does not have it.
fn part_of(
    home: &Home,
    target: &Target,
    (rows, context): (&[serde_json::Value], &str),
) -> Option<bool> {
    let row = rows.iter().find(|row| row["contextID"] == context)?;
    let lists = ResourceRow::from_json(context, row)?.lists;
    let mut all = lists.iter().flat_map(|(service, list)| {
        list.id.iter().zip(&list.scheduled).map(|(id, takes)| (*service, id, *takes))
    });
    let is_it = |(service, id, _): &(_, &String, _)| {
        home.target(*service, id).is_ok_and(|found| found == *target)
    };
    all.find(is_it).map(|(_, _, takes)| takes)
}

fn is(home: &Home, target: &Target, arn: &str) -> bool {
    let service = Arn::parse(arn).and_then(|arn| arn.service());
    service == Some(target.service)
        && home.target(target.service, arn).is_ok_and(|found| found == *target)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Service;

    #[test]
    fn a_schedule_that_switches_nothing_says_why() {
        let now = "2026-06-01T12:00:00Z".parse().unwrap();
        let told = |fields: serde_json::Value| {
            acts("context/web", &serde_json::from_value(fields).unwrap(), now)
        };
        let daily = "daily 08:00-19:00";
        assert_eq!(told(json!({"schedulingPeriod": daily})), Ok("context/web".to_owned()));
        for (fields, word) in [
            (json!({"schedulingPeriod": daily, "isScheduled": false}), "stopped"),
            (json!({"schedulingPeriod": daily, "dryRun": true}), "tried"),
            (json!({}), "schedule is none"),
        ] {
            let why = told(fields).unwrap_err();
            assert!(why.contains(word) && why.contains("context/web"), "{why}");
        }
    }

    #[test]
    fn a_resource_is_found_however_its_context_spells_it() {
        let home = Home { account: "123456789012".to_owned(), region: "eu-west-1".to_owned() };
        let lists = json!({"id": ["Orders", "arn:aws:rds:eu-west-1:123456789012:db:sales"],
            "isScheduled": [true, false]});
        let rows = [json!({"contextID": "web", "rds:instance": lists})];
        let part =
            |id, context| part_of(&home, &home.target(Service::Rds, id).unwrap(), (&rows, context));
        assert_eq!((part("orders", "web"), part("sales", "web")), (Some(true), Some(false)));
        assert_eq!((part("other", "web"), part("orders", "api")), (None, None));
    }
}
