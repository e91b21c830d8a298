//! Counters: the O(1) state behind windows and guards.
//!
//! A slot is 32 bytes whatever it counts; its rule says how to read it. Nothing resets a window: whether a slot
//! belongs to the present instance follows from its start and `now`. A token bucket (GCRA) counts in
//! `amount × every_ms`, so that a millisecond drains a whole number and no remainder is ever lost.

use serde::{Deserialize, Serialize};

use crate::policy::compiled::{CounterKey, Instance, Period, Rate, Window};
use crate::units::planted::{Bug, planted};
use crate::units::{Amount, Span, Timestamp};

/// The state of one counter of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Which counter.
    pub key: CounterKey,
    /// A window's start; the instant at which a bucket's level was true.
    pub at: Timestamp,
    /// Used up in the window; the bucket's level, in `amount × every_ms`; places taken.
    pub used: u64,
    /// Reserved in the window by holds.
    pub held: u64,
}

/// The slots of one owner, few enough to search one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters(Vec<Slot>);

impl Counters {
    /// No counters.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The slot of a counter, if it counts anything.
    pub fn slot(&self, key: CounterKey) -> Option<&Slot> {
        self.0.iter().find(|slot| slot.key == key)
    }

    /// All slots.
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter()
    }

    /// Replaces what a counter stands at.
    pub fn set(&mut self, slot: Slot) {
        *self.slot_mut(slot.key, slot.at) = slot;
    }

    /// The slot of a counter; a new, empty one that begins at `at` where there is none.
    pub fn slot_mut(&mut self, key: CounterKey, at: Timestamp) -> &mut Slot {
        let place = self.0.iter().position(|slot| slot.key == key).unwrap_or_else(|| {
            // One place at a time: a million users hold no spare slots.
            self.0.reserve_exact(1);
            self.0.push(Slot { key, at, used: 0, held: 0 });
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    /// Forgets a counter that counts nothing, so that a first-use window closes again, unopened.
    pub fn close_if_empty(&mut self, key: CounterKey) {
        self.0.retain(|slot| slot.key != key || slot.used != 0 || slot.held != 0);
    }

    /// What a window stands at.
    pub fn window(&self, window: &Window, now: Timestamp) -> WindowState {
        let slot = self.slot(window.key);
        let (instance, slot) = match (&window.period, slot) {
            (Period::FirstUse(length), Some(slot))
                if now < slot.at.plus(*length)
                    || now == slot.at.plus(*length) && planted(Bug::WindowEndsLate) =>
            {
                (Instance { start: slot.at, end: slot.at.plus(*length) }, Some(slot))
            }
            (Period::FirstUse(_), _) => (window.period.instance_at(now), None),
            (Period::Calendar(..), slot) => {
                let instance = window.period.instance_at(now);
                (instance, slot.filter(|slot| slot.at == instance.start))
            }
        };
        WindowState {
            instance,
            used: slot.map_or(0, |slot| slot.used),
            held: slot.map_or(0, |slot| slot.held),
        }
    }

    /// The slot of the instance that begins at `start`, opened where it is not open. `None` where a later instance has
    /// taken its place: it has ended, and nothing is counted in it any more.
    pub fn instance(&mut self, key: CounterKey, start: Timestamp) -> Option<&mut Slot> {
        let slot = self.slot_mut(key, start);
        if slot.at < start {
            *slot = Slot { key, at: start, used: 0, held: 0 };
        }
        (slot.at == start).then_some(slot)
    }

    /// Turns what a hold reserved of the instance that began at `start` into use: all of it is no longer held, `kept`
    /// of it is used. What comes back to an instance that has ended is dropped.
    pub fn settle_window(&mut self, key: CounterKey, start: Timestamp, held: Amount, kept: Amount) {
        if let Some(slot) = self
            .0
            .iter_mut()
            .find(|slot| slot.key == key && (slot.at == start || planted(Bug::ReturnsToAnotherInstance)))
        {
            slot.held = slot.held.saturating_sub(held.get());
            slot.used = slot.used.saturating_add(kept.get());
        }
        self.close_if_empty(key);
    }
}

/// What a window stands at, at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowState {
    /// The present instance; of a first-use window that is not open, the one that would open now.
    pub instance: Instance,
    /// Used up.
    pub used: u64,
    /// Reserved.
    pub held: u64,
}

impl WindowState {
    /// Whether anything is counted in it.
    pub const fn is_open(&self) -> bool {
        self.used > 0 || self.held > 0
    }

    /// What is left of `allow`; everything where that is unlimited.
    pub const fn left(&self, allow: Option<Amount>, holds: Holds) -> Amount {
        let Some(allow) = allow else { return Amount::MAX };
        let held = match holds {
            Holds::Count => self.held,
            Holds::Ignore => 0,
        };
        Amount::clamped(allow.get().saturating_sub(self.used).saturating_sub(held))
    }
}

/// Whether open holds count against what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// They do.
    Count,
    /// As if all of them had been voided.
    Ignore,
}

/// The level of a token bucket, in `amount × every_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(pub u64);

impl Rate {
    /// The level at `now` of a bucket that stands as its slot says.
    pub fn level(&self, slot: Option<&Slot>, now: Timestamp) -> Level {
        slot.map_or(Level(0), |slot| {
            let drained = now.since(slot.at).ms().saturating_mul(self.amount);
            Level(slot.used.saturating_sub(drained))
        })
    }

    /// How long a level takes to drain.
    pub fn drains_in(&self, level: u64) -> Span {
        Span::from_ms(level.div_ceil(self.amount.max(1)))
    }

    /// `amount` in the bucket's own measure.
    pub const fn scaled(&self, amount: u64) -> u64 {
        amount.saturating_mul(self.every.ms())
    }

    /// What a request of this size is counted at when it is admitted.
    pub fn charge(&self, estimate: u64) -> u64 {
        estimate.min(self.burst)
    }

    /// How much fits now.
    pub fn left(&self, level: Level) -> u64 {
        self.scaled(self.burst).saturating_sub(level.0) / self.every.ms().max(1)
    }

    /// The first instant at which `charge` fits; `now` where it fits already.
    pub fn fits_at(&self, level: Level, charge: u64, now: Timestamp) -> Timestamp {
        let room = self.scaled(self.burst).saturating_sub(self.scaled(charge));
        let over = level.0.saturating_sub(room);
        now.plus(self.drains_in(over))
    }

    /// So much of `amount`, charged at `charged_at`, cannot have drained by `now`. A charge that turns out too large
    /// gives back no more than that, which keeps every interval within burst + rate × time (I4).
    pub fn undrained(&self, amount: u64, charged_at: Timestamp, now: Timestamp) -> u64 {
        let drained = now.since(charged_at).ms().saturating_mul(self.amount);
        self.scaled(amount).saturating_sub(drained)
    }
}
