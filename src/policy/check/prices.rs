//! Prices: rows that can be read, and that some request can reach.

use std::sync::Arc;

use super::super::compiled::Api;
use super::super::decode::{At, List, Map};
use super::super::prices::{LongContext, Pattern, PriceRow, Rates, TokenRates};
use super::super::problem::{Place, Sink, quoted};
use super::super::raw;
use super::super::scalars::{Factor, Rate, Text};
use super::Features;
use super::features::{apis, counts_tokens};
use crate::units::Decimal;

/// Tiers that are always 1.
const ORDINARY_TIERS: [&str; 3] = ["default", "auto", "standard"];

/// The rows in file order, those that do not fit left out.
pub(super) fn check(
    prices: &List<raw::Price>,
    features: &Features,
    problems: &mut Sink<'_>,
) -> Vec<PriceRow> {
    let mut seen: Vec<(Pattern, usize)> = Vec::new();
    let mut rows = Vec::new();
    for price in &prices.items {
        let model = pattern(&price.value.model, problems);
        if let Some(model) = &model {
            check_reachable(model, &price.value.model.at, &seen, problems);
            seen.push((model.clone(), price.value.model.at.line));
        }
        check_rates(price, features, problems);
        check_tiers(&price.value, problems);
        if let (Some(model), Some(rates)) = (model, rates(&price.value)) {
            rows.push(compile(model, rates, &price.value));
        }
    }
    rows
}

fn pattern(model: &At<Text>, problems: &mut Sink<'_>) -> Option<Pattern> {
    let text = model.value.0.as_str();
    let (name, prefix) = text.strip_suffix('*').map_or((text, false), |name| (name, true));
    let legal = name.chars().all(|char| char.is_ascii_graphic() && char != '*') && name.len() <= 128;
    if !legal || (name.is_empty() && !prefix) {
        let allowed = "the name of a model, or its beginning and one `*` at the end";
        problems.report(&model.at, quoted(text), allowed);
        return None;
    }
    Some(if prefix { Pattern::Prefix(name.into()) } else { Pattern::Exact(name.into()) })
}

fn check_reachable(model: &Pattern, at: &Place, seen: &[(Pattern, usize)], problems: &mut Sink<'_>) {
    let covers = |earlier: &Pattern| match (earlier, model) {
        (Pattern::Prefix(short), Pattern::Prefix(long) | Pattern::Exact(long)) => long.starts_with(&**short),
        (Pattern::Exact(one), Pattern::Exact(other)) => one == other,
        (Pattern::Exact(_), Pattern::Prefix(_)) => false,
    };
    if let Some((_, line)) = seen.iter().find(|(earlier, _)| covers(earlier)) {
        let found = format!("a price that never applies: the row in line {line} matches first");
        problems
            .report(at, found, "a model that no earlier row matches")
            .hint("put the narrower pattern first");
    }
}

fn check_rates(price: &At<raw::Price>, features: &Features, problems: &mut Sink<'_>) {
    let row = &price.value;
    let allowed = "one of per_million_tokens, per_second";
    match (&row.per_million_tokens, &row.per_second) {
        (Some(_), Some(_)) => {
            problems.report(&price.at, "prices by token and by second in one row", allowed);
        }
        (None, None) if row.whole => {
            problems.report(&price.at, "no price by token or by second", allowed);
        }
        (None, Some(_)) => {
            let places = [
                ("tiers", row.tiers.as_ref().map(|some| &some.at)),
                ("long_context", row.long_context.as_ref().map(|some| &some.at)),
                ("per_tool_call", row.per_tool_call.as_ref().map(|some| &some.at)),
            ];
            for (key, at) in places {
                if let Some(at) = at {
                    let found = format!("`{key}` in a row by second, where it never applies");
                    problems.report(at, found, "model, per_second, per_request").hint("leave it out");
                }
            }
        }
        _ => {}
    }
    check_use(price, features, problems);
}

/// A row whose measure no feature's API counts in can price nothing.
fn check_use(price: &At<raw::Price>, features: &Features, problems: &mut Sink<'_>) {
    let sound = |(_, feature): &(_, Option<At<raw::Feature>>)| {
        feature.as_ref().is_some_and(|feature| feature.value.apis.as_ref().is_some_and(|apis| apis.whole))
    };
    if features.entries.is_empty() || !features.entries.iter().all(sound) {
        return;
    }
    let any =
        |counts: fn(&raw::Feature) -> bool| features.fitting().any(|(_, feature)| counts(&feature.value));
    let (measure, missing) = match (&price.value.per_million_tokens, &price.value.per_second) {
        (Some(_), None) if !any(counts_tokens) => ("token", "responses or chat"),
        (None, Some(_)) if !any(|feature| apis(feature).any(|api| api == Api::Videos)) => {
            ("second", "videos")
        }
        _ => return,
    };
    let found = format!("a price by {measure} that never applies: no feature has the API {missing}");
    problems.report(&price.value.model.at, found, "prices in what a feature's API counts");
}

fn check_tiers(row: &raw::Price, problems: &mut Sink<'_>) {
    let names = row.tiers.iter().flat_map(|tiers| &tiers.value.entries).map(|(name, _)| name);
    for name in names.filter(|name| ORDINARY_TIERS.contains(&name.value.as_str())) {
        let found = format!("a multiplier for {}, which is always 1", quoted(&name.value));
        problems.report(&name.at, found, "other tiers").hint("leave it out");
    }
}

fn rates(row: &raw::Price) -> Option<Rates> {
    if let Some(tokens) = &row.per_million_tokens {
        let or_input = |rate: Option<Rate>| rate.map_or(tokens.input.0, |rate| rate.0);
        return Some(Rates::Tokens(TokenRates {
            input: tokens.input.0,
            cached_input: or_input(tokens.cached_input),
            cache_write: or_input(tokens.cache_write),
            output: tokens.output.0,
        }));
    }
    Some(Rates::Seconds(pairs(row.per_second.as_ref()?, |rate| rate.0)))
}

fn pairs<K: super::super::decode::Spelling, T: super::super::decode::Decode>(
    map: &Map<K, T>,
    value: impl Fn(&T) -> Decimal,
) -> Vec<(Arc<str>, Decimal)> {
    map.fitting().map(|(key, entry)| (Arc::from(key.value.as_str()), value(&entry.value))).collect()
}

fn compile(model: Pattern, rates: Rates, row: &raw::Price) -> PriceRow {
    let tools = row.per_tool_call.as_ref();
    let tiers = row.tiers.as_ref();
    PriceRow {
        model,
        rates,
        per_request: row.per_request.as_ref().map_or(Decimal::ZERO, |rate| rate.value.0),
        per_tool_call: tools.map(|tools| pairs(&tools.value, |rate| rate.0)).unwrap_or_default(),
        tiers: tiers.map(|tiers| pairs(&tiers.value, |factor| factor.0)).unwrap_or_default(),
        long_context: row.long_context.as_ref().map(|long| long_context(&long.value)),
    }
}

/// A multiplier that is not named is 1, but for the parts of the input, which go with the input.
fn long_context(long: &raw::LongContext) -> LongContext {
    let factor = |factor: Option<Factor>, default| factor.map_or(default, |factor| factor.0);
    let input = factor(long.multiply.input, Decimal::ONE);
    LongContext {
        over_input_tokens: long.over_input_tokens.0,
        multiply: TokenRates {
            input,
            cached_input: factor(long.multiply.cached_input, input),
            cache_write: factor(long.multiply.cache_write, input),
            output: factor(long.multiply.output, Decimal::ONE),
        },
    }
}
