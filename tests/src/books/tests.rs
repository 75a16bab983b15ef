//! What the books say of a run that went wrong.

use std::panic::catch_unwind;

use super::*;

/// What was found at the end of a run.
struct Found {
    books: Books,
    queued: BTreeSet<String>,
    counts: BTreeMap<String, u64>,
    in_flight: u64,
}

/// A run of three messages, one of which can have no effect, at which nothing went wrong.
fn well() -> Found {
    let mut books = Books::default();
    for body in [r#"{"id":"done"}"#, r#"{"id":"queued"}"#, "not JSON: bad"] {
        books.note(body);
    }
    books.dead.insert("bad".to_owned());
    let counts = BTreeMap::from([("done".to_owned(), 1)]);
    Found { books, queued: ["queued".to_owned()].into(), counts, in_flight: 0 }
}

/// What the check says of a run that went otherwise.
fn said(otherwise: fn(&mut Found)) -> Option<String> {
    let mut found = well();
    otherwise(&mut found);
    let standing = found.books.standing(&found.queued, found.counts, found.in_flight);
    let panic = catch_unwind(|| standing.check()).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

/// Something that went wrong.
type Wrong = (&'static str, fn(&mut Found));

const WRONGS: [Wrong; 7] = [
    ("lost", |it| it.queued.clear()),
    ("happened twice", |it| it.counts.extend([("done".to_owned(), 2)])),
    ("stranded in flight", |it| it.in_flight = 1),
    ("dead-lettered", |it| it.books.dead.append(&mut it.queued)),
    ("both", |it| it.books.dead.extend(["done".to_owned()])),
    ("happened", |it| {
        it.books.dead.clear();
        it.counts.extend([("bad".to_owned(), 1)]);
    }),
    ("not conserved", |it| it.counts.extend([("nobody's".to_owned(), 1)])),
];

#[test]
fn the_check_fails_where_one_message_is_lost_doubled_or_stranded_and_nowhere_else() {
    assert_eq!(said(|_| {}), None);
    for (wanted, otherwise) in WRONGS {
        let said = said(otherwise).unwrap_or_default();
        assert!(said.contains(&format!("{wanted}: 3 sent = ")), "{wanted}: {said}");
    }
}
