//! `flotilla dlq delete`: dead letters that nobody wants any more.

use super::{
    Chosen, Place, counted,
    look::{both, not_looked_at, read, unseen},
    none_of, print_list,
};
use crate::{
    console::{note, out},
    dead_letters::{DeadLetters, Letter},
    error::Error,
    stop::Stop,
    target::Target,
};

/// Shows what would be deleted. Whoever did not ask for a preview is told how to go on.
pub(super) async fn preview(
    chosen: &Chosen,
    id: Option<&str>,
    asked: bool,
    stop: &Stop,
) -> Result<(), Error> {
    let target = Target::find(&chosen.target).await?;
    let place = chosen.place(&target).await?;
    let wanted = |it: &Letter| takes(chosen, &place, id, it);
    let found = read(&target.clients, &place.dead, stop, wanted, chosen.limit).await?;
    print_list(&found.letters);
    not_looked_at(&found, chosen.limit, &place.dead);
    match (id, asked) {
        (Some(id), _) if found.letters.is_empty() => Err(none_of(chosen, id)),
        (_, true) => Ok(()),
        (_, false) if found.letters.is_empty() => Ok(()),
        (_, false) => Err(Error::Usage(
            "nothing is deleted: say --yes to delete these for good, or the --id of one".to_owned(),
        )),
    }
}

/// Deletes letters.
pub(super) async fn run(chosen: &Chosen, id: Option<&str>, stop: &Stop) -> Result<(), Error> {
    let target = Target::find(&chosen.target).await?;
    let place = chosen.place(&target).await?;
    let mut letters = DeadLetters::new(&target.clients, &place.dead, stop);
    // What dies meanwhile nobody has looked at.
    let start = letters.now().await?;
    let wanted = |it: &Letter| takes(chosen, &place, id, it) && it.was_dead_at(start);
    let mut deleted = 0;
    let done = delete(&mut letters, wanted, chosen.limit, &mut deleted).await;
    let back = letters.put_back().await;
    unseen(&place.dead);
    out(format!("{} deleted from {}", counted(deleted), place.dead));
    both(done, back)?;
    match id {
        Some(id) if deleted == 0 => Err(none_of(chosen, id)),
        _ => Ok(()),
    }
}

fn takes(chosen: &Chosen, place: &Place, id: Option<&str>, letter: &Letter) -> bool {
    chosen.takes(place, letter) && id.is_none_or(|id| letter.is(id))
}

async fn delete(
    letters: &mut DeadLetters<'_>,
    wanted: impl Fn(&Letter) -> bool,
    limit: usize,
    deleted: &mut usize,
) -> Result<(), Error> {
    loop {
        let batch = letters.next().await?;
        if batch.is_empty() {
            return Ok(());
        }
        for letter in batch.iter().filter(|letter| wanted(letter)) {
            if *deleted >= limit {
                note(format!("the limit of {limit} was reached: there may be others"));
                return Ok(());
            }
            letters.go_on()?;
            letters.delete(letter).await?;
            *deleted += 1;
        }
    }
}
