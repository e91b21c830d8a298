//! A circuit breaker: stops sending to an upstream that keeps failing, and tries it again after a pause. Pure.
//!
//! ```text
//!           so many failures in a row, within a time
//!   closed ─────────────────────────────────────────► open
//!     ▲                                                │ a pause
//!     │ the probe succeeds                             ▼
//!     └──────────────────────────────────────────── half open: one probe; it fails: open again
//! ```
//!
//! A failure is what says that the upstream is not there: no connection, 502, 503, 504, no answer in time. Any other
//! answer is a success, errors included. What a request reports that was sent before the breaker opened changes nothing
//! any more: only the probe tells whether the upstream is back. A probe that never reports – its client left, say –
//! holds nothing up: after another pause the next request is one.

use std::collections::VecDeque;

use crate::config::Breaker as Rules;
use crate::units::Timestamp;

/// The breaker of one upstream.
#[derive(Clone, Debug)]
pub struct Breaker {
    rules: Rules,
    state: State,
}

/// How far a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Requests pass.
    Closed,
    /// None does.
    Open,
    /// One is on its way to tell.
    HalfOpen,
}

/// With what right a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The breaker was closed.
    Plain,
    /// It was half open: what becomes of this request decides.
    Probe,
}

#[derive(Clone, Debug)]
enum State {
    /// The newest failures in a row, fewer than open it.
    Closed(VecDeque<Timestamp>),
    Open {
        since: Timestamp,
    },
    HalfOpen {
        since: Timestamp,
    },
}

impl Breaker {
    /// A closed one.
    pub const fn new(rules: Rules) -> Self {
        Self { rules, state: State::Closed(VecDeque::new()) }
    }

    /// How far it is.
    pub const fn position(&self) -> Position {
        match self.state {
            State::Closed(_) => Position::Closed,
            State::Open { .. } => Position::Open,
            State::HalfOpen { .. } => Position::HalfOpen,
        }
    }

    /// Whether a request would be let through. Changes nothing.
    pub fn allows(&self, now: Timestamp) -> bool {
        match self.state {
            State::Closed(_) => true,
            State::Open { since } | State::HalfOpen { since } => now.since(since) >= self.rules.pause,
        }
    }

    /// Lets a request through, or not.
    pub fn enter(&mut self, now: Timestamp) -> Option<Pass> {
        if !self.allows(now) {
            return None;
        }
        match self.state {
            State::Closed(_) => Some(Pass::Plain),
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { since: now };
                Some(Pass::Probe)
            }
        }
    }

    /// The upstream answered.
    pub fn succeeded(&mut self, pass: Pass) {
        match (&mut self.state, pass) {
            (State::Closed(failures), _) => failures.clear(),
            (_, Pass::Probe) => self.state = State::Closed(VecDeque::new()),
            (_, Pass::Plain) => {}
        }
    }

    /// The upstream failed.
    pub fn failed(&mut self, pass: Pass, now: Timestamp) {
        match (&mut self.state, pass) {
            (State::Closed(failures), _) => {
                failures.push_back(now);
                while failures.front().is_some_and(|first| now.since(*first) > self.rules.within) {
                    failures.pop_front();
                }
                if failures.len() >= usize::from(self.rules.failures) {
                    self.state = State::Open { since: now };
                }
            }
            (_, Pass::Probe) => self.state = State::Open { since: now },
            (_, Pass::Plain) => {}
        }
    }
}

#[cfg(test)]
mod tests;
