//! Layers: their shape, their order, and that each can be reached.

use std::sync::Arc;

use super::super::compiled::{BalanceIndex, Layer, Source, WindowLayer};
use super::super::decode::{At, missing_key};
use super::super::keys::Keys;
use super::super::problem::{Sink, listed, nearest, quoted};
use super::super::raw;
use super::plans::Scene;
use super::{index, windows};
use crate::units::Unit;

/// The layers of a waterfall, those that do not fit left out.
pub(super) fn compile(
    layers: &[At<raw::Layer>],
    scene: &Scene<'_>,
    keys: &mut Keys,
    problems: &mut Sink<'_>,
) -> Vec<Layer> {
    let mut compiled: Vec<(Layer, usize)> = Vec::new();
    for layer in layers {
        check_keys(layer, problems);
        let source = match (&layer.value.windows, &layer.value.balance) {
            (Some(windows), None) => {
                let unit = unit(&layer.value, scene, problems);
                windows::compile(windows, unit, layer, scene, keys, problems).and_then(|windows| {
                    Some(Source::Window(WindowLayer {
                        per: layer.value.per.as_ref()?.value,
                        unit: unit?,
                        windows,
                    }))
                })
            }
            (None, Some(balance)) => balance_of(&balance.value.0, balance, scene, problems),
            _ => None,
        };
        let name = Arc::from(layer.value.name.value.0.as_str());
        let Some(layer_source) = source else { continue };
        let next = Layer { name, kind: layer.value.kind, source: layer_source };
        check_place(&next, layer, &compiled, scene, problems);
        compiled.push((next, layer.value.name.at.line));
    }
    compiled.into_iter().map(|(layer, _)| layer).collect()
}

fn check_keys(layer: &At<raw::Layer>, problems: &mut Sink<'_>) {
    let raw = &layer.value;
    match (&raw.windows, &raw.balance) {
        (None, None) if raw.whole => {
            problems.report(&layer.at, "a layer without a source", "one of windows, balance");
        }
        (Some(_), Some(balance)) => {
            let problem = problems.report(&balance.at, "windows and a balance in one layer", "one of them");
            problem.hint("make it two layers, the windows first");
        }
        (Some(_), None) if raw.per.is_none() && raw.whole => missing_key(&layer.at, "per", problems),
        (None, Some(_)) => {
            let per = raw.per.as_ref().map(|per| ("per", &per.at, "the balance itself says whose it is"));
            let unit = raw.unit.as_ref().map(|unit| ("unit", &unit.at, "a balance gives in credits"));
            for (key, at, hint) in per.into_iter().chain(unit) {
                let found = format!("`{key}` in a layer that draws a balance");
                problems.report(at, found, "name, kind, balance").hint(hint);
            }
        }
        _ => {}
    }
}

/// What a window layer counts; `None` if that cannot be told.
fn unit(layer: &raw::Layer, scene: &Scene<'_>, problems: &mut Sink<'_>) -> Option<Unit> {
    let of_feature = scene.feature.and_then(|feature| feature.value.unit.as_ref()).map(|unit| unit.value);
    let Some(unit) = &layer.unit else {
        return of_feature;
    };
    if unit.value != Unit::Request && of_feature.is_some_and(|of_feature| of_feature != unit.value) {
        let of_feature = of_feature.map(Unit::as_str);
        let found = format!("unit `{}` in feature {}", unit.value, quoted(scene.name));
        problems.report(&unit.at, found, listed(of_feature.into_iter().chain(["request"])));
        return None;
    }
    Some(unit.value)
}

fn balance_of<T>(name: &str, at: &At<T>, scene: &Scene<'_>, problems: &mut Sink<'_>) -> Option<Source> {
    let balances = scene.balances?;
    if let Some(position) = balances.position(name) {
        return Some(Source::Balance(BalanceIndex(index(position))));
    }
    let known = listed(balances.keys());
    let allowed = if known.is_empty() { "a balance declared under `balances`" } else { &known };
    let problem = problems.report(&at.at, format!("unknown balance {}", quoted(name)), allowed);
    if let Some(near) = nearest(name, balances.keys()) {
        problem.hint(format!("did you mean `{near}`?"));
    }
    None
}

/// Whether a layer stands where it may, and where something can still be left for it.
fn check_place(
    layer: &Layer,
    written: &At<raw::Layer>,
    earlier: &[(Layer, usize)],
    scene: &Scene<'_>,
    problems: &mut Sink<'_>,
) {
    let at = &written.value.name.at;
    let of_feature = scene.feature.and_then(|feature| feature.value.unit.as_ref()).map(|unit| unit.value);
    if let Some((wrong, line)) =
        earlier.iter().find(|(known, _)| rank(known, of_feature) > rank(layer, of_feature))
    {
        let found = format!("layer {} behind {} in line {line}", quoted(&layer.name), quoted(&wrong.name));
        let allowed = "windows by request, then windows by the feature's unit, then balances";
        problems.report(at, found, allowed).hint(format!("move it before {}", quoted(&wrong.name)));
    }
    if let Some((all, line)) = earlier.iter().find(|(known, _)| is_unlimited(known)) {
        let found = format!(
            "a layer that is never reached: {} in line {line} gives without limit",
            quoted(&all.name)
        );
        problems.report(at, found, "nothing behind an unlimited layer");
    }
    let Source::Balance(balance) = &layer.source else {
        return;
    };
    let same =
        |known: &&(Layer, usize)| matches!(&known.0.source, Source::Balance(other) if other == balance);
    if let Some((first, line)) = earlier.iter().find(same) {
        let found = format!(
            "a layer that is never reached: {} in line {line} draws the same balance",
            quoted(&first.name)
        );
        problems.report(at, found, "each balance once in a waterfall");
    }
}

fn rank(layer: &Layer, of_feature: Option<Unit>) -> u8 {
    match &layer.source {
        Source::Window(windows) if windows.unit == Unit::Request && of_feature != Some(Unit::Request) => 0,
        Source::Window(_) => 1,
        Source::Balance(_) => 2,
    }
}

fn is_unlimited(layer: &Layer) -> bool {
    matches!(&layer.source, Source::Window(windows) if windows.windows.iter().all(|window| window.allow.is_none()))
}
