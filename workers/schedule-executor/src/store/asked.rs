//! What a hand asked for, from the moment that it is accepted: it can be undone before it is worked.

use flotilla_runtime::Failure;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    Store,
    states::{KEY, LAST_ASKED, LATELY, Noted},
};

/// How long an order is taken to be on its way that is not the last one.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(60);

/// By now an order that changed nothing is over as a whole: each of its batches tells of itself alone, and one
/// may have waited for its stage, or have been throttled.
const WORKED_OFF: SignedDuration = SignedDuration::from_mins(20);

/// How far an order is of which the audit tells no act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is still to be worked.
    Pending,
    /// It was worked, and changed nothing.
    Worked,
}

impl Store {
    /// Notes that a hand asked for a bulk action.
    ///
    /// # Errors
    /// Transient, when DynamoDB does not answer; so for every method here.
    pub async fn note_asked(&self, bulk: &str, at: Timestamp) -> Result<(), Failure> {
        self.hold(LAST_ASKED, &json!({ "bulk": bulk, "at": at.to_string() })).await
    }

    /// Notes that a hand's bulk action was worked and changed nothing.
    pub async fn note_unchanged(&self, bulk: &str) -> Result<(), Failure> {
        self.hold(LAST_ASKED, &json!({ "worked": bulk })).await
    }

    /// What a hand asked for last; not what was worked since and changed nothing, but for a while, so that
    /// who undoes it at once is told of that, and does not undo what was before it.
    pub(super) async fn last_asked(&self, now: Timestamp) -> Result<Option<Noted>, Failure> {
        let asked = self.noted_bulk(LAST_ASKED).await?;
        match asked {
            Some((bulk, at)) if now.duration_since(at) > WORKED_OFF => {
                let done = self.changed_nothing(&bulk).await?;
                Ok(Some((bulk, at)).filter(|_| !done))
            }
            asked => Ok(asked),
        }
    }

    /// Whether a bulk action is the last that was worked and changed nothing.
    async fn changed_nothing(&self, bulk: &str) -> Result<bool, Failure> {
        let item = self.get(&self.names.states, KEY, LAST_ASKED).await?.unwrap_or_default();
        Ok(item.get("worked").and_then(|it| it.as_s().ok()).is_some_and(|it| it == bulk))
    }

    /// How far an order by hand is, by its name as a bulk action; none where nobody gave it.
    pub async fn asked(&self, bulk: &str, now: Timestamp) -> Result<Option<Progress>, Failure> {
        let Some((on, source, at)) = order(bulk) else { return Ok(None) };
        let row = match source.split_once('/') {
            Some(("context", id)) => self.context(id).await?.map(|it| it.scheduling),
            Some(("tag", key)) => self.tag(key).await?.map(|it| it.scheduling),
            _ => None,
        };
        let given = (Some(at.as_millisecond()), Some(on));
        let is_last = self.noted_bulk(LAST_ASKED).await?.is_some_and(|(last, _)| last == bulk);
        if !is_last && row.is_none_or(|row| (row.hand_at, row.power_by_hand) != given) {
            return Ok(None);
        }
        let worked = self.changed_nothing(bulk).await?;
        let longest = if is_last { LATELY } else { ON_ITS_WAY };
        let waits = !worked && now.duration_since(at) <= longest;
        Ok(Some(if waits { Progress::Pending } else { Progress::Worked }))
    }
}

/// What an order by hand says of itself in its name: on or off, whose resources, and when.
fn order(bulk: &str) -> Option<(bool, &str, Timestamp)> {
    let (action, rest) = bulk.split_once(' ')?;
    let (source, at) = rest.rsplit_once(' ')?;
    let on = match action {
        "START" => true,
        "STOP" => false,
        _ => return None,
    };
    Some((on, source, at.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_known_by_its_name_before_it_is_worked() {
        let (on, source, at) = order("STOP context/my web 2026-06-01T08:00:00.5Z").unwrap();
        assert!(!on && source == "context/my web" && at.as_millisecond() % 1000 == 500);
        for other in ["tick 2026-06-01T08:00:00Z", "undo 7", "STOP", "STOP context/web soon"] {
            assert_eq!(order(other), None, "{other}");
        }
    }
}
