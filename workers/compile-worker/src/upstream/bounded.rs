//! What is kept in memory of what was fetched: the latest in use, up to a size.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Values by name, of a total size.
#[derive(Debug)]
pub(crate) struct Bounded<T> {
    limit: usize,
    kept: Mutex<HashMap<String, Kept<T>>>,
}

#[derive(Debug)]
struct Kept<T> {
    used: Instant,
    size: usize,
    value: T,
}

impl<T: Clone> Bounded<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    /// A value.
    pub(crate) fn get(&self, name: &str) -> Option<T> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let it = kept.get_mut(name)?;
        it.used = Instant::now();
        Some(it.value.clone())
    }

    /// Keeps a value of this size, in place of what was not used for longest.
    pub(crate) fn keep(&self, name: &str, size: usize, value: T) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(name);
        let mut total: usize = kept.values().map(|it| it.size).sum();
        while total.saturating_add(size) > self.limit {
            let oldest = kept.iter().min_by_key(|(_, it)| it.used).map(|(name, _)| name.clone());
            let Some(gone) = oldest.and_then(|name| kept.remove(&name)) else {
                return;
            };
            total -= gone.size;
        }
        kept.insert(name.to_owned(), Kept { used: Instant::now(), size, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let kept = Bounded::new(3);
        for name in ["a", "b", "c"] {
            kept.keep(name, 1, name);
        }
        assert!(kept.get("a").is_some());
        kept.keep("d", 2, "d");
        let there = ["a", "b", "c", "d"].map(|name| kept.get(name).is_some());
        assert_eq!(there, [true, false, false, true]);
        kept.keep("e", 4, "e");
        assert!(kept.get("e").is_none());
    }
}
