//! What a job is charged, by how the upstream shows it. Pure.
//!
//! | what it shows | charged |
//! |---|---|
//! | a video that is completed | what is held: its seconds were known at creation; fewer, if it tells fewer |
//! | a video that failed, was moderated or cancelled, or was deleted before its end | nothing |
//! | a response that ended | its usage; without usage its input and what it shows of its output |
//! | a response that was deleted before its end | its input, as estimated |
//! | anything else | it has not ended |

use serde_json::Value;

use crate::access::Demand;
use crate::access::record::{Ending, Grade, JobKind, JobRecord, Outcome};
use crate::meter::InFlight;
use crate::observe::finish::{Cause, Facts};
use crate::observe::{Observed, Observer, Shape};
use crate::units::Quantities;

/// What was used, and how it ended.
pub(super) type Ended = (Demand, Ending);

/// The answer to a call that became a job was a success.
const STATUS: u16 = 200;

/// The end of a video, if it has one.
pub(super) fn of_video(job: &JobRecord, held: &InFlight, object: &Value) -> Option<Ended> {
    let outcome = match object.get("status")?.as_str()? {
        "completed" => Outcome::Completed,
        "failed" | "moderated" | "expired" => Outcome::Failed,
        "cancelled" | "canceled" => Outcome::Cancelled,
        _ => return None,
    };
    let used = if outcome == Outcome::Completed { made(held, object) } else { Demand::nothing() };
    let ending = Ending {
        outcome,
        grade: Grade::Exact,
        reached_upstream: true,
        status: Some(STATUS),
        tier: held.terms.tier.clone(),
        resource: Some(job.resource.clone()),
    };
    Some((used, ending))
}

/// The end of what was deleted before it ended.
pub(super) fn of_deleted(job: &JobRecord, held: &InFlight) -> Ended {
    let used = match job.kind {
        JobKind::Video => Demand::nothing(),
        JobKind::Response => {
            let quantities = Quantities { output_tokens: 0, ..held.demand.quantities.clone() };
            held.terms.estimate(quantities).unwrap_or_else(|_| held.demand.clone())
        }
    };
    let ending = Ending {
        outcome: Outcome::Cancelled,
        grade: Grade::Floor,
        reached_upstream: true,
        status: Some(STATUS),
        tier: held.terms.tier.clone(),
        resource: Some(job.resource.clone()),
    };
    (used, ending)
}

/// What a completed video is charged as.
fn made(held: &InFlight, object: &Value) -> Demand {
    let known = held.demand.quantities.seconds;
    match seconds(object).filter(|seconds| *seconds < known) {
        None => held.demand.clone(),
        Some(seconds) => {
            let quantities = Quantities { seconds, ..held.demand.quantities.clone() };
            // What was priced once is priced again, and less of it.
            held.terms.estimate(quantities).unwrap_or_else(|_| held.demand.clone())
        }
    }
}

/// The API writes seconds as a text; others write a number.
fn seconds(object: &Value) -> Option<u64> {
    let seconds = object.get("seconds")?;
    seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok()).filter(|seconds| *seconds > 0)
}

/// What a response tells.
pub(super) fn observe(object: &Value) -> Observed {
    let mut observer = Observer::new(Shape::ResponsesJson, http::StatusCode::OK);
    // Writing a value into memory cannot fail; nothing would be learnt from nothing.
    observer.feed(&serde_json::to_vec(object).unwrap_or_default());
    observer.end()
}

/// The end of a background response, if it has one.
pub(super) fn of_response(job: &JobRecord, held: &InFlight, observed: &Observed) -> Option<Ended> {
    observed.terminal.filter(|_| observed.is_stated)?;
    let facts = Facts {
        terms: &held.terms,
        estimate: &held.demand.quantities,
        observed: Some(observed),
        status: Some(STATUS),
        upstream: job.resource.upstream.as_ref(),
    };
    Some(facts.end(Cause::Ended))
}
