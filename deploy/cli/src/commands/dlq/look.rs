//! Looking through a dead-letter queue: what was found, and what was not looked at.

use crate::{
    aws::Clients,
    console::note,
    dead_letters::{DeadLetters, Letter},
    error::Error,
    stop::Stop,
};

/// What was found on a dead-letter queue.
pub(super) struct Found {
    pub(super) letters: Vec<Letter>,
    /// Whether there were as many as were asked for, so that there may be others.
    limited: bool,
    /// How many more SQS counts than were looked at, where it says.
    unseen: Option<u64>,
}

/// Every letter that is asked for; all are visible again after it.
pub(super) async fn read(
    clients: &Clients,
    dead: &str,
    stop: &Stop,
    wanted: impl Fn(&Letter) -> bool,
    limit: usize,
) -> Result<Found, Error> {
    let mut queue = DeadLetters::new(clients, dead, stop);
    let (mut letters, mut limited) = (Vec::new(), false);
    let looked = async {
        loop {
            let batch = queue.next().await?;
            let end = batch.is_empty();
            letters.extend(batch.into_iter().filter(&wanted));
            limited = !end && letters.len() >= limit;
            if end || limited {
                return Ok(());
            }
        }
    };
    let looked: Result<(), Error> = looked.await;
    let back = both(looked, queue.put_back().await)? as u64;
    let unseen = queue.counted().await.ok().map(|counted| counted.saturating_sub(back));
    letters.truncate(limit);
    letters.sort_by_key(|letter| letter.sent_at);
    Ok(Found { letters, limited, unseen })
}

/// What was put back, where all went well. Of two failures the first is the command's, and the second is
/// said: letters that could not be put back are out of sight for a while.
pub(super) fn both(done: Result<(), Error>, back: Result<usize, Error>) -> Result<usize, Error> {
    if let (Err(_), Err(error)) = (&done, &back) {
        note(crate::chain(error));
    }
    done.and(back)
}

/// Says what may be there beside what was found.
pub(super) fn not_looked_at(found: &Found, limit: usize, dead: &str) {
    unseen(dead);
    if found.limited {
        note(format!("the limit of {limit} was reached: there may be others"));
    } else if let Some(count) = found.unseen.filter(|count| *count > 0) {
        note(hidden(count, dead));
    }
}

/// Says of letters that were not seen why that may be.
pub(super) fn hidden(count: u64, dead: &str) -> String {
    format!(
        "about {count} more on {dead} were not seen, as SQS counts (up to a minute late): somebody else \
         has them in hand, or they came meanwhile; look again"
    )
}

/// Says what SQS keeps from whoever looks through a FIFO queue: while ten letters of a group are in
/// hand, it gives no more of them.
pub(super) fn unseen(dead: &str) {
    if dead.ends_with(".fifo") {
        note(
            "of a FIFO queue the first ten letters of each group are seen; redrive them for the next",
        );
    }
}
