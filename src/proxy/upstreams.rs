//! The upstreams of a gateway, in order of preference, and the way of one request among them.
//!
//! A request goes to the first that is usable: its name resolves, its health checks agree, its breaker lets it through.
//! It goes on to the next only where it is certain that nobody has begun to work on it: no connection was made, or the
//! answer was 502 or 503 (`gateway`). What one upstream made is there alone: a request about it has no other way.

use std::sync::Arc;

use pingora::upstreams::peer::HttpPeer;
use smallvec::SmallVec;
use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::{Pass, Position};
use super::upstream::{Settings, SettingsError, Upstream};
use super::{health, metrics};
use crate::policy::compiled::Name;
use crate::units::Timestamp;

/// How often one request is sent at most, to the same upstream or to others.
pub const ATTEMPTS_MAX: usize = 3;
/// How often it is sent to the same one, where no connection could be made.
const SAME_MAX: usize = 2;

/// All upstreams.
#[derive(Debug)]
pub struct Upstreams {
    list: Vec<Arc<Upstream>>,
    began: Instant,
}

/// Where a request may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// To any upstream.
    #[default]
    Any,
    /// To this one, which has what it is about.
    Only(usize),
}

/// Where one request has been.
#[derive(Debug, Default)]
pub struct Way {
    tried: SmallVec<[usize; ATTEMPTS_MAX]>,
    /// With what right it was sent last, until it is known what came of it.
    pass: Option<Pass>,
    /// Whether an upstream has turned it away: that one does not get it again.
    is_turned_away: bool,
}

/// Whether the upstream that a request was sent to last may have it once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// It may.
    Again,
    /// It may not.
    Never,
}

impl Way {
    /// Which upstream it was sent to last.
    fn last(&self) -> Option<usize> {
        self.tried.last().copied()
    }
}

impl Upstreams {
    /// Upstreams by their settings, best first.
    pub fn new(settings: &[Settings]) -> Result<Self, SettingsError> {
        let mut list: Vec<Arc<Upstream>> = Vec::with_capacity(settings.len());
        for (group_key, settings) in (1..).zip(settings) {
            if list.iter().any(|known| *known.name() == settings.name) {
                return Err(SettingsError::Twice { name: settings.name.clone() });
            }
            list.push(Arc::new(Upstream::new(settings, group_key)?));
        }
        if list.is_empty() { Err(SettingsError::None) } else { Ok(Self { list, began: Instant::now() }) }
    }

    /// Whether a request would be sent now.
    pub fn is_open(&self, goal: Goal) -> bool {
        self.choose(goal, &Way::default(), Same::Never, self.now()).is_some()
    }

    /// Whether any answers, as far as is known.
    pub fn is_any_up(&self) -> bool {
        let now = self.now();
        self.list.iter().any(|upstream| upstream.is_up(now))
    }

    /// Where a thing is that was made at the upstream of this name. `None`: at one that is not in the list any more. What
    /// was made before upstreams had names is at the first, and where there is but one, everything is there.
    pub fn goal_of(&self, name: Option<&str>) -> Option<Goal> {
        match name {
            Some(name) if self.list.len() > 1 => {
                self.list.iter().position(|upstream| **upstream.name() == *name).map(Goal::Only)
            }
            _ => Some(Goal::Only(0)),
        }
    }

    /// Sends a request on its way: to the next upstream that it may go to. `None`: there is none.
    pub(super) fn enter(&self, way: &mut Way, goal: Goal) -> Option<HttpPeer> {
        let now = self.now();
        let same = if way.is_turned_away { Same::Never } else { Same::Again };
        // Another request may take the place of a probe just after it was seen free: then the next upstream is chosen.
        for _ in &self.list {
            let place = self.choose(goal, way, same, now)?;
            let upstream = self.list.get(place)?;
            let peer = upstream.peer()?;
            if let Some(pass) = upstream.breaker().enter(now) {
                way.pass = Some(pass);
                way.tried.push(place);
                metrics::sent(upstream.name());
                return Some(peer);
            }
        }
        None
    }

    /// Whether a request that the upstream has turned away may go to another; from now on it goes to no other place.
    pub(super) fn goes_elsewhere(&self, way: &mut Way, goal: Goal) -> bool {
        way.is_turned_away = true;
        self.goes_on(way, goal, Same::Never)
    }

    /// Whether a request that has failed may be sent once more.
    pub(super) fn goes_on(&self, way: &Way, goal: Goal, same: Same) -> bool {
        self.choose(goal, way, same, self.now()).is_some()
    }

    /// The upstream that a request was sent to last.
    pub(super) fn present(&self, way: &Way) -> Option<&Arc<Upstream>> {
        self.list.get(way.last()?)
    }

    /// Notes that the upstream answered.
    pub(super) fn succeeded(&self, way: &mut Way) {
        if let (Some(pass), Some(upstream)) = (way.pass.take(), self.present(way)) {
            upstream.breaker().succeeded(pass);
            if pass == Pass::Probe {
                tracing::info!(upstream.name = %upstream.name(), "an upstream that was left alone answers again");
            }
        }
    }

    /// Notes that no connection could be made to a peer of the upstream that a request was sent to last.
    pub(super) fn unreachable(&self, way: &mut Way, peer: &HttpPeer) {
        if let Some(upstream) = self.present(way) {
            upstream.avoid(peer);
        }
        self.failed(way);
    }

    /// Notes that the upstream failed, unless it had answered before.
    pub(super) fn failed(&self, way: &mut Way) {
        if let (Some(pass), Some(upstream)) = (way.pass.take(), self.present(way)) {
            metrics::upstream_failed(upstream.name());
            let before = upstream.position();
            upstream.breaker().failed(pass, self.now());
            if before == Position::Closed && upstream.position() == Position::Open {
                tracing::warn!(upstream.name = %upstream.name(), "an upstream keeps failing: it is left alone for a while");
            }
        }
    }

    /// Tells how far each breaker is, and which upstreams are usable.
    pub(super) fn tell(&self) {
        let now = self.now();
        for upstream in &self.list {
            metrics::upstream_state(upstream.name(), upstream.position(), upstream.is_usable(now));
        }
    }

    /// Keeps addresses and health up to date until `shutdown` is true.
    pub(super) async fn run(&self, shutdown: watch::Receiver<bool>) {
        let mut kept = tokio::task::JoinSet::new();
        for upstream in &self.list {
            kept.spawn(Arc::clone(upstream).resolve(shutdown.clone()));
            if let Some(settings) = upstream.health() {
                kept.spawn(health::watch(Arc::clone(upstream), settings.clone(), shutdown.clone()));
            }
        }
        kept.join_all().await;
    }

    fn choose(&self, goal: Goal, way: &Way, same: Same, now: Timestamp) -> Option<usize> {
        let usable = |place: usize| self.list.get(place).is_some_and(|upstream| upstream.is_usable(now));
        choose(self.list.len(), goal, &way.tried, same, usable)
    }

    /// The present instant for breakers: by the monotonic clock, since a wall clock that is set back would keep them
    /// open.
    fn now(&self) -> Timestamp {
        let ms = self.began.elapsed().as_millis();
        Timestamp::from_ms(i64::try_from(ms).unwrap_or(i64::MAX))
    }
}

/// The first usable upstream that has not been tried; else the last one once more, where it may be and is usable.
fn choose(
    count: usize,
    goal: Goal,
    tried: &[usize],
    same: Same,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    if tried.len() >= ATTEMPTS_MAX {
        return None;
    }
    let mut candidates = match goal {
        Goal::Any => 0..count,
        Goal::Only(place) => place..place.saturating_add(1),
    };
    let fresh = candidates.find(|place| !tried.contains(place) && usable(*place));
    let again = || {
        let last = *tried.last()?;
        (same == Same::Again && tried.len() < SAME_MAX && usable(last)).then_some(last)
    };
    fresh.or_else(again)
}

/// The name for what was made at an upstream.
pub(super) fn name_of(upstream: Option<&Arc<Upstream>>) -> Option<Name> {
    upstream.map(|upstream| upstream.name().clone())
}

#[cfg(test)]
mod tests;
