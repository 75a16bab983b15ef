//! Values that may be a little old, and are looked up by one for all who ask at the same time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Mutex as AsyncMutex;

/// With more keys than this, all that nobody holds are forgotten, unless told otherwise.
const KEYS: usize = 10_000;

type Slot<T> = Arc<AsyncMutex<Option<(Instant, T)>>>;

/// Values by key, each at most so old.
#[derive(Debug)]
pub(super) struct Fresh<T> {
    age: Duration,
    keys: usize,
    slots: Mutex<HashMap<String, Slot<T>>>,
}

impl<T: Clone> Fresh<T> {
    pub(super) fn new(age: Duration) -> Self {
        Self::bounded(age, KEYS)
    }

    /// The same for values that take much memory.
    pub(super) fn bounded(age: Duration, keys: usize) -> Self {
        Self { age, keys, slots: Mutex::default() }
    }

    /// The value of a key, if need be from `look_up`, which is given the old one.
    pub(super) async fn get<E>(
        &self,
        key: &str,
        look_up: impl AsyncFnOnce(Option<T>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.get_aged(key, |_| self.age, look_up).await
    }

    /// The same, where it depends on the value how old it may be.
    pub(super) async fn get_aged<E>(
        &self,
        key: &str,
        age: impl Fn(&T) -> Duration,
        look_up: impl AsyncFnOnce(Option<T>) -> Result<T, E>,
    ) -> Result<T, E> {
        let slot = self.slot(key);
        let mut held = slot.lock().await;
        if let Some((at, value)) = &*held
            && at.elapsed() < age(value)
        {
            return Ok(value.clone());
        }
        let old = held.as_ref().map(|(_, value)| value.clone());
        let value = look_up(old).await?;
        *held = Some((Instant::now(), value.clone()));
        Ok(value)
    }

    /// Forgets the value of a key.
    pub(super) fn forget(&self, key: &str) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn slot(&self, key: &str) -> Slot<T> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() > self.keys {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(key.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_are_one_look_up() {
        let (fresh, count) = (Fresh::new(Duration::from_secs(60)), AtomicU32::new(0));
        let ask = || {
            fresh.get("a", async |_| {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, ()>(count.fetch_add(1, Ordering::SeqCst))
            })
        };
        assert_eq!(tokio::join!(ask(), ask(), ask()), (Ok(0), Ok(0), Ok(0)));
        fresh.forget("a");
        assert_eq!(ask().await, Ok(1));
    }

    #[tokio::test]
    async fn an_old_value_is_looked_up_again_and_a_failure_not_kept() {
        let fresh = Fresh::new(Duration::ZERO);
        assert_eq!(fresh.get("a", async |_| Ok::<_, u8>(1)).await, Ok(1));
        assert_eq!(fresh.get("a", async |old| Err(old)).await, Err(Some(1)));
        assert_eq!(fresh.get("a", async |old| Ok::<_, u8>(old.unwrap() + 1)).await, Ok(2));
    }
}
