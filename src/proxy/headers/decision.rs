//! `X-Access-Decision` and `X-Access-Sources`: what was decided, and what each source gives and has left.

use std::fmt::Write as _;

use super::names::{ACCESS_DECISION, ACCESS_SOURCES};
use super::{Allowed, Scene, Writer};
use crate::policy::compiled::{Layer, Source};
use crate::units::{Amount, Credits, DecisionId, Unit};

/// What a block says of itself.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct BlockNote<'a> {
    /// The decision, where one was made.
    pub(in crate::proxy) decision: Option<DecisionId>,
    /// Why, in one word.
    pub(in crate::proxy) reason: &'a str,
    /// In how many seconds the same request passes.
    pub(in crate::proxy) next_seconds: Option<u64>,
    /// What balances would have to give.
    pub(in crate::proxy) need: Option<Credits>,
    /// What they have.
    pub(in crate::proxy) have: Option<Credits>,
}

pub(super) fn write_allowed(writer: &mut Writer, scene: &Scene<'_>, allowed: &Allowed<'_>) {
    writer.raw("allow");
    write_id(writer, allowed.decision);
    write_subject(writer, scene);
    if let Some(tokens) = allowed.clamped_to {
        writer.raw(";max-output-tokens=");
        writer.number(tokens);
    }
    if allowed.is_degraded {
        writer.raw(";degraded");
    }
    writer.end(&ACCESS_DECISION);
    // The draws of one layer stand side by side: one for each grant of its balance.
    for draws in allowed.draws.chunk_by(|left, right| left.layer == right.layer) {
        let taken = draws.iter().fold(Amount::ZERO, |sum, draw| sum.saturating_add(draw.amount));
        let place = draws.first().map_or(0, |draw| draw.layer);
        if let Some(layer) = scene.layers().get(usize::from(place)) {
            write_source(writer, scene, place, layer, taken);
        }
    }
    writer.end(&ACCESS_SOURCES);
}

/// A block took nothing; what every source has left says how far the request was from passing.
pub(super) fn write_blocked(writer: &mut Writer, scene: Option<&Scene<'_>>, note: &BlockNote<'_>) {
    writer.raw("block");
    if let Some(decision) = note.decision {
        write_id(writer, decision);
    }
    writer.raw(";reason=");
    writer.raw(note.reason);
    if let Some(seconds) = note.next_seconds {
        writer.raw(";next=");
        writer.number(seconds);
    }
    for (name, credits) in [(";need=\"", note.need), (";have=\"", note.have)] {
        if let Some(credits) = credits {
            writer.raw(name);
            writer.amount(Amount::clamped(credits.micros()), Unit::Credit);
            writer.raw("\"");
        }
    }
    if let Some(scene) = scene {
        write_subject(writer, scene);
    }
    writer.end(&ACCESS_DECISION);
    if let Some(scene) = scene {
        for (place, layer) in (0..).zip(scene.layers()) {
            write_source(writer, scene, place, layer, Amount::ZERO);
        }
    }
    writer.end(&ACCESS_SOURCES);
}

fn write_id(writer: &mut Writer, decision: DecisionId) {
    // Writing into memory does not fail.
    let _ = write!(writer, ";id=\"{decision}\"");
}

fn write_subject(writer: &mut Writer, scene: &Scene<'_>) {
    writer.raw(";feature=");
    writer.raw(&scene.policy[scene.feature].name);
    let _ = write!(writer, ";policy=\"{}\"", scene.policy.version);
}

fn write_source(writer: &mut Writer, scene: &Scene<'_>, place: u16, layer: &Layer, taken: Amount) {
    let (unit, left, resets_at) = match &layer.source {
        Source::Window(windows) => {
            // A layer gives the least of what its windows have left; where several bind, all have to refill.
            let own = scene.standing.windows.iter().filter(|window| window.layer == place);
            let binding = own.min_by_key(|window| (window.left, std::cmp::Reverse(window.resets_at)));
            let left = binding.filter(|window| window.allow.is_some()).map(|window| window.left);
            (windows.unit, left, binding.and_then(|window| window.resets_at))
        }
        Source::Balance(_) => {
            let own = scene.standing.balances.iter().find(|balance| balance.layer == place);
            let available = own.map_or(Credits::ZERO, |balance| balance.available);
            (Unit::Credit, Some(Amount::clamped(available.micros())), None)
        }
    };
    writer.member();
    writer.raw(&layer.name);
    writer.raw(";unit=");
    writer.raw(unit.as_str());
    writer.raw(";take=\"");
    writer.amount(taken, unit);
    writer.raw("\";left=\"");
    match left {
        Some(left) => writer.amount(left, unit),
        None => writer.raw("unlimited"),
    }
    writer.raw("\"");
    if let Some(at) = resets_at {
        writer.raw(";reset=");
        writer.number(scene.seconds_until(at));
    }
}
