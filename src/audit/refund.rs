//! I11 of a refund: nothing of the call but what an operator gave back, and that from the end of what it drew.

use super::regenerate::Usage;
use crate::access::record::{DrawEntry, OriginEntry};

/// The money of one revision, in micro-credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) gross: i64,
    pub(super) covered: i64,
    pub(super) forgiven: i64,
    pub(super) excess: i64,
    pub(super) charged: i64,
    pub(super) refunded: i64,
}

impl Amounts {
    /// What they are once so much has been given back.
    pub(super) fn less(self, back: i64) -> Self {
        Self {
            forgiven: self.forgiven.saturating_add(back),
            charged: self.charged.saturating_sub(back),
            refunded: self.refunded.saturating_add(back),
            ..self
        }
    }
}

/// Whether a call is told as it was before, but for what was drawn.
pub(super) fn is_same_use(before: &Usage<'_>, now: &Usage<'_>) -> bool {
    before.outcome == now.outcome && before.tier == now.tier && before.quantities == now.quantities
}

/// How much less is drawn; `None` where it is not that the last draws from grants, or draws of debt, became less.
pub(super) fn given_back(before: &[DrawEntry], now: &[DrawEntry]) -> Option<i64> {
    let mut left = now.iter().peekable();
    let (mut back, mut grants_ended) = (0i64, false);
    for old in before {
        let named = |draw: &DrawEntry| (draw.layer.clone(), draw.unit, draw.scope, draw.origin.clone());
        let new = left.next_if(|new| named(new) == named(old));
        let amount = new.map_or(0, |new| new.amount.get());
        let less = i64::try_from(old.amount.get().checked_sub(amount)?).ok()?;
        match old.origin {
            OriginEntry::Windows(_) if less > 0 => return None,
            // What an earlier grant gives less is given back only after all of a later one's.
            OriginEntry::Grant { .. } if grants_ended && amount > 0 => return None,
            OriginEntry::Grant { .. } => grants_ended |= less > 0,
            OriginEntry::Windows(_) | OriginEntry::Debt { .. } => {}
        }
        back = back.checked_add(less)?;
    }
    left.next().is_none().then_some(back)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compiled::Scope;
    use crate::units::{Amount, GrantId, Unit};

    fn drawn(amounts: &[(u8, u64)]) -> Vec<DrawEntry> {
        let entry = |(of, amount): &(u8, u64)| DrawEntry {
            layer: "credits".into(),
            amount: Amount::clamped(*amount),
            unit: Unit::Credit,
            covers: Amount::clamped(*amount),
            scope: Scope::Account,
            origin: match of {
                0 => OriginEntry::Debt { balance: "wallet".into() },
                9 => OriginEntry::Windows(Vec::new()),
                of => OriginEntry::Grant { balance: "wallet".into(), grant: GrantId::from_bytes([*of; 16]) },
            },
        };
        amounts.iter().map(entry).collect()
    }

    /// I11: what is given back comes from the end of what grants gave, and from what is owed.
    #[test]
    fn only_the_end_of_what_was_drawn_is_given_back() {
        let before = drawn(&[(9, 7), (1, 10), (2, 20), (0, 5)]);
        for (now, back) in [
            (vec![(9, 7), (1, 10), (2, 20)], Some(5)),
            (vec![(9, 7), (1, 10), (2, 15)], Some(10)),
            (vec![(9, 7), (1, 4)], Some(31)),
            (vec![(9, 7)], Some(35)),
            (vec![(9, 7), (1, 10), (2, 15), (0, 5)], Some(5)),
            (vec![(9, 6), (1, 10), (2, 20), (0, 5)], None),
            (vec![(9, 7), (1, 9), (2, 20), (0, 5)], None),
            (vec![(9, 7), (2, 20)], None),
            (vec![(9, 7), (1, 11)], None),
            (vec![(9, 7), (1, 10), (3, 1)], None),
        ] {
            assert_eq!(given_back(&before, &drawn(&now)), back, "{now:?}");
        }
    }
}
