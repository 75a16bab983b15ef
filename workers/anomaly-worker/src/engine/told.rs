//! Episodes as they were told: what is needed to know them again, in a few bytes each.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

use super::{Episode, Kind, Sample, Turn, state::Key};

/// An episode as it was told. Of the readings that decided there is a digest alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Told {
    /// What was wrong.
    pub kind: Kind,
    /// Since when, in Unix milliseconds of event time.
    pub opened: i64,
    /// Until when, in Unix milliseconds of event time, if it had ended.
    pub resolved: Option<i64>,
    /// How often it had ended and come back.
    pub flaps: u32,
    /// How many there were before.
    pub recurrences: u32,
    /// Whether no reading that was still in time could change it.
    pub settled: bool,
    /// Digests of the readings that decided its opening and its end.
    pub(super) digests: [u32; 2],
}

impl Told {
    /// What is kept of an episode.
    pub fn of(it: &Episode) -> Self {
        Self {
            kind: it.kind,
            opened: it.opened.at,
            resolved: it.resolved.map(|turn| turn.at),
            flaps: it.flaps,
            recurrences: it.recurrences,
            settled: it.settled,
            digests: [digest(Some(&it.opened)), digest(it.resolved.as_ref())],
        }
    }

    /// What tells it from the others of its machine.
    pub fn key(&self) -> Key {
        (Some(self.kind).filter(|kind| kind.is_of_a_device()), self.opened)
    }

    /// Whether both last at the same time, in part at least.
    pub fn lasts_with(&self, other: &Episode) -> bool {
        let after_end = |end: Option<i64>, opened| end.is_some_and(|end| end < opened);
        !after_end(self.resolved, other.opened.at)
            && !after_end(other.resolved.map(|it| it.at), self.opened)
    }

    /// The newest turn, in Unix milliseconds of event time.
    pub(super) fn turned(&self) -> i64 {
        self.resolved.unwrap_or(self.opened)
    }
}

/// A digest of the readings that decided; the same on every machine.
fn digest(turn: Option<&Turn>) -> u32 {
    let evidence = turn.map(|it| it.evidence).unwrap_or_default();
    let said =
        |it: Option<Sample>| it.map_or([0, u64::MAX], |it| [it.at as u64, it.filling.to_bits()]);
    let mut words = [said(evidence.current), said(evidence.following)].concat();
    // What is not dated before it was heard keeps the digest that it always had.
    words.extend(evidence.heard.map(|at| at as u64));
    // The finaliser of SplitMix64 (S. Vigna), word by word.
    let mixed = words.into_iter().fold(0_u64, |hash, word| {
        let z = (hash ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    });
    (mixed >> 32) as u32
}

/// As text: for each a byte of flags, the distance of its opening from the one before, what else
/// the flags say, and both digests; in base64.
pub(super) mod packed {
    use super::{
        BASE64_STANDARD_NO_PAD, Deserialize, Deserializer, Engine, Episode, Error, Kind,
        Serializer, Told,
    };

    const SETTLED: u8 = 1 << 4;
    const ENDED: u8 = 1 << 5;
    const FLAPPED: u8 = 1 << 6;
    const RECURRED: u8 = 1 << 7;

    pub(in super::super) fn serialize<S: Serializer>(
        told: &[Told],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let (mut bytes, mut before) = (Vec::with_capacity(told.len() * 14), 0);
        for it in told {
            let flag = |set: bool, flag: u8| if set { flag } else { 0 };
            let kind = Kind::ALL.iter().position(|kind| *kind == it.kind).unwrap_or_default();
            bytes.push(
                kind as u8
                    | flag(it.settled, SETTLED)
                    | flag(it.resolved.is_some(), ENDED)
                    | flag(it.flaps > 0, FLAPPED)
                    | flag(it.recurrences > 0, RECURRED),
            );
            put(&mut bytes, it.opened.wrapping_sub(before));
            before = it.opened;
            it.resolved.into_iter().for_each(|end| put(&mut bytes, end.wrapping_sub(it.opened)));
            for count in [it.flaps, it.recurrences].into_iter().filter(|it| *it > 0) {
                put(&mut bytes, i64::from(count));
            }
            it.digests.iter().for_each(|it| bytes.extend(it.to_le_bytes()));
        }
        to.serialize_str(&BASE64_STANDARD_NO_PAD.encode(bytes))
    }

    /// What is read; rows once held whole episodes.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Packed(String),
        Whole(Vec<Episode>),
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Box<[Told]>, D::Error> {
        match Stored::deserialize(from)? {
            Stored::Whole(episodes) => Ok(episodes.iter().map(Told::of).collect()),
            Stored::Packed(text) => {
                let bytes = BASE64_STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
                unpack(&bytes).ok_or_else(|| D::Error::custom("what was told is cut off"))
            }
        }
    }

    fn unpack(mut bytes: &[u8]) -> Option<Box<[Told]>> {
        let (mut told, mut before) = (Vec::new(), 0_i64);
        while let Some((flags, rest)) = bytes.split_first() {
            bytes = rest;
            let has = |flag| flags & flag != 0;
            let opened = before.wrapping_add(take(&mut bytes)?);
            before = opened;
            let resolved =
                if has(ENDED) { Some(opened.wrapping_add(take(&mut bytes)?)) } else { None };
            let mut count = |flag| match has(flag) {
                true => u32::try_from(take(&mut bytes)?).ok(),
                false => Some(0),
            };
            let (flaps, recurrences) = (count(FLAPPED)?, count(RECURRED)?);
            let (digests, rest) = bytes.split_first_chunk::<8>()?;
            bytes = rest;
            let [a, b, c, d, e, f, g, h] = *digests;
            told.push(Told {
                kind: *Kind::ALL.get(usize::from(flags & 0xF))?,
                opened,
                resolved,
                flaps,
                recurrences,
                settled: has(SETTLED),
                digests: [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])],
            });
        }
        Some(told.into())
    }

    /// Seven bits a byte, the lowest first, and the sign in the lowest.
    fn put(bytes: &mut Vec<u8>, value: i64) {
        let mut left = ((value << 1) ^ (value >> 63)) as u64;
        while left > 0x7F {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
    }

    fn take(bytes: &mut &[u8]) -> Option<i64> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
            shift += 7;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        #[serde(with = "packed")]
        told: Box<[Told]>,
    }

    fn told() -> impl Strategy<Value = Told> {
        let times = (any::<i64>(), prop::option::of(any::<i64>()));
        let counts = (0..3_u32, 0..500_u32, any::<bool>(), any::<[u32; 2]>());
        (0..Kind::ALL.len(), times, counts).prop_map(
            |(kind, (opened, resolved), (flaps, recurrences, settled, digests))| Told {
                kind: Kind::ALL[kind],
                opened,
                resolved,
                flaps,
                recurrences,
                settled,
                digests,
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_told_is_read_as_it_was_written(told in prop::collection::vec(told(), 0..20), cut in 0..400_usize) {
            let row = Row { told: told.into() };
            let text = serde_json::to_string(&row).unwrap();
            prop_assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
            // What is cut off is refused, or shorter; it is no reason to panic.
            let cut: String = text.chars().skip(9).take(cut).filter(|it| !"\"}".contains(*it)).collect();
            let _ = serde_json::from_value::<Row>(serde_json::json!({ "told": cut }));
        }
    }

    #[test]
    fn other_readings_have_another_digest() {
        let turn = |at, filling| {
            let current = Some(Sample { at, filling });
            Turn { at: 5, evidence: super::super::Evidence { current, ..Default::default() } }
        };
        assert_ne!(digest(Some(&turn(1, 2.0))), digest(Some(&turn(1, 3.0))));
        assert_ne!(digest(Some(&turn(1, 2.0))), digest(Some(&turn(2, 2.0))));
        assert_eq!(digest(Some(&turn(1, 2.0))), digest(Some(&turn(1, 2.0))));
        let dated = turn(1, 2.0).dated_since(Some(4));
        assert_eq!(dated.at, 5, "in the middle, to the millisecond");
        assert_ne!(digest(Some(&dated)), digest(Some(&turn(1, 2.0))));
    }
}
