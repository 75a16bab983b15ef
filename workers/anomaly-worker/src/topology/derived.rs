//! Neighbours told from their ids: a tube and a number, padded or not.
//!
//! `A01` is followed by `A02`, `A9` by `A10`. Where an id is all digits its first one is the tube:
//! `101` is followed by `102`, `010` by `011`, and `109` as well as `19` by `110`.

/// The sensor after this one, by its id.
pub fn following(id: &str) -> Option<String> {
    let (tube, number) = split(id)?;
    let (width, next) = (number.len(), number.parse::<u64>().ok()? + 1);
    let next = format!("{tube}{next:0width$}");
    // `9` would be followed by `10`, which is number 0 of tube 1.
    (split(&next)?.0 == tube).then_some(next)
}

/// The sensors that this one follows: at most two, since a number may be padded or not.
pub fn preceding(id: &str) -> Vec<String> {
    let Some((tube, number)) = split(id) else { return Vec::new() };
    let Some(before) = number.parse::<u64>().ok().and_then(|it| it.checked_sub(1)) else {
        return Vec::new();
    };
    let width = number.len();
    let mut found = vec![format!("{tube}{before:0width$}"), format!("{tube}{before}")];
    found.dedup();
    found.retain(|it| following(it).as_deref() == Some(id));
    found
}

/// The sensors that are joined by their ids and have these, one after the other.
pub(super) fn joined(ids: &str) -> impl Iterator<Item = (String, String)> {
    let cuts = ids.char_indices().skip(1).map(|(cut, _)| ids.split_at(cut));
    let joined = |(current, next): &(&str, &str)| following(current).is_some_and(|it| it == *next);
    cuts.filter(joined).map(|(current, next)| (current.to_owned(), next.to_owned()))
}

/// The tube of a sensor, where its id tells one.
pub fn tube(id: &str) -> Option<&str> {
    split(id).map(|(tube, _)| tube)
}

/// Tube and number.
fn split(id: &str) -> Option<(&str, &str)> {
    let tube = id.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = id.len() - tube.len();
    let tube = if tube.is_empty() && digits > 1 { 1 } else { tube.len() };
    let (tube, number) = id.split_at(tube);
    (1..=18).contains(&number.len()).then_some((tube, number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_following_sensor_has_the_next_number_padded_or_not() {
        for (id, next) in [
            ("01", "02"),
            ("010", "011"),
            ("09", "010"),
            ("109", "110"),
            ("19", "110"),
            ("1", "2"),
            ("A9", "A10"),
            ("A09", "A10"),
            ("A99", "A100"),
            ("tube-3-07", "tube-3-08"),
        ] {
            assert_eq!(following(id).as_deref(), Some(next), "{id}");
        }
        for id in ["", "9", "A", "A-", &format!("A{}", "9".repeat(18)), &"1".repeat(30)] {
            assert_eq!(following(id), None, "{id}");
        }
    }

    #[test]
    fn a_number_may_follow_two_spellings() {
        assert_eq!(preceding("110"), ["109", "19"]);
        assert_eq!(preceding("A10"), ["A09", "A9"]);
        assert_eq!(preceding("02"), ["01"]);
        assert_eq!(preceding("010"), ["009", "09"]);
        assert!(preceding("A0").is_empty() && preceding("A").is_empty());
    }

    proptest! {
        #[test]
        fn whoever_is_followed_precedes(id in "[A-C]?[0-9]{0,6}") {
            if let Some(next) = following(&id) {
                prop_assert!(preceding(&next).contains(&id), "{} -> {}", id, next);
            }
            for before in preceding(&id) {
                prop_assert_eq!(following(&before), Some(id.clone()));
            }
        }
    }
}
