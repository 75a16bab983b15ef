//! The queue's own clock: letters are dated by it, and the operator's may be wrong.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_sdk_sqs::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::BoxError,
    primitives::{DateTime, DateTimeFormat},
};

/// Keeps the date of an answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Arc<Mutex<Option<SystemTime>>>);

impl Clock {
    /// The end of the second in which it was answered; none where the answer has no date.
    pub(super) fn time(&self) -> Option<SystemTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "Clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(end_of);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

/// The end of the second that a header says.
fn end_of(date: &str) -> Option<SystemTime> {
    let date = DateTime::from_str(date, DateTimeFormat::HttpDate).ok()?;
    SystemTime::try_from(date).ok()?.checked_add(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_queues_clock_is_the_date_of_its_answer_to_the_end_of_that_second() {
        let end = end_of("Mon, 01 Jun 2026 08:00:00 GMT").unwrap();
        assert_eq!(end.duration_since(UNIX_EPOCH).unwrap().as_secs(), 1_780_300_801);
        assert_eq!(end_of("soon"), None);
    }
}
