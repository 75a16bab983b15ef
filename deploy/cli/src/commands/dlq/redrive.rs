//! `flotilla dlq redrive`: dead letters go back to their queue, and what was not seen is said.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use aws_sdk_sqs::types::QueueAttributeName;
use flotilla_runtime::{payload::Payloads, tally};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Chosen, counted,
    look::{both, hidden, not_looked_at, read, unseen},
    none_of, print_list,
};
use crate::{
    console::{note, out},
    dead_letters::{DeadLetters, Letter, Redriven},
    error::{Doing, Error},
    stop::Stop,
    target::Target,
};

/// Of so many letters that were left it is said why.
const TOLD: usize = 20;

/// What is wanted of a redrive.
#[derive(Debug)]
pub(super) struct Wish {
    /// The only letter.
    pub(super) id: Option<String>,
    /// The queue to send to, where that is not each letter's own.
    pub(super) to: Option<String>,
    /// How many letters a second at most.
    pub(super) rate: u32,
}

impl Wish {
    fn takes(&self, letter: &Letter) -> bool {
        self.id.as_ref().is_none_or(|id| letter.is(id))
    }

    /// The same with the URL of a queue that is there in place of what `to` says.
    async fn resolved(self, target: &Target) -> Result<Self, Error> {
        let Some(said) = &self.to else { return Ok(self) };
        let url = url(&target.stack.outputs().queues(), said)?;
        let call = target.clients.sqs.get_queue_attributes().queue_url(&url);
        let answer = call.attribute_names(QueueAttributeName::QueueArn).send().await;
        answer.doing(|| format!("looking for the queue {url} of --to"))?;
        Ok(Self { to: Some(url), ..self })
    }

    /// The queue that a letter goes to; this one where none is known of it.
    fn destination<'q>(&'q self, letter: &'q Letter, otherwise: &'q str) -> Cow<'q, str> {
        self.to.as_deref().map_or_else(|| letter.home(otherwise), Cow::Borrowed)
    }
}

/// The URL of a queue that is named as with `--of`.
fn url(queues: &[(&str, &str, &str)], said: &str) -> Result<String, Error> {
    if said.contains("://") {
        return Ok(said.to_owned());
    }
    let found = queues.iter().find(|(name, ..)| *name == said);
    found.map(|(_, url, _)| (*url).to_owned()).ok_or_else(|| {
        let known: Vec<_> = queues.iter().map(|(name, ..)| *name).collect();
        Error::Usage(format!("--to {said}: there are {}, or say a queue's URL", known.join(", ")))
    })
}

/// Shows what would be sent back.
pub(super) async fn preview(chosen: &Chosen, wish: Wish, stop: &Stop) -> Result<(), Error> {
    let target = Target::find(&chosen.target).await?;
    let wish = &wish.resolved(&target).await?;
    let place = chosen.place(&target).await?;
    let wanted = |it: &Letter| chosen.takes(&place, it) && wish.takes(it);
    let found = read(&target.clients, &place.dead, stop, wanted, chosen.limit).await?;
    print_list(&found.letters);
    not_looked_at(&found, chosen.limit, &place.dead);
    let homes = found.letters.iter().map(|it| wish.destination(it, &place.queue));
    // What was said is shown where there is no letter, too.
    let to: BTreeSet<_> = homes.chain(wish.to.as_deref().map(Cow::Borrowed)).collect();
    to.into_iter().for_each(|queue| out(format!("they would go to {queue}")));
    match &wish.id {
        Some(id) if found.letters.is_empty() => Err(none_of(chosen, id)),
        _ => Ok(()),
    }
}

/// Sends letters back.
pub(super) async fn run(chosen: &Chosen, wish: Wish, stop: &Stop) -> Result<(), Error> {
    let target = Target::find(&chosen.target).await?;
    let wish = &wish.resolved(&target).await?;
    let place = chosen.place(&target).await?;
    let wanted = |it: &Letter| chosen.takes(&place, it) && wish.takes(it);
    let (queue, dead) = (&place.queue, &place.dead);
    let mut letters = DeadLetters::new(&target.clients, dead, stop);
    let mut course = Course { limit: chosen.limit, ..Course::default() };
    let bucket = &target.stack.outputs().payloads_bucket_name;
    let payloads = Payloads::new(target.clients.s3.clone(), bucket);
    let way = Way { wish, otherwise: queue, payloads, in_order: dead.ends_with(".fifo") };
    let moving = send_back(&mut letters, &way, wanted, &mut course);
    let table = &target.stack.outputs().fleet_table_name;
    let moved = tally::telling(Some(table), target.clients.dynamo.clone(), moving).await;
    let back = letters.put_back().await;
    course.stopped = matches!(moved, Err(Error::Interrupted));
    course.ended = moved.is_ok();
    course.back = back.as_ref().copied().unwrap_or_default();
    course.counted = letters.counted().await.ok();
    unseen(dead);
    course.told(wish.to.as_deref().unwrap_or(queue), dead).into_iter().for_each(out);
    both(moved, back)?;
    match &wish.id {
        _ if !course.refused.is_empty() => Err(course.left()),
        Some(id) if course.sent == 0 => Err(none_of(chosen, id)),
        _ => Ok(()),
    }
}

/// Where letters go.
struct Way<'a> {
    wish: &'a Wish,
    /// The queue of those of which none is known.
    otherwise: &'a str,
    payloads: Payloads,
    /// Whether the order of groups counts.
    in_order: bool,
}

async fn send_back(
    letters: &mut DeadLetters<'_>,
    way: &Way<'_>,
    wanted: impl Fn(&Letter) -> bool,
    course: &mut Course,
) -> Result<(), Error> {
    let mut clock = interval(Duration::from_secs(1) / way.wish.rate);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (batch, before) = (letters.next().await?, course.sent);
        if batch.is_empty() {
            return Ok(());
        }
        for letter in batch.iter().filter(|letter| wanted(letter)) {
            // What dies again while this runs is not sent back again, or it might never end.
            if letter.was_one_of(&course.ids) {
                continue;
            }
            if course.sent >= course.limit {
                course.limited = true;
                return Ok(());
            }
            clock.tick().await;
            // Between two letters: one that is sent and not taken off here would be there twice.
            letters.go_on()?;
            let queue = &way.wish.destination(letter, way.otherwise);
            match letters.redrive(letter, queue, &way.payloads).await? {
                Redriven::Sent(id) => course.note_sent(id, queue),
                // Those of its group that are behind it must not overtake it.
                Redriven::Refused(error) if way.in_order => return Err(error),
                Redriven::Refused(error) => course.refused.push((letter.id.clone(), error)),
            }
        }
        if course.sent > before {
            note(format!("{} sent back …", course.sent));
        }
    }
}

/// How a redrive went.
#[derive(Debug, Default)]
struct Course {
    limit: usize,
    sent: usize,
    /// The ids that they have now.
    ids: HashSet<String>,
    /// Those that could not be sent back, and why.
    refused: Vec<(String, Error)>,
    /// How many of these, by the queue that they went to.
    to: BTreeMap<String, usize>,
    /// How many were looked at and put back.
    back: usize,
    /// Whether one more was wanted than was allowed.
    limited: bool,
    stopped: bool,
    /// Whether the end of the queue, or the limit, was reached.
    ended: bool,
    /// How many SQS counts at the end, where it says.
    counted: Option<u64>,
}

impl Course {
    fn note_sent(&mut self, id: String, queue: &str) {
        self.sent += 1;
        self.ids.insert(id);
        *self.to.entry(queue.to_owned()).or_default() += 1;
    }

    /// What the command ends with where letters were left.
    fn left(&self) -> Error {
        let told = self.refused.iter().take(TOLD);
        let mut lines: Vec<_> =
            told.map(|(id, why)| format!("  {id}: {}", crate::chain(why))).collect();
        if self.refused.len() > TOLD {
            lines.push(format!("  and {} more", self.refused.len() - TOLD));
        }
        let was = counted(self.refused.len());
        Error::Fleet(format!("{was} left where they are:\n{}", lines.join("\n")))
    }

    /// What the operator is told. That nothing is left is claimed of nothing but what was looked at.
    fn told(&self, queue: &str, dead: &str) -> Vec<String> {
        let sent = |count, queue: &str| format!("{} sent back to {queue}", counted(count));
        let mut lines: Vec<_> = self.to.iter().map(|(queue, count)| sent(*count, queue)).collect();
        if lines.is_empty() {
            lines.push(sent(self.sent, queue));
        }
        if self.back > 0 {
            lines.push(format!("{} looked at and put back on {dead}", counted(self.back)));
        }
        lines.extend(self.cut_short());
        lines.push(match self.counted.map(|all| all.saturating_sub(self.back as u64)) {
            None => format!("how many are left on {dead} is not known: SQS did not say"),
            Some(0) => "SQS counts none that was not looked at (up to a minute late)".to_owned(),
            Some(count) if self.limited || !self.ended => {
                format!("about {count} more on {dead} were not looked at, as SQS counts")
            }
            Some(count) => hidden(count, dead),
        });
        lines
    }

    /// Why not all of the queue was looked at, if so.
    fn cut_short(&self) -> Option<String> {
        let limit = self.limit;
        match self {
            Self { stopped: true, .. } => {
                Some("stopped before the end: others may be wanted".to_owned())
            }
            Self { limited: true, .. } => {
                Some(format!("the limit of {limit} was reached: at least one more is wanted"))
            }
            Self { ended: false, .. } => {
                Some("it failed before the end: others may be wanted".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(course: &Course) -> String {
        course.told("queue", "dead").join("\n")
    }

    #[test]
    fn a_redrive_goes_to_no_queue_that_is_unknown() {
        let queues = [("grading", "http://q/grading", "http://q/grading-dlq")];
        assert_eq!(url(&queues, "grading").unwrap(), "http://q/grading");
        assert_eq!(url(&queues, "http://q/other").unwrap(), "http://q/other");
        let why = url(&queues, "foo").unwrap_err();
        assert!(why.exit_code() == 2 && why.to_string().contains("--to foo: there are grading"));
    }

    #[test]
    fn a_redrive_says_what_it_has_not_seen_and_never_that_nothing_is_left_while_something_may_be() {
        let end = Course { sent: 3, ended: true, counted: Some(0), ..Course::default() };
        assert!(told(&end).starts_with("3 dead letters were sent back to queue\nSQS counts none"));
        for (course, says) in [
            (
                Course { counted: Some(4), ..Course::default() },
                "about 4 more on dead were not seen",
            ),
            (Course { back: 3, counted: Some(4), ..Course::default() }, "about 1 more on dead"),
            (Course { counted: None, ..Course::default() }, "is not known"),
        ] {
            let text = told(&Course { ended: true, ..course });
            assert!(text.contains(says) && !text.contains("none"), "{text}");
        }
    }

    #[test]
    fn a_redrive_to_several_queues_says_how_many_went_to_each() {
        let to = [("a".to_owned(), 1), ("b".to_owned(), 2)].into();
        let course = Course { sent: 3, to, ended: true, ..Course::default() };
        let text = told(&course);
        assert!(
            text.starts_with(
                "1 dead letter was sent back to a\n2 dead letters were sent back to b\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_redrive_that_ends_early_says_why() {
        let all = |course: Course| told(&Course { limit: 7, ..course });
        let counted = Some(9);
        let limited = all(Course { limited: true, ended: true, counted, ..Course::default() });
        assert!(limited.contains("the limit of 7 was reached") && limited.contains("about 9 more"));
        assert!(!limited.contains("somebody else"), "it was the limit: {limited}");
        assert!(all(Course { stopped: true, ..Course::default() }).contains("stopped before"));
        assert!(all(Course::default()).contains("it failed before"));
        let whole = all(Course { ended: true, ..Course::default() });
        assert!(!whole.contains("wanted"), "{whole}");
    }
}
