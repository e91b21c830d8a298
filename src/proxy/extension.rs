//! A hold that grows with its stream.
//!
//! What is held is an estimate, and a stream may go on past it. As soon as more output has passed than is held, more is
//! reserved: half of the first estimate on top of what has passed, so that a stream asks a few times and never for each
//! event. Where that is not to be had, ever smaller steps are tried, and at last just what has passed. If even that is
//! not to be had, nothing is left: policy says whether the stream goes on (`when_exhausted: finish`) or ends (`stop`).
//!
//! This counts by what has been seen, which is the gateway's own measure. It never asks for more than the request's own
//! bound on its output, and a stream that has reached its bound lacks nothing. A body in one piece is there at once, so
//! nothing of it can be reserved as it grows, or be stopped.
//!
//! The meter is asked beside the stream, which never waits for it, and by one question at a time.

use std::sync::Arc;

use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::access::{Extended, Terms};
use crate::meter::{Meter, MeterError};
use crate::telemetry::chain;
use crate::units::{AccountId, DecisionId, Quantities};

/// No smaller step is worth asking for.
const STEP_LEAST_TOKENS: u64 = 16;

/// How far the hold of a stream has grown.
#[derive(Debug)]
pub struct Extension {
    growth: Growth,
    asked: Option<oneshot::Receiver<Answer>>,
}

/// Whose hold it is, and what it holds but for the output.
#[derive(Debug)]
pub struct Question {
    /// Who pays.
    pub account: AccountId,
    /// The decision.
    pub decision: DecisionId,
    /// What it was decided and is priced by.
    pub terms: Terms,
    /// What was held first.
    pub estimate: Quantities,
}

/// How much of a stream's output is held, in tokens. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Growth {
    held: u64,
    step: u64,
    /// The request's own bound on its output.
    bound: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More is asked for when more has passed.
    Growing,
    /// Nothing was left.
    Exhausted,
    /// The meter did not tell, or the call has ended: nothing is asked for any more.
    GivenUp,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// So much is held.
    Held(u64),
    /// Not even what has passed.
    Refused,
    /// Nobody told.
    Unknown,
}

impl Growth {
    fn new(held: u64, bound: u64) -> Self {
        Self { held, step: (held / 2).max(STEP_LEAST_TOKENS), bound, state: State::Growing }
    }

    /// What to have held now that so much has passed: the most first, at last just what has passed. `None`: what is held
    /// suffices, or there is no use in asking.
    fn wanted(&self, seen: u64) -> Option<impl Iterator<Item = u64> + use<>> {
        let (needed, bound) = (seen.min(self.bound), self.bound);
        if needed <= self.held || self.state != State::Growing {
            return None;
        }
        let steps = std::iter::successors(Some(self.step), |step| Some(step / 2));
        let steps = steps.take_while(|step| *step >= STEP_LEAST_TOKENS).chain([0]);
        Some(steps.map(move |step| needed.saturating_add(step).min(bound)))
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Held(held) => {
                // What was refused just now is not asked for again.
                self.step = self.step.min(held.saturating_sub(self.held).max(STEP_LEAST_TOKENS));
                self.held = self.held.max(held);
            }
            Answer::Refused => self.state = State::Exhausted,
            Answer::Unknown => self.state = State::GivenUp,
        }
    }
}

impl Extension {
    /// The hold of a stream for which so much is held, and whose request bounds its output so.
    pub fn new(held: u64, bound: u64) -> Self {
        Self { growth: Growth::new(held, bound), asked: None }
    }

    /// Whether not even what has passed could be held.
    pub fn is_exhausted(&self) -> bool {
        self.growth.state == State::Exhausted
    }

    /// Takes in that so much has passed; asks for more where that is due.
    pub fn saw(&mut self, seen: u64, meter: &Arc<dyn Meter>, question: impl FnOnce() -> Question) {
        if let Some(asked) = &mut self.asked {
            let answer = match asked.try_recv() {
                Ok(answer) => answer,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Closed) => Answer::Unknown,
            };
            self.asked = None;
            self.growth.answered(answer);
        }
        if let Some(wanted) = self.growth.wanted(seen) {
            let (tell, told) = oneshot::channel();
            self.asked = Some(told);
            let asking = question().ask(Arc::clone(meter), wanted);
            tokio::spawn(async move {
                // Whoever asked may be gone by now.
                let _gone = tell.send(asking.await);
            });
        }
    }
}

impl Question {
    /// Asks for one output after the other until one is held.
    async fn ask(self, meter: Arc<dyn Meter>, wanted: impl Iterator<Item = u64> + Send) -> Answer {
        let Self { account, decision, terms, estimate } = self;
        for output_tokens in wanted {
            let quantities = Quantities { output_tokens, ..estimate.clone() };
            // So much that no amount of credits states its price: less may have one.
            let Ok(demand) = terms.estimate(quantities) else { continue };
            match meter.extend(account, decision, demand).await {
                Ok(Extended::Held) => return Answer::Held(output_tokens),
                Ok(Extended::Lacking) => {}
                Err(MeterError::NoSuchHold) => return Answer::Unknown,
                Err(error) => {
                    tracing::warn!(decision.id = %decision, error = %chain(&error), "a hold could not be extended");
                    return Answer::Unknown;
                }
            }
        }
        Answer::Refused
    }
}

#[cfg(test)]
mod tests;
