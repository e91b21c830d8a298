//! What a revision is made from: the books, and the policies that they name.

use std::sync::Arc;

use crate::access::balance::GrantState;
use crate::access::ledgered::BookedGrant;
use crate::access::record::{Ending, GrantOrigin, OriginEntry};
use crate::access::terms::priced;
use crate::access::{Demand, Prior, Terms};
use crate::ledger::rows::{DecisionRow, GrantRow};
use crate::ledger::{Ledger, LedgerError};
use crate::policy::compiled::{CounterKey, Policy};
use crate::policy::live::Policies;
use crate::units::{Credits, PolicyVersion, Timestamp};

/// The books, and the policies that they name.
pub struct Truths {
    /// The books.
    pub ledger: Arc<dyn Ledger>,
    /// Policies at hand.
    pub policies: Arc<Policies>,
}

impl Truths {
    /// What a call ended with, of all that its account was granted; nothing where this version cannot read its policy
    /// any more.
    pub async fn prior(&self, row: &DecisionRow, granted: &[GrantRow]) -> Result<Option<Prior>, LedgerError> {
        let Some(terms) = self.terms(row, row.policy).await? else { return Ok(None) };
        let named = granted.iter().filter(|grant| row.draws.iter().any(|draw| names(&draw.origin, grant)));
        let used = if row.charge.gross.is_zero() && row.draws.is_empty() {
            Demand { quantities: row.used.clone(), ..Demand::nothing() }
        } else {
            Demand::new(row.unit, row.used.clone(), row.price).unwrap_or_else(|_| Demand::nothing())
        };
        Ok(Some(Prior {
            decision: row.decision,
            user: row.user,
            terms,
            held_at: row.held_at,
            revision: row.revision,
            priced_by: row.priced_by,
            ended_at: row.settled_at,
            ending: Ending {
                outcome: row.outcome,
                grade: row.grade,
                reached_upstream: true,
                status: row.status,
                tier: row.tier.clone(),
                resource: None,
            },
            used,
            draws: row.draws.clone(),
            charge: row.charge,
            refunded: row.refunded,
            grants: named.map(booked).collect(),
        }))
    }

    /// A call by one of the policies that decided or priced it; nothing where this version cannot read that any more.
    pub async fn terms(
        &self,
        row: &DecisionRow,
        version: PolicyVersion,
    ) -> Result<Option<Terms>, LedgerError> {
        let terms = self.policy(version).await?.and_then(|policy| {
            Some(Terms {
                plan: policy.plan(&row.plan)?,
                feature: policy.feature(&row.feature)?,
                policy,
                model: row.model.clone(),
                tier: row.tier.clone(),
                size: row.size.clone(),
            })
        });
        if terms.is_none() {
            tracing::error!(decision.id = %row.decision, "the policy of a call cannot be read any more");
        }
        Ok(terms)
    }

    async fn policy(&self, version: PolicyVersion) -> Result<Option<Arc<Policy>>, LedgerError> {
        if let Some(policy) = self.policies.version(version) {
            return Ok(Some(policy));
        }
        let text = self.ledger.policy(version).await?;
        let read = |text: String| crate::policy::load::parse("a policy in the books", &text).ok();
        let policy = text.and_then(read).map(Arc::new);
        if let Some(policy) = &policy {
            self.policies.remember(Arc::clone(policy));
        }
        Ok(policy)
    }
}

/// What a call costs by another policy's prices; nothing where that has none for it, or the call costs nothing whatever
/// its price is.
pub fn repriced(row: &DecisionRow, policy: &Policy) -> Option<Demand> {
    if row.price.parts().0 == 0 {
        return None;
    }
    let prices = policy.prices.row(&row.model)?;
    let priced = priced(prices, row.unit, row.used.clone(), row.size.as_deref(), row.tier.as_deref());
    Some(priced.ok()?.0)
}

fn names(origin: &OriginEntry, row: &GrantRow) -> bool {
    matches!(origin, OriginEntry::Grant { grant, .. } if *grant == row.grant)
}

/// A grant as the live counts know it, without what remains of it.
pub fn booked(row: &GrantRow) -> BookedGrant {
    BookedGrant {
        user: row.user,
        balance: CounterKey::of_balance(&row.balance),
        state: GrantState {
            id: row.grant,
            priority: row.priority,
            expires_at: row.expires_at.unwrap_or(Timestamp::NEVER),
            remaining: row.remaining,
            held: Credits::ZERO,
        },
        issued: matches!(row.origin, GrantOrigin::Issue { .. }),
    }
}
