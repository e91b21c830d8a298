//! What was made upstream, and whose it is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Resource;
use crate::units::{AccountId, Timestamp, UserId};

/// Something that was made upstream. It changes no count and no money, and has no place in the account's sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeRecord {
    /// What it is upstream.
    pub resource: Resource,
    /// Whose it is.
    pub account: AccountId,
    /// Who made it.
    pub user: UserId,
    /// When.
    pub made_at: Timestamp,
    /// The video, where it is one; a character otherwise.
    pub video: Option<MadeVideo>,
}

/// What a video that was made is like: it prices what is made out of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeVideo {
    /// The model as the request named it.
    pub model: Arc<str>,
    /// How long it is.
    pub seconds: u64,
    /// `WIDTHxHEIGHT`, where that is known.
    pub size: Option<Arc<str>>,
}
