//! Pricing booked calls anew, after a wrong price: what a corrected policy makes of them, and, once that is wanted, the
//! next revision of each.
//!
//! One request is one page of one account, newest calls first. A call that the corrected policy has priced already is
//! passed over, so that doing it again does it once, and one that was stopped goes on.
//!
//! A page that only shows is computed behind all pages before it, as if they had been applied: what dearer calls of those
//! take of a balance is not there for the next. So it reads them again, and a long range takes time by the square of its
//! pages; nothing is kept between requests.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

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
use crate::journal::Ticket;
use crate::ledger::rows::{DecisionRow, Page};
use crate::meter::Revised;
use crate::policy::compiled::Policy;
use crate::settle::truths::repriced;
use crate::units::{AccountId, DecisionId, Timestamp};

/// Calls that are looked at in one page.
const PAGE: u16 = 500;
/// Calls of the pages before that a page without `apply` is computed behind: each takes about a kilobyte meanwhile.
const REHEARSED: usize = 50_000;
/// How often a page waits for the books to have what was revised before.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

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

/// What every page of an account's calls is asked.
struct Pricing<'a> {
    operator: &'a Operator,
    account: AccountId,
    ended: Range<Timestamp>,
    model: Option<&'a str>,
    policy: &'a Policy,
    reason: Arc<str>,
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
    let ended = instant_of(&asked.since)?..instant_of(&asked.until)?;
    let before = asked.before.as_deref().map(str::parse::<DecisionId>).transpose();
    let before = before.map_err(|_| Refused::invalid("before: not the id of a decision"))?;
    let (operator, policy, model) = (&*operator, &policy, asked.model.as_deref());
    let pricing = Pricing { operator, account, ended, model, policy, reason };
    let mut rows = operator.ledger.decisions(account, before, Page(PAGE)).await?;
    let looked_at = rows.len();
    let next =
        rows.last().filter(|row| looked_at == usize::from(PAGE) && row.ended_at >= pricing.ended.start);
    let next = next.map(|row| row.decision.to_string());
    rows.retain(|row| pricing.wants(row));
    let mut already = rows.iter().filter(|row| row.priced_by == policy.version).count();
    let candidates = pricing.candidates(rows).await?;
    let items = if asked.apply {
        // Before the first revision names it.
        operator.ledger.keep_policy(policy.version, &asked.policy).await?;
        pricing.apply(candidates, &mut already).await?
    } else {
        pricing.rehearse(before, candidates).await?
    };
    let version = policy.version.to_string();
    Ok(Json(RerateView { policy: version, looked_at, already, items, before: next }))
}

impl Pricing<'_> {
    fn wants(&self, row: &DecisionRow) -> bool {
        self.ended.contains(&row.ended_at) && self.model.is_none_or(|model| fits(model, &row.model))
    }

    /// The calls whose price the policy makes another.
    async fn candidates(&self, rows: Vec<DecisionRow>) -> Result<Vec<Candidate>, Refused> {
        let (policy, ledger) = (self.policy, &self.operator.ledger);
        let (granted, truths) = (ledger.grants(self.account).await?, self.operator.truths());
        let mut candidates = Vec::new();
        for row in rows {
            let Some(used) = repriced(&row, policy).filter(|used| used.price != row.price) else { continue };
            if row.priced_by == policy.version {
                continue;
            }
            let Some(prior) = truths.prior(&row, &granted).await? else { continue };
            let (policy, reason) = (policy.version, Arc::clone(&self.reason));
            let revision = Revision::Price(Repriced { used, policy, reason });
            candidates.push(Candidate { row, prior, revision });
        }
        Ok(candidates)
    }

    /// What would come of a page, once all pages before it were applied: what they would take is not there for it.
    async fn rehearse(
        &self,
        before: Option<DecisionId>,
        candidates: Vec<Candidate>,
    ) -> Result<Vec<RerateItem>, Refused> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let mut revisions = match before {
            Some(last) => self.earlier(last).await?,
            None => Vec::new(),
        };
        let earlier = revisions.len();
        let (rows, page): (Vec<_>, Vec<_>) =
            candidates.into_iter().map(|it| (it.row, (it.prior, it.revision))).unzip();
        revisions.extend(page);
        let rehearsed = self.operator.meter.rehearse(self.account, revisions).await?;
        let items = rows.iter().zip(rehearsed.into_iter().skip(earlier)).map(|(row, told)| match told {
            Ok(told) => item(row, Some(&told), None),
            Err(why) => item(row, None, Some(why.to_string())),
        });
        Ok(items.collect())
    }

    /// The revisions of all pages up to a call.
    async fn earlier(&self, last: DecisionId) -> Result<Vec<(Prior, Revision)>, Refused> {
        let (mut revisions, mut before) = (Vec::new(), None);
        loop {
            let mut rows = self.operator.ledger.decisions(self.account, before, Page(PAGE)).await?;
            let place = rows.iter().position(|row| row.decision == last);
            let is_last = place.is_some() || rows.len() < usize::from(PAGE);
            before = rows.last().map(|row| row.decision);
            rows.truncate(place.map_or(rows.len(), |place| place + 1));
            rows.retain(|row| self.wants(row));
            let candidates = self.candidates(rows).await?;
            revisions.extend(candidates.into_iter().map(|it| (it.prior, it.revision)));
            if revisions.len() > REHEARSED {
                let text = format!(
                    "more than {REHEARSED} calls of the account: look at a shorter time, apply it, go on"
                );
                return Err(Refused::invalid(text));
            }
            if is_last {
                return Ok(revisions);
            }
        }
    }

    async fn apply(
        &self,
        candidates: Vec<Candidate>,
        already: &mut usize,
    ) -> Result<Vec<RerateItem>, Refused> {
        let (mut items, mut tickets, mut looks) = (Vec::new(), Vec::new(), LOOKS);
        for candidate in candidates {
            match self.apply_one(candidate, &mut tickets, &mut looks).await? {
                Some(item) => items.push(item),
                None => *already += 1,
            }
        }
        for ticket in tickets {
            ticket.await?;
        }
        Ok(items)
    }

    /// Nothing is told of a call that has this price already: the books were behind, as they are for moments after a run
    /// that was stopped.
    async fn apply_one(
        &self,
        mut candidate: Candidate,
        tickets: &mut Vec<Ticket>,
        looks: &mut u32,
    ) -> Result<Option<RerateItem>, Refused> {
        loop {
            let Candidate { row, prior, revision } = candidate;
            match self.operator.meter.revise(self.account, prior, revision).await? {
                Revised::Now(told, ticket) => {
                    tickets.push(ticket);
                    metrics::counter!("overfall_corrections_total", "by" => "rerate").increment(1);
                    return Ok(Some(item(&row, Some(&told), None)));
                }
                Revised::Not(why) => return Ok(Some(item(&row, None, Some(why.to_string())))),
                Revised::Behind => {
                    let Some(newer) = self.newer(&row, looks).await? else {
                        let why = "the books do not have its newest revision yet: do it again".to_owned();
                        return Ok(Some(item(&row, None, Some(why))));
                    };
                    let again = self.candidates(vec![newer]).await?;
                    let Some(again) = again.into_iter().next() else { return Ok(None) };
                    candidate = again;
                }
            }
        }
    }

    /// A call once the books have a newer revision of it, which they have in moments.
    async fn newer(&self, row: &DecisionRow, looks: &mut u32) -> Result<Option<DecisionRow>, Refused> {
        loop {
            let found = self.operator.ledger.decision(row.decision).await?;
            if let Some(newer) = found.filter(|found| found.revision > row.revision) {
                return Ok(Some(newer));
            }
            if *looks == 0 {
                return Ok(None);
            }
            *looks -= 1;
            tokio::time::sleep(PAUSE).await;
        }
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
