//! The store's time, as a node knows it.
//!
//! Windows are shared, so one clock decides them: that of the store. A node cannot ask it before each decision, so it
//! keeps how far its own is off, from the answers it gets, and tells with each step the instant at which it decided.
//! The store takes a step only if that is near its own time, and says what it is where it is not.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::units::time::Clock;
use crate::units::{Span, Timestamp};

/// How far from the store's time an instant may be at which a step was decided. What two nodes that share a window can
/// disagree by, at most, is twice that.
const TOLERANCE: Span = Span::from_ms(100);

/// The store's time.
pub(super) struct StoreTime {
    clock: Clock,
    /// What the store is ahead, in ms.
    ahead_ms: AtomicI64,
}

impl StoreTime {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { clock, ahead_ms: AtomicI64::new(0) }
    }

    /// The present instant there, as far as it is known.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        match self.clock {
            Clock::Machine(_) => Timestamp::from_ms(now.ms().saturating_add(self.ahead())),
            Clock::Manual(_) => now,
        }
    }

    /// How far an instant may be from the store's; `None` where a test's clock decides.
    pub(super) const fn tolerance(&self) -> Option<Span> {
        match self.clock {
            Clock::Machine(_) => Some(TOLERANCE),
            Clock::Manual(_) => None,
        }
    }

    /// Notes what time the store said it was, between `asked` and now by this node's clock.
    pub(super) fn told(&self, asked: Timestamp, there: Timestamp) {
        let now = self.clock.now();
        let middle = asked.ms() + (now.ms() - asked.ms()) / 2;
        let (ahead, known) = (there.ms() - middle, self.ahead());
        // What a slow answer says is worth less than what is known, unless that is far off.
        let error = (now.ms() - asked.ms()) / 2;
        if (ahead - known).abs() > error.max(1) {
            self.ahead_ms.store(ahead, Ordering::Relaxed);
        }
    }

    /// The node's own clock, to measure by.
    pub(super) fn here(&self) -> Timestamp {
        self.clock.now()
    }

    fn ahead(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }
}
