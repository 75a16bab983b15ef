//! Values that may be a little old, and are looked up by one for all who ask at the same time.

use std::{
    cmp::Reverse,
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Mutex as AsyncMutex;

use super::answer::Refusal;

/// How many values are kept, unless told otherwise.
const KEYS: usize = 10_000;

/// Values by key, each at most so old. A look-up that failed is told to all who waited for it, and
/// kept for nobody who asks later.
#[derive(Debug)]
pub(super) struct Fresh<T> {
    age: Duration,
    shelf: Arc<Shelf<T>>,
}

/// What is kept, up to a weight.
#[derive(Debug)]
struct Shelf<T> {
    limit: usize,
    weigh: fn(&T) -> usize,
    slots: Mutex<Slots<T>>,
}

#[derive(Debug)]
struct Slots<T> {
    by_key: HashMap<String, Arc<Slot<T>>>,
    /// Never less than all of them weigh.
    weight: usize,
}

/// A value, and the turn to look it up, with how the last look-up failed.
#[derive(Debug)]
struct Slot<T> {
    kept: Mutex<Option<Kept<T>>>,
    turn: Arc<AsyncMutex<Option<(Instant, Refusal)>>>,
}

#[derive(Debug)]
struct Kept<T> {
    at: Instant,
    used: Instant,
    value: T,
}

impl<T: Clone + Send + Sync + 'static> Fresh<T> {
    pub(super) fn new(age: Duration) -> Self {
        Self::weighed(age, KEYS, |_| 0)
    }

    /// The same for values that take much memory: with all that weigh more than the limit, those that
    /// were not used for longest are forgotten. Each key weighs 1.
    pub(super) fn weighed(age: Duration, limit: usize, weigh: fn(&T) -> usize) -> Self {
        let slots = Mutex::new(Slots { by_key: HashMap::new(), weight: 0 });
        Self { age, shelf: Arc::new(Shelf { limit, weigh, slots }) }
    }

    /// The value of a key, if need be from `look_up`, which is given the old one.
    pub(super) async fn get(
        &self,
        key: &str,
        look_up: impl AsyncFnOnce(Option<T>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.get_aged(key, |_| self.age, look_up).await
    }

    /// The same, where it depends on the value how old it may be.
    pub(super) async fn get_aged(
        &self,
        key: &str,
        age: impl Fn(&T) -> Duration,
        look_up: impl AsyncFnOnce(Option<T>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let slot = self.shelf.slot(key);
        if let Some(value) = slot.fresh(&age) {
            return Ok(value);
        }
        let asked = Instant::now();
        let mut turn = slot.turn.lock().await;
        if let Some(told) = slot.told(&age, asked, turn.as_ref()) {
            return told;
        }
        let found = look_up(slot.value()).await;
        *turn = self.shelf.ended(&slot, &found);
        if found.is_err() {
            self.shelf.forget_empty(key, &slot);
        }
        found
    }

    /// The same, where the look-up goes on although nobody waits for it any more: whoever asks again
    /// has the more of it.
    pub(super) async fn get_apart<F>(
        &self,
        key: &str,
        age: impl Fn(&T) -> Duration,
        look_up: impl FnOnce(Option<T>) -> F,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let slot = self.shelf.slot(key);
        if let Some(value) = slot.fresh(&age) {
            return Ok(value);
        }
        let asked = Instant::now();
        let mut turn = Arc::clone(&slot.turn).lock_owned().await;
        if let Some(told) = slot.told(&age, asked, turn.as_ref()) {
            return told;
        }
        let (looking, shelf) = (look_up(slot.value()), Arc::clone(&self.shelf));
        let looked = tokio::spawn(async move {
            let found = looking.await;
            *turn = shelf.ended(&slot, &found);
            found
        });
        let early = |e| Refusal::Later(format!("a look-up ended early: {e}"), 1);
        looked.await.unwrap_or_else(|e| Err(early(e)))
    }

    /// Whether there is a value that is not too old.
    pub(super) fn has(&self, key: &str) -> bool {
        self.shelf.slot(key).fresh(&|_: &T| self.age).is_some()
    }

    /// Forgets the value of a key.
    pub(super) fn forget(&self, key: &str) {
        self.shelf.slots().by_key.remove(key);
    }
}

impl<T: Clone> Shelf<T> {
    fn slots(&self) -> MutexGuard<'_, Slots<T>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, key: &str) -> Arc<Slot<T>> {
        let mut slots = self.slots();
        if let Some(slot) = slots.by_key.get(key) {
            return Arc::clone(slot);
        }
        self.make_room(&mut slots, 1);
        let slot = Arc::new(Slot { kept: Mutex::new(None), turn: Arc::default() });
        slots.by_key.insert(key.to_owned(), Arc::clone(&slot));
        slot
    }

    /// Keeps what was found; gives what is to be told to those who wait.
    fn ended(&self, slot: &Slot<T>, found: &Result<T, Refusal>) -> Option<(Instant, Refusal)> {
        let now = Instant::now();
        match found {
            Ok(value) => {
                self.make_room(&mut self.slots(), (self.weigh)(value));
                *slot.kept() = Some(Kept { at: now, used: now, value: value.clone() });
                None
            }
            Err(why) => Some((now, why.clone())),
        }
    }

    /// Forgets a key under which nothing was ever found: who asks for what there is not, again and again
    /// by another name, is to fill no memory.
    fn forget_empty(&self, key: &str, slot: &Arc<Slot<T>>) {
        let mut slots = self.slots();
        let same = slots.by_key.get(key).is_some_and(|it| Arc::ptr_eq(it, slot));
        if same && slot.kept().is_none() {
            slots.by_key.remove(key);
        }
    }

    /// Forgets the older half where this is too much. What somebody just looks up stays.
    fn make_room(&self, slots: &mut Slots<T>, more: usize) {
        slots.weight = slots.weight.saturating_add(more);
        if slots.weight <= self.limit {
            return;
        }
        let mut all: Vec<_> = slots.by_key.drain().collect();
        all.sort_by_cached_key(|(_, slot)| {
            let used = slot.kept().as_ref().map(|kept| kept.used);
            Reverse((Arc::strong_count(slot) > 1, used))
        });
        slots.weight = more;
        for (key, slot) in all {
            let weight = 1 + slot.kept().as_ref().map_or(0, |kept| (self.weigh)(&kept.value));
            if slots.weight + weight <= self.limit / 2 || Arc::strong_count(&slot) > 1 {
                slots.weight += weight;
                slots.by_key.insert(key, slot);
            }
        }
    }
}

impl<T: Clone> Slot<T> {
    fn kept(&self) -> MutexGuard<'_, Option<Kept<T>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn value(&self) -> Option<T> {
        self.kept().as_ref().map(|kept| kept.value.clone())
    }

    fn fresh(&self, age: &impl Fn(&T) -> Duration) -> Option<T> {
        let mut kept = self.kept();
        let kept = kept.as_mut().filter(|kept| kept.at.elapsed() < age(&kept.value))?;
        kept.used = Instant::now();
        Some(kept.value.clone())
    }

    /// What another found out for who asked then, while it was his turn.
    fn told(
        &self,
        age: &impl Fn(&T) -> Duration,
        asked: Instant,
        failed: Option<&(Instant, Refusal)>,
    ) -> Option<Result<T, Refusal>> {
        let failed = failed.filter(|(at, _)| *at >= asked).map(|(_, why)| Err(why.clone()));
        self.fresh(age).map(Ok).or(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn no() -> Refusal {
        Refusal::Later("no".to_owned(), 1)
    }

    #[tokio::test]
    async fn many_who_ask_at_once_are_one_look_up() {
        let (fresh, count) = (Fresh::new(Duration::from_secs(60)), AtomicU32::new(0));
        let ask = || {
            fresh.get("a", async |_| {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(count.fetch_add(1, Ordering::SeqCst))
            })
        };
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        assert_eq!((one.unwrap(), two.unwrap(), three.unwrap()), (0, 0, 0));
        assert!(fresh.has("a"));
        fresh.forget("a");
        assert_eq!(ask().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn an_old_value_is_looked_up_again_and_a_failure_not_kept() {
        let fresh = Fresh::new(Duration::ZERO);
        assert_eq!(fresh.get("a", async |_| Ok(1)).await.unwrap(), 1);
        assert!(fresh.get("a", async |_| Err(no())).await.is_err());
        assert_eq!(fresh.get("a", async |old| Ok(old.unwrap() + 1)).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn what_was_never_found_takes_no_room() {
        let fresh = Fresh::new(Duration::ZERO);
        assert!(fresh.get("a", async |_| Err(no())).await.is_err());
        assert!(fresh.shelf.slots().by_key.is_empty());
        fresh.get("a", async |_| Ok(1)).await.unwrap();
        assert!(fresh.get("a", async |_| Err(no())).await.is_err());
        assert_eq!(fresh.get("a", async |old| Ok(old.unwrap() + 1)).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn those_who_wait_behind_a_failure_share_it_and_who_asks_later_does_not() {
        let (fresh, count) = (Fresh::<u32>::new(Duration::from_secs(60)), AtomicU32::new(0));
        let ask = || {
            fresh.get("a", async |_| {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(no())
            })
        };
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        assert!(one.is_err() && two.is_err() && three.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 1, "nobody waits in a queue of failures");
        assert!(ask().await.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_look_up_apart_goes_on_when_nobody_waits_for_it() {
        let fresh = Fresh::new(Duration::from_secs(60));
        let age = |_: &u32| Duration::from_secs(60);
        let slow = async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(7)
        };
        let first = fresh.get_apart("a", age, move |_| slow());
        assert!(tokio::time::timeout(Duration::from_millis(10), first).await.is_err());
        let second = fresh.get_apart("a", age, |_| std::future::ready(Ok(8)));
        assert_eq!(second.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_is_kept_weighs_no_more_than_it_may() {
        let fresh = Fresh::weighed(Duration::from_secs(60), 100, |value: &usize| *value);
        for key in 0..50 {
            fresh.get(&key.to_string(), async |_| Ok(10)).await.unwrap();
            fresh.get("used", async |_| Ok(10)).await.unwrap();
        }
        let slots = fresh.shelf.slots();
        let weight: usize =
            slots.by_key.values().map(|it| 1 + it.value().unwrap_or_default()).sum();
        assert!(weight <= 100 && weight <= slots.weight, "{weight}");
        assert!(slots.by_key.contains_key("used") && slots.by_key.contains_key("49"));
        assert!(!slots.by_key.contains_key("0"));
    }
}
