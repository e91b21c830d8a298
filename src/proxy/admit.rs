//! What has to hold before a request leaves: its route, its caller, its body, its price, and its hold, durable.
//!
//! Each step refuses by returning what it refuses with; nothing is written here. Up to the hold, nothing that a client
//! sends changes any state but its own connection's. From the hold on, the [`Settlement`](super::settlement) ends it.

mod body;
pub(super) mod video;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use pingora::proxy::Session;

use super::background::Background;
use super::client::Dialect;
use super::demand::{self, Asked};
use super::finish::Cause;
use super::gateway::Shared;
use super::headers::Scene;
use super::idempotency::{Step, Taken};
use super::keys::{Key, Malformed};
use super::metrics;
use super::observe::ChatFilter;
use super::passing::Outgoing;
use super::refusal::{Code, Refusal};
use super::request::{Decided, Free, Metered, Request, Stage};
use super::routes::{self, Action, Class};
use super::settlement::{Call, Settlement};
use super::upstreams::Goal;
use crate::access::{Ask, Block, Demand, Held, Reason, Standing, Terms};
use crate::ledger::directory::Caller;
use crate::ledger::rows::{AccountStatus, BlockRow, Owned, Owner};
use crate::meter::Verdict;
use crate::policy::compiled::{Api, FeatureIndex, PlanIndex, Policy};
use crate::settle::jobs::RetrieveError;
use crate::telemetry::chain;
use crate::units::{DecisionId, Quantities, Timestamp};

/// A refusal, and what is known of the decision that it is.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) about: Option<Box<About>>,
}

/// What is known of a decision that is a refusal.
#[derive(Debug)]
pub(super) struct About {
    pub(super) decision: Option<DecisionId>,
    pub(super) policy: Arc<Policy>,
    pub(super) plan: PlanIndex,
    pub(super) feature: FeatureIndex,
    pub(super) standing: Standing,
    pub(super) sole_user: bool,
}

/// A request that is in the table, from a caller who is known.
pub(super) struct Known {
    pub(super) caller: Caller,
    pub(super) action: Action,
    pub(super) class: Class,
    /// The id in its path.
    pub(super) id: String,
    pub(super) target: Vec<u8>,
    /// What stands behind the question mark, as it came.
    pub(super) query: String,
    pub(super) now: Timestamp,
}

/// What a metered request asks for, and by what it is decided.
struct Priced {
    terms: Terms,
    demand: Demand,
    /// The tokens of the input before what has been learnt.
    input_by_size: u64,
    /// The request's own bound on its output, in tokens.
    output_bound: u64,
    decision: DecisionId,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, about: None }
    }
}

impl About {
    pub(super) fn scene(&self, now: Timestamp) -> Scene<'_> {
        Scene { policy: &self.policy, plan: self.plan, feature: self.feature, standing: &self.standing, now }
    }
}

/// Looks at the head of a request alone: what it asks for, and who asks.
pub(super) fn identify(shared: &Shared, session: &Session, request: &mut Request) -> Result<Known, Refusal> {
    let header = session.req_header();
    request.dialect = Dialect::of_request(&header.headers);
    if header.headers.contains_key(CONTENT_LENGTH) && header.headers.contains_key(TRANSFER_ENCODING) {
        // Two hops that read such a request differently read two requests.
        return Err(bad("A request has either Content-Length or Transfer-Encoding.", Code::InvalidValue));
    }
    if header.headers.contains_key(UPGRADE) {
        return Err(Refusal::UpgradeRequired);
    }
    if shared.intake.is_closed() {
        return Err(Refusal::Overloaded);
    }
    let now = shared.clock.now();
    let key = Key::of_request(&header.headers).map_err(|malformed| {
        metrics::unidentified(match malformed {
            Malformed::Missing => "missing",
            Malformed::Foreign | Malformed::Damaged => "malformed",
        });
        Refusal::MalformedKey(malformed)
    })?;
    let caller = shared.directory.identify(&key.hash(), now).map_err(|_| {
        metrics::unidentified("unknown");
        Refusal::InvalidKey
    })?;
    let found = routes::find(header.method.as_str(), header.raw_path()).ok_or(Refusal::NotFound)?;
    request.route = Some(found.route);
    if caller.status == AccountStatus::Suspended && found.route.class != Class::Local {
        return Err(Refusal::AccountSuspended);
    }
    if found.route.class != Class::Local && !shared.upstreams.is_open(Goal::Any) {
        return Err(Refusal::Overloaded);
    }
    Ok(Known {
        caller,
        action: found.route.action,
        class: found.route.class,
        id: found.id.to_owned(),
        target: found.target(),
        query: if found.route.action == Action::ListVideos { found.query.to_owned() } else { String::new() },
        now,
    })
}

/// Lets a request on that costs nothing.
pub(super) async fn pass(shared: &Shared, session: &mut Session, known: Known) -> Result<Stage, Refused> {
    let mut free =
        Free { outgoing: Outgoing { target: known.target, ..Outgoing::default() }, ..Free::default() };
    if known.class == Class::Owned {
        let found = owned(shared, &known.caller, Kind::of(known.action), &known.id, None).await?;
        free.outgoing.goal = found.goal;
        match known.action {
            Action::DeleteResponse => {
                ended(shared, &known.id).await?;
                free.deletes = Some(known.id);
            }
            Action::ReadVideoContent => ended(shared, &known.id).await?,
            Action::ReadResponse | Action::CancelResponse => free.about = Some(known.id),
            _ => {}
        }
    }
    let body = shared.bodies.read(session).await.map_err(|error| body::refusal(&error))?;
    match known.action {
        Action::CountInputTokens => {
            let plain = body::plain(shared, session, &body).await?;
            let asked = body::parse(demand::Api::InputTokens, plain.as_ref().unwrap_or(&body)).await?;
            free.outgoing.goal = context_of(shared, &known.caller, &asked).await?.goal;
            free.outgoing.body = Some(body.into_bytes());
        }
        Action::CancelResponse => free.outgoing.body = Some(body.into_bytes()),
        // What has no body in the API gets none from here.
        _ if !body.bytes().is_empty() => free.outgoing.body = Some(Bytes::new()),
        _ => {}
    }
    open(shared, free.outgoing.goal)?;
    Ok(Stage::Free(free))
}

/// Decides a request that can cost money, and holds what it takes.
pub(super) async fn meter(
    shared: &Shared,
    session: &mut Session,
    known: Known,
    api: Api,
) -> Result<Stage, Refused> {
    let kind = match known.action {
        Action::CompleteChat => demand::Api::Chat,
        Action::CompactResponse => demand::Api::Compact,
        _ => demand::Api::Responses,
    };
    let sent = shared.bodies.read(session).await.map_err(|error| body::refusal(&error))?;
    let plain = body::plain(shared, session, &sent).await?;
    let asked = body::parse(kind, plain.as_ref().unwrap_or(&sent)).await?;
    let decision = DecisionId::new(known.now, rand::random());
    let said = plain.as_ref().unwrap_or(&sent).bytes();
    let taken = match shared.idempotency.step(session, &known.caller, said, None, decision).await? {
        Step::Unkeyed => None,
        Step::Go(taken) => Some(taken),
        Step::Replay(kept) => return Ok(Stage::Replayed(Box::new(kept))),
    };
    let adds_usage = kind == demand::Api::Chat && asked.stream && !asked.include_usage;
    let context = context_of(shared, &known.caller, &asked).await?;
    open(shared, context.goal)?;
    let priced = price(shared, &known, api, &asked, context.tokens, decision).await?;
    let (decided, settlement) = hold(shared, &known, priced, taken).await?;
    let bound = decided.clamped_to.map(|tokens| (tokens / asked.choices.max(1)).max(1));
    let text = plain.as_ref().unwrap_or(&sent).bytes();
    let rewritten = body::rewritten(kind, text, bound, adds_usage)?;
    let (body, rewritten) = match rewritten {
        Some(bytes) => (plain.unwrap_or(sent).rewritten(bytes), true),
        None => (sent, false),
    };
    Ok(Stage::Metered(Box::new(Metered {
        outgoing: Outgoing {
            target: known.target,
            body: Some(body.into_bytes()),
            rewritten,
            goal: context.goal,
            is_sent_once: false,
        },
        settlement,
        decided,
        action: known.action,
        filter: adds_usage.then(ChatFilter::default),
        streams: false,
        background: (asked.background && kind == demand::Api::Responses)
            .then(|| Background::new(Arc::clone(&shared.jobs), shared.clock.clone())),
        stopped_at: None,
    })))
}

/// What a call to `model` is decided by.
fn terms(shared: &Shared, caller: &Caller, api: Api, model: &str) -> Result<Terms, Refused> {
    let policy = shared.policies.current();
    let (Some(feature), Some(plan)) = (policy.feature_of(api), policy.plan(&caller.plan)) else {
        tracing::warn!(account.id = %caller.account, plan = &*caller.plan, "the policy has no such plan or product");
        return Err(Refusal::Block(Block::because(Reason::NotInPlan)).into());
    };
    Ok(Terms { policy, plan, feature, model: Arc::from(model), tier: None, size: None })
}

/// Finds the terms and estimates the demand. No price, no call.
async fn price(
    shared: &Shared,
    known: &Known,
    api: Api,
    asked: &Asked,
    context_tokens: u64,
    decision: DecisionId,
) -> Result<Priced, Refused> {
    let caller = &known.caller;
    let tier = asked.service_tier.as_deref().map(Arc::from);
    let terms = Terms { tier, ..terms(shared, caller, api, &asked.model)? };
    let input_by_size = asked.input_tokens_estimate.saturating_add(context_tokens);
    let usual = shared.learner.output_p95(caller.user, &terms.model).saturating_mul(asked.choices);
    let output_bound =
        asked.max_output_tokens.map_or(u64::MAX, |tokens| tokens.saturating_mul(asked.choices));
    let estimate = Quantities {
        input_tokens: shared.learner.input_factor(&terms.model).apply(input_by_size),
        output_tokens: usual.min(output_bound).max(1),
        ..Quantities::default()
    };
    let reason = match terms.demand_for_tokens(estimate.clone()) {
        Ok(demand) => return Ok(Priced { terms, demand, input_by_size, output_bound, decision }),
        Err(reason) => reason,
    };
    let demand = Demand { quantities: estimate, ..Demand::nothing() };
    let priced = Priced { terms, demand, input_by_size, output_bound, decision };
    Err(blocked(shared, known, priced, Block::because(reason)).await)
}

/// Takes what the request needs, and waits until that is durable.
async fn hold(
    shared: &Shared,
    known: &Known,
    priced: Priced,
    mut taken: Option<Box<Taken>>,
) -> Result<(Decided, Settlement), Refused> {
    let (account, user) = (known.caller.account, known.caller.user);
    let lifetime = priced.terms.feature().deadlines.request;
    let ask = Ask {
        decision: priced.decision,
        user,
        terms: priced.terms.clone(),
        demand: priced.demand.clone(),
        lifetime,
    };
    let (held, ticket) = match shared.meter.hold(account, ask).await {
        Ok(Verdict::Allow(held, ticket)) => (held, ticket),
        Ok(Verdict::Block(block)) => return Err(blocked(shared, known, priced, block).await),
        Err(error) => {
            tracing::error!(error = %chain(&error), "a hold could not be made");
            return Err(Refusal::StoreUnavailable.into());
        }
    };
    let Priced { terms, decision, input_by_size, output_bound, .. } = priced;
    metrics::decided(terms.feature(), metrics::ALLOWED);
    shared.in_flight.watch(account, decision, lifetime, known.now);
    let Held { demand, draws, clamped_to, standing, is_degraded, .. } = held;
    if let Some(taken) = &mut taken {
        taken.held();
    }
    let mut settlement = shared.settlements.take_charge(Call {
        account,
        user,
        decision,
        terms: terms.clone(),
        estimate: demand.quantities,
        input_by_size,
        dispatched: false,
        upstream: None,
        output_bound: clamped_to.unwrap_or(output_bound),
        extension: None,
        status: None,
        observer: None,
        owned: false,
        taken,
    });
    if let Err(error) = ticket.await {
        tracing::error!(decision.id = %decision, error = %chain(&error), "a hold is not durable");
        settlement.end(Cause::NotSent).await;
        return Err(Refusal::StoreUnavailable.into());
    }
    Ok((Decided { decision, terms, draws, clamped_to, standing, is_degraded }, settlement))
}

/// Tells a block, and puts it on the log.
async fn blocked(shared: &Shared, known: &Known, priced: Priced, block: Block) -> Refused {
    let Priced { terms, demand, decision, .. } = priced;
    let caller = &known.caller;
    metrics::decided(terms.feature(), block.reason.as_str());
    shared.blocks.send(BlockRow {
        decision,
        at: known.now,
        account: caller.account,
        user: caller.user,
        feature: terms.feature().name.clone(),
        model: Arc::clone(&terms.model),
        policy: terms.policy.version,
        plan: Some(terms.policy[terms.plan].name.clone()),
        tier: terms.tier.clone(),
        size: terms.size.clone(),
        estimate: demand.quantities,
        block: block.clone(),
        count: 1,
    });
    let standing =
        shared.meter.standing(caller.account, caller.user, &terms.policy, terms.plan, terms.feature).await;
    let Terms { policy, plan, feature, model, .. } = terms;
    let about = standing.ok().map(|standing| {
        let decision = Some(decision);
        Box::new(About { decision, policy, plan, feature, standing, sole_user: caller.sole_user })
    });
    let refusal = match block.reason {
        Reason::UnpricedModel => Refusal::UnpricedModel { model: model.as_ref().to_owned() },
        _ => Refusal::Block(block),
    };
    Refused { refusal, about }
}

/// What a body continues.
#[derive(Clone, Copy, Default)]
struct Context {
    tokens: u64,
    goal: Goal,
}

/// What the body continues, all of which has to be the caller's, and in one place.
async fn context_of(shared: &Shared, caller: &Caller, asked: &Asked) -> Result<Context, Refusal> {
    let mut context = Context::default();
    for named in &asked.responses {
        let found = owned(shared, caller, Kind::Response, &named.id, Some(named.param)).await?;
        if let Owned::Response { context_tokens } = found.owner.what {
            context.tokens = context.tokens.saturating_add(context_tokens);
        }
        match context.goal {
            Goal::Any => context.goal = found.goal,
            goal if goal == found.goal => {}
            Goal::Only(_) => return Err(not_found(Kind::Response, &named.id, Some(named.param))),
        }
    }
    Ok(context)
}

/// A thing that is the caller's account's, and where it is.
pub(super) struct Found {
    pub(super) owner: Owner,
    pub(super) goal: Goal,
}

/// What an id is the id of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Response,
    Video,
    Character,
}

impl Kind {
    /// What an owned route is about.
    fn of(action: Action) -> Self {
        match action {
            Action::ReadVideo | Action::DeleteVideo | Action::ReadVideoContent => Self::Video,
            Action::ReadCharacter => Self::Character,
            _ => Self::Response,
        }
    }

    fn is(self, what: &Owned) -> bool {
        match what {
            Owned::Response { .. } => self == Self::Response,
            Owned::Video(_) => self == Self::Video,
            Owned::Character => self == Self::Character,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Response => "Response",
            Self::Video => "Video",
            Self::Character => "Character",
        }
    }
}

/// The thing `id`, if it is of this kind and the caller's account's. Nobody is told of another's.
pub(super) async fn owned(
    shared: &Shared,
    caller: &Caller,
    kind: Kind,
    id: &str,
    param: Option<&'static str>,
) -> Result<Found, Refusal> {
    let owner = match shared.owners.owned_by(caller.account, id).await {
        Ok(owner) => owner.filter(|owner| kind.is(&owner.what)).ok_or_else(|| not_found(kind, id, param))?,
        Err(error) => {
            tracing::error!(error = %chain(&error), "the ledger does not tell whose a thing is");
            return Err(Refusal::StoreUnavailable);
        }
    };
    let goal = shared.upstreams.goal_of(owner.upstream.as_deref()).ok_or_else(|| {
        let name = owner.upstream.as_deref();
        tracing::warn!(upstream.name = name, "what an account owns is at no upstream of the list");
        not_found(kind, id, param)
    })?;
    Ok(Found { owner, goal })
}

/// Refuses at once what no upstream would get.
pub(super) fn open(shared: &Shared, goal: Goal) -> Result<(), Refusal> {
    if shared.upstreams.is_open(goal) { Ok(()) } else { Err(Refusal::Overloaded) }
}

fn not_found(kind: Kind, id: &str, param: Option<&'static str>) -> Refusal {
    Refusal::NotFoundObject { what: format!("{} with id '{id}'", kind.as_str()).into(), param }
}

/// Learns the end of a job before what it made is given away, or gone. One that still runs is no reason to wait.
pub(super) async fn ended(shared: &Shared, id: &str) -> Result<(), Refusal> {
    if shared.jobs.is_ended(id) {
        return Ok(());
    }
    shared.jobs.retrieve(id).await.map(drop).map_err(|error| {
        tracing::warn!(error = %chain(&error), "the end of a job cannot be told");
        match error {
            RetrieveError::Upstream(_) | RetrieveError::Crowded => Refusal::Overloaded,
            RetrieveError::Meter(_) | RetrieveError::NotDurable(_) => Refusal::StoreUnavailable,
        }
    })
}

/// What a body that was not taken is refused with.
pub(super) fn body_refusal(error: &super::body::BodyError) -> Refusal {
    body::refusal(error)
}

fn bad(message: &'static str, code: Code) -> Refusal {
    Refusal::BadRequest { param: None, message: Cow::Borrowed(message), code }
}
