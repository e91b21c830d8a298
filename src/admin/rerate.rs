//! Pricing booked calls anew, after a wrong price: what a corrected policy makes of them, and, once that is wanted, the
//! next revision of each.
//!
//! One call is one page of one account, newest calls first. A call that the corrected policy has priced already is
//! passed over, so that doing it again does it once, and one that was stopped goes on.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Operator;
use super::asked::Body;
use super::corrections::reason;
use super::error::{ErrorBody, Refused};
use super::keys::instant_of;
use crate::access::record::CorrectionRecord;
use crate::access::{Prior, Repriced, Revision};
use crate::ledger::rows::{DecisionRow, Page};
use crate::meter::Revised;
use crate::policy::compiled::Policy;
use crate::settle::truths::repriced;
use crate::units::{DecisionId, Timestamp};

/// Calls that are looked at in one page.
const PAGE: u16 = 500;

/// Which calls are priced anew, and by what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rerate {
    /// The text of the corrected policy. Its prices count; limits and plans stay those that decided.
    policy: String,
    /// Calls that ended from this instant on, RFC 3339…
    since: String,
    /// … and before this one.
    until: String,
    /// Only this model; with a star behind it, all that begin so.
    model: Option<String>,
    /// The last decision of the page before.
    before: Option<String>,
    /// Makes the revisions; without it nothing is changed.
    #[serde(default)]
    apply: bool,
    /// Why; kept in the books. Wanted to apply.
    reason: Option<String>,
}

/// A page of calls that the corrected policy prices otherwise.
#[derive(Serialize, ToSchema)]
pub(super) struct RerateView {
    /// The version of the corrected policy.
    policy: String,
    /// How many calls were looked at.
    looked_at: usize,
    /// Those in the range that it had priced already.
    already: usize,
    /// Those that it prices otherwise.
    items: Vec<RerateItem>,
    /// Where the next page begins; none behind the last.
    before: Option<String>,
}

/// One call priced anew.
#[derive(Serialize, ToSchema)]
struct RerateItem {
    decision: String,
    model: String,
    ended_at: String,
    gross_before: String,
    gross: String,
    charged_before: String,
    /// What is charged then; as of now, where nothing is applied.
    charged: String,
    /// Why its money stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    stays: Option<String>,
}

/// A call with its corrected price.
struct Candidate {
    row: DecisionRow,
    prior: Prior,
    revision: Revision,
}

/// Price an account's calls by a corrected policy, page by page. Shows what would change; with `apply` changes it
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/rerate", tag = "corrections", request_body = Rerate,
    responses((status = 200, body = RerateView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn rerate(
    State(operator): State<Arc<Operator>>,
    Path(account): Path<String>,
    Body(asked): Body<Rerate>,
) -> Result<Json<RerateView>, Refused> {
    let account = operator.account(&account).await?.id;
    let policy = crate::policy::load::parse("the corrected policy", &asked.policy);
    let policy = policy.map_err(|problems| Refused::invalid(problems.to_string()))?;
    let reason = match &asked.reason {
        Some(text) => reason(text)?,
        None if asked.apply => return Err(Refused::invalid("reason: say why the price was wrong")),
        None => "".into(),
    };
    let (since, until) = (instant_of(&asked.since)?, instant_of(&asked.until)?);
    let before = asked.before.as_deref().map(str::parse::<DecisionId>).transpose();
    let before = before.map_err(|_| Refused::invalid("before: not the id of a decision"))?;
    let rows = operator.ledger.decisions(account, before, Page(PAGE)).await?;
    let looked_at = rows.len();
    let next = rows.last().filter(|row| looked_at == usize::from(PAGE) && row.ended_at >= since);
    let next = next.map(|row| row.decision.to_string());
    let wanted = |row: &DecisionRow| {
        (since..until).contains(&row.ended_at)
            && asked.model.as_deref().is_none_or(|model| fits(model, &row.model))
    };
    let in_range: Vec<_> = rows.into_iter().filter(wanted).collect();
    let already = in_range.iter().filter(|row| row.priced_by == policy.version).count();
    let candidates = operator.candidates(account, in_range, &policy, &reason).await?;
    let items = if asked.apply {
        // Before the first revision names it.
        operator.ledger.keep_policy(policy.version, &asked.policy).await?;
        operator.apply(candidates).await?
    } else {
        operator.rehearse(candidates).await?
    };
    let version = policy.version.to_string();
    Ok(Json(RerateView { policy: version, looked_at, already, items, before: next }))
}

impl Operator {
    /// The calls whose price the policy makes another.
    async fn candidates(
        &self,
        account: crate::units::AccountId,
        rows: Vec<DecisionRow>,
        policy: &Policy,
        reason: &Arc<str>,
    ) -> Result<Vec<Candidate>, Refused> {
        let (granted, truths) = (self.ledger.grants(account).await?, self.truths());
        let mut candidates = Vec::new();
        for row in rows {
            let Some(used) = repriced(&row, policy).filter(|used| used.price != row.price) else { continue };
            if row.priced_by == policy.version {
                continue;
            }
            let Some(prior) = truths.prior(&row, &granted).await? else { continue };
            let (policy, reason) = (policy.version, Arc::clone(reason));
            let revision = Revision::Price(Repriced { used, policy, reason });
            candidates.push(Candidate { row, prior, revision });
        }
        Ok(candidates)
    }

    async fn rehearse(&self, candidates: Vec<Candidate>) -> Result<Vec<RerateItem>, Refused> {
        let Some(account) = candidates.first().map(|candidate| candidate.row.account) else {
            return Ok(Vec::new());
        };
        let (rows, revisions): (Vec<_>, Vec<_>) =
            candidates.into_iter().map(|it| (it.row, (it.prior, it.revision))).unzip();
        let rehearsed = self.meter.rehearse(account, revisions).await?;
        let items = rows.iter().zip(rehearsed).map(|(row, told)| match told {
            Ok(told) => item(row, Some(&told), None),
            Err(why) => item(row, None, Some(why.to_string())),
        });
        Ok(items.collect())
    }

    async fn apply(&self, candidates: Vec<Candidate>) -> Result<Vec<RerateItem>, Refused> {
        let (mut items, mut tickets) = (Vec::new(), Vec::new());
        for Candidate { row, prior, revision } in candidates {
            items.push(match self.meter.revise(row.account, prior, revision).await? {
                Revised::Now(told, ticket) => {
                    tickets.push(ticket);
                    metrics::counter!("overfall_corrections_total", "by" => "rerate").increment(1);
                    item(&row, Some(&told), None)
                }
                Revised::Behind => {
                    let why = "the books do not have its newest revision yet: do it again".to_owned();
                    item(&row, None, Some(why))
                }
                Revised::Not(why) => item(&row, None, Some(why.to_string())),
            });
        }
        for ticket in tickets {
            ticket.await?;
        }
        Ok(items)
    }
}

fn item(row: &DecisionRow, told: Option<&CorrectionRecord>, stays: Option<String>) -> RerateItem {
    let charge = told.map_or(&row.charge, |told| &told.charge);
    let ended_at: Timestamp = row.ended_at;
    RerateItem {
        decision: row.decision.to_string(),
        model: row.model.to_string(),
        ended_at: ended_at.to_string(),
        gross_before: row.charge.gross.to_string(),
        gross: charge.gross.to_string(),
        charged_before: row.charge.charged.to_string(),
        charged: charge.charged.to_string(),
        stays,
    }
}

fn fits(pattern: &str, model: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == model, |start| model.starts_with(start))
}
