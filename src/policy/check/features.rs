//! Features: which routes, in which unit, within which bounds.

use std::sync::Arc;

use super::super::compiled::{Api, Clamp, CounterKey, Deadlines, Feature, Overage, WhenExhausted};
use super::super::decode::{At, missing_key};
use super::super::problem::{Sink, listed, quoted};
use super::super::raw;
use super::super::scalars::Length;
use super::Features;
use crate::units::{Credits, Span, Unit};

/// Deadline of a request, unless the file says another.
const REQUEST: Span = Span::from_seconds(120);
/// Deadline of a background response, unless the file says another.
const BACKGROUND: Span = Span::from_seconds(9 * 3600);
/// Deadline of a video job, unless the file says another.
const JOB: Span = Span::from_seconds(24 * 3600);

/// The features in file order, those that do not fit left out.
pub(super) fn check(features: &Features, problems: &mut Sink<'_>) -> Vec<Feature> {
    let mut taken: Vec<(Api, &str)> = Vec::new();
    let mut compiled = Vec::new();
    for (name, feature) in features.fitting() {
        if name.value == "extends" {
            problems.report(&name.at, "a feature named `extends`", "a name that no key of a plan has");
        }
        check_apis(&name.value, feature, &mut taken, problems);
        check_unit(feature, problems);
        check_unbuilt(&feature.value, problems);
        check_clamp(&feature.value, problems);
        check_stop(&feature.value, problems);
        compiled.push(compile(&name.value, &feature.value));
    }
    compiled
}

/// The APIs of a feature as far as they fit.
pub(super) fn apis(feature: &raw::Feature) -> impl Iterator<Item = Api> {
    feature.apis.iter().flat_map(|apis| &apis.items).map(|api| api.value)
}

/// Whether a feature has a route that counts tokens.
pub(super) fn counts_tokens(feature: &raw::Feature) -> bool {
    apis(feature).any(|api| api != Api::Videos)
}

fn check_apis<'a>(
    name: &'a str,
    feature: &'a At<raw::Feature>,
    taken: &mut Vec<(Api, &'a str)>,
    problems: &mut Sink<'_>,
) {
    let Some(apis) = &feature.value.apis else {
        if feature.value.whole {
            missing_key(&feature.at, "apis", problems);
        }
        return;
    };
    for api in &apis.items {
        match taken.iter().find(|(known, _)| *known == api.value) {
            Some((_, owner)) => {
                let found = format!("an API that feature {} has already", quoted(owner));
                problems.report(&api.at, found, "each API in one feature, once");
            }
            None => taken.push((api.value, name)),
        }
    }
}

fn check_unit(feature: &At<raw::Feature>, problems: &mut Sink<'_>) {
    let Some(unit) = &feature.value.unit else {
        if feature.value.whole {
            missing_key(&feature.at, "unit", problems);
        }
        return;
    };
    let feature = &feature.value;
    let videos = apis(feature).any(|api| api == Api::Videos);
    let clash = match unit.value {
        Unit::Second if counts_tokens(feature) => "responses and chat have no seconds",
        Unit::Token | Unit::InputToken | Unit::OutputToken if videos => "videos have no tokens",
        _ => return,
    };
    let allowed = "a unit that every API of the feature counts in";
    problems.report(&unit.at, format!("unit `{}`", unit.value), allowed).hint(clash);
}

fn check_unbuilt(feature: &raw::Feature, problems: &mut Sink<'_>) {
    if let Some(on) = feature.websocket.as_ref().filter(|websocket| websocket.value) {
        let problem = problems.report(&on.at, "WebSocket, which is not built yet", "false");
        problem.hint("clients fall back to streams over HTTP");
    }
}

fn check_stop(feature: &raw::Feature, problems: &mut Sink<'_>) {
    let known = feature.apis.as_ref().is_some_and(|apis| apis.whole);
    let stop = feature.when_exhausted.as_ref().filter(|when| when.value == WhenExhausted::Stop);
    if let Some(stop) = stop.filter(|_| known && !counts_tokens(feature)) {
        let found = "`stop` where no API has streams";
        problems.report(&stop.at, found, "`stop` beside responses or chat").hint("leave it out");
    }
}

fn check_clamp(feature: &raw::Feature, problems: &mut Sink<'_>) {
    let known = feature.apis.as_ref().is_some_and(|apis| apis.whole);
    if let Some(clamp) = feature.clamp.as_ref().filter(|_| known && !counts_tokens(feature)) {
        let found = "a clamp on output tokens where no API has any";
        problems.report(&clamp.at, found, "a clamp beside responses or chat").hint("leave it out");
    }
}

fn compile(name: &str, feature: &raw::Feature) -> Feature {
    let overage = feature.overage.as_ref();
    let credits =
        |amount: Option<super::super::scalars::MoneyOrNone>| amount.map_or(Credits::ZERO, |some| some.0);
    let length = |length: Option<Length>, default| length.map_or(default, |length| length.0);
    let deadlines = feature.deadlines.as_ref();
    Feature {
        name: Arc::from(name),
        apis: apis(feature).collect(),
        unit: feature.unit.as_ref().map_or(Unit::Credit, |unit| unit.value),
        forgiven_key: CounterKey::of_forgiven(name),
        overage: Overage {
            forgive: credits(overage.and_then(|overage| overage.forgive)),
            debt: credits(overage.and_then(|overage| overage.debt.as_ref()).map(|debt| debt.value)),
        },
        clamp: feature
            .clamp
            .as_ref()
            .map(|clamp| Clamp { minimum_output_tokens: clamp.value.minimum_output_tokens.0 }),
        when_exhausted: feature
            .when_exhausted
            .as_ref()
            .map_or_else(WhenExhausted::default, |when| when.value),
        deadlines: Deadlines {
            request: length(deadlines.and_then(|lives| lives.request), REQUEST),
            background: length(deadlines.and_then(|lives| lives.background), BACKGROUND),
            job: length(deadlines.and_then(|lives| lives.job), JOB),
        },
    }
}

/// The features' names, for messages.
pub(super) fn names(features: &Features) -> String {
    listed(features.keys())
}
