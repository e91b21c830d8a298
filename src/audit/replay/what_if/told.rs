//! Counts of one side, and how a what-if is told to people.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::{Orders, PlanTally, Side, WhatIf};
use crate::access::record::{Charge, DrawEntry, OriginEntry};
use crate::policy::compiled::Name;
use crate::units::Unit;

/// What became of the requests of one side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Let through.
    pub allowed: u64,
    /// Blocked.
    pub blocked: u64,
    /// Blocked, by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// What each layer gave in the end.
    pub sources: BTreeMap<Name, Given>,
    /// The price of all that was used.
    pub gross: CreditSum,
    /// What windows covered of it.
    pub covered: CreditSum,
    /// What is not owed.
    pub forgiven: CreditSum,
    /// The credits earned: what balances gave.
    pub charged: CreditSum,
}

/// What a layer gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Given {
    /// To so many calls.
    pub calls: u64,
    /// In this unit.
    pub unit: Unit,
    /// So much; credits, where it is of them.
    pub amount: CreditSum,
    /// How much of that is owed and not there.
    pub owed: CreditSum,
}

/// A sum that no single amount bounds: micro-credits, or whole units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CreditSum {
    total: u128,
    is_whole: bool,
}

impl CreditSum {
    fn add(&mut self, micros: u64) {
        self.total = self.total.saturating_add(u128::from(micros));
    }

    const fn of(unit: Unit) -> Self {
        Self { total: 0, is_whole: !matches!(unit, Unit::Credit) }
    }

    /// The sum: micro-credits where it is of credits.
    pub const fn total(self) -> u128 {
        self.total
    }
}

impl fmt::Display for CreditSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MICROS: u128 = crate::units::credits::MICROS_PER_CREDIT as u128;
        let text = match (self.total / MICROS, self.total % MICROS) {
            _ if self.is_whole => self.total.to_string(),
            (whole, 0) => whole.to_string(),
            (whole, part) => format!("{whole}.{part:06}").trim_end_matches('0').to_owned(),
        };
        f.pad(&text)
    }
}

impl Serialize for CreditSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Tally {
    pub(super) fn decided(&mut self, side: Side, count: u64) {
        match side {
            Ok(()) => self.allowed = self.allowed.saturating_add(count),
            Err(reason) => {
                self.blocked = self.blocked.saturating_add(count);
                *self.reasons.entry(reason.as_str()).or_default() += count;
            }
        }
    }

    /// Counts what one call drew and was charged.
    pub(super) fn settled(&mut self, draws: &[DrawEntry], charge: &Charge) {
        let money = [
            (&mut self.gross, charge.gross),
            (&mut self.covered, charge.covered),
            (&mut self.forgiven, charge.forgiven),
            (&mut self.charged, charge.charged),
        ];
        for (sum, credits) in money {
            sum.add(credits.micros());
        }
        for (nth, draw) in draws.iter().enumerate() {
            let empty = || Given {
                calls: 0,
                unit: draw.unit,
                amount: CreditSum::of(draw.unit),
                owed: CreditSum::of(draw.unit),
            };
            let given = self.sources.entry(draw.layer.clone()).or_insert_with(empty);
            let is_first = draws[..nth].iter().all(|other| other.layer != draw.layer);
            given.calls += u64::from(is_first);
            given.amount.add(draw.amount.get());
            if matches!(draw.origin, OriginEntry::Debt { .. }) {
                given.owed.add(draw.amount.get());
            }
        }
    }
}

impl fmt::Display for WhatIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "what policy {} would have done", self.policy)?;
        if let Some(since) = &self.since {
            writeln!(f, "requests since {since}")?;
        }
        match &self.blocks_known_since {
            Some(at) => writeln!(f, "blocks are known since {at}")?,
            None => writeln!(f, "no block is known")?,
        }
        for tally in &self.tallies {
            writeln!(f)?;
            plan(tally, f)?;
        }
        writeln!(f)?;
        if self.orders.is_any() {
            let Orders { whole, in_part, left_out, prices } = self.orders;
            writeln!(
                f,
                "operators' orders: {whole} carried out, {in_part} in part, {left_out} not; \
                 {prices} other prices give way to this policy's"
            )?;
        }
        writeln!(
            f,
            "{} users change sides: {} would never have been blocked, {} would have been blocked at least once",
            self.users_changed, self.users_freed, self.users_stopped
        )?;
        for user in &self.users {
            let change =
                format!("{} newly allowed, {} newly blocked", user.newly_allowed, user.newly_blocked);
            writeln!(f, "  {} {}: {change}", user.account, user.user)?;
        }
        let untold = self.users_changed.saturating_sub(self.users.len() as u64);
        if untold > 0 {
            writeln!(f, "  and {untold} more")?;
        }
        Ok(())
    }
}

fn plan(tally: &PlanTally, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let PlanTally { plan, feature, then, now, newly_blocked, newly_allowed } = tally;
    let title = format!("{plan} {feature}");
    writeln!(f, "{title:<32} {:>16} {:>16} {:>16}", "recorded", "then", "change")?;
    let mut counted = |label: &str, then: u64, now: u64| {
        let change = i128::from(now) - i128::from(then);
        writeln!(f, "  {label:<30} {then:>16} {now:>16} {change:>+16}")
    };
    counted("allowed", then.allowed, now.allowed)?;
    counted("blocked", then.blocked, now.blocked)?;
    let mut reasons: Vec<_> = then.reasons.keys().chain(now.reasons.keys()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        let of = |side: &super::Tally| side.reasons.get(reason).copied().unwrap_or(0);
        counted(&format!("  {reason}"), of(then), of(now))?;
    }
    for (label, then, now) in [
        ("credits: price", then.gross, now.gross),
        ("  covered by windows", then.covered, now.covered),
        ("  forgiven", then.forgiven, now.forgiven),
        ("  earned", then.charged, now.charged),
    ] {
        writeln!(f, "  {label:<30} {then:>16} {now:>16} {:>16}", change(then, now))?;
    }
    let mut layers: Vec<_> = then.sources.keys().chain(now.sources.keys()).collect();
    layers.sort_unstable();
    layers.dedup();
    for layer in layers {
        let given = [then, now].map(|side| side.sources.get(layer));
        let unit = given.iter().flatten().next().map_or("", |given| given.unit.as_str());
        let [then, now] = given.map(|given| given.map_or_else(CreditSum::default, |given| given.amount));
        let label = format!("from {layer} ({unit})");
        writeln!(f, "  {label:<30} {then:>16} {now:>16} {:>16}", change(then, now))?;
    }
    writeln!(f, "  {newly_allowed} newly allowed, {newly_blocked} newly blocked")
}

/// What is added, with its sign.
fn change(then: CreditSum, now: CreditSum) -> String {
    let sum = |total| CreditSum { total, is_whole: then.is_whole || now.is_whole };
    if now.total < then.total {
        format!("-{}", sum(then.total - now.total))
    } else {
        format!("+{}", sum(now.total - then.total))
    }
}
