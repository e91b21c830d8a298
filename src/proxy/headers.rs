//! What every answer of a metered route tells about its decision.
//!
//! `X-Access-*` say how it was decided and paid, in RFC 9651 structured fields; `RateLimit` and `RateLimit-Policy` (the
//! IETF draft) and `x-ratelimit-*` (`OpenAI`'s) say what is left; `x-codex-*` says it to Codex. All of them show the
//! same [`Standing`], as it was right after the hold.
//!
//! This runs for each request, so all values are written one after the other into a single buffer, and the header
//! values are slices of it: three allocations, whatever the policy.

pub(super) mod codex;
mod decision;
mod names;
mod openai;
mod rate_limit;
mod text;

use http::{HeaderName, HeaderValue};

use super::client::Dialect;
use crate::access::draw::Draw;
use crate::access::standing::{Standing, WindowStanding};
use crate::policy::compiled::{
    CalendarUnit, FeatureIndex, Layer, Period, PlanIndex, Policy, Waterfall, Window, WindowLayer,
};
use crate::policy::compiled::{Guard, Source};
use crate::units::{DecisionId, Span, Timestamp};

pub(super) use decision::BlockNote;
pub use names::is_ours;
pub(super) use names::{
    ACCESS_IDEMPOTENCY, ACCESS_REPLAYED, CODEX_PROMO_MESSAGE, CODEX_REACHED_TYPE, RETRY_AFTER_MS,
    SHOULD_RETRY,
};
pub(super) use text::Writer;

/// What the headers of one answer are made from: what is left of everything, and by which rules.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The policy that decided.
    pub policy: &'a Policy,
    /// The account's plan.
    pub plan: PlanIndex,
    /// The product.
    pub feature: FeatureIndex,
    /// What is left, after the hold.
    pub standing: &'a Standing,
    /// The instant at which that is so.
    pub now: Timestamp,
}

/// A request that was let through.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    /// The decision.
    pub decision: DecisionId,
    /// Where it is drawn from.
    pub draws: &'a [Draw],
    /// The output tokens that it has been cut down to.
    pub clamped_to: Option<u64>,
    /// Whether it was let through without the store of live counts.
    pub is_degraded: bool,
}

/// Headers in the order they were written. Each name stands once, but for those that a response has several of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

/// The headers of an answer to a request that was let through.
pub fn allowed(scene: &Scene<'_>, allowed: &Allowed<'_>, dialect: Dialect, request_id: &str) -> Headers {
    let mut writer = Writer::new();
    decision::write_allowed(&mut writer, scene, allowed);
    write_left(&mut writer, scene, dialect);
    writer.put(&names::REQUEST_ID, request_id);
    writer.finish()
}

/// What is left, in the words of every family that the client may read.
pub(super) fn write_left(writer: &mut Writer, scene: &Scene<'_>, dialect: Dialect) {
    rate_limit::write(writer, scene);
    openai::write(writer, scene);
    if dialect == Dialect::Codex {
        codex::write(writer, scene);
    }
}

/// The headers of a block that tell the decision; `note` says why.
pub(super) fn write_blocked(writer: &mut Writer, scene: Option<&Scene<'_>>, note: &BlockNote<'_>) {
    decision::write_blocked(writer, scene, note);
}

/// The header that names an answer, for support and for logs.
pub(super) fn write_request_id(writer: &mut Writer, request_id: &str) {
    writer.put(&names::REQUEST_ID, request_id);
}

impl Headers {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The value of a name, if it is among them.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(one, _)| one.as_str() == name).and_then(|(_, value)| value.to_str().ok())
    }

    /// Adds those of `other` whose names are not among these.
    pub(super) fn complete(&mut self, other: &Self) {
        for (name, value) in other.iter() {
            if self.value(name.as_str()).is_none() {
                self.0.push((name.clone(), value.clone()));
            }
        }
    }
}

impl IntoIterator for Headers {
    type Item = (HeaderName, HeaderValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> Scene<'a> {
    fn waterfall(&self) -> Option<&'a Waterfall> {
        self.policy[self.plan].waterfall(self.feature)
    }

    fn layers(&self) -> &'a [Layer] {
        self.waterfall().map_or(&[], |waterfall| &waterfall.layers)
    }

    /// Every window with its layer and what is left of it, in the waterfall's order.
    fn windows(&self) -> impl Iterator<Item = (&'a Layer, &'a WindowLayer, &'a Window, &'a WindowStanding)> {
        let layers = self.layers();
        self.standing.windows.iter().filter_map(move |standing| {
            let layer = layers.get(usize::from(standing.layer))?;
            let Source::Window(windows) = &layer.source else { return None };
            Some((layer, windows, windows.windows.get(usize::from(standing.window))?, standing))
        })
    }

    /// Every guard with what is left under it, in the waterfall's order.
    fn guards(&self) -> impl Iterator<Item = (&'a Guard, &'a crate::access::standing::GuardStanding)> {
        let guards = self.waterfall().map_or(&[][..], |waterfall| &waterfall.guards);
        self.standing
            .guards
            .iter()
            .filter_map(move |standing| Some((guards.get(usize::from(standing.guard))?, standing)))
    }

    /// Seconds from now until `at`, rounded up: who waits so long is never too early.
    fn seconds_until(&self, at: Timestamp) -> u64 {
        at.since(self.now).seconds_ceil()
    }
}

/// How long a window is, as people say it: `5h`, `7d`, `month`.
pub(super) fn length_label(period: &Period) -> String {
    let mut writer = Writer::new();
    writer.length(period);
    writer.into_text()
}

/// The largest unit of which a span is a whole number.
fn whole_units(span: Span) -> (u64, &'static str) {
    let ms = span.ms();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let fitting = units.into_iter().find(|(unit_ms, _)| ms >= *unit_ms && ms.is_multiple_of(*unit_ms));
    fitting.map_or((ms, "ms"), |(unit_ms, unit)| (ms / unit_ms, unit))
}

fn calendar_word(unit: CalendarUnit) -> &'static str {
    match unit {
        CalendarUnit::Day => "day",
        CalendarUnit::Week => "week",
        CalendarUnit::Month => "month",
    }
}

#[cfg(test)]
mod tests;
