//! A claim that is on its way to the ledger.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, ready},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    failure::Failure,
    ledger::{Claim, Claimed, Ledger},
};

type Call = Pin<Box<dyn Future<Output = Result<Claimed, Failure>> + Send>>;

/// Keeps the call apart from the attempt that waits for it. Where an attempt is cut off meanwhile,
/// DynamoDB may carry the call out all the same; its answer says what is to be released.
#[derive(Default)]
pub(crate) struct Claiming(Mutex<Option<Call>>);

impl fmt::Debug for Claiming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claiming")
    }
}

impl Claiming {
    /// Claims an effect.
    ///
    /// # Errors
    /// As [`Ledger::claim`].
    pub(crate) async fn claim(
        &self,
        ledger: &Ledger,
        key: &str,
        message_id: &str,
    ) -> Result<Claimed, Failure> {
        poll_fn(|context| {
            let mut call = self.call();
            let begun = || begun(ledger.clone(), key.to_owned(), message_id.to_owned());
            let asked = call.get_or_insert_with(begun);
            let answer = ready!(asked.as_mut().poll(context));
            *call = None;
            Poll::Ready(answer)
        })
        .await
    }

    /// What a call that nobody waits for any more has won, if its answer comes within `limit`.
    pub(crate) async fn late(&self, limit: Duration) -> Option<Claim> {
        let call = self.call().take()?;
        match timeout(limit, call).await {
            Ok(Ok(Claimed::Won(claim))) => Some(claim),
            _ => None,
        }
    }

    fn call(&self) -> MutexGuard<'_, Option<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begun(ledger: Ledger, key: String, message_id: String) -> Call {
    Box::pin(async move { ledger.claim(&key, &message_id).await })
}
