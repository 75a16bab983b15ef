//! What is to be done, and why: desired against observed, without any call.

mod step;

use jiff::{SignedDuration, Span, Timestamp, civil::DateTime};
use serde::{Deserialize, Serialize};

pub use self::step::{Asked, Observed, Step, overriding, reconcile};
use crate::{
    rows::Scheduling,
    schedule::{Override, Power, Schedule, Transition},
};

/// The longest that a start may be ahead of its rule, in seconds.
const LONGEST_LEAD: i64 = 4 * 3600;

/// The most changes that are added up: two years of one every 15 minutes.
const MOST_CHANGES: usize = 75_000;

/// What can be done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Switch it on.
    Start,
    /// Switch it off.
    Stop,
    /// Give an RDS instance or cluster another class.
    ModClass,
}

impl Action {
    /// The action that leads to a state.
    pub fn towards(power: Power) -> Self {
        if power == Power::On { Self::Start } else { Self::Stop }
    }

    /// As in a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Stop => "STOP",
            Self::ModClass => "MODCLASS",
        }
    }
}

/// A state to be reached, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// On or off.
    pub power: Power,
    /// Since when: the instant of the rule, of the hand, or of the override. It names the
    /// transition.
    pub since: Timestamp,
    /// Whether the schedule acted on this transition already, so that now only drift is mended.
    pub acted: bool,
    /// Whether a hand or an override is behind it, and no rule.
    pub chosen: bool,
    /// Who asked for the override behind it, as they say; none where no override is.
    pub who: Option<String>,
    /// In words.
    pub reason: String,
}

/// A context's or tag's schedule, read once and asked often.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    row: &'a Scheduling,
    schedule: Schedule,
}

/// A decision, and what is behind it.
#[derive(Debug, Clone, Copy)]
struct Decided<'a> {
    power: Power,
    since: Timestamp,
    why: Why<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Why<'a> {
    /// The rule of this local time.
    Rule(DateTime),
    /// The same, which is to be ready by then.
    Early(DateTime),
    Hand,
    Over(&'a Override),
}

/// A change of what is wanted, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When, and to which state.
    #[serde(flatten)]
    pub transition: Transition,
    /// The rule, the hand or the override behind it.
    pub reason: String,
}

/// What a schedule wants of its resources at an instant, or why it wants nothing.
///
/// # Errors
/// The reason, in words: no valid schedule, a stopped scheduler, or no rule yet.
pub fn wanted(row: &Scheduling, at: Timestamp) -> Result<Wanted, String> {
    if !row.scheduled {
        return Err("its scheduler is stopped".to_owned());
    }
    Plan::of(row)?.wanted(at)
}

impl<'a> Plan<'a> {
    /// Reads the schedule of a row.
    ///
    /// # Errors
    /// When the row tells none.
    pub fn of(row: &'a Scheduling) -> Result<Self, String> {
        let schedule = row.schedule().map_err(|why| format!("its schedule is none: {why}"))?;
        Ok(Self { row, schedule })
    }

    /// The schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// What is wanted at an instant. An override counts while it holds; a switch by hand counts
    /// like a rule, until the next one. Of these two the later one counts.
    ///
    /// # Errors
    /// When no rule has come yet.
    pub fn wanted(&self, at: Timestamp) -> Result<Wanted, String> {
        let decided = self.decided(at).ok_or("no rule of it has come yet")?;
        let Decided { power, since, why } = decided;
        let since = self.back(&decided, at).unwrap_or(since);
        let (acted, chosen) =
            (self.row.last >= since.as_second(), matches!(why, Why::Hand | Why::Over(_)));
        let who = match why {
            Why::Over(over) => Some(over.who.clone()),
            _ => None,
        };
        Ok(Wanted { power, since, acted, chosen, who, reason: self.told(&decided) })
    }

    /// When an override ended that said otherwise: the switch back is a transition of its own, and
    /// no drift from the rule before it. What a hand asked for is of its own time: an override of a
    /// resource that came after it counts.
    fn back(&self, decided: &Decided<'_>, at: Timestamp) -> Option<Timestamp> {
        let ruled = matches!(decided.why, Why::Rule(_) | Why::Early(_));
        let over = self.row.over.as_ref().filter(|over| ruled && over.power != decided.power)?;
        let ended = Timestamp::from_second(over.until).ok()?;
        (decided.since < ended && ended <= at).then_some(ended)
    }

    /// The same without a word, for who asks often.
    fn decided(&self, at: Timestamp) -> Option<Decided<'_>> {
        let hand = self.row.hand().filter(|(_, since)| *since <= at);
        let by_hand = hand.map(|(power, since)| Decided { power, since, why: Why::Hand });
        let latest = match (self.ruled(at), by_hand) {
            (Some(ruled), Some(hand)) if self.is_by_hand_since(ruled.since) => Some(hand),
            (ruled, hand) => ruled.or(hand),
        };
        let over = self.row.over.as_ref().filter(|over| over.holds(at));
        let over = over.and_then(|over| {
            let since = Timestamp::from_second(over.from).ok()?;
            Some(Decided { power: over.power, since, why: Why::Over(over) })
        });
        over.filter(|over| hand.is_none_or(|hand| over.since >= hand.1)).or(latest)
    }

    /// Whether the last hand came after an instant, to the millisecond where that is known: within the
    /// second of a rule it may be either.
    fn is_by_hand_since(&self, at: Timestamp) -> bool {
        match self.row.hand_at {
            Some(exact) => exact > at.as_millisecond(),
            None => self.row.by_hand.is_some_and(|second| second > at.as_second()),
        }
    }

    fn told(&self, decided: &Decided<'_>) -> String {
        let (Decided { power, since, why }, zone) = (decided, &self.row.zone);
        match why {
            Why::Rule(local) => format!("{power} by the rule of {local} {zone}"),
            Why::Early(local) => {
                format!("on, to be ready by {local} {zone}: that takes {} s", self.lead())
            }
            Why::Hand => format!("{power} by hand at {since}"),
            Why::Over(over) => over.describe(),
        }
    }

    /// What the rules say; a start that is to be ready by its time comes earlier.
    fn ruled(&self, at: Timestamp) -> Option<Decided<'_>> {
        let now = self.schedule.desired(at);
        let is_off = now.as_ref().is_none_or(|it| it.power == Power::Off);
        if let Some(early) = is_off.then(|| self.early(at)).flatten() {
            // Not before the last rule, which ended what a hand asked for until then.
            let since = now.map_or(early.since, |now| now.since.max(early.since));
            return Some(Decided { since, ..early });
        }
        let now = now?;
        Some(Decided { power: now.power, since: now.since, why: Why::Rule(now.local) })
    }

    /// The next start, where it is no further away than getting ready takes; also one whose window is
    /// shorter than that.
    fn early(&self, at: Timestamp) -> Option<Decided<'_>> {
        let lead = Some(self.lead()).filter(|lead| *lead > 0).map(SignedDuration::from_secs)?;
        let soon = self.schedule.next(at).filter(|it| it.power == Power::On)?;
        let since = soon.at.checked_sub(lead).ok().filter(|since| *since <= at)?;
        let local = self.schedule.desired(soon.at)?.local;
        Some(Decided { power: Power::On, since, why: Why::Early(local) })
    }

    fn lead(&self) -> i64 {
        if self.row.ready_by { self.row.lead.clamp(0, LONGEST_LEAD) } else { 0 }
    }

    /// Every change of what is wanted from `from` on and before `to`, in order, at most `limit`:
    /// what ticks at every instant would do.
    pub fn preview(&self, from: Timestamp, to: Timestamp, limit: usize) -> Vec<Change> {
        let just_before = from.checked_sub(Span::new().nanoseconds(1)).unwrap_or(from);
        let mut power = self.wanted(just_before).ok().map(|it| it.power);
        let (mut cursor, mut changes) = (just_before, Vec::new());
        while changes.len() < limit {
            let Some(next) = self.candidate(cursor).filter(|next| *next < to) else { break };
            cursor = next;
            let Ok(want) = self.wanted(next) else { continue };
            if power != Some(want.power) {
                changes.push(self.change(next, &want));
                power = Some(want.power);
            }
        }
        changes
    }

    /// The next instant at which anything that counts may change.
    fn candidate(&self, after: Timestamp) -> Option<Timestamp> {
        let seconds = |at: i64| Timestamp::from_second(at).ok();
        let over = self.row.over.iter().flat_map(|it| [seconds(it.from), seconds(it.until)]);
        let hand = self.row.hand().map(|(_, since)| since);
        let rule = self.schedule.next(after).map(|it| it.at);
        // A rule that says what rules said before ends what a hand asked for, too.
        let by_hand = self.decided(after).is_some_and(|it| matches!(it.why, Why::Hand));
        let same = by_hand.then(|| self.schedule.next_rule(after)).flatten();
        let lead = SignedDuration::from_secs(self.lead());
        let early = after.checked_add(lead).ok().filter(|_| !lead.is_zero());
        let early = early.and_then(|it| self.schedule.next(it)?.at.checked_sub(lead).ok());
        let all = over.chain([hand, rule, same, early]).flatten();
        all.filter(|at| *at > after).min()
    }

    fn change(&self, at: Timestamp, want: &Wanted) -> Change {
        let ruled = self.schedule.desired(at).filter(|it| it.since == at && it.power == want.power);
        let zone = self.schedule.zone();
        let transition = Transition {
            at,
            local: at.to_zoned(zone.clone()),
            power: want.power,
            note: ruled.and_then(|it| self.schedule.note(it.local)),
        };
        Change { transition, reason: want.reason.clone() }
    }

    /// How much of the time from `from` to `to` nothing needs to run, in seconds: the time
    /// between the changes that [`preview`](Self::preview) tells. None where there are more
    /// changes than anybody waits for.
    pub fn seconds_off(&self, from: Timestamp, to: Timestamp) -> Option<i64> {
        let (mut cursor, mut off) = (from, 0);
        let mut power = self.decided(from).map(|it| it.power);
        for _ in 0..MOST_CHANGES {
            let next = self.candidate(cursor).filter(|next| *next < to);
            if power == Some(Power::Off) {
                off += next.unwrap_or(to).as_second() - cursor.as_second();
            }
            cursor = match next {
                Some(next) => next,
                None => return Some(off),
            };
            power = self.decided(cursor).map(|it| it.power).or(power);
        }
        None
    }
}

#[cfg(test)]
mod tests;
