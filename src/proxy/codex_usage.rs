//! What `GET /api/codex/usage` says: limits and credits in the shape that Codex CLI's `/status` and editors read.
//!
//! It shows what the `x-codex-*` headers show, from the same standing, and what they have no room for: the spend cap,
//! and the windows of other products. Codex reads whole numbers here, so percentages are rounded down and a window is
//! used up only where it has nothing left. A window that is not open has no end: it is shown as if it opened now.

use serde::Serialize;

use super::client::{CODEX_PLAN_TYPE, Reached};
use super::headers::Scene;
use super::headers::codex::{Limited, spend_caps, spendable, used_permille, windows};
use crate::access::standing::{GuardStanding, Standing};
use crate::policy::compiled::{Api, FeatureIndex, PlanIndex, Policy};
use crate::units::{Amount, Credits, Span, Timestamp};

/// What Codex shows as its limits.
#[derive(Debug, Serialize)]
pub struct UsageView {
    plan_type: &'static str,
    /// The windows of codex; `null` where it has none with a limit.
    rate_limit: Option<RateLimitView>,
    /// Those of other products.
    additional_rate_limits: Vec<ProductView>,
    credits: CreditsView,
    spend_control: SpendControlView,
    rate_limit_reached_type: Option<ReachedView>,
}

#[derive(Debug, Serialize)]
struct RateLimitView {
    /// Whether windows have something left.
    allowed: bool,
    limit_reached: bool,
    primary_window: Option<WindowView>,
    secondary_window: Option<WindowView>,
}

#[derive(Debug, Serialize)]
struct WindowView {
    used_percent: i32,
    limit_window_seconds: i32,
    reset_after_seconds: i32,
    /// In seconds since 1970.
    reset_at: i32,
}

#[derive(Debug, Serialize)]
struct ProductView {
    limit_name: String,
    metered_feature: String,
    rate_limit: RateLimitView,
}

#[derive(Debug, Serialize)]
struct CreditsView {
    has_credits: bool,
    unlimited: bool,
    balance: String,
}

#[derive(Debug, Serialize)]
struct SpendControlView {
    reached: bool,
    individual_limit: Option<SpendLimitView>,
}

#[derive(Debug, Serialize)]
struct SpendLimitView {
    source: &'static str,
    limit: String,
    used: String,
    remaining: String,
    used_percent: i32,
    remaining_percent: i32,
    reset_after_seconds: i32,
    reset_at: i32,
}

#[derive(Debug, Serialize)]
struct ReachedView {
    r#type: &'static str,
}

/// What a plan gives to whoever has these standings.
pub fn usage_view(
    policy: &Policy,
    plan: PlanIndex,
    standings: &[(FeatureIndex, Standing)],
    sole_user: bool,
    now: Timestamp,
) -> UsageView {
    let scenes = || {
        standings.iter().map(|(feature, standing)| Scene { policy, plan, feature: *feature, standing, now })
    };
    let codex = policy.feature_of(Api::Responses);
    let nothing = Standing::default();
    let own = scenes().find(|scene| Some(scene.feature) == codex).unwrap_or(Scene {
        policy,
        plan,
        feature: codex.unwrap_or(FeatureIndex(0)),
        standing: &nothing,
        now,
    });
    let others = scenes().filter(|scene| Some(scene.feature) != codex).filter_map(|scene| {
        let name = policy[scene.feature].name.to_string();
        Some(ProductView { limit_name: name.clone(), metered_feature: name, rate_limit: rate_limit(&scene)? })
    });
    let credits = spendable(&own);
    // Several caps bind together: the one that has the least left says how far it goes.
    let cap = spend_caps(&own).min_by_key(|cap| cap.left);
    let rate_limit = rate_limit(&own);
    let reached = reached(rate_limit.as_ref(), credits, cap);
    UsageView {
        plan_type: CODEX_PLAN_TYPE,
        rate_limit,
        additional_rate_limits: others.collect(),
        credits: CreditsView {
            has_credits: !credits.is_zero(),
            unlimited: false,
            balance: credits.to_string(),
        },
        spend_control: SpendControlView {
            reached: cap.is_some_and(|cap| cap.left == 0),
            individual_limit: cap.map(|cap| spend_limit(cap, now)),
        },
        rate_limit_reached_type: reached.map(|reached| ReachedView { r#type: reached.as_str(sole_user) }),
    }
}

/// What stands in the way of the next call, in the order in which a block would tell it.
fn reached(
    rate_limit: Option<&RateLimitView>,
    credits: Credits,
    cap: Option<&GuardStanding>,
) -> Option<Reached> {
    let windows = rate_limit.map(|limit| limit.limit_reached);
    match windows {
        Some(false) => None,
        _ if cap.is_some_and(|cap| cap.left == 0) => Some(Reached::Spend),
        _ if !credits.is_zero() => None,
        Some(true) => Some(Reached::Limit),
        None => Some(Reached::Credits),
    }
}

fn rate_limit(scene: &Scene<'_>) -> Option<RateLimitView> {
    let (primary, secondary) = windows(scene);
    primary?;
    let used_up = |limited: Limited<'_>| limited.is_some_and(|(window, _)| window.left.is_zero());
    let limit_reached = used_up(primary) || used_up(secondary);
    Some(RateLimitView {
        allowed: !limit_reached,
        limit_reached,
        primary_window: window(primary, scene.now),
        secondary_window: window(secondary, scene.now),
    })
}

fn window(limited: Limited<'_>, now: Timestamp) -> Option<WindowView> {
    let (window, allow) = limited?;
    let length = Span::from_ms(window.length_ms);
    let at = window.resets_at.unwrap_or_else(|| now.plus(length));
    Some(WindowView {
        used_percent: percent(used_permille(window.left, allow)),
        limit_window_seconds: whole(length.seconds_ceil()),
        reset_after_seconds: whole(at.since(now).seconds_ceil()),
        reset_at: seconds(at),
    })
}

fn spend_limit(cap: &GuardStanding, now: Timestamp) -> SpendLimitView {
    let amount = |micros: u64| Credits::from_micros(micros).unwrap_or(Credits::MAX).to_string();
    let used = percent(used_permille(Amount::clamped(cap.left), Amount::clamped(cap.limit)));
    let at = cap.full_at.unwrap_or(now);
    SpendLimitView {
        source: "workspace",
        limit: amount(cap.limit),
        used: amount(cap.limit.saturating_sub(cap.left)),
        remaining: amount(cap.left),
        used_percent: used,
        remaining_percent: 100_i32.saturating_sub(used),
        reset_after_seconds: whole(at.since(now).seconds_ceil()),
        reset_at: seconds(at),
    }
}

fn percent(permille: u64) -> i32 {
    whole(permille / 10)
}

/// Codex reads 32 bits; what is longer is for ever.
fn whole(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn seconds(at: Timestamp) -> i32 {
    i32::try_from(at.seconds_ceil()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
