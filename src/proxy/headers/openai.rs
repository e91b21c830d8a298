//! `x-ratelimit-*`, as `OpenAI` sends them: the guard on requests and the guard on tokens with the least left.

use http::HeaderName;

use super::names::{
    LIMIT_REQUESTS, LIMIT_TOKENS, REMAINING_REQUESTS, REMAINING_TOKENS, RESET_REQUESTS, RESET_TOKENS,
};
use super::{Scene, Writer};
use crate::access::standing::GuardStanding;
use crate::policy::compiled::GuardRule;
use crate::units::Unit;

pub(super) fn write(writer: &mut Writer, scene: &Scene<'_>) {
    let requests = [&LIMIT_REQUESTS, &REMAINING_REQUESTS, &RESET_REQUESTS];
    let tokens = [&LIMIT_TOKENS, &REMAINING_TOKENS, &RESET_TOKENS];
    for (unit, names) in [(Unit::Request, requests), (Unit::Token, tokens)] {
        if let Some(standing) = tightest(scene, unit) {
            write_family(writer, scene, standing, names);
        }
    }
}

fn tightest<'a>(scene: &Scene<'a>, unit: Unit) -> Option<&'a GuardStanding> {
    let counted = scene.guards().filter(|(guard, _)| match &guard.rule {
        GuardRule::Rate(rate) => rate.unit == unit,
        GuardRule::Concurrent { .. } | GuardRule::Spend { .. } => false,
    });
    counted.map(|(_, standing)| standing).min_by_key(|standing| standing.left)
}

fn write_family(
    writer: &mut Writer,
    scene: &Scene<'_>,
    standing: &GuardStanding,
    [limit, remaining, reset]: [&'static HeaderName; 3],
) {
    writer.put_number(limit, standing.limit);
    writer.put_number(remaining, standing.left);
    writer.go_duration(standing.full_at.unwrap_or(scene.now).since(scene.now));
    writer.end(reset);
}
