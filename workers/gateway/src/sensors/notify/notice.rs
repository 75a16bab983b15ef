//! What was told of a problem, and what is to be told next. No clock and no AWS.

use serde::{Deserialize, Serialize};

use super::settings::{Policy, Target};

/// How long a target is tried, in milliseconds.
const TRYING: i64 = 24 * 3_600_000;
/// The wait after the first failure, and at most, in milliseconds.
const FIRST_WAIT: i64 = 1000;
const LONGEST_WAIT: i64 = 300_000;

/// Where a problem stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    /// Nobody has seen it.
    Lasts,
    /// Somebody has.
    Seen,
    /// It is over, or never was.
    Ended,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    /// That there is a problem.
    Opened,
    /// That there is none any more.
    Ended,
}

impl What {
    /// As it is sent.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Ended => "ended",
        }
    }
}

/// Something that was told, or tried. Times in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) target: String,
    pub(super) what: What,
    begun: i64,
    attempts: u32,
    next_try: i64,
    pub(super) done: Option<i64>,
    given_up: bool,
    /// Why the last attempt failed.
    why: Option<String>,
}

/// What was told of an episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// From when on it may be told, in Unix milliseconds.
    pub(super) noted: i64,
    pub(super) standing: Standing,
    pub(super) sent: Vec<Sent>,
    /// Of an episode that was taken back: from when on that may be told as its end, in Unix
    /// milliseconds. Until then another may take its place.
    #[serde(default)]
    pub(super) ends: i64,
    /// When an episode before was last told to anybody, in Unix milliseconds, as far as is known.
    #[serde(default)]
    pub(super) told_before: Option<i64>,
}

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// To tell the target of this place.
    Send(usize, What),
    /// To wait until then, in Unix milliseconds, unless the problem changes.
    Wait(i64),
    /// Nothing, ever.
    Nothing,
}

impl Notice {
    /// Of a problem that may be told from then on (Unix milliseconds).
    pub(super) fn new(noted: i64) -> Self {
        let (standing, sent) = (Standing::Lasts, Vec::new());
        Self { noted, standing, sent, ends: 0, told_before: None }
    }

    /// What to do at this time (Unix milliseconds) where these targets are meant.
    pub(super) fn next(&self, policy: &Policy, meant: &[usize], now: i64) -> Next {
        match self.standing {
            Standing::Lasts => self.next_to_tell(policy, meant, now),
            Standing::Seen => Next::Wait(i64::MAX),
            Standing::Ended => match self.next_to_end(policy, now) {
                Next::Send(..) if now < self.ends => Next::Wait(self.ends),
                next => next,
            },
        }
    }

    /// Whether this one, which was taken back, is told on by another at this time (Unix
    /// milliseconds): by one that lasts and of which nothing was told yet.
    pub(super) fn goes_over_to(&self, other: &Self, now: i64) -> bool {
        let was_taken_back = self.standing == Standing::Ended && now < self.ends;
        was_taken_back && other.standing != Standing::Ended && other.sent.is_empty()
    }

    /// Has been told what another was, which is told no more.
    pub(super) fn take_over(&mut self, other: &mut Self) {
        (self.noted, other.ends) = (other.noted, 0);
        self.sent = std::mem::take(&mut other.sent);
    }

    fn next_to_tell(&self, policy: &Policy, meant: &[usize], now: i64) -> Next {
        let (mut begun, mut wait) = (self.noted, i64::MAX);
        for number in meant {
            let target = &policy.targets[*number];
            let sent = self.of(&target.name, What::Opened);
            let due = match sent {
                Some(sent) if sent.is_over() => None,
                Some(sent) => Some(sent.next_try),
                None => Some(begun.saturating_add(target.after)),
            };
            if let Some(due) = due.map(|due| loud(target, due, now)) {
                if due <= now {
                    return Next::Send(*number, What::Opened);
                }
                wait = wait.min(due);
            }
            match (sent, due) {
                (Some(sent), _) => begun = sent.begun,
                // Who is not to be woken does not hold up the next.
                (None, Some(due)) if loud(target, due, now) > due.max(now) => begun = due,
                (None, _) => break,
            }
        }
        Next::Wait(wait)
    }

    fn next_to_end(&self, policy: &Policy, now: i64) -> Next {
        let mut next = Next::Nothing;
        for (number, target) in policy.targets.iter().enumerate() {
            let told = self.of(&target.name, What::Opened).is_some_and(|it| it.done.is_some());
            let sent = self.of(&target.name, What::Ended);
            if !told || !target.ended || sent.is_some_and(Sent::is_over) {
                continue;
            }
            match loud(target, sent.map_or(now, |it| it.next_try), now) {
                due if due <= now => return Next::Send(number, What::Ended),
                due => {
                    let before = if let Next::Wait(at) = next { at } else { i64::MAX };
                    next = Next::Wait(before.min(due));
                }
            }
        }
        next
    }

    fn of(&self, target: &str, what: What) -> Option<&Sent> {
        self.sent.iter().find(|it| it.target == target && it.what == what)
    }

    /// Notes what came of an attempt at this time (Unix milliseconds). `chance`, from 0 to 1, is
    /// of the next wait.
    pub(super) fn tried(
        &mut self,
        target: &str,
        what: What,
        now: i64,
        result: Result<(), String>,
        chance: f64,
    ) {
        if self.of(target, what).is_none() {
            let target = target.to_owned();
            let fresh = Sent {
                target,
                what,
                begun: now,
                attempts: 0,
                next_try: now,
                done: None,
                given_up: false,
                why: None,
            };
            self.sent.push(fresh);
        }
        let ours = self.sent.iter_mut().find(|it| it.target == target && it.what == what);
        let Some(sent) = ours else { return };
        sent.attempts += 1;
        match result {
            Ok(()) => (sent.done, sent.why) = (Some(now), None),
            Err(why) => {
                sent.why = Some(why.chars().take(300).collect());
                let most = FIRST_WAIT.saturating_mul(1 << sent.attempts.min(10)).min(LONGEST_WAIT);
                // Half of it at least: a target that fails at once is not asked at once.
                let wait = most / 2 + (chance * (most / 2) as f64) as i64;
                sent.next_try = now + wait;
                sent.given_up = sent.next_try - sent.begun > TRYING;
            }
        }
    }

    /// Whether it was told to a target, or tried.
    pub(super) fn is_begun(&self, target: &str) -> bool {
        self.of(target, What::Opened).is_some()
    }

    /// Whether a target could not be told.
    pub(super) fn gave_up(&self, target: &str) -> bool {
        self.of(target, What::Opened).is_some_and(|it| it.given_up)
    }

    /// When the problem was last told to anybody, by this episode or by one before, in Unix milliseconds.
    pub(super) fn told_at(&self) -> Option<i64> {
        let opened = self.sent.iter().filter(|it| it.what == What::Opened);
        opened.filter_map(|it| it.done).chain(self.told_before).max()
    }
}

impl Sent {
    fn is_over(&self) -> bool {
        self.done.is_some() || self.given_up
    }
}

/// When a target that is due then can be told: not while it is quiet.
fn loud(target: &Target, due: i64, now: i64) -> i64 {
    let at = due.max(now);
    target.quiet.as_ref().and_then(|quiet| quiet.ends(at)).unwrap_or(due)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn policy(text: &str) -> Policy {
        Policy::parse(text, |_| None).unwrap()
    }

    fn two() -> Policy {
        policy(
            "[[targets]]\nname = 'a'\nwebhook = 'http://x/'\nafter = '1m'\n\
             [[targets]]\nname = 'b'\nsns = 't'\nafter = '15m'\nended = false\n",
        )
    }

    #[test]
    fn the_next_is_told_if_nobody_acknowledges_and_who_was_told_hears_of_the_end() {
        let (policy, mut notice) = (two(), Notice::new(0));
        let next = |notice: &Notice, now| notice.next(&policy, &[0, 1], now);
        assert_eq!(next(&notice, 0), Next::Wait(MINUTE));
        assert_eq!(next(&notice, MINUTE), Next::Send(0, What::Opened));
        notice.tried("a", What::Opened, MINUTE, Ok(()), 0.5);
        assert_eq!(next(&notice, 2 * MINUTE), Next::Wait(16 * MINUTE));
        let mut seen = Notice { standing: Standing::Seen, ..notice.clone() };
        assert_eq!(next(&seen, 99 * MINUTE), Next::Wait(i64::MAX));
        assert_eq!(next(&notice, 16 * MINUTE), Next::Send(1, What::Opened));
        notice.tried("b", What::Opened, 16 * MINUTE, Ok(()), 0.5);
        assert_eq!(next(&notice, 99 * MINUTE), Next::Wait(i64::MAX));
        for notice in [&mut notice, &mut seen] {
            notice.standing = Standing::Ended;
            assert_eq!(next(notice, 99 * MINUTE), Next::Send(0, What::Ended));
            notice.tried("a", What::Ended, 99 * MINUTE, Ok(()), 0.5);
            assert_eq!(next(notice, 99 * MINUTE), Next::Nothing);
        }
    }

    #[test]
    fn a_target_that_fails_is_tried_again_later_and_later_and_does_not_hold_up_the_next() {
        let (policy, mut notice) = (two(), Notice::new(0));
        let mut now = MINUTE;
        let mut waits = Vec::new();
        while notice.next(&policy, &[0], now) == Next::Send(0, What::Opened) {
            notice.tried("a", What::Opened, now, Err("down".to_owned()), 1.0);
            let Next::Wait(until) = notice.next(&policy, &[0], now) else { panic!("no wait") };
            if until == i64::MAX {
                break;
            }
            waits.push(until - now);
            now = until;
        }
        assert!(waits.is_sorted() && waits[0] == 2000 && waits.last() == Some(&LONGEST_WAIT));
        assert!(waits.iter().sum::<i64>() <= TRYING);
        let mut notice = Notice::new(0);
        notice.tried("a", What::Opened, MINUTE, Err("down".to_owned()), 1.0);
        let third = notice.next(&policy, &[0, 1], MINUTE + 1);
        assert_eq!(third, Next::Wait(MINUTE + 2000));
        notice.sent[0].next_try = i64::MAX;
        assert_eq!(notice.next(&policy, &[0, 1], 16 * MINUTE), Next::Send(1, What::Opened));
    }

    #[test]
    fn in_quiet_hours_nobody_is_told_until_they_end_and_what_is_over_by_then_is_not_told() {
        let policy = policy(
            "[[targets]]\nname = 'a'\nwebhook = 'http://x/'\n\
             quiet = { from = '22:00', to = '06:00', zone = 'Europe/Prague' }\n",
        );
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let mut notice = Notice::new(at("2026-01-15T21:30:00Z"));
        let next = |notice: &Notice, now: &str| notice.next(&policy, &[0], at(now));
        let morning = Next::Wait(at("2026-01-16T05:00:00Z"));
        assert_eq!(next(&notice, "2026-01-15T21:30:00Z"), morning);
        assert_eq!(next(&notice, "2026-01-16T04:59:59Z"), morning);
        assert_eq!(next(&notice, "2026-01-16T05:00:00Z"), Next::Send(0, What::Opened));
        notice.standing = Standing::Ended;
        assert_eq!(next(&notice, "2026-01-16T05:00:00Z"), Next::Nothing);
    }

    #[test]
    fn a_target_whose_hours_are_quiet_does_not_hold_up_the_next() {
        let policy = policy(
            "[[targets]]\nname = 'a'\nwebhook = 'http://x/'\nafter = '1m'\n\
             quiet = { from = '22:00', to = '06:00', zone = 'UTC' }\n\
             [[targets]]\nname = 'b'\nsns = 't'\nafter = '15m'\n",
        );
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let mut notice = Notice::new(at("2026-01-15T23:00:00Z"));
        let next = |notice: &Notice, now: &str| notice.next(&policy, &[0, 1], at(now));
        let later = Next::Wait(at("2026-01-15T23:16:00Z"));
        assert_eq!(next(&notice, "2026-01-15T23:00:00Z"), later);
        assert_eq!(next(&notice, "2026-01-15T23:16:00Z"), Next::Send(1, What::Opened));
        notice.tried("b", What::Opened, at("2026-01-15T23:16:00Z"), Ok(()), 0.5);
        let morning = Next::Wait(at("2026-01-16T06:00:00Z"));
        assert_eq!(next(&notice, "2026-01-15T23:17:00Z"), morning);
        assert_eq!(next(&notice, "2026-01-16T06:00:00Z"), Next::Send(0, What::Opened));
        // By day the next waits for the first.
        let noon = Notice::new(at("2026-01-16T12:00:00Z"));
        let first = Next::Wait(at("2026-01-16T12:01:00Z"));
        assert_eq!(next(&noon, "2026-01-16T12:00:00Z"), first);
    }

    #[test]
    fn what_was_taken_back_is_told_on_by_the_one_in_its_place_and_else_ends_a_moment_later() {
        let (policy, mut gone) = (two(), Notice::new(0));
        gone.tried("a", What::Opened, MINUTE, Ok(()), 0.5);
        (gone.standing, gone.ends) = (Standing::Ended, 2 * MINUTE);
        let next = |notice: &Notice, now| notice.next(&policy, &[0, 1], now);
        assert_eq!(next(&gone, MINUTE), Next::Wait(2 * MINUTE));
        assert_eq!(next(&gone, 2 * MINUTE), Next::Send(0, What::Ended));
        let mut heir = Notice::new(30 * MINUTE);
        assert!(gone.goes_over_to(&heir, MINUTE) && !gone.goes_over_to(&heir, 2 * MINUTE));
        heir.take_over(&mut gone);
        assert_eq!(next(&gone, 9 * MINUTE), Next::Nothing);
        // Neither told again, nor is the next told later.
        assert_eq!(next(&heir, 2 * MINUTE), Next::Wait(16 * MINUTE));
        heir.standing = Standing::Ended;
        assert_eq!(next(&heir, 2 * MINUTE), Next::Send(0, What::Ended));
    }

    proptest! {
        #[test]
        fn nobody_is_told_anything_twice(
            events in prop::collection::vec((0..40_i64, 0..4_u8, any::<bool>()), 1..60),
        ) {
            let (policy, mut notice, mut now) = (two(), Notice::new(0), 0);
            let mut told = Vec::new();
            for (minutes, standing, works) in events {
                now += minutes * MINUTE;
                notice.standing = match standing {
                    0 => Standing::Seen,
                    1 => Standing::Ended,
                    _ => Standing::Lasts,
                };
                while let Next::Send(target, what) = notice.next(&policy, &[0, 1], now) {
                    let name = policy.targets[target].name.clone();
                    let result = if works { Ok(()) } else { Err("down".to_owned()) };
                    notice.tried(&name, what, now, result, 0.0);
                    if works {
                        prop_assert!(!told.contains(&(target, what)));
                        told.push((target, what));
                    }
                }
            }
        }
    }
}
