//! A user's own videos, page by page.
//!
//! The upstream's list is everybody's: one key serves all accounts. So a page is made of the gateway's own records,
//! and each video on it is asked for by itself, as it stands now. That is exact, and bounded: what is asked for is what
//! is shown, at most [`LIMIT_MAX`] and as many again where the upstream has forgotten some ([`ROUNDS`]).

use std::sync::Arc;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, StatusCode};
use pingora::http::RequestHeader;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{ask, learn, made_here, object, refusal_of};
use crate::ledger::rows::VideosFrom;
use crate::proxy::admit::{self, Kind, Known};
use crate::proxy::exchange::{Asking, Reply, Sending};
use crate::proxy::gateway::Shared;
use crate::proxy::passing::Outgoing;
use crate::proxy::refusal::{Code, Refusal};
use crate::telemetry::chain;
use crate::units::Timestamp;

/// The most videos on a page.
const LIMIT_MAX: u16 = 100;
/// The videos on a page, where the client does not say.
const LIMIT_DEFAULT: u16 = 20;
/// How many videos are asked for at a time.
const AT_ONCE: usize = 8;
/// How often a page is filled up whose videos the upstream has forgotten.
const ROUNDS: u8 = 3;

/// What a client asks to see.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    limit: u16,
    after: Option<String>,
    newest_first: bool,
}

/// A page of the caller's videos.
pub(super) async fn page(shared: &Arc<Shared>, known: &Known) -> Result<Reply, Refusal> {
    let Wish { limit, after, newest_first } = wish(&known.query)?;
    let mut from = VideosFrom { after: None, newest_first };
    if let Some(after) = after {
        let owner = admit::owned(shared, &known.caller, Kind::Video, &after, Some("after")).await?;
        let owner = owner.owner;
        if owner.user != known.caller.user {
            let what = format!("Video with id '{after}'").into();
            return Err(Refusal::NotFoundObject { what, param: Some("after") });
        }
        from.after = Some((owner.made_at, Arc::from(after)));
    }
    let (mut shown, mut has_more) = (Vec::new(), true);
    for _ in 0..ROUNDS {
        let missing = limit.saturating_sub(u16::try_from(shown.len()).unwrap_or(u16::MAX));
        let mut ids = ids(shared, known, from.clone(), missing + 1).await?;
        has_more = ids.len() > usize::from(missing);
        ids.truncate(usize::from(missing));
        let Some((id, at)) = ids.last() else { break };
        from.after = Some((*at, Arc::clone(id)));
        shown.extend(objects(shared, known, &ids).await?);
        if !has_more || shown.len() == usize::from(limit) {
            break;
        }
    }
    let id = |video: Option<&Value>| video.map_or(Value::Null, |video| video["id"].clone());
    let (first_id, last_id) = (id(shown.first()), id(shown.last()));
    let page = json!({
        "object": "list", "data": shown, "first_id": first_id, "last_id": last_id, "has_more": has_more
    });
    made_here(page.to_string().into_bytes())
}

async fn ids(
    shared: &Shared,
    known: &Known,
    from: VideosFrom,
    count: u16,
) -> Result<Vec<(Arc<str>, Timestamp)>, Refusal> {
    shared.owners.videos_of(known.caller.user, from, count).await.map_err(|error| {
        tracing::error!(error = %chain(&error), "the ledger does not tell whose videos there are");
        Refusal::StoreUnavailable
    })
}

/// The videos as they stand, in this order; those that the upstream does not know any more are left out.
async fn objects(
    shared: &Arc<Shared>,
    known: &Known,
    ids: &[(Arc<str>, Timestamp)],
) -> Result<Vec<Value>, Refusal> {
    let mut objects = vec![None; ids.len()];
    let mut asking = JoinSet::new();
    let mut rest = ids.iter().enumerate();
    loop {
        while asking.len() < AT_ONCE
            && let Some((place, (id, _))) = rest.next()
        {
            let found = admit::owned(shared, &known.caller, Kind::Video, id, None).await?;
            let shared = Arc::clone(shared);
            let target = format!("{}/{id}", String::from_utf8_lossy(&known.target)).into_bytes();
            let outgoing = Outgoing { target, goal: found.goal, ..Outgoing::default() };
            asking.spawn(async move { (place, one(&shared, outgoing).await) });
        }
        match asking.join_next().await {
            None => return Ok(objects.into_iter().flatten().collect()),
            Some(Ok((place, object))) => objects[place] = object?,
            Some(Err(error)) => {
                tracing::error!(error = %chain(&error), "a video could not be asked for");
                return Err(Refusal::Internal);
            }
        }
    }
}

async fn one(shared: &Shared, outgoing: Outgoing) -> Result<Option<Value>, Refusal> {
    let header = RequestHeader::build("GET", &outgoing.target, Some(8)).and_then(|mut header| {
        header.insert_header(ACCEPT, HeaderValue::from_static("application/json"))?;
        Ok(header)
    });
    let header = header.map_err(|error| {
        tracing::error!(error = %chain(&*error), "a request could not be made");
        Refusal::Internal
    })?;
    let asking = Asking { header, outgoing, sending: Sending::Whole(Bytes::new()) };
    let reply = ask(shared, asking).await.map_err(|error| refusal_of(&error))?;
    let reply = super::accepted_key(reply)?;
    match reply.header.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        status => {
            tracing::warn!(status = status.as_u16(), "the upstream does not show a video");
            return Err(Refusal::Overloaded);
        }
    }
    let object = object(&reply.body).ok_or(Refusal::UpstreamUnreachable)?;
    learn(shared, &object).await;
    Ok(Some(object))
}

/// Reads a query. Each parameter stands there once; unknown ones mean nothing.
fn wish(query: &str) -> Result<Wish, Refusal> {
    let mut wish = Wish { limit: LIMIT_DEFAULT, after: None, newest_first: true };
    let mut seen: Vec<&str> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = match key {
            "limit" => {
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                let limit = value.parse().ok().filter(|limit| digits && *limit <= LIMIT_MAX);
                wish.limit = limit.ok_or_else(|| invalid("limit", "a whole number from 0 to 100"))?;
                "limit"
            }
            "order" => {
                wish.newest_first = match value {
                    "asc" => false,
                    "desc" => true,
                    _ => return Err(invalid("order", "asc or desc")),
                };
                "order"
            }
            "after" => {
                wish.after = Some(value.to_owned());
                "after"
            }
            _ => continue,
        };
        if seen.contains(&known) {
            return Err(invalid(known, "one value"));
        }
        seen.push(known);
    }
    Ok(wish)
}

fn invalid(param: &'static str, expected: &str) -> Refusal {
    let message = format!("Invalid value for '{param}': expected {expected}.").into();
    Refusal::BadRequest { param: Some(param.into()), message, code: Code::InvalidValue }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_how_many_in_which_order_and_from_where() {
        let wish_of = |limit, after: Option<&str>, newest_first| Wish {
            limit,
            after: after.map(str::to_owned),
            newest_first,
        };
        for (query, expected) in [
            ("", wish_of(20, None, true)),
            ("limit=0", wish_of(0, None, true)),
            ("limit=100&order=asc&after=video_1&x=y", wish_of(100, Some("video_1"), false)),
            ("order=desc&", wish_of(20, None, true)),
        ] {
            assert_eq!(wish(query), Ok(expected), "{query}");
        }
        for query in
            ["limit=101", "limit=", "limit=-1", "limit=+1", "order=up", "limit=1&limit=2", "after=a&after=b"]
        {
            assert!(wish(query).is_err(), "{query}");
        }
    }
}
