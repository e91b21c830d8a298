//! Whose what was made upstream is: responses, videos, characters.
//!
//! One upstream key serves all accounts, so the upstream cannot tell them apart: the gateway does. A thing belongs to
//! the account whose call made it, from the moment its id is seen; every other account is told that it does not exist
//! (I14). The books know that until its time is over (`limits.owned`); the newest are kept in memory too, until the
//! books have them. What is not on record by the end of its call (videos, characters) is journalled before anybody is
//! told its id.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::access::record::{MadeRecord, Record};
use crate::journal::{AppendError, Frame, Journal, Tag, Ticket};
use crate::ledger::rows::{Owned, Owner, Page, VideosFrom};
use crate::ledger::{Ledger, LedgerError};
use crate::policy::compiled::Name;
use crate::units::time::Clock;
use crate::units::{AccountId, Span, Timestamp, UserId};

/// How many are kept in memory. At a thousand calls a second, settlement may be a minute behind.
const KEPT: usize = 65_536;
/// For how long: then the books have them, and alone know when their time is over.
const KEPT_FOR: Span = crate::config::OWNED_LEAST;
/// How many of the newest videos are looked through for a list.
const VIDEOS_KEPT: usize = 4_096;
/// No id is longer.
const ID_BYTES_MAX: usize = 128;

/// Who made what.
pub struct Owners {
    ledger: Arc<dyn Ledger>,
    journal: Arc<Journal>,
    clock: Clock,
    newest: Mutex<Newest>,
}

/// A response that was made.
#[derive(Debug)]
pub struct Response {
    /// The account.
    pub account: AccountId,
    /// The user that made it.
    pub user: UserId,
    /// Tokens of its whole context.
    pub context_tokens: u64,
    /// The upstream that has it.
    pub upstream: Option<Name>,
}

#[derive(Default)]
struct Newest {
    owners: HashMap<Arc<str>, Noted>,
    order: VecDeque<Arc<str>>,
    videos: VecDeque<Arc<str>>,
}

struct Noted {
    owner: Owner,
    /// From then on only the books are asked.
    until: Timestamp,
}

impl Owners {
    /// Owners by the books of `ledger`, and by what the `journal` still tells.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        journal: Arc<Journal>,
        clock: Clock,
        told: &[MadeRecord],
    ) -> Arc<Self> {
        let owners = Self { ledger, journal, clock, newest: Mutex::default() };
        for made in told {
            owners.note_made(made);
        }
        Arc::new(owners)
    }

    /// Notes who made a response, where, and how long what continues it is.
    pub fn made(&self, id: &str, made: Response) {
        let Response { account, user, context_tokens, upstream } = made;
        let what = Owned::Response { context_tokens };
        self.note(id, Owner { account, user, made_at: self.clock.now(), what, upstream });
    }

    /// Notes who made a video or a character. The ticket resolves when that is durable.
    pub fn own(&self, made: MadeRecord) -> Result<Ticket, AppendError> {
        self.note_made(&made);
        // Serialising values made of numbers and strings into memory cannot fail.
        let payload = postcard::to_stdvec(&Record::Made(made)).unwrap_or_default();
        self.journal.append(Frame { tag: Tag::Other, id: [0; 16], payload: &payload })
    }

    /// The thing `id`, if it is this account's.
    pub async fn owned_by(&self, account: AccountId, id: &str) -> Result<Option<Owner>, LedgerError> {
        let known = self.newest().of(id, self.clock.now()).cloned();
        let owner = match known {
            Some(owner) => Some(owner),
            None => self.ledger.owner_of(id).await?,
        };
        Ok(owner.filter(|owner| owner.account == account))
    }

    /// The ids of a user's videos in the order in which they were made, from a place on; at most so many.
    pub async fn videos_of(
        &self,
        user: UserId,
        from: VideosFrom,
        count: u16,
    ) -> Result<Vec<(Arc<str>, Timestamp)>, LedgerError> {
        let newest = self.newest_videos(user);
        let mut all: Vec<_> = self.ledger.videos_of(user, from.clone(), Page(count)).await?;
        all.extend(newest.into_iter().filter(|(id, at)| {
            let place = (*at, Arc::clone(id));
            from.after
                .as_ref()
                .is_none_or(|after| if from.newest_first { place < *after } else { place > *after })
        }));
        if from.newest_first {
            all.sort_unstable_by_key(|(id, at)| Reverse((*at, Arc::clone(id))));
        } else {
            all.sort_unstable_by_key(|(id, at)| (*at, Arc::clone(id)));
        }
        all.dedup();
        all.truncate(usize::from(count));
        Ok(all)
    }

    /// Forgets what was deleted upstream.
    pub async fn forget(&self, id: &str) -> Result<(), LedgerError> {
        self.newest().owners.remove(id);
        self.ledger.disown(id).await
    }

    fn note_made(&self, made: &MadeRecord) {
        let what = made.video.clone().map_or(Owned::Character, Owned::Video);
        let upstream = made.resource.upstream.clone();
        let owner = Owner { account: made.account, user: made.user, made_at: made.made_at, what, upstream };
        self.note(&made.resource.id, owner);
    }

    fn note(&self, id: &str, owner: Owner) {
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return;
        }
        let until = self.clock.now().plus(KEPT_FOR);
        let mut newest = self.newest();
        if let Some(known) = newest.owners.get_mut(id) {
            // The first who made it stays: an upstream that gives an id twice gives nothing away.
            if known.owner.account == owner.account {
                *known = Noted { owner, until };
            }
            return;
        }
        let id: Arc<str> = Arc::from(id);
        if matches!(owner.what, Owned::Video(_)) {
            newest.videos.push_back(Arc::clone(&id));
            if newest.videos.len() > VIDEOS_KEPT {
                newest.videos.pop_front();
            }
        }
        newest.owners.insert(Arc::clone(&id), Noted { owner, until });
        newest.order.push_back(id);
        if newest.order.len() > KEPT
            && let Some(oldest) = newest.order.pop_front()
        {
            newest.owners.remove(&oldest);
        }
    }

    fn newest_videos(&self, user: UserId) -> Vec<(Arc<str>, Timestamp)> {
        let (newest, now) = (self.newest(), self.clock.now());
        let of_user = newest.videos.iter().filter_map(|id| {
            let owner = newest.of(id, now).filter(|owner| owner.user == user)?;
            Some((Arc::clone(id), owner.made_at))
        });
        of_user.collect()
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newest {
    fn of(&self, id: &str, now: Timestamp) -> Option<&Owner> {
        self.owners.get(id).filter(|noted| now < noted.until).map(|noted| &noted.owner)
    }
}

#[cfg(test)]
mod tests;
