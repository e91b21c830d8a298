//! What `GET /v1/access` says: the plan, and of every feature every window, guard and balance, what is left of it, and
//! when it refills.

use serde::Serialize;

use super::headers::length_label;
use crate::access::standing::{GuardStanding, Standing, WindowStanding};
use crate::policy::compiled::{
    FeatureIndex, Guard, GuardRule, Layer, PlanIndex, Policy, Scope, Source, Window,
};
use crate::units::{Amount, Credits, Timestamp, Unit};

const UNLIMITED: &str = "unlimited";

/// What a client may use.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AccessView {
    /// `access`
    pub object: &'static str,
    /// The account's plan.
    pub plan: String,
    /// The policy in force.
    pub policy: String,
    /// The instant of all this, RFC 3339.
    pub at: String,
    /// Every feature of the plan.
    pub features: Vec<FeatureView>,
}

/// What is left of one feature.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FeatureView {
    /// Its name.
    pub feature: String,
    /// What its windows give in.
    pub unit: &'static str,
    /// Hard limits, all of which must pass.
    pub guards: Vec<GuardView>,
    /// The waterfall, in the order it is drawn.
    pub layers: Vec<LayerView>,
}

/// What is left under one guard.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct GuardView {
    /// Its name.
    pub name: String,
    /// Whose it is: `user` or `account`.
    pub per: &'static str,
    /// What it limits: `request`, `token`, `concurrent` or `spend`.
    pub limits: &'static str,
    /// The most it lets through at once; credits of a spend cap.
    pub limit: String,
    /// What is left of that.
    pub left: String,
    /// When all of it is back, RFC 3339; `null` where the clock does not bring it back, or all is there.
    pub full_at: Option<String>,
}

/// What one layer can give.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LayerView {
    /// Its name.
    pub name: String,
    /// What it is called in reports.
    pub kind: &'static str,
    /// Whose it is: `user` or `account`.
    pub per: &'static str,
    /// What it gives in.
    pub unit: &'static str,
    /// What it can give now: the least that its windows have left, or what the balance has.
    pub left: String,
    /// The windows of a layer that refills.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<WindowView>,
    /// The balance of a layer that does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<BalanceView>,
}

/// What is left of one window.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct WindowView {
    /// How long it is: `5h`, `7d`, `month`.
    pub every: String,
    /// What it gives each time, or `unlimited`.
    pub allow: String,
    /// What is left of it, or `unlimited`.
    pub left: String,
    /// When it refills, RFC 3339; `null` while it is not open.
    pub resets_at: Option<String>,
}

/// What is left of one balance, in credits.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BalanceView {
    /// Its name.
    pub name: String,
    /// What requests can draw.
    pub available: String,
    /// What it owes.
    pub debt: String,
    /// When the first of it expires, RFC 3339.
    pub expires_at: Option<String>,
}

/// What a plan gives to whoever has these standings.
pub fn access_view(
    policy: &Policy,
    plan: PlanIndex,
    standings: &[(FeatureIndex, Standing)],
    now: Timestamp,
) -> AccessView {
    let features = standings.iter().filter_map(|(index, standing)| {
        let waterfall = policy[plan].waterfall(*index)?;
        let feature = &policy[*index];
        let guards = standing.guards.iter().filter_map(|guard| {
            Some(guard_view(waterfall.guards.get(usize::from(guard.guard))?, guard, now))
        });
        Some(FeatureView {
            feature: feature.name.to_string(),
            unit: feature.unit.as_str(),
            guards: guards.collect(),
            layers: (0..)
                .zip(&waterfall.layers)
                .map(|(place, layer)| layer_view(policy, place, layer, standing))
                .collect(),
        })
    });
    AccessView {
        object: "access",
        plan: policy[plan].name.to_string(),
        policy: policy.version.to_string(),
        at: now.to_string(),
        features: features.collect(),
    }
}

/// An amount as people count it: credits as decimals, all else whole.
pub(super) fn shown(amount: Amount, unit: Unit) -> String {
    match unit {
        Unit::Credit => Credits::from_micros(amount.get()).unwrap_or(Credits::MAX).to_string(),
        _ => amount.get().to_string(),
    }
}

/// The word for whose something is.
pub(super) const fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::User => "user",
        Scope::Account => "account",
    }
}

fn guard_view(guard: &Guard, standing: &GuardStanding, now: Timestamp) -> GuardView {
    let (limits, unit) = match &guard.rule {
        GuardRule::Rate(rate) => (rate.unit.as_str(), rate.unit),
        GuardRule::Concurrent { .. } => ("concurrent", Unit::Request),
        GuardRule::Spend { .. } => ("spend", Unit::Credit),
    };
    let missing = standing.left < standing.limit;
    GuardView {
        name: guard.name.to_string(),
        per: scope_word(guard.per),
        limits,
        limit: shown(Amount::clamped(standing.limit), unit),
        left: shown(Amount::clamped(standing.left), unit),
        full_at: standing.full_at.filter(|at| missing && *at > now).map(|at| at.to_string()),
    }
}

fn layer_view(policy: &Policy, place: u16, layer: &Layer, standing: &Standing) -> LayerView {
    let (name, kind) = (layer.name.to_string(), layer.kind.as_str());
    match &layer.source {
        Source::Window(source) => {
            let own = || standing.windows.iter().filter(|window| window.layer == place);
            let windows = own().filter_map(|window| {
                Some(window_view(source.windows.get(usize::from(window.window))?, source.unit, window))
            });
            let binding = own().min_by_key(|window| window.left);
            LayerView {
                name,
                kind,
                per: scope_word(source.per),
                unit: source.unit.as_str(),
                left: binding.map_or_else(|| "0".to_owned(), |window| left_of(window, source.unit)),
                windows: windows.collect(),
                balance: None,
            }
        }
        Source::Balance(index) => {
            let own = standing.balances.iter().find(|balance| balance.layer == place);
            let balance = BalanceView {
                name: policy[*index].name.to_string(),
                available: own.map_or(Credits::ZERO, |balance| balance.available).to_string(),
                debt: own.map_or(Credits::ZERO, |balance| balance.debt).to_string(),
                expires_at: own.and_then(|balance| balance.expires_at).map(|at| at.to_string()),
            };
            LayerView {
                name,
                kind,
                per: scope_word(policy[*index].per),
                unit: Unit::Credit.as_str(),
                left: balance.available.clone(),
                windows: Vec::new(),
                balance: Some(balance),
            }
        }
    }
}

fn window_view(window: &Window, unit: Unit, standing: &WindowStanding) -> WindowView {
    WindowView {
        every: length_label(&window.period),
        allow: standing.allow.map_or_else(|| UNLIMITED.to_owned(), |allow| shown(allow, unit)),
        left: left_of(standing, unit),
        resets_at: standing.resets_at.map(|at| at.to_string()),
    }
}

fn left_of(standing: &WindowStanding, unit: Unit) -> String {
    standing.allow.map_or_else(|| UNLIMITED.to_owned(), |_| shown(standing.left, unit))
}

#[cfg(test)]
mod tests;
