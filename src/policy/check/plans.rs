//! Plans: what they extend, what they make of it, and what is left for each feature.
//!
//! A plan is folded from its oldest ancestor down. Guards merge by name, in the order in which they first came; a
//! waterfall is replaced whole. A plan whose ancestors are unknown or go round is reported and not followed.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::compiled::{Plan, Source, Waterfall};
use super::super::decode::{At, List, Map};
use super::super::keys::Keys;
use super::super::problem::{Place, Sink, listed, nearest, quoted};
use super::super::raw;
use super::super::scalars::{Name, NameSpelling};
use super::{Balances, Features, features, guards, layers};

type Plans = Map<NameSpelling, raw::Plan>;

/// What a plan says of a feature, with all that it takes over.
#[derive(Clone)]
struct Merged<'a> {
    at: &'a Place,
    guards: Vec<&'a At<raw::Guard>>,
    waterfall: Option<&'a List<raw::Layer>>,
    /// Whether nothing of it was left out.
    whole: bool,
}

impl<'a> Merged<'a> {
    fn layers(&self) -> &'a [At<raw::Layer>] {
        self.waterfall.map(|waterfall| waterfall.items.as_slice()).unwrap_or_default()
    }
}

/// The plans in file order.
pub(super) fn check(
    plans: &Plans,
    features: &Features,
    balances: Option<&Balances>,
    keys: &mut Keys,
    problems: &mut Sink<'_>,
) -> Vec<Plan> {
    let mut drawn = HashSet::new();
    let mut whole = check_features(plans, features, problems)
        && plans.entries.iter().all(|(_, plan)| plan.as_ref().is_some_and(|plan| plan.value.whole));
    let mut compiled = Vec::new();
    for (nth, (name, _)) in plans.entries.iter().enumerate() {
        let mut waterfalls = Vec::new();
        let lineage = lineage(plans, nth, problems);
        whole &= lineage.is_some();
        for (feature, written) in &features.entries {
            let merged = lineage.as_ref().and_then(|lineage| merge(lineage, &feature.value, problems));
            whole &= merged.as_ref().is_none_or(|merged| merged.whole);
            waterfalls.push(merged.map(|merged| {
                let scene = Scene { name: &feature.value, feature: written.as_ref(), balances };
                let waterfall = compile(&merged, &scene, keys, problems);
                whole &= waterfall.layers.len() == merged.layers().len();
                for layer in &waterfall.layers {
                    if let Source::Balance(balance) = &layer.source {
                        drawn.insert(usize::from(balance.0));
                    }
                }
                waterfall
            }));
        }
        compiled.push(Plan { name: Arc::from(name.value.as_str()), waterfalls });
    }
    if whole {
        check_debts(features, &compiled, problems);
        if let Some(balances) = balances {
            check_drawn(balances, &drawn, problems);
        }
    }
    compiled
}

/// What the guards and layers of a feature refer to.
pub(super) struct Scene<'a> {
    /// The feature's name.
    pub name: &'a str,
    /// The feature, if it could be read.
    pub feature: Option<&'a At<raw::Feature>>,
    /// All balances, if they could be read.
    pub balances: Option<&'a Balances>,
}

/// Whether every feature that a plan names is known. A section of features that could not be read knows them all.
fn check_features(plans: &Plans, features: &Features, problems: &mut Sink<'_>) -> bool {
    let mut known = true;
    if features.entries.is_empty() {
        return known;
    }
    for (_, plan) in plans.fitting() {
        for (feature, _) in &plan.value.features.entries {
            if features.position(&feature.value).is_some() {
                continue;
            }
            known = false;
            let found = format!("unknown feature {}", quoted(&feature.value));
            let problem =
                problems.report(&feature.at, found, format!("extends, {}", features::names(features)));
            if let Some(near) = nearest(&feature.value, features.keys().chain(["extends"])) {
                problem.hint(format!("did you mean `{near}`?"));
            }
        }
    }
    known
}

/// The plan and its ancestors, the oldest first. `None` where they cannot be told; that is reported.
fn lineage<'a>(plans: &'a Plans, plan: usize, problems: &mut Sink<'_>) -> Option<Vec<&'a At<raw::Plan>>> {
    let mut places = vec![plan];
    let mut lineage = Vec::new();
    loop {
        let place = *places.last()?;
        let current = plans.entries[place].1.as_ref()?;
        lineage.push(current);
        let Some(parent) = &current.value.extends else {
            lineage.reverse();
            return Some(lineage);
        };
        let name = parent.value.0.as_str();
        let Some(next) = plans.position(name) else {
            let found = format!("unknown plan {}", quoted(name));
            let problem = problems.report(&parent.at, found, listed(plans.keys()));
            if let Some(near) = nearest(name, plans.keys()) {
                problem.hint(format!("did you mean `{near}`?"));
            }
            return None;
        };
        if let Some(start) = places.iter().position(|known| *known == next) {
            // Told once, at the plan of the round that stands first in the file.
            if start == 0 && places.iter().min() == Some(&plan) {
                let round = places.iter().chain([&next]).map(|place| plans.entries[*place].0.value.as_str());
                let round = round.collect::<Vec<_>>().join(" → ");
                let at = plans.entries[plan].1.as_ref()?.value.extends.as_ref()?;
                problems.report(
                    &at.at,
                    format!("plans that extend each other: {round}"),
                    "plans that lead to one without `extends`",
                );
            }
            return None;
        }
        places.push(next);
    }
}

/// What a line of plans says of a feature; `None` if none of them mentions it.
fn merge<'a>(lineage: &[&'a At<raw::Plan>], feature: &str, problems: &mut Sink<'_>) -> Option<Merged<'a>> {
    let mut merged: Option<Merged<'a>> = None;
    for plan in lineage {
        let Some(position) = plan.value.features.position(feature) else {
            continue;
        };
        let (key, written) = &plan.value.features.entries[position];
        let blank = Merged { at: &key.at, guards: Vec::new(), waterfall: None, whole: true };
        let merged = merged.get_or_insert(blank);
        let Some(written) = written else {
            merged.whole = false;
            continue;
        };
        merged.at = &key.at;
        merged.whole &= written.value.whole;
        if let Some(guards) = &written.value.guards {
            merged.whole &= guards.whole;
            merge_guards(merged, guards, problems);
        }
        if let Some(waterfall) = &written.value.waterfall {
            merged.whole &= waterfall.whole;
            merged.waterfall = Some(waterfall);
        }
    }
    merged
}

fn merge_guards<'a>(merged: &mut Merged<'a>, guards: &'a List<raw::Guard, 0>, problems: &mut Sink<'_>) {
    let mut own: Vec<&At<raw::Guard>> = Vec::new();
    for guard in &guards.items {
        let name = &guard.value.name;
        if let Some(first) = own.iter().find(|known| known.value.name.value == name.value) {
            twice(&name.value.0, &name.at, first.value.name.at.line, problems);
            continue;
        }
        own.push(guard);
        let known = merged.guards.iter().position(|known| known.value.name.value == name.value);
        match (&guard.value.off, known) {
            (Some(off), known) => {
                guards::check_off(guard, off, problems);
                if let Some(known) = known {
                    merged.guards.remove(known);
                } else if merged.whole {
                    let found = format!("no guard {} to remove", quoted(&name.value.0));
                    let taken = listed(merged.guards.iter().map(|guard| guard.value.name.value.0.as_str()));
                    let allowed = if taken.is_empty() { "a guard of the plan it extends" } else { &taken };
                    problems.report(&name.at, found, allowed);
                }
            }
            (None, Some(known)) => merged.guards[known] = guard,
            (None, None) => merged.guards.push(guard),
        }
    }
}

fn compile(merged: &Merged<'_>, scene: &Scene<'_>, keys: &mut Keys, problems: &mut Sink<'_>) -> Waterfall {
    let layers = merged.layers();
    if merged.waterfall.is_none() && merged.whole {
        let found = format!("feature {} without a waterfall", quoted(scene.name));
        let problem = problems.report(merged.at, found, "a waterfall of at least one layer");
        problem.hint("to leave the feature out of the plan, leave out its key");
    }
    check_names(merged, layers, problems);
    let guards =
        merged.guards.iter().filter_map(|guard| guards::compile(guard, scene, keys, problems)).collect();
    let layers = layers::compile(layers, scene, keys, problems);
    Waterfall { guards, layers }
}

/// Guards and layers share one space of names: both name counters, headers and reasons. Told where the later stands,
/// which may be a guard that a plan adds to an inherited waterfall.
fn check_names(merged: &Merged<'_>, layers: &[At<raw::Layer>], problems: &mut Sink<'_>) {
    let mut seen: Vec<&At<Name>> = merged.guards.iter().map(|guard| &guard.value.name).collect();
    for name in layers.iter().map(|layer| &layer.value.name) {
        let Some(known) = seen.iter().find(|known| known.value == name.value) else {
            seen.push(name);
            continue;
        };
        let in_order = (known.at.line, known.at.column) < (name.at.line, name.at.column);
        let (first, second) = if in_order { (*known, name) } else { (name, *known) };
        twice(&name.value.0, &second.at, first.at.line, problems);
    }
}

fn twice(name: &str, at: &Place, first: usize, problems: &mut Sink<'_>) {
    let problem = problems.report(
        at,
        format!("the name {} a second time", quoted(name)),
        "each name once within a feature of a plan, guards and layers together",
    );
    problem.hint(format!("the first is in line {first}"));
}

/// A debt stands on a waterfall's last balance: a feature that draws from none in any plan owes to nobody.
fn check_debts(features: &Features, plans: &[Plan], problems: &mut Sink<'_>) {
    for (nth, (name, feature)) in features.entries.iter().enumerate() {
        let overage = feature.as_ref().and_then(|feature| feature.value.overage.as_ref());
        let debt = overage.and_then(|overage| overage.debt.as_ref()).filter(|debt| !debt.value.0.is_zero());
        let layers = plans.iter().filter_map(|plan| plan.waterfalls.get(nth)?.as_ref());
        let mut layers = layers.flat_map(|waterfall| &waterfall.layers).peekable();
        if let (Some(debt), true) = (debt, layers.peek().is_some())
            && !layers.any(|layer| matches!(layer.source, Source::Balance(_)))
        {
            let found = format!("a debt where no plan draws {} from a balance", quoted(&name.value));
            let problem = problems.report(&debt.at, found, "a debt beside a layer with `balance`");
            problem.hint("leave `debt` out: what no window covers is forgiven up to `forgive`");
        }
    }
}

fn check_drawn(balances: &Balances, drawn: &HashSet<usize>, problems: &mut Sink<'_>) {
    let idle = balances.entries.iter().enumerate().filter(|(nth, _)| !drawn.contains(nth));
    for (_, (name, _)) in idle {
        let found = format!("balance {} that no plan draws", quoted(&name.value));
        let problem = problems.report(&name.at, found, "balances that a waterfall names");
        problem.hint(format!(
            "add a layer such as {{name: {}, kind: prepaid, balance: {}}}, or remove it",
            name.value, name.value
        ));
    }
}
