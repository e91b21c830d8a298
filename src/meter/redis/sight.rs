//! Whether the store is seen to be the one that counts are on.
//!
//! A server that died is followed by one that may lack its newest writes, at the same address or as another node of a
//! cluster. Whoever decided by that one would give again what was given, and give numbers of records a second time. So a
//! connection that ends puts the store out of sight, as do a few looks in a row that nobody answered; out of sight nothing
//! is decided; and it is seen again when the attendant has looked, after that, who is there. That is a moment where it is
//! still the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::store::{Store, StoreError};

/// How long a step waits for the store to be seen again.
const PATIENCE: Duration = Duration::from_millis(200);
/// So many looks in a row that nobody answered put it out of sight.
const UNANSWERED_MAX: u32 = 2;

/// What is known of it. Without a [`Watch`] it is always in sight.
pub(super) struct Sight {
    seen: watch::Sender<Seen>,
    is_watched: AtomicBool,
}

#[derive(Clone, Copy)]
struct Seen {
    /// How often it went out of sight.
    losses: u64,
    /// How many of these had been when the last look began that found it.
    found: u64,
    /// When it went first, since it was found.
    lost_at: Instant,
}

impl Seen {
    const fn is_in_sight(self) -> bool {
        self.found >= self.losses
    }
}

impl Sight {
    pub(super) fn new() -> Self {
        let seen = watch::Sender::new(Seen { losses: 0, found: 0, lost_at: Instant::now() });
        Self { seen, is_watched: AtomicBool::new(false) }
    }

    /// It is out of sight until somebody looks.
    pub(super) fn lose(&self) {
        if !self.is_watched.load(Ordering::Acquire) {
            return;
        }
        self.seen.send_modify(|seen| {
            if seen.is_in_sight() {
                seen.lost_at = Instant::now();
            }
            seen.losses += 1;
        });
    }

    /// Whether it is in sight, now or in a moment.
    pub(super) async fn is_in_sight(&self) -> bool {
        let seen = *self.seen.borrow();
        if seen.is_in_sight() {
            return true;
        }
        let mut seeing = self.seen.subscribe();
        let found = seeing.wait_for(|seen| seen.is_in_sight());
        tokio::time::timeout_at(seen.lost_at + PATIENCE, found).await.is_ok()
    }

    fn losses(&self) -> u64 {
        self.seen.borrow().losses
    }

    fn found(&self, losses: u64) {
        self.seen.send_modify(|seen| seen.found = losses);
    }
}

/// Looks who is there, for all of a node.
#[derive(Default)]
pub(super) struct Watch {
    /// The servers that were there last.
    servers: String,
    losses: u64,
    unanswered: u32,
}

impl Watch {
    /// Watches a store from now on.
    pub(super) fn new(store: &Store) -> Self {
        store.sight.is_watched.store(true, Ordering::Release);
        Self::default()
    }

    /// Whether the store is on these servers and on no others.
    pub(super) async fn is_on(&mut self, store: &Store, servers: &str) -> Result<bool, StoreError> {
        let losses = store.sight.losses();
        self.losses = losses;
        let told = store.is_still(servers).await;
        match &told {
            Ok(true) => {
                servers.clone_into(&mut self.servers);
                self.unanswered = 0;
                store.sight.found(losses);
            }
            Ok(false) => self.lose(store),
            Err(_) => {
                self.unanswered += 1;
                if self.unanswered >= UNANSWERED_MAX {
                    self.lose(store);
                }
            }
        }
        told
    }

    fn lose(&mut self, store: &Store) {
        store.sight.lose();
        // This is no reason to look at once.
        self.losses += 1;
    }

    /// Looks while nobody tells where it should be: whether it is where it was.
    pub(super) async fn look(&mut self, store: &Store) {
        let servers = self.servers.clone();
        if !servers.is_empty() {
            let _put_out_of_sight = self.is_on(store, &servers).await;
        }
    }

    /// Waits until a connection has ended since the last look.
    pub(super) async fn lost(&self, store: &Store) {
        let (losses, mut seeing) = (self.losses, store.sight.seen.subscribe());
        let _gone = seeing.wait_for(|seen| seen.losses > losses).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Sight {
        let sight = Sight::new();
        sight.is_watched.store(true, Ordering::Release);
        sight
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_out_of_sight_is_waited_for_once_and_refused_at_once_from_then_on() {
        let sight = watched();
        assert!(sight.is_in_sight().await);
        sight.lose();
        let begun = Instant::now();
        assert!(!sight.is_in_sight().await);
        assert_eq!(begun.elapsed(), PATIENCE);
        assert!(!sight.is_in_sight().await);
        assert_eq!(begun.elapsed(), PATIENCE);
        sight.found(sight.losses());
        assert!(sight.is_in_sight().await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_on_when_it_is_found_but_not_by_a_look_that_began_before_it_was_lost() {
        let sight = watched();
        sight.lose();
        let began = sight.losses();
        sight.lose();
        sight.found(began);
        assert!(!sight.is_in_sight().await, "it was lost again meanwhile");
        let sight = watched();
        sight.lose();
        let (found, ()) = tokio::join!(sight.is_in_sight(), async {
            tokio::time::sleep(PATIENCE / 2).await;
            sight.found(sight.losses());
        });
        assert!(found);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watch_it_is_always_in_sight() {
        let sight = Sight::new();
        sight.lose();
        assert!(sight.is_in_sight().await);
    }
}
