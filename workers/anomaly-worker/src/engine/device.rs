//! What is known of a device at a time.

use serde::{Deserialize, Serialize};

use super::{
    Confirm, DeviceRule, Episode, Evidence, Kind, Machine, Moment, Sample, Turn,
    detectors::{Detector, Seen},
    episode::Track,
};

/// What a device said last, what its detectors remember, and what was made of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DeviceStand {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    heard: Option<Sample>,
    /// Since when the device is expected, where it was expected before it was heard.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    since: Option<i64>,
    #[serde(default)]
    silence: Track,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    watches: Vec<Watch>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Watch {
    detector: Detector,
    track: Track,
}

impl DeviceStand {
    /// A device that was not heard yet, and is expected since then (Unix milliseconds).
    pub fn expected(since: i64) -> Self {
        Self { since: Some(since), ..Self::default() }
    }

    /// Has the silence before `at` told, if there was one.
    fn hear(&mut self, rule: &DeviceRule, at: i64, ended: &mut Vec<Episode>) -> bool {
        let since = self.heard.map(|it| it.at).or(self.since);
        let (Some(since), Some(most)) = (since, rule.silence) else { return false };
        let silent = since.saturating_add(most);
        let confirm = Confirm { flap: rule.confirm.flap, ..Confirm::default() };
        let evidence = Evidence { current: self.heard, following: None };
        let turn = Turn { at: silent, evidence };
        silent < at && self.silence.answer(&confirm, Some(Kind::Silence), turn, ended)
    }

    /// One detector for each part of the rule.
    fn watch(&mut self, rule: &DeviceRule) {
        self.watches.retain(|it| it.detector.is_wanted(rule));
        for detector in Detector::of(rule) {
            let at = self.watches.partition_point(|it| it.detector.kind() < detector.kind());
            if self.watches.get(at).is_none_or(|it| it.detector.kind() != detector.kind()) {
                self.watches.insert(at, Watch { detector, track: Track::default() });
            }
        }
    }
}

impl Machine for DeviceStand {
    type Rule = DeviceRule;

    fn step(&mut self, rule: &DeviceRule, said: &[Moment], ended: &mut Vec<Episode>) -> bool {
        let mut changed = false;
        if self.watches.len() != Detector::count(rule) {
            self.watch(rule);
        }
        for moment in said {
            let now = Sample { at: moment.at, filling: moment.filling };
            let evidence = Evidence { current: Some(now), following: None };
            if self.hear(rule, now.at, ended) {
                let confirm = Confirm { flap: rule.confirm.flap, ..Confirm::default() };
                let turn = Turn { at: now.at, evidence };
                self.silence.answer(&confirm, None, turn, ended);
                changed = true;
            }
            for Watch { detector, track } in &mut self.watches {
                let seen = Seen { now, before: self.heard, open: track.kind().is_some() };
                let found = detector.look(rule, seen).then(|| detector.kind());
                changed |= track.answer(&rule.confirm, found, Turn { at: now.at, evidence }, ended);
            }
            self.heard = Some(now);
        }
        changed
    }

    fn lasting(&self, rule: &DeviceRule, clock: i64, found: &mut Vec<Episode>) {
        let mut silence = self.clone();
        silence.hear(rule, clock, found);
        found.extend(silence.silence.lasting());
        found.extend(self.watches.iter().flat_map(|it| it.track.lasting()));
    }

    fn quiet_until(&self, rule: &DeviceRule) -> Option<i64> {
        let since = self.heard.map(|it| it.at).or(self.since)?;
        rule.silence.map(|most| since.saturating_add(most))
    }
}
