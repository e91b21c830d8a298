//! The policy as decisions use it: names resolved to indices, limits made non-zero, every counter given its key.
//!
//! A value of these types is a checked policy. Only `check` makes one, so nothing downstream asks again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::prices::PriceBook;
use crate::units::{Amount, Credits, PolicyVersion, Span, Timestamp, Unit};

/// A name from the policy file: `[a-z][a-z0-9-]{0,31}`.
pub type Name = Arc<str>;

/// Stable identity of a counter, whatever plan or limit it is used under: the beginning of the SHA-256 of (feature,
/// layer or guard name, unit, starts, length, time zone). A change of one of these starts a new counter; a change of
/// plan or limit does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CounterKey(pub u64);

/// A checked policy.
#[derive(Debug)]
pub struct Policy {
    /// Identity of the text it was made from.
    pub version: PolicyVersion,
    /// The text itself, as it is kept in the books.
    pub text: Arc<str>,
    /// What a demand costs.
    pub prices: PriceBook,
    /// Balances, addressed by [`BalanceIndex`].
    pub balances: Vec<Balance>,
    /// Features, addressed by [`FeatureIndex`].
    pub features: Vec<Feature>,
    /// Plans, addressed by [`PlanIndex`].
    pub plans: Vec<Plan>,
}

/// Place of a balance in [`Policy::balances`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BalanceIndex(pub u16);
/// Place of a feature in [`Policy::features`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeatureIndex(pub u16);
/// Place of a plan in [`Policy::plans`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanIndex(pub u16);

/// Whose counter or balance it is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One for each user.
    User,
    /// One for the account, shared by its users.
    Account,
}

/// Something granted that does not refill.
#[derive(Debug)]
pub struct Balance {
    /// Its name.
    pub name: Name,
    /// Stable identity, derived from the name.
    pub key: CounterKey,
    /// Whose it is.
    pub per: Scope,
    /// What each owner gets once, by the first allowed draw.
    pub issue: Option<Issue>,
}

/// A grant that policy itself makes, once for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    /// How much.
    pub amount: Credits,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Not from here on.
    pub until: Option<Timestamp>,
    /// How long after its issue it expires.
    pub expires_after: Option<Span>,
}

/// A metered product.
#[derive(Debug)]
pub struct Feature {
    /// Its name.
    pub name: Name,
    /// The routes that belong to it.
    pub apis: Vec<Api>,
    /// What its window layers give in.
    pub unit: Unit,
    /// What happens to use that can be drawn nowhere.
    pub overage: Overage,
    /// Counts what an account was forgiven in a UTC month, in micro-credits.
    pub forgiven_key: CounterKey,
    /// Whether and how far a request may be cut down to what is affordable.
    pub clamp: Option<Clamp>,
    /// What happens to a stream when nothing is left.
    pub when_exhausted: WhenExhausted,
    /// How long holds live.
    pub deadlines: Deadlines,
}

/// A family of upstream routes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `/v1/responses`
    Responses,
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/videos`
    Videos,
}

/// Bounds on use that can be drawn nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overage {
    /// Forgiven per account, feature and UTC month.
    pub forgive: Credits,
    /// How far the waterfall's last balance may go below zero.
    pub debt: Credits,
}

/// Lowering `max_output_tokens` to what is affordable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clamp {
    /// Below this it is a block instead.
    pub minimum_output_tokens: u64,
}

/// What a stream does when nothing is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenExhausted {
    /// It runs to its end, and overage applies.
    #[default]
    Finish,
    /// It ends in protocol.
    Stop,
}

/// How long a hold lives unless it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Of a request; renewed while it runs.
    pub request: Span,
    /// Of a background response.
    pub background: Span,
    /// Of a video job.
    pub job: Span,
}

/// What an account may do, by feature.
#[derive(Debug)]
pub struct Plan {
    /// Its name.
    pub name: Name,
    /// The waterfall of each feature, by [`FeatureIndex`]; `None` where the plan does not include it.
    pub waterfalls: Vec<Option<Waterfall>>,
}

/// Guards, then layers, of one feature of one plan.
#[derive(Debug)]
pub struct Waterfall {
    /// Hard limits, all of which must pass.
    pub guards: Vec<Guard>,
    /// Sources, in the order they are drawn: window layers by request, window layers by the feature's unit, balances.
    pub layers: Vec<Layer>,
}

/// A hard limit that no money passes.
#[derive(Debug)]
pub struct Guard {
    /// Its name.
    pub name: Name,
    /// Whose it is.
    pub per: Scope,
    /// Its counter.
    pub key: CounterKey,
    /// What it limits.
    pub rule: GuardRule,
}

/// What a guard limits.
#[derive(Clone, Debug, PartialEq)]
pub enum GuardRule {
    /// A token bucket: `burst` at once, `amount` in every `every`.
    Rate(Rate),
    /// Requests or jobs at the same time.
    Concurrent {
        /// How many.
        limit: u64,
    },
    /// Credits drawn from balances within a window.
    Spend {
        /// How much, and over what time.
        window: Window,
    },
}

/// A token bucket that refills by `amount` in every `every` and holds `burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// [`Unit::Request`] or [`Unit::Token`].
    pub unit: Unit,
    /// How much comes back…
    pub amount: u64,
    /// … in this time.
    pub every: Span,
    /// How much fits. Checked: `burst × every` in milliseconds fits in 63 bits.
    pub burst: u64,
}

/// One step of the waterfall.
#[derive(Debug)]
pub struct Layer {
    /// Its name.
    pub name: Name,
    /// A label for reasons, headers and reports; never a branch.
    pub kind: LayerKind,
    /// What it gives.
    pub source: Source,
}

/// What a layer is called in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Use that comes with the plan.
    RateLimit,
    /// Use that is free.
    FreeTier,
    /// Use that is given away for a while.
    Promotion,
    /// Use that a contract includes.
    Entitlement,
    /// Use that was paid beforehand.
    Prepaid,
}

impl LayerKind {
    /// Its name in files and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::FreeTier => "free_tier",
            Self::Promotion => "promotion",
            Self::Entitlement => "entitlement",
            Self::Prepaid => "prepaid",
        }
    }
}

/// The two shapes of a layer.
#[derive(Debug)]
pub enum Source {
    /// Refills by the clock.
    Window(WindowLayer),
    /// Granted; does not refill.
    Balance(BalanceIndex),
}

/// Windows that all must have room; a draw takes from each.
#[derive(Debug)]
pub struct WindowLayer {
    /// Whose windows they are.
    pub per: Scope,
    /// The feature's unit, or [`Unit::Request`]: then the layer covers a request whole or not at all.
    pub unit: Unit,
    /// At least one.
    pub windows: Vec<Window>,
}

/// A limit over a time that begins again.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Its counter.
    pub key: CounterKey,
    /// How much it gives each time. `None` is `unlimited`.
    pub allow: Option<Amount>,
    /// When it begins and ends.
    pub period: Period,
}

/// When a window begins and ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Period {
    /// Opens with the first hold after the last one ended, and lasts this long.
    FirstUse(Span),
    /// Days, ISO weeks or months of a time zone.
    Calendar(CalendarUnit, jiff::tz::TimeZone),
}

/// A stretch of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CalendarUnit {
    /// From midnight to midnight.
    Day,
    /// From Monday's midnight to Monday's midnight.
    Week,
    /// From the first's midnight to the first's midnight.
    Month,
}

impl Policy {
    /// The plan of this name.
    pub fn plan(&self, name: &str) -> Option<PlanIndex> {
        let place = self.plans.iter().position(|plan| &*plan.name == name)?;
        u16::try_from(place).ok().map(PlanIndex)
    }

    /// The feature of this name.
    pub fn feature(&self, name: &str) -> Option<FeatureIndex> {
        let place = self.features.iter().position(|feature| &*feature.name == name)?;
        u16::try_from(place).ok().map(FeatureIndex)
    }

    /// The features, by their places.
    pub fn feature_indices(&self) -> impl Iterator<Item = FeatureIndex> {
        (0..u16::try_from(self.features.len()).unwrap_or(u16::MAX)).map(FeatureIndex)
    }

    /// The feature that these routes belong to.
    pub fn feature_of(&self, api: Api) -> Option<FeatureIndex> {
        let place = self.features.iter().position(|feature| feature.apis.contains(&api))?;
        u16::try_from(place).ok().map(FeatureIndex)
    }

    /// The most that may be owed on a balance: debt stands on the last balance layer of a waterfall, up to what the
    /// feature's overage lends.
    pub fn lent_on(&self, balance: &str) -> Credits {
        let mut most = Credits::ZERO;
        for plan in &self.plans {
            for (feature, waterfall) in self.features.iter().zip(&plan.waterfalls) {
                let layers = waterfall.iter().flat_map(|waterfall| waterfall.layers.iter().rev());
                let mut balances = layers.filter_map(|layer| match layer.source {
                    Source::Balance(index) => Some(&self[index]),
                    Source::Window(_) => None,
                });
                if balances.next().is_some_and(|last| &*last.name == balance) {
                    most = most.max(feature.overage.debt);
                }
            }
        }
        most
    }

    /// The balance of this name.
    pub fn balance(&self, name: &str) -> Option<BalanceIndex> {
        let place = self.balances.iter().position(|balance| &*balance.name == name)?;
        u16::try_from(place).ok().map(BalanceIndex)
    }
}

macro_rules! indexed {
    ($index:ident, $field:ident, $item:ident) => {
        impl std::ops::Index<$index> for Policy {
            type Output = $item;
            fn index(&self, index: $index) -> &$item {
                &self.$field[usize::from(index.0)]
            }
        }
    };
}
indexed!(BalanceIndex, balances, Balance);
indexed!(FeatureIndex, features, Feature);
indexed!(PlanIndex, plans, Plan);

impl Plan {
    /// The waterfall of a feature, if the plan includes it.
    pub fn waterfall(&self, feature: FeatureIndex) -> Option<&Waterfall> {
        self.waterfalls.get(usize::from(feature.0))?.as_ref()
    }
}

impl Period {
    /// The stretch of the calendar that holds `now`; of a first-use period, the one that would open at `now`.
    pub fn instance_at(&self, now: Timestamp) -> Instance {
        match self {
            Self::FirstUse(length) => Instance { start: now, end: now.plus(*length) },
            Self::Calendar(unit, zone) => super::calendar::instance_at(*unit, zone, now),
        }
    }
}

/// One run of a window: from `start` (inclusive) to `end` (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}
