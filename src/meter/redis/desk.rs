//! Desks: the verbs of one account that are at hand on this node, carried out together.
//!
//! Whatever waits at an account's desk when its turn comes goes into one step: an account that is hot costs a call for
//! many verbs, not one for each. A desk remembers the rows that it has seen; where nobody else has changed them, a verb
//! is one call, else one more. A verb may be tried several times, each time on the rows as they are then; only the last
//! of these is kept.
//!
//! # Cancel-safety
//!
//! A desk works in a task of its own, on the runtime that the meter was opened on. Who asked may go away; what was asked is done.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::PolicyShelf;
use super::commit::{Answer, Commit};
use super::degraded::Degraded;
use super::epochs::{Epochs, Word};
use super::keys::RowKey;
use super::sheet::{Rows, Sheet};
use super::store::{Store, StoreError};
use super::time::StoreTime;
use crate::units::AccountId;

/// Verbs that go into one step.
const TOGETHER_MAX: usize = 64;
/// How often a step is tried that others are faster than.
const TRIES_MAX: u32 = 200;
/// How often a step is sent that was not answered.
const SENDS_MAX: u32 = 3;
/// Before a step that was not answered is sent again.
const PAUSE: Duration = Duration::from_millis(20);
/// Rows that a desk remembers.
const ROWS_MAX: usize = 4_096;

/// What came of a step that was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// It is done.
    Done,
    /// All rows that it looked at are known now, as they are at one instant.
    Told,
    /// It was decided at another time than the store's.
    Mistimed,
}

/// What all desks work with.
pub(super) struct Office {
    pub(super) store: Store,
    pub(super) time: StoreTime,
    pub(super) epochs: Epochs,
    pub(super) policies: PolicyShelf,
    pub(super) degraded: Degraded,
    /// Where desks are manned: it outlives whoever asks.
    pub(super) runtime: Handle,
}

/// A verb that waits.
trait Work: Send {
    /// The epoch that it is of.
    fn epoch(&self) -> &Word;
    /// The rows that it needs.
    fn rows(&self) -> &[RowKey];
    /// Does it, perhaps again.
    fn run(&mut self, sheet: &mut Sheet);
    /// Tells who asked.
    fn tell(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// A verb as a function, and who waits for what it gives.
struct Verb<F, R> {
    epoch: Word,
    rows: Vec<RowKey>,
    run: F,
    result: Option<R>,
    reply: oneshot::Sender<Result<R, StoreError>>,
}

impl<F: FnMut(&mut Sheet) -> R + Send, R: Send> Work for Verb<F, R> {
    fn epoch(&self) -> &Word {
        &self.epoch
    }

    fn rows(&self) -> &[RowKey] {
        &self.rows
    }

    fn run(&mut self, sheet: &mut Sheet) {
        self.result = Some((self.run)(sheet));
    }

    fn tell(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        let _gone = reply.send(outcome.and_then(|()| result.ok_or(StoreError::Contended)));
    }
}

/// The desk of one account.
pub(super) struct Desk {
    account: AccountId,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    works: Vec<Box<dyn Work>>,
    is_manned: bool,
    /// What was seen, while nobody is at the desk.
    rows: Rows,
}

impl Desk {
    pub(super) fn new(account: AccountId) -> Self {
        Self { account, waiting: Mutex::default() }
    }

    /// Has a verb carried out. It may run several times; what it gave last counts.
    pub(super) async fn ask<R: Send + 'static>(
        self: &Arc<Self>,
        office: &Arc<Office>,
        epoch: Word,
        rows: &[RowKey],
        run: impl FnMut(&mut Sheet) -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.put(office, Box::new(Verb { epoch, rows: rows.to_vec(), run, result: None, reply }));
        answer.await.unwrap_or(Err(StoreError::LeftAlone))
    }

    /// Puts a verb on the desk, and has somebody work there.
    fn put(self: &Arc<Self>, office: &Arc<Office>, work: Box<dyn Work>) {
        let mut waiting = self.lock();
        waiting.works.push(work);
        if !waiting.is_manned {
            waiting.is_manned = true;
            let (desk, office) = (Arc::clone(self), Arc::clone(office));
            let runtime = office.runtime.clone();
            runtime.spawn(async move { desk.man(&office).await });
        }
    }

    /// Whether nobody works or waits here.
    pub(super) fn is_idle(&self) -> bool {
        !self.lock().is_manned
    }

    async fn man(&self, office: &Office) {
        let mut rows = std::mem::take(&mut self.lock().rows);
        loop {
            let works = {
                let mut waiting = self.lock();
                if waiting.works.is_empty() {
                    waiting.is_manned = false;
                    if rows.len() <= ROWS_MAX {
                        waiting.rows = rows;
                    }
                    return;
                }
                let epoch = waiting.works.first().map(|work| Arc::clone(work.epoch()));
                let same = waiting.works.iter().take_while(|work| Some(work.epoch()) == epoch.as_ref());
                let together = same.take(TOGETHER_MAX).count();
                waiting.works.drain(..together).collect::<Vec<_>>()
            };
            self.step(office, works, &mut rows).await;
        }
    }

    async fn step(&self, office: &Office, mut works: Vec<Box<dyn Work>>, rows: &mut Rows) {
        let Some(epoch) = works.first().map(|work| Arc::clone(work.epoch())) else { return };
        let outcome = self.carry_out(office, &epoch, &mut works, rows).await;
        if let Err(StoreError::Lost { .. }) = &outcome {
            office.epochs.lost(&epoch);
        }
        if outcome.is_err() {
            // Nobody knows what stands there now.
            rows.clear();
        }
        for work in works {
            work.tell(outcome.clone());
        }
    }

    async fn carry_out(
        &self,
        office: &Office,
        epoch: &Word,
        works: &mut [Box<dyn Work>],
        rows: &mut Rows,
    ) -> Result<(), StoreError> {
        let mut needed: BTreeSet<RowKey> = works.iter().flat_map(|work| work.rows()).copied().collect();
        needed.insert(RowKey::Shared);
        let mut fresh = false;
        for _ in 0..TRIES_MAX {
            let unseen = needed.iter().any(|key| !rows.contains_key(key));
            if unseen {
                let looking = Commit::look(self.account, epoch, &office.time, needed.iter().copied());
                fresh = self.send(office, &looking, rows).await? == Sent::Told;
                continue;
            }
            let at_hand: Rows =
                needed.iter().filter_map(|key| Some((*key, rows.get(key)?.clone()))).collect();
            // What happens to a hold happens to its user.
            let callers = Sheet::callers(&at_hand)?;
            needed.extend(callers.iter().map(|(user, _)| RowKey::User(*user)));
            if needed.len() > at_hand.len() {
                fresh = false;
                continue;
            }
            office.policies.fetch(callers.iter().map(|(_, policy)| *policy)).await;
            let policy = |version| office.policies.at_hand(version);
            let mut sheet = Sheet::of(self.account, &at_hand, office.time.now(), policy)?;
            for work in works.iter_mut() {
                work.run(&mut sheet);
            }
            let current = office.policies.current();
            let commit = sheet.commit(&at_hand, epoch, &office.time, rand::random(), &current)?;
            // What changes nothing and was decided by what the store has just said need not be sent.
            if fresh && commit.is_empty() {
                return Ok(());
            }
            match self.send(office, &commit, rows).await? {
                Sent::Done => return Ok(()),
                sent => fresh = sent == Sent::Told,
            }
        }
        Err(StoreError::Contended)
    }

    /// Sends a step, again where it was not answered, but never to a store that may be another. Remembers what the rows
    /// are then.
    async fn send(&self, office: &Office, commit: &Commit<'_>, rows: &mut Rows) -> Result<Sent, StoreError> {
        let (mut sends, mut unanswered) = (0, None);
        let (asked, answer) = loop {
            if !office.store.sight.is_in_sight().await {
                return Err(unanswered.unwrap_or(StoreError::LeftAlone));
            }
            sends += 1;
            let asked = office.time.here();
            match commit.send(&office.store).await {
                Ok(answer) => break (asked, answer),
                Err(error) if error.is_open() && sends < SENDS_MAX => {
                    unanswered = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        match answer {
            Answer::Done(now) => {
                office.time.told(asked, now);
                for written in &commit.written {
                    let key = commit.looked[written.place].row;
                    rows.insert(key, written.found(commit.stamp));
                }
                Ok(Sent::Done)
            }
            Answer::Stale(now, found) => {
                office.time.told(asked, now);
                let keys = commit.looked.iter().map(|looked| looked.row);
                rows.extend(keys.zip(found));
                Ok(Sent::Told)
            }
            Answer::Time(now) => {
                office.time.told(asked, now);
                Ok(Sent::Mistimed)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
