//! What has to hold before a call of the Videos API leaves: its form, what it names, its price, and its hold.
//!
//! A body within the limit is read whole, as any other. A longer one is a form with a file in it: its beginning is
//! read, in which everything stands that prices it, and the rest passes on its way.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use pingora::proxy::Session;

use super::{Kind, Known, Priced, Refused, bad, blocked, body, hold, not_found, open, owned, terms};
use crate::access::record::MadeVideo;
use crate::access::terms::Unpriced;
use crate::access::{Block, Demand, Reason};
use crate::ledger::directory::Caller;
use crate::ledger::rows::Owned;
use crate::policy::compiled::Api;
use crate::policy::prices::Rates;
use crate::proxy::body::{Body, Encoding};
use crate::proxy::demand::video::{
    AskedVideo, MODEL_DEFAULT, SECONDS_DEFAULT, SECONDS_LONGEST, SIZE_DEFAULT, Source,
};
use crate::proxy::gateway::Shared;
use crate::proxy::idempotency::{Kept, Step};
use crate::proxy::multipart::{Form, FormError};
use crate::proxy::refusal::{Code, Refusal};
use crate::proxy::request::Decided;
use crate::proxy::routes::Action;
use crate::proxy::settlement::Settlement;
use crate::proxy::upstreams::Goal;
use crate::telemetry::chain;
use crate::units::{DecisionId, Quantities};

/// From here on reading a body takes longer than other requests should wait for their thread.
const LONG_BYTES: usize = 1 << 20;

/// The body of a call.
pub(in crate::proxy) enum Sent {
    /// All of it.
    Whole(Body),
    /// The beginning of a form, whose rest is still to come.
    Begun {
        /// What has come.
        bytes: Bytes,
        /// Reads the rest; sealed.
        form: Box<Form>,
        /// The length of all of it.
        length: u64,
    },
}

/// A call that is let through.
pub(in crate::proxy) struct Let {
    pub(in crate::proxy) sent: Sent,
    pub(in crate::proxy) decided: Decided,
    pub(in crate::proxy) settlement: Settlement,
    /// What is made, as far as the call says.
    pub(in crate::proxy) video: MadeVideo,
    /// Where it may be made.
    pub(in crate::proxy) goal: Goal,
}

/// What becomes of a call.
pub(in crate::proxy) enum Admitted {
    /// It is let through.
    Now(Box<Let>),
    /// It was answered before.
    Before(Kept),
}

/// A call as it came.
struct Came {
    sent: Sent,
    /// What its body says, or the beginning of that.
    said: Bytes,
    asked: AskedVideo,
}

/// What a call is priced by.
struct Wanted {
    model: String,
    /// What is paid for.
    seconds: u64,
    size: Option<Arc<str>>,
    /// How long it becomes.
    length: u64,
}

/// Where what a call names is, all in one place.
#[derive(Default)]
struct Place {
    goal: Goal,
}

impl Place {
    fn take(&mut self, goal: Goal, id: &str, kind: Kind, param: &'static str) -> Result<(), Refusal> {
        match self.goal {
            Goal::Any => self.goal = goal,
            known if known == goal => {}
            Goal::Only(_) => return Err(not_found(kind, id, Some(param))),
        }
        Ok(())
    }
}

/// Reads, prices and holds a call that makes a video.
pub(in crate::proxy) async fn meter(
    shared: &Shared,
    session: &mut Session,
    known: &Known,
) -> Result<Admitted, Refused> {
    let Came { sent, said, asked } = read(shared, session).await?;
    let decision = DecisionId::new(known.now, rand::random());
    let length = match &sent {
        Sent::Whole(_) => None,
        Sent::Begun { length, .. } => Some(*length),
    };
    let taken = match shared.idempotency.step(session, &known.caller, &said, length, decision).await? {
        Step::Unkeyed => None,
        Step::Go(taken) => Some(taken),
        Step::Replay(kept) => return Ok(Admitted::Before(kept)),
    };
    drop(said);
    let mut place = Place::default();
    let wanted = wanted(shared, known, asked, &mut place).await?;
    open(shared, place.goal)?;
    let priced = price(shared, known, &wanted, decision).await?;
    let video =
        MadeVideo { model: Arc::clone(&priced.terms.model), seconds: wanted.length, size: wanted.size };
    let (decided, settlement) = hold(shared, known, priced, taken).await?;
    Ok(Admitted::Now(Box::new(Let { sent, decided, settlement, video, goal: place.goal })))
}

/// Reads a call that makes a character. It costs nothing; what it names has to be the caller's all the same.
pub(in crate::proxy) async fn character(
    shared: &Shared,
    session: &mut Session,
    known: &Known,
) -> Result<(Sent, Goal), Refused> {
    let Came { sent, asked, .. } = read(shared, session).await?;
    let mut place = Place::default();
    source(shared, &known.caller, asked.source.as_ref(), &mut place).await?;
    characters(shared, &known.caller, &asked, &mut place).await?;
    open(shared, place.goal)?;
    Ok((sent, place.goal))
}

/// A form that is refused, to the client.
pub(in crate::proxy) fn refused(error: &FormError) -> Refusal {
    let message = match error {
        FormError::Late(name) => format!(
            "The field '{name}' comes too late: in a request that is larger than the body limit, everything that \
             prices it has to stand before the file, within the first 64 KiB."
        ),
        error => format!("We could not parse the multipart form of your request: {error}."),
    };
    Refusal::BadRequest { param: None, message: message.into(), code: Code::InvalidValue }
}

async fn read(shared: &Shared, session: &mut Session) -> Result<Came, Refusal> {
    const KINDS: &str = "Content-Type must be multipart/form-data or application/json.";
    let headers = &session.req_header().headers;
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let kind = match (kinds.next(), kinds.next()) {
        (None, _) => "application/json".to_owned(),
        (Some(kind), None) => kind.to_str().map_err(|_| bad(KINDS, Code::InvalidValue))?.to_owned(),
        (Some(_), Some(_)) => return Err(bad(KINDS, Code::InvalidValue)),
    };
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        let (sent, plain) = whole(shared, session).await?;
        let said = plain.clone();
        let asked = parse(plain, |bytes| AskedVideo::of_json(bytes).map_err(body::refused)).await?;
        return Ok(Came { sent: Sent::Whole(sent), said, asked });
    }
    if !essence.eq_ignore_ascii_case("multipart/form-data") {
        return Err(bad(KINDS, Code::InvalidValue));
    }
    let mut form = Form::new(&kind, AskedVideo::is_watched).map_err(|error| refused(&error))?;
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
    if let Some(length) = length.filter(|length| *length > shared.bodies.bytes_max()) {
        if Encoding::of(headers).map_err(|error| body::refusal(&error))?.is_some() {
            return Err(Refusal::UnsupportedEncoding);
        }
        let bytes = shared.bodies.begin(session).await.map_err(|error| body::refusal(&error))?;
        form.feed(&bytes).and_then(|()| form.seal()).map_err(|error| refused(&error))?;
        let asked = AskedVideo::of_form(form.fields()).map_err(body::refused)?;
        let said = bytes.clone();
        return Ok(Came { sent: Sent::Begun { bytes, form: Box::new(form), length }, said, asked });
    }
    let (sent, plain) = whole(shared, session).await?;
    let said = plain.clone();
    let asked = parse(plain, move |bytes| {
        form.feed(bytes).and_then(|()| form.end()).map_err(|error| refused(&error))?;
        AskedVideo::of_form(form.fields()).map_err(body::refused)
    });
    Ok(Came { sent: Sent::Whole(sent), said, asked: asked.await? })
}

/// The whole body, as it came and as it says.
async fn whole(shared: &Shared, session: &mut Session) -> Result<(Body, Bytes), Refusal> {
    let sent = shared.bodies.read(session).await.map_err(|error| body::refusal(&error))?;
    let plain = body::plain(shared, session, &sent).await?;
    let bytes = plain.map_or_else(|| sent.bytes().clone(), Body::into_bytes);
    Ok((sent, bytes))
}

async fn parse(
    bytes: Bytes,
    read: impl FnOnce(&[u8]) -> Result<AskedVideo, Refusal> + Send + 'static,
) -> Result<AskedVideo, Refusal> {
    if bytes.len() < LONG_BYTES {
        return read(&bytes);
    }
    let asked = tokio::task::spawn_blocking(move || read(&bytes)).await;
    asked.unwrap_or_else(|error| {
        tracing::error!(error = %chain(&error), "a body could not be read");
        Err(Refusal::Internal)
    })
}

/// What is to be made, once everything it names is known to be the caller's.
async fn wanted(
    shared: &Shared,
    known: &Known,
    asked: AskedVideo,
    place: &mut Place,
) -> Result<Wanted, Refusal> {
    characters(shared, &known.caller, &asked, place).await?;
    let named = match known.action {
        Action::RemixVideo | Action::CreateVideo if asked.source.is_some() => return Err(unknown("video")),
        Action::RemixVideo => Some(Source::Stored(known.id.clone())),
        Action::CreateVideo => None,
        _ if asked.source.is_none() => {
            let message = "Missing required parameter: 'video'.".into();
            let code = Code::MissingRequiredParameter;
            return Err(Refusal::BadRequest { param: Some("video".into()), message, code });
        }
        _ => asked.source.clone(),
    };
    let source = source(shared, &known.caller, named.as_ref(), place).await?;
    let extends = known.action == Action::ExtendVideo;
    let seconds = asked.seconds.unwrap_or(SECONDS_DEFAULT);
    let Some(named) = named else {
        let size = asked.size.unwrap_or_else(|| SIZE_DEFAULT.to_owned()).into();
        let model = asked.model.unwrap_or_else(|| MODEL_DEFAULT.to_owned());
        return Ok(Wanted { model, seconds, size: Some(size), length: seconds });
    };
    let Some(source) = source.filter(|_| named != Source::Uploaded) else {
        let model = asked.model.unwrap_or_else(|| MODEL_DEFAULT.to_owned());
        let seconds = if extends { seconds } else { SECONDS_LONGEST };
        return Ok(Wanted { model, seconds, size: None, length: SECONDS_LONGEST });
    };
    same("model", asked.model.as_deref(), Some(&source.model))?;
    same("size", asked.size.as_deref(), source.size.as_deref())?;
    let model = source.model.as_ref().to_owned();
    if extends {
        let length = source.seconds.saturating_add(seconds);
        return Ok(Wanted { model, seconds, size: source.size, length });
    }
    let stated = asked.seconds.map(|seconds| seconds.to_string());
    same("seconds", stated.as_deref(), Some(&source.seconds.to_string()))?;
    Ok(Wanted { model, seconds: source.seconds, size: source.size, length: source.seconds })
}

/// The video that is named, if it is the caller's.
async fn source(
    shared: &Shared,
    caller: &Caller,
    named: Option<&Source>,
    place: &mut Place,
) -> Result<Option<MadeVideo>, Refusal> {
    let Some(Source::Stored(id)) = named else { return Ok(None) };
    let found = owned(shared, caller, Kind::Video, id, Some("video")).await?;
    place.take(found.goal, id, Kind::Video, "video")?;
    match found.owner.what {
        Owned::Video(video) => Ok(Some(video)),
        Owned::Response { .. } | Owned::Character => Ok(None),
    }
}

async fn characters(
    shared: &Shared,
    caller: &Caller,
    asked: &AskedVideo,
    place: &mut Place,
) -> Result<(), Refusal> {
    for id in &asked.characters {
        let found = owned(shared, caller, Kind::Character, id, Some("characters")).await?;
        place.take(found.goal, id, Kind::Character, "characters")?;
    }
    Ok(())
}

/// What is stated of a video that is made out of another has to be that one's.
fn same(param: &'static str, stated: Option<&str>, of_source: Option<&str>) -> Result<(), Refusal> {
    if stated.is_none() || stated == of_source {
        return Ok(());
    }
    let message = format!("Invalid value for '{param}': it is that of the source video. Leave it out.");
    Err(Refusal::BadRequest { param: Some(param.into()), message: message.into(), code: Code::InvalidValue })
}

fn unknown(param: &'static str) -> Refusal {
    let message = format!("Unknown parameter: '{param}'.").into();
    Refusal::BadRequest { param: Some(param.into()), message, code: Code::InvalidValue }
}

/// Prices what is wanted. No price, no call.
async fn price(
    shared: &Shared,
    known: &Known,
    wanted: &Wanted,
    decision: DecisionId,
) -> Result<Priced, Refused> {
    let mut terms = terms(shared, &known.caller, Api::Videos, &wanted.model)?;
    terms.size.clone_from(&wanted.size);
    let quantities = Quantities { seconds: wanted.seconds, ..Quantities::default() };
    let rates = terms.row().map(|row| &row.rates);
    let reason = match rates {
        _ if terms.waterfall().is_none() => Reason::NotInPlan,
        Some(Rates::Seconds(sizes)) => {
            let listed = |size: &Arc<str>| sizes.iter().any(|(listed, _)| listed == size);
            if known.action == Action::CreateVideo && !wanted.size.as_ref().is_some_and(listed) {
                return Err(unpriced_size(sizes.iter().map(|(size, _)| &**size)).into());
            }
            match terms.estimate(quantities.clone()) {
                Ok(demand) => {
                    return Ok(Priced { terms, demand, input_by_size: 0, output_bound: 0, decision });
                }
                Err(Unpriced::Model) => Reason::UnpricedModel,
                Err(Unpriced::Overflow) => Reason::NeverFits,
            }
        }
        // A model that is priced by the token would be free by the second.
        _ => Reason::UnpricedModel,
    };
    let demand = Demand { quantities, ..Demand::nothing() };
    let priced = Priced { terms, demand, input_by_size: 0, output_bound: 0, decision };
    Err(blocked(shared, known, priced, Block::because(reason)).await)
}

/// A size without a price would be made at another one's.
fn unpriced_size<'a>(sizes: impl Iterator<Item = &'a str>) -> Refusal {
    let sizes = sizes.map(|size| format!("'{size}'")).collect::<Vec<_>>().join(", ");
    let message = format!("Invalid value for 'size'. Supported values of this model are: {sizes}.");
    Refusal::BadRequest { param: Some("size".into()), message: message.into(), code: Code::InvalidValue }
}
