//! Who is heard, and who is given up.

use super::*;
use crate::observed::Count;

const LIMIT: Duration = Duration::from_secs(30);

fn rows(all: &[(&str, Millis)]) -> Rows {
    let row = |at: Millis| Row { at, ..Row::default() };
    let instances = all.iter().map(|(id, at)| ((*id).to_owned(), row(*at))).collect();
    Rows { instances, ..Rows::default() }
}

#[test]
fn a_worker_whose_clock_is_ten_minutes_behind_is_heard() {
    let (mut hearing, start) = (Hearing::default(), Instant::now());
    for turn in 0..100 {
        let (now, wall) = (start + turn * LIMIT / 6, 10_000_000 + u64::from(turn) * 5_000);
        let told = rows(&[("i-1", wall - 600_000)]);
        hearing.listen(&told, now);
        let silent = hearing.silent(&told, LIMIT, (now, wall));
        assert_eq!(silent.is_empty(), turn > 0, "at first nobody knows");
    }
}

#[test]
fn what_does_not_move_is_silent_whatever_its_clock_says() {
    let (mut hearing, start) = (Hearing::default(), Instant::now());
    let told = rows(&[("i-1", 99_000_000)]);
    hearing.listen(&told, start);
    let silent = |hearing: &Hearing, now| hearing.silent(&told, LIMIT, (now, 1_000_000));
    assert!(silent(&hearing, start + LIMIT).is_empty());
    hearing.listen(&told, start + LIMIT);
    assert!(silent(&hearing, start + LIMIT * 2).contains("i-1"));
    assert_eq!(hearing.quiet("i-1", start + LIMIT * 2), LIMIT * 2);
}

#[test]
fn an_order_gives_a_worker_its_time_again() {
    let (mut hearing, start) = (Hearing::default(), Instant::now());
    let mut told = rows(&[("i-1", 5)]);
    hearing.listen(&told, start);
    told.instances.get_mut("i-1").unwrap().drain = Some(9);
    hearing.listen(&told, start + LIMIT);
    assert_eq!(hearing.quiet("i-1", start + LIMIT), Duration::ZERO);
    assert_eq!(hearing.quiet("i-2", start), Duration::ZERO, "nothing is known of it");
}

#[test]
fn messages_that_nobody_owns_up_to_begin_the_time_again() {
    let (mut hearing, start) = (Hearing::default(), Instant::now());
    let queue = |in_flight| QueueSeen { in_flight, ..QueueSeen::empty("q") };
    hearing.weigh(&[queue(Some(Count::exact(2)))], 2, start);
    assert!(hearing.all_owned(LIMIT, start + LIMIT) && !hearing.all_owned(LIMIT, start));
    hearing.weigh(&[queue(Some(Count::exact(3)))], 2, start + LIMIT);
    assert!(!hearing.all_owned(Duration::ZERO, start + LIMIT));
    hearing.weigh(&[queue(None)], 9, start + LIMIT);
    assert!(!hearing.all_owned(Duration::ZERO, start + LIMIT), "nor where it is not seen");
}

fn patience() -> Patience {
    Patience::new(LIMIT, 0, Duration::ZERO)
}

/// Three workers that beat together once and never again, of which `alive` do after all.
fn three(alive: u64, in_flight: u64, turns: u32) -> (Hearing, Rows, Instant) {
    let (mut hearing, start) = (Hearing::default(), Instant::now());
    let mut told = rows(&[]);
    for turn in 0..=turns {
        let at = |n: u64| if n <= alive { u64::from(turn) + 2 } else { 1 };
        told = rows(&[("i-1", at(1)), ("i-2", at(2)), ("i-3", at(3))]);
        let seen = Some(Count::exact(in_flight));
        hearing.listen(&told, start + turn * LIMIT);
        let queue = QueueSeen { in_flight: seen, ..QueueSeen::empty("q") };
        hearing.weigh(&[queue], 0, start + turn * LIMIT);
    }
    (hearing, told, start + turns * LIMIT)
}

const ALL: [&str; 3] = ["i-1", "i-2", "i-3"];

#[test]
fn who_is_silent_for_long_is_given_up_unless_somebody_holds_what_nobody_owns_up_to() {
    let (hearing, told, now) = three(2, 0, GIVEN_UP);
    assert!(hearing.given_up(&ALL, &told, &patience(), now).is_empty(), "not yet");
    let (hearing, told, now) = three(2, 0, GIVEN_UP + 1);
    assert_eq!(hearing.given_up(&ALL, &told, &patience(), now), ["i-3"]);
    let (hearing, told, now) = three(2, 1, GIVEN_UP + 1);
    assert!(hearing.given_up(&ALL, &told, &patience(), now).is_empty(), "it may be at work");
}

#[test]
fn of_workers_that_fell_silent_together_one_goes_after_the_other() {
    let (mut hearing, mut told, now) = three(0, 0, GIVEN_UP + 1);
    assert_eq!(hearing.given_up(&ALL, &told, &patience(), now), ["i-1"]);
    told.instances.get_mut("i-1").unwrap().drain = Some(1);
    hearing.listen(&told, now);
    let later = now + LIMIT * (GIVEN_UP + 1);
    for at in [now, now + LIMIT * 2, later] {
        assert!(hearing.given_up(&ALL, &told, &patience(), at).is_empty(), "one is going");
    }
    let row = told.instances["i-1"].clone();
    assert!(!hearing.is_drained("i-1", &row, &patience(), now + LIMIT * GIVEN_UP));
    assert!(hearing.is_drained("i-1", &row, &patience(), later));
    assert_eq!(hearing.given_up(&ALL[1..], &told, &patience(), later), ["i-2"]);
}

#[test]
fn one_that_was_never_heard_of_has_three_boots_time() {
    let (mut hearing, start) = (Hearing::default(), Instant::now());
    let told = rows(&[("i-1", 0)]);
    hearing.listen(&told, start);
    hearing.weigh(&[], 0, start);
    let patience = Patience::new(LIMIT, 1_200_000, Duration::ZERO);
    let given_up = |seconds| {
        let now = start + Duration::from_secs(seconds);
        hearing.given_up(&ALL[..1], &told, &patience, now).len()
    };
    assert_eq!([3_600, 3_601].map(given_up), [0, 1]);
}

#[test]
fn one_that_somebody_else_stopped_is_ended_once_no_other_worker_starts_in_its_place() {
    let (mut hearing, start) = (Hearing::default(), Instant::now());
    hearing.listen(&rows(&[("i-1", 5)]), start);
    let row = Row { at: 5, drained: Some(5), ..Row::default() };
    let drained = |after| hearing.is_drained("i-1", &row, &patience(), start + after);
    assert!(!drained(LIMIT) && drained(LIMIT + Duration::from_millis(1)));
}

#[test]
fn an_instance_that_was_told_to_go_is_not_ended_while_somebody_is_at_work_unseen() {
    let (hearing, _, now) = three(0, 1, GIVEN_UP + 1);
    let row = Row { at: 1, drain: Some(1), ..Row::default() };
    assert!(!hearing.is_drained("i-1", &row, &patience(), now));
    let said = Row { drained: Some(2), ..row };
    assert!(hearing.is_drained("i-1", &said, &patience(), now));
}
