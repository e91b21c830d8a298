//! The Videos API: jobs that end by themselves after a while, content with ranges, characters.
//!
//! A video is a row; how it stands follows from the clock. Its bytes follow from their place, so that any range of them
//! can be checked, and one of gigabytes costs nothing. Of an upload only the beginning is looked at.

mod download;
mod fields;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use serde_json::{Value, json};

pub(super) use download::Download;
use fields::Fields;

use super::Shared;
use super::behaviour::{Behaviour, Ending, Reaction};
use super::errors::ApiError;
use super::generation::Id;
use super::routes::{Content, Plan};
use crate::units::{Span, Timestamp};

/// How many bytes of an upload are kept.
pub(super) const UPLOAD_KEPT: usize = 1 << 20;

/// A call of the Videos API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VideoRoute<'a> {
    Create,
    Edit,
    Extend,
    Remix(&'a str),
    List,
    Retrieve(&'a str),
    Delete(&'a str),
    Content(&'a str),
    CreateCharacter,
    Character(&'a str),
}

/// The videos and characters that were made: a bounded number, oldest out first.
pub(super) struct Videos {
    count_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_id: HashMap<String, Video>,
    order: VecDeque<String>,
    characters: HashMap<String, Value>,
}

#[derive(Clone)]
struct Video {
    id: String,
    model: String,
    seconds: u64,
    size: String,
    prompt: String,
    made_at: Timestamp,
    ends_at: Timestamp,
    behaviour: Behaviour,
    made_of: Option<String>,
}

/// Whether a request's body may be larger than memory.
pub(super) fn is_upload(head: &Parts) -> bool {
    head.method == Method::POST && head.uri.path().starts_with("/v1/videos")
}

impl VideoRoute<'_> {
    pub(super) fn of<'a>(method: &Method, path: &'a str) -> Option<VideoRoute<'a>> {
        let rest = path.strip_prefix("/v1/videos")?;
        let segments: smallvec::SmallVec<[&str; 4]> = rest.split('/').collect();
        Some(match (method.as_str(), segments.as_slice()) {
            ("POST", [""]) => VideoRoute::Create,
            ("POST", ["", "edits"]) => VideoRoute::Edit,
            ("POST", ["", "extensions"]) => VideoRoute::Extend,
            ("POST", ["", "characters"]) => VideoRoute::CreateCharacter,
            ("POST", ["", id, "remix"]) => VideoRoute::Remix(id),
            ("GET", [""]) => VideoRoute::List,
            ("GET", ["", "characters", id]) => VideoRoute::Character(id),
            ("GET", ["", id]) => VideoRoute::Retrieve(id),
            ("GET", ["", id, "content"]) => VideoRoute::Content(id),
            ("DELETE", ["", id]) => VideoRoute::Delete(id),
            _ => return None,
        })
    }
}

impl Videos {
    /// Keeps at most `count_max` of each.
    pub(super) fn new(count_max: usize) -> Self {
        Self { count_max, inner: Mutex::default() }
    }

    fn keep(&self, video: Video) {
        let mut inner = self.lock();
        while inner.order.len() >= self.count_max {
            let Some(oldest) = inner.order.pop_front() else { return };
            inner.by_id.remove(&oldest);
        }
        inner.order.push_back(video.id.clone());
        inner.by_id.insert(video.id.clone(), video);
    }

    fn find(&self, id: &str) -> Result<Video, ApiError> {
        let found = self.lock().by_id.get(id).cloned();
        found.ok_or_else(|| ApiError::not_found(format!("Video with id '{id}' not found.")))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The answer to a call of the Videos API.
    pub(super) fn plan_video(&self, route: VideoRoute<'_>, head: &Parts, body: &Bytes, number: u64) -> Plan {
        let plain = |error| Plan { behaviour: Behaviour::default(), content: Content::Error(error) };
        let fields = match Fields::of(&head.headers, body) {
            Ok(fields) => fields,
            Err(error) => return plain(error),
        };
        let model = match self.model_of(route, &fields) {
            Ok(model) => model,
            Err(error) => return plain(error),
        };
        let behaviour = match self.behaviour(&model, &head.headers) {
            Ok(behaviour) => behaviour,
            Err(error) => {
                return plain(ApiError::invalid(None, Some("model"), format!("Simulation: {error}.")));
            }
        };
        // What a model's name asks for is for the call that makes the video; later ones ask in their header.
        let makes = !matches!(
            route,
            VideoRoute::Retrieve(_) | VideoRoute::Delete(_) | VideoRoute::Content(_) | VideoRoute::List
        );
        let reaction = if makes { behaviour.reaction } else { self.reaction(head) };
        let content = match reaction {
            Reaction::HangUp => Ok(Content::HangUp),
            Reaction::NoContent => Ok(Content::Empty),
            Reaction::Refuse { status, retry_after_seconds } => {
                Err(ApiError::of_status(status, &model, retry_after_seconds))
            }
            Reaction::Serve => self.serve_video(route, head, fields, model, &behaviour, number),
        };
        Plan { behaviour, content: content.unwrap_or_else(Content::Error) }
    }

    fn reaction(&self, head: &Parts) -> Reaction {
        self.behaviour("", &head.headers).map_or(Reaction::Serve, |behaviour| behaviour.reaction)
    }

    /// The model whose words are meant: of what is made, or of the video that it is about.
    fn model_of(&self, route: VideoRoute<'_>, fields: &Fields) -> Result<String, ApiError> {
        let of_video = |id: &str| self.videos.find(id).map(|video| video.model);
        match route {
            VideoRoute::Remix(id) => of_video(id),
            VideoRoute::Edit | VideoRoute::Extend if fields.source.is_some() => {
                of_video(fields.source.as_deref().unwrap_or_default())
            }
            VideoRoute::Create | VideoRoute::Edit | VideoRoute::Extend => {
                Ok(fields.model.clone().unwrap_or_else(|| "sora-2".to_owned()))
            }
            VideoRoute::Retrieve(id) | VideoRoute::Content(id) | VideoRoute::Delete(id) => {
                Ok(of_video(id).unwrap_or_default())
            }
            VideoRoute::List | VideoRoute::CreateCharacter | VideoRoute::Character(_) => Ok(String::new()),
        }
    }

    fn serve_video(
        &self,
        route: VideoRoute<'_>,
        head: &Parts,
        fields: Fields,
        model: String,
        behaviour: &Behaviour,
        number: u64,
    ) -> Result<Content, ApiError> {
        let now = self.options.clock.now();
        let id = Id { series: self.series, number };
        match route {
            VideoRoute::Create | VideoRoute::Edit | VideoRoute::Extend | VideoRoute::Remix(_) => {
                let video = self.make(route, fields, model, behaviour, id)?;
                let shown = if behaviour.video.at_once { video.shown(video.ends_at) } else { video.queued() };
                self.videos.keep(video);
                Ok(content(&shown))
            }
            VideoRoute::CreateCharacter => {
                let character = json!({
                    "id": format!("char_{id}"), "name": fields.name, "created_at": now.ms().div_euclid(1000)
                });
                let mut inner = self.videos.lock();
                if inner.characters.len() < self.videos.count_max {
                    inner.characters.insert(format!("char_{id}"), character.clone());
                }
                Ok(content(&character))
            }
            VideoRoute::Character(id) => {
                let found = self.videos.lock().characters.get(id).cloned();
                let found =
                    found.ok_or_else(|| ApiError::not_found(format!("Character '{id}' not found.")))?;
                Ok(content(&found))
            }
            VideoRoute::List => {
                let inner = self.videos.lock();
                let all = inner.order.iter().rev().filter_map(|id| inner.by_id.get(id));
                let data: Vec<_> = all.map(|video| video.shown(now)).collect();
                Ok(content(&json!({"object": "list", "data": data, "has_more": false})))
            }
            VideoRoute::Retrieve(id) => Ok(content(&self.videos.find(id)?.shown(now))),
            VideoRoute::Delete(id) => {
                self.videos.find(id)?;
                self.videos.lock().by_id.remove(id);
                Ok(content(&json!({"id": id, "object": "video.deleted", "deleted": true})))
            }
            VideoRoute::Content(id) => {
                let video = self.videos.find(id)?;
                if video.shown(now)["status"] != "completed" {
                    return Err(ApiError::not_found("The video is not ready.".to_owned()));
                }
                Ok(Content::Download(Download::of(video.behaviour.video.content_bytes, head)))
            }
        }
    }

    fn make(
        &self,
        route: VideoRoute<'_>,
        fields: Fields,
        model: String,
        behaviour: &Behaviour,
        id: Id,
    ) -> Result<Video, ApiError> {
        let made_of = match route {
            VideoRoute::Remix(id) => Some(id.to_owned()),
            _ => fields.source,
        };
        let source = made_of.as_deref().map(|id| self.videos.find(id)).transpose()?;
        let prompt = fields.prompt.ok_or_else(|| {
            let message = "Missing required parameter: 'prompt'.".to_owned();
            ApiError::invalid(Some("missing_required_parameter"), Some("prompt"), message)
        })?;
        let asked = fields.seconds.unwrap_or(4);
        let seconds = match (&source, route) {
            (Some(source), VideoRoute::Extend) => source.seconds + asked,
            (Some(source), _) => source.seconds,
            (None, _) => asked,
        };
        let size = source.map(|source| source.size).or(fields.size).unwrap_or_else(|| "720x1280".to_owned());
        let made_at = self.options.clock.now();
        Ok(Video {
            id: format!("video_{id}"),
            model,
            seconds,
            size,
            prompt,
            made_at,
            ends_at: made_at.plus(Span::from_ms(behaviour.runs_ms)),
            behaviour: behaviour.clone(),
            made_of,
        })
    }
}

impl Video {
    fn queued(&self) -> Value {
        let mut video = self.shown(self.made_at);
        let members = [
            ("status", json!("queued")),
            ("progress", json!(0)),
            ("completed_at", Value::Null),
            ("error", Value::Null),
        ];
        for (name, value) in members {
            video[name] = value;
        }
        video
    }

    /// The object as it is shown at `now`.
    fn shown(&self, now: Timestamp) -> Value {
        let seconds = |at: Timestamp| at.ms().div_euclid(1000);
        let failure = match (&self.behaviour.ending, self.behaviour.video.moderated) {
            (_, true) => Some(("moderation_blocked", "The request was blocked by moderation.")),
            (Ending::Done, false) => None,
            _ => Some(("video_generation_failed", "The video could not be made.")),
        };
        let ended = now >= self.ends_at;
        let status = match (ended, failure) {
            (false, _) => "in_progress",
            (true, Some(_)) => "failed",
            (true, None) => "completed",
        };
        let completed = status == "completed";
        let error =
            failure.filter(|_| ended).map(|(code, message)| json!({"code": code, "message": message}));
        json!({
            "id": self.id, "object": "video", "model": self.model, "status": status,
            "progress": if completed { 100 } else { 0 },
            "created_at": seconds(self.made_at),
            "completed_at": completed.then(|| seconds(self.ends_at)),
            "expires_at": completed.then(|| seconds(self.ends_at) + 3600),
            "prompt": self.prompt, "size": self.size, "seconds": self.seconds.to_string(),
            "remixed_from_video_id": self.made_of, "error": error,
        })
    }
}

fn content(value: &Value) -> Content {
    Content::Json(Bytes::from(value.to_string()))
}
