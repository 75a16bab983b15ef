//! Looks at many at a time, where one of them may fail the call for all.

use std::{collections::HashMap, future::Future};

use super::{Refusal, Seen};

/// After how many that are refused by themselves, while none is seen, the others are not asked.
const REFUSED: usize = 8;

/// What is looked at by calls that take many ids.
pub(super) trait Look: Sync {
    /// The most ids that a call takes.
    const CALL: usize;

    /// The state of each, by one call and its pages; what the service does not know is missing.
    fn look(
        &self,
        ids: &[String],
    ) -> impl Future<Output = Result<HashMap<String, Seen>, Refusal>> + Send;
}

/// The state of each. A call that is refused as it is, or because one of its ids is not known, is
/// narrowed down by halves: what is no id keeps nobody from being seen.
pub(super) async fn each<L: Look>(
    it: &L,
    ids: &[String],
) -> Result<HashMap<String, Seen>, Refusal> {
    let (mut states, mut seen, mut alone) = (HashMap::new(), false, 0);
    let mut parts: Vec<&[String]> = ids.chunks(L::CALL).rev().collect();
    while let Some(part) = parts.pop() {
        let refused = match it.look(part).await {
            Ok(found) => {
                seen = true;
                states.extend(found);
                continue;
            }
            Err(why) if !matches!(why.kind, "gone" | "refused") => return Err(why),
            Err(why) if !seen && alone >= REFUSED => return Err(why),
            Err(why) => why,
        };
        match part {
            [id] if refused.kind == "refused" => {
                alone += 1;
                states.insert(id.clone(), Seen::refused(refused));
            }
            [_] | [] => {}
            part => {
                let (first, rest) = part.split_at(part.len() / 2);
                parts.extend([rest, first]);
            }
        }
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::plan::Observed;

    /// Takes no call with a name that begins with `bad`, and knows none that begins with `gone`.
    #[derive(Default)]
    struct Picky(AtomicUsize);

    impl Look for Picky {
        const CALL: usize = 10;

        async fn look(&self, ids: &[String]) -> Result<HashMap<String, Seen>, Refusal> {
            self.0.fetch_add(1, Ordering::Relaxed);
            for kind in ["refused", "gone", "denied"] {
                let word = if kind == "refused" { "bad" } else { kind };
                if ids.iter().any(|id| id.starts_with(word)) {
                    return Err(Refusal::new(kind, format!("{word} is among them")));
                }
            }
            Ok(ids.iter().map(|id| (id.clone(), Observed::On.into())).collect())
        }
    }

    fn ids(names: &[&str]) -> Vec<String> {
        let good = (0..12).map(|number| format!("good-{number}"));
        names.iter().map(|it| (*it).to_owned()).chain(good).collect()
    }

    #[tokio::test]
    async fn what_is_no_id_keeps_nobody_from_being_seen() {
        let seen = each(&Picky::default(), &ids(&["bad_1", "gone-1"])).await.unwrap();
        assert_eq!(seen.values().filter(|it| it.state == Observed::On).count(), 12);
        let why = seen["bad_1"].refused.clone().unwrap();
        assert!(why.kind == "refused" && !seen.contains_key("gone-1"), "{why:?}");
    }

    #[tokio::test]
    async fn a_service_that_refuses_all_is_not_asked_for_each_of_many() {
        let bad: Vec<String> = (0..200).map(|number| format!("bad-{number}")).collect();
        let picky = Picky::default();
        assert_eq!(each(&picky, &bad).await.unwrap_err().kind, "refused");
        let calls = picky.0.load(Ordering::Relaxed);
        assert!(calls < 40, "{calls}");
        assert_eq!(each(&picky, &ids(&["denied"])).await.unwrap_err().kind, "denied");
    }
}
