//! What a call is charged: by how it ended and what was seen of it. Pure.
//!
//! | what happened | charged |
//! |---|---|
//! | it never left | nothing, and it is no use |
//! | the upstream refused it, or failed before it accepted | nothing |
//! | the upstream told its usage | that, in the tier that it named |
//! | it ended without a word of usage | the input as estimated, and the output that passed |
//! | it was cut or stopped, or the client left | the same, as the floor of what was used |

use std::sync::Arc;

use super::{Observed, Terminal};
use crate::access::record::{Ending, Grade, Outcome, Resource};
use crate::access::{Demand, Terms};
use crate::policy::compiled::Name;
use crate::policy::prices::TierFit;
use crate::units::Quantities;
use crate::units::planted::{Bug, planted};

/// How the gateway saw a call end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was never sent.
    NotSent,
    /// The upstream answered with an error or with nothing, or did not answer.
    Refused,
    /// The answer ended.
    Ended,
    /// The answer was cut.
    Cut,
    /// The client went away.
    ClientGone,
    /// The gateway ended the answer: nothing was left to pay for more.
    Exhausted,
    /// Nobody told: a panic, or the process is ending.
    Dropped,
}

/// What is known of a call at its end.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What it was decided and is priced by.
    pub terms: &'a Terms,
    /// What was held.
    pub estimate: &'a Quantities,
    /// What the answer told, if there was one.
    pub observed: Option<&'a Observed>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Which upstream answered.
    pub upstream: Option<&'a Name>,
}

impl Facts<'_> {
    /// What was used, and how it ended.
    pub fn end(&self, cause: Cause) -> (Demand, Ending) {
        let accepted = self.observed.is_some_and(|observed| observed.accepted);
        match cause {
            Cause::NotSent => (Demand::nothing(), Ending::not_sent()),
            Cause::Refused => self.refused(),
            Cause::Ended | Cause::Cut if !accepted => self.refused(),
            // Whether the upstream had accepted, nobody knows: it had the request, and works on it.
            Cause::Ended | Cause::Cut | Cause::ClientGone | Cause::Exhausted | Cause::Dropped => {
                self.used(cause)
            }
        }
    }

    fn refused(&self) -> (Demand, Ending) {
        (Demand::nothing(), self.ending(Outcome::Refused, Grade::Exact))
    }

    fn used(&self, cause: Cause) -> (Demand, Ending) {
        let terminal = self.observed.and_then(|observed| observed.terminal);
        let told = self.observed.and_then(|observed| observed.quantities.clone());
        let grade = match (&told, terminal) {
            (Some(_), _) => Grade::Exact,
            (None, Some(_)) => Grade::Estimated,
            (None, None) => Grade::Floor,
        };
        let quantities = told.unwrap_or_else(|| self.seen());
        let ending = self.ending(outcome(terminal, cause), grade);
        let tier = if planted(Bug::TierIgnored) { &self.terms.tier } else { &ending.tier };
        match self.terms.priced(quantities, tier.as_deref()) {
            Ok((demand, TierFit::Unlisted)) if grade == Grade::Exact => {
                (demand, Ending { grade: Grade::Estimated, ..ending })
            }
            Ok((demand, _)) => (demand, ending),
            Err(_) => self.as_held(ending),
        }
    }

    /// The input as estimated, and the output that passed.
    fn seen(&self) -> Quantities {
        Quantities {
            input_tokens: self.estimate.input_tokens,
            output_tokens: self.observed.map_or(0, |observed| observed.output_seen.tokens()),
            ..Quantities::default()
        }
    }

    /// What the upstream told cannot be stated in credits. What was held could be, in the tier that was asked for: the
    /// end says that tier, so that its price can be computed again from what it says.
    fn as_held(&self, ending: Ending) -> (Demand, Ending) {
        tracing::error!(model = &*self.terms.model, "usage without a price is booked as it was estimated");
        let grade = if ending.grade == Grade::Exact { Grade::Estimated } else { ending.grade };
        match self.terms.estimate(self.estimate.clone()) {
            Ok(demand) => (demand, Ending { grade, tier: self.terms.tier.clone(), ..ending }),
            // Whatever was held was priced before it was.
            Err(_) => self.refused(),
        }
    }

    fn ending(&self, outcome: Outcome, grade: Grade) -> Ending {
        let text = |text: &String| Arc::from(text.as_str());
        let tier = self.observed.and_then(|observed| observed.tier.as_ref().map(text));
        let resource = self.observed.and_then(|observed| observed.resource_id.as_ref());
        Ending {
            outcome,
            grade,
            reached_upstream: true,
            status: self.status,
            tier: tier.or_else(|| self.terms.tier.clone()),
            resource: resource.map(|id| Resource { id: text(id), upstream: self.upstream.cloned() }),
        }
    }
}

/// The upstream's word on how it ended stands over what became of the connection.
const fn outcome(terminal: Option<Terminal>, cause: Cause) -> Outcome {
    match (terminal, cause) {
        (Some(Terminal::Completed), _) => Outcome::Completed,
        (Some(Terminal::Incomplete), _) => Outcome::Incomplete,
        (Some(Terminal::Failed), _) => Outcome::Failed,
        (Some(Terminal::Cancelled), _) | (None, Cause::Dropped) => Outcome::Cancelled,
        (None, Cause::ClientGone) => Outcome::ClientGone,
        (None, Cause::Exhausted) => Outcome::Stopped,
        // An answer that ends without saying so is cut, however orderly its connection was closed.
        (None, Cause::Ended | Cause::Cut) => Outcome::Cut,
        (None, Cause::Refused) => Outcome::Refused,
        (None, Cause::NotSent) => Outcome::NotSent,
    }
}

#[cfg(test)]
mod tests;
