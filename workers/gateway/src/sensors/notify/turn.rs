//! Who tells, turn by turn: follows the problems, and does what their notices ask for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use anomaly_worker::tables::{EpisodeKey, Problems, Row, Status, now_ms};
use flotilla_runtime::{Failure, retry::RetryPolicy};
use futures::{StreamExt, stream};
use serde_json::Value;

use super::{
    notice::{Next, Notice, Standing, What},
    send::{PATIENCE, Sender},
    settings::{Policy, Target},
    store::{Entry, Store},
};

use crate::sensors::{
    position::Position,
    replay::{Lost, Replay},
    stream::Stream,
    tail, view,
    zones::Zones,
};

/// How long a lease holds, and how long before its end it is renewed.
const LEASE: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(10);
/// How often the problems are looked at, and how often a lease is asked for that another has.
const LOOK: Duration = Duration::from_millis(250);
const ASK: Duration = Duration::from_secs(5);
/// How long after a problem ended what follows from it is left to end with it.
const ENDING: Duration = Duration::from_secs(60);
/// How long another episode may take the place of one that was taken back, in milliseconds: a late reading
/// that moves an opening takes back one row and writes another.
const HANDOVER: i64 = 5000;
/// Targets that are told at a time.
const AT_A_TIME: usize = 8;
/// The wait after a failure here.
const PAUSE: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(30));

/// What tells.
#[derive(Debug)]
pub(super) struct Teller {
    pub(super) me: String,
    pub(super) policy: Policy,
    pub(super) store: Store,
    pub(super) sender: Sender,
    pub(super) problems: Problems,
    pub(super) streams: Arc<[Stream; 2]>,
    pub(super) zones: Arc<Zones>,
}

/// The one who has the lease.
#[derive(Debug)]
struct Owner<'t> {
    teller: &'t Teller,
    /// Until when it may act, by its own clock: less long than others have to wait.
    until: Instant,
    renewed: Instant,
    position: String,
    entries: BTreeMap<Name, Entry>,
    /// Which of them are over, and since when.
    over: HashMap<Name, Instant>,
}

/// The id of a problem, and when the episode opened.
type Name = (String, i64);

/// Why an owner is none any more.
#[derive(Debug)]
enum End {
    /// Another wrote, or has the lease.
    Lost,
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Teller {
    /// For ever: as owner while the lease is held, and asking for it else.
    pub(super) async fn run(self) {
        let mut failures = 0;
        loop {
            match self.own().await {
                Ok(()) | Err(End::Lost) => {
                    failures = 0;
                    tokio::time::sleep(ASK).await;
                }
                Err(End::Failed(failure)) => {
                    tracing::warn!("notifications wait: {failure}");
                    failures += 1;
                    tokio::time::sleep(PAUSE.delay(failures)).await;
                }
            }
        }
    }

    /// Until the lease is lost; at once while another has it.
    async fn own(&self) -> Result<(), End> {
        let asked = Instant::now();
        let Some(position) = self.lease(None).await? else { return Ok(()) };
        tracing::info!("this gateway notifies");
        let entries = self.store.unfinished().await?;
        let entries =
            entries.into_iter().map(|it| ((it.key.problem_id.clone(), it.key.opened), it));
        let mut owner = Owner {
            teller: self,
            until: asked + LEASE.mul_f64(0.8),
            renewed: asked,
            position: position.unwrap_or_default(),
            entries: entries.collect(),
            over: HashMap::new(),
        };
        owner.work().await
    }

    async fn lease(&self, position: Option<&str>) -> Result<Option<Option<String>>, Failure> {
        let until = now_ms() + LEASE.as_millis() as i64;
        self.store.lease(&self.me, until, position).await
    }
}

impl Owner<'_> {
    async fn work(&mut self) -> Result<(), End> {
        loop {
            let from = Position::from_text(&self.position).ok();
            let replay = match from {
                Some(from) => Replay::from(&self.teller.streams, from).await,
                None => Err(Lost::TooOld),
            };
            match replay {
                Ok(replay) => match self.follow(replay).await? {
                    Lost::Failed(failure) => return Err(failure.into()),
                    Lost::TooOld | Lost::TooMuch => self.begin_anew().await?,
                },
                Err(Lost::Failed(failure)) => return Err(failure.into()),
                Err(Lost::TooOld | Lost::TooMuch) => self.begin_anew().await?,
            }
        }
    }

    /// From now on, after a look at all problems.
    async fn begin_anew(&mut self) -> Result<(), End> {
        let now = tail::problems_from_now(&self.teller.streams).await?.text();
        let mut after = None;
        loop {
            let (rows, last) = self.teller.problems.rows(after.as_ref(), 500).await?;
            for row in &rows {
                self.changed(row).await?;
            }
            self.renew().await?;
            after = last;
            if after.is_none() {
                self.position = now;
                return Ok(());
            }
        }
    }

    /// Until the stream cannot be read on.
    async fn follow(&mut self, mut replay: Replay<'_>) -> Result<Lost, End> {
        loop {
            match replay.next().await {
                Ok(missed) => {
                    for it in missed.iter().flatten() {
                        if let Some(row) = &it.event.row {
                            self.changed(row).await?;
                        }
                    }
                    replay.forget_count();
                    self.position = replay.position().text();
                }
                Err(lost) => return Ok(lost),
            }
            self.tell().await?;
            self.renew().await?;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn renew(&mut self) -> Result<(), End> {
        if self.renewed.elapsed() < RENEW {
            return Ok(());
        }
        self.forget_over();
        let asked = Instant::now();
        match self.teller.lease(Some(&self.position)).await? {
            Some(_) => {
                (self.until, self.renewed) = (asked + LEASE.mul_f64(0.8), asked);
                Ok(())
            }
            None => Err(End::Lost),
        }
    }

    /// Takes in a row of a problem.
    async fn changed(&mut self, row: &Row) -> Result<(), End> {
        let Some(key) = view::key(row) else { return Ok(()) };
        let name = (key.problem_id.clone(), key.opened);
        let standing = standing(row);
        let problem = view::problem(row);
        let mut entry = match self.entries.remove(&name) {
            Some(entry) => entry,
            None => match self.teller.store.get(&key).await? {
                Some(entry) => entry,
                None if standing == Standing::Ended => return Ok(()),
                None => self.entry(key, &problem).await?,
            },
        };
        if entry.version == 0 || entry.notice.standing != standing || entry.problem != problem {
            if entry.notice.standing != Standing::Ended && is_taken_back(row) {
                entry.notice.ends = now_ms() + HANDOVER;
            }
            entry.notice.standing = standing;
            entry.problem = problem;
            self.write_with_twin(&mut entry).await?;
        }
        self.keep(name, entry);
        Ok(())
    }

    /// Writes an entry; where it takes the place of another, or another its place, both.
    async fn write_with_twin(&mut self, entry: &mut Entry) -> Result<(), End> {
        let now = now_ms();
        let twin = self.like(entry).find(|(_, it)| {
            let (ours, theirs) = (&entry.notice, &it.notice);
            ours.goes_over_to(theirs, now) || theirs.goes_over_to(ours, now)
        });
        let twin = twin.map(|(name, _)| name.clone());
        let Some((name, mut twin)) = twin.and_then(|it| self.entries.remove_entry(&it)) else {
            return self.write(entry).await;
        };
        let is_gone = entry.notice.standing == Standing::Ended;
        let (gone, heir) = if is_gone { (entry, &mut twin) } else { (&mut twin, entry) };
        heir.notice.take_over(&mut gone.notice);
        self.write(heir).await?;
        self.write(gone).await?;
        self.keep(name, twin);
        Ok(())
    }

    /// The other episodes of a problem that are of the same kind and, as far as is known, did not end.
    fn like<'o>(&'o self, entry: &'o Entry) -> impl Iterator<Item = (&'o Name, &'o Entry)> {
        let ends = [i64::MIN, i64::MAX].map(|at| (entry.key.problem_id.clone(), at));
        let [first, last] = ends;
        let same = |it: &Entry| {
            let mut names = ["problem", "current", "following"].into_iter();
            let alike = names.all(|name| it.problem[name] == entry.problem[name]);
            alike && it.key != entry.key && it.problem["resolved"].is_null()
        };
        let lasts = entry.problem["resolved"].is_null();
        self.entries.range(first..=last).filter(move |(_, it)| lasts && same(it))
    }

    async fn entry(&self, key: EpisodeKey, problem: &Value) -> Result<Entry, End> {
        let now = now_ms();
        let told = match self.teller.policy.dedup {
            0 => None,
            _ => self.teller.store.told_at(&key.problem_id, &problem["problem"]).await?,
        };
        let noted = told.map_or(now, |at| now.max(at + self.teller.policy.dedup));
        let fresh = Entry { key, problem: problem.clone(), notice: Notice::new(noted), version: 0 };
        // Two of a kind do not last at one time: the other one is about to be taken back.
        let lasts = self.like(&fresh).any(|(_, it)| it.notice.standing != Standing::Ended);
        let noted = if lasts { noted.max(now + HANDOVER) } else { noted };
        Ok(Entry { notice: Notice { told_before: told, ..Notice::new(noted) }, ..fresh })
    }

    fn keep(&mut self, name: Name, entry: Entry) {
        match self.next(&entry) {
            Next::Nothing => _ = self.over.insert(name.clone(), Instant::now()),
            _ => _ = self.over.remove(&name),
        }
        self.entries.insert(name, entry);
    }

    /// Forgets what has been over for a while.
    fn forget_over(&mut self) {
        for (name, _) in self.over.extract_if(|_, since| since.elapsed() > ENDING) {
            self.entries.remove(&name);
        }
    }

    async fn write(&self, entry: &mut Entry) -> Result<(), End> {
        let finished = self.next(entry) == Next::Nothing;
        match self.teller.store.put(entry, finished).await? {
            true => {
                entry.version += 1;
                Ok(())
            }
            false => Err(End::Lost),
        }
    }

    fn next(&self, entry: &Entry) -> Next {
        entry.notice.next(&self.teller.policy, &self.meant(entry), now_ms())
    }

    fn meant(&self, entry: &Entry) -> Vec<usize> {
        let Teller { policy, zones, .. } = self.teller;
        meant(policy, zones, entry, cause(entry).and_then(|name| self.entries.get(&name)))
    }

    /// Tells what is due, as long as the lease is sure to hold.
    async fn tell(&mut self) -> Result<(), End> {
        loop {
            let due: Vec<_> = self.due().take(AT_A_TIME).collect();
            if due.is_empty() || self.until < Instant::now() + PATIENCE {
                return Ok(());
            }
            let sends = due.into_iter().map(|(name, target, what)| self.send(name, target, what));
            let sends: Vec<_> = sends.collect();
            let done: Vec<_> = stream::iter(sends).buffer_unordered(AT_A_TIME).collect().await;
            for (name, target, what, result) in done {
                let Some(mut entry) = self.entries.remove(&name) else { continue };
                let target = &self.teller.policy.targets[target].name;
                note(target, what, &entry, &result);
                entry.notice.tried(target, what, now_ms(), result, chance());
                self.write(&mut entry).await?;
                self.keep(name, entry);
            }
            self.renew().await?;
        }
    }

    fn due(&self) -> impl Iterator<Item = (Name, usize, What)> + '_ {
        self.entries.iter().filter_map(move |(name, entry)| match self.next(entry) {
            Next::Send(target, what) => Some((name.clone(), target, what)),
            _ => None,
        })
    }

    async fn send(
        &self,
        name: Name,
        target: usize,
        what: What,
    ) -> (Name, usize, What, Result<(), String>) {
        let result = match self.entries.get(&name) {
            Some(it) => {
                let to = &self.teller.policy.targets[target];
                self.teller.sender.send(to, what, it, now_ms()).await
            }
            None => Ok(()),
        };
        (name, target, what, result)
    }
}

/// The targets that a problem is for: those that choose it, without those that the problem that it
/// follows from is for, as long as that lasts; and whoever it was begun to be told. Who acknowledged
/// the cause has seen what was told by then, and no more.
fn meant(policy: &Policy, zones: &Zones, entry: &Entry, cause: Option<&Entry>) -> Vec<usize> {
    let is_for = |target: &Target, it: &Entry| chooses(target, zones, &it.problem);
    let cause = cause.filter(|cause| !is_after_acknowledgement(entry, cause));
    let covered = |target: &Target| {
        cause.is_some_and(|it| is_for(target, it) && !it.notice.gave_up(&target.name))
    };
    let targets = policy.targets.iter().enumerate();
    let meant = targets
        .filter(|(_, it)| entry.notice.is_begun(&it.name) || is_for(it, entry) && !covered(it));
    meant.map(|(number, _)| number).collect()
}

/// Whether a problem was told after somebody had seen the one that it follows from.
fn is_after_acknowledgement(entry: &Entry, cause: &Entry) -> bool {
    let told = entry.problem["opened_processed"].as_i64();
    let seen = cause.problem["acknowledgement"]["at"].as_i64();
    told.zip(seen).is_some_and(|(told, seen)| told > seen)
}

fn chooses(target: &Target, zones: &Zones, problem: &Value) -> bool {
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    let devices = ["current", "following", "device"].map(text);
    let devices: Vec<_> = devices.into_iter().filter(|id| !id.is_empty()).collect();
    target.chosen.means(&devices, &text("problem"), zones)
}

/// The problem that one follows from.
fn cause(entry: &Entry) -> Option<Name> {
    let problem = &entry.problem;
    Some((problem["cause_id"].as_str()?.to_owned(), problem["cause_opened"].as_i64()?))
}

fn status(row: &Row) -> Option<&str> {
    row.get("problem_status").and_then(|it| it.as_s().ok()).map(String::as_str)
}

fn is_taken_back(row: &Row) -> bool {
    status(row) == Some(Status::Retracted.name())
}

fn standing(row: &Row) -> Standing {
    match status(row) {
        Some(it) if it == Status::Unresolved.name() => Standing::Lasts,
        Some(it) if it == Status::Acknowledged.name() => Standing::Seen,
        _ => Standing::Ended,
    }
}

fn note(target: &str, what: What, entry: &Entry, result: &Result<(), String>) {
    let problem = &entry.key.problem_id;
    match result {
        Ok(()) => tracing::info!(target_name = target, problem, what = what.name(), "told"),
        Err(why) => tracing::warn!(target_name = target, problem, "not told: {why}"),
    }
}

/// From 0 to 1, another one each time.
fn chance() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(now_ms()) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(id: &str, kind: &str, cause: Option<&Entry>) -> Entry {
        let current = id.split('/').next().unwrap_or_default();
        let mut problem = json!({ "problem": kind, "current": current });
        if let Some(cause) = cause {
            problem["cause_id"] = json!(cause.key.problem_id);
            problem["cause_opened"] = json!(cause.key.opened);
        }
        let key = EpisodeKey { problem_id: id.to_owned(), opened: 5 };
        Entry { key, problem, notice: Notice::new(0), version: 0 }
    }

    #[test]
    fn a_linked_problem_is_left_out_only_for_whom_its_cause_is_meant() {
        let text = "[[targets]]\nname = 'all'\nsns = 't'\n\
                    [[targets]]\nname = 'blocked'\nsns = 't'\nkinds = ['OBSTRUCTION']\n\
                    [[targets]]\nname = 'there'\nsns = 't'\ndevices = ['01']\n";
        let (policy, zones) = (Policy::parse(text, |_| None).unwrap(), Zones::default());
        let mut silence = entry("02/SILENCE", "SILENCE", None);
        let mut blocked = entry("01", "OBSTRUCTION", Some(&silence));
        assert_eq!(cause(&blocked), Some(("02/SILENCE".to_owned(), 5)));
        let meant =
            |blocked: &Entry, silence: Option<&Entry>| meant(&policy, &zones, blocked, silence);
        assert_eq!(meant(&blocked, Some(&silence)), [1, 2]);
        // Nobody knows what it follows from, or could not be told.
        assert_eq!(meant(&blocked, None), [0, 1, 2]);
        let mut now = 0;
        while !silence.notice.gave_up("all") {
            silence.notice.tried("all", What::Opened, now, Err("down".to_owned()), 1.0);
            now += 3_600_000;
        }
        assert_eq!(meant(&blocked, Some(&silence)), [0, 1, 2]);
        // Who acknowledged the cause has seen what was told by then.
        let mut silence = entry("02/SILENCE", "SILENCE", None);
        silence.problem["acknowledgement"] = json!({ "at": 100, "by": "ada" });
        for (told, wanted) in [(99, vec![1, 2]), (100, vec![1, 2]), (101, vec![0, 1, 2])] {
            blocked.problem["opened_processed"] = json!(told);
            assert_eq!(meant(&blocked, Some(&silence)), wanted, "{told}");
        }
        // What was begun goes on, whatever it is linked with meanwhile.
        let silence = entry("02/SILENCE", "SILENCE", None);
        blocked.notice.tried("all", What::Opened, 0, Err("down".to_owned()), 1.0);
        assert_eq!(meant(&blocked, Some(&silence)), [0, 1, 2]);
    }
}
