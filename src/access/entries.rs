//! Names for records: draws and counters as readers without the policy understand them.

use super::account::Account;
use super::counter::Slot;
use super::draw::{Draw, Draws, GuardCharge, Origin, Taken};
use super::hold::Hold;
use super::record::{CounterEntry, DrawEntry, OriginEntry};
use super::terms::Terms;
use crate::policy::compiled::{CounterKey, GuardRule, Layer, Policy, Scope, Source};
use crate::units::{Timestamp, Unit};

/// The names of one waterfall.
pub(super) struct Names<'a> {
    policy: &'a Policy,
    layers: &'a [Layer],
}

impl<'a> Names<'a> {
    /// The names of a call's waterfall.
    pub(super) fn of(terms: &'a Terms) -> Self {
        let layers = terms.waterfall().map_or(&[][..], |waterfall| &waterfall.layers);
        Self { policy: &terms.policy, layers }
    }

    /// Draws by names.
    pub(super) fn draws(&self, draws: &[Draw]) -> Vec<DrawEntry> {
        draws.iter().filter_map(|draw| self.draw(draw)).collect()
    }

    fn draw(&self, draw: &Draw) -> Option<DrawEntry> {
        let layer = self.layers.get(usize::from(draw.layer))?;
        let (scope, unit, origin) = match (&layer.source, &draw.origin) {
            (Source::Window(windows), Origin::Windows(starts)) => {
                let keys = windows.windows.iter().map(|window| window.key);
                let instances = keys.zip(starts.iter().copied()).collect();
                (windows.per, windows.unit, OriginEntry::Windows(instances))
            }
            (Source::Balance(index), Origin::Grant(grant)) => {
                let balance = &self.policy[*index];
                let origin = OriginEntry::Grant { balance: balance.name.clone(), grant: *grant };
                (balance.per, Unit::Credit, origin)
            }
            (Source::Balance(index), Origin::Debt) => {
                let balance = &self.policy[*index];
                (balance.per, Unit::Credit, OriginEntry::Debt { balance: balance.name.clone() })
            }
            _ => return None,
        };
        Some(DrawEntry {
            layer: layer.name.clone(),
            amount: draw.amount,
            unit,
            covers: draw.covers,
            scope,
            origin,
        })
    }
}

impl Names<'_> {
    /// What a record's draws were before they had names. What this waterfall does not have is left out, and debts are.
    pub(super) fn draws_of(&self, entries: &[DrawEntry]) -> Draws {
        entries.iter().filter_map(|entry| self.draw_of(entry)).collect()
    }

    fn draw_of(&self, entry: &DrawEntry) -> Option<Draw> {
        let place = self.layers.iter().position(|layer| layer.name == entry.layer)?;
        let origin = match (&entry.origin, &self.layers[place].source) {
            (OriginEntry::Windows(instances), Source::Window(windows)) => {
                let keys = windows.windows.iter().map(|window| window.key);
                if !keys.eq(instances.iter().map(|(key, _)| *key)) {
                    return None;
                }
                Origin::Windows(instances.iter().map(|(_, start)| *start).collect())
            }
            (OriginEntry::Grant { grant, .. }, Source::Balance(_)) => Origin::Grant(*grant),
            _ => return None,
        };
        Some(Draw { layer: u16::try_from(place).ok()?, amount: entry.amount, covers: entry.covers, origin })
    }
}

/// What the counters that a call has touched stand at, those that have closed included. Holds are left out: they are
/// not booked.
pub(super) fn counters(account: &Account, hold: &Hold, drawn: &Draws, now: Timestamp) -> Vec<CounterEntry> {
    let Some(waterfall) = hold.terms.waterfall() else { return Vec::new() };
    let mut entries = Vec::with_capacity(8);
    let mut entry = |scope: Scope, key: CounterKey, always: bool| {
        let slot = account.purse(scope, hold.user).and_then(|purse| purse.counters.slot(key)).copied();
        if let Some(slot) = slot.or(always.then_some(Slot { key, at: now, used: 0, held: 0 })) {
            entries.push(CounterEntry { scope, slot: Slot { held: 0, ..slot } });
        }
    };
    for (place, guard) in waterfall.guards.iter().enumerate() {
        match &guard.rule {
            GuardRule::Rate(_) => entry(guard.per, guard.key, true),
            GuardRule::Spend { window } => {
                let reserved = |charge: &GuardCharge| {
                    usize::from(charge.guard) == place
                        && matches!(charge.taken, Taken::Spend(amount, _) if !amount.is_zero())
                };
                entry(guard.per, window.key, hold.charges.iter().any(reserved));
            }
            GuardRule::Concurrent { .. } => {}
        }
    }
    for (place, layer) in waterfall.layers.iter().enumerate() {
        let touched = hold.draws.iter().chain(drawn).any(|draw| usize::from(draw.layer) == place);
        if let (Source::Window(windows), true) = (&layer.source, touched) {
            for window in &windows.windows {
                entry(windows.per, window.key, true);
            }
        }
    }
    let feature = hold.terms.feature();
    if !feature.overage.forgive.is_zero() {
        entry(Scope::Account, feature.forgiven_key, false);
    }
    entries
}
