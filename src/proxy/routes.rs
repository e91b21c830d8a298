//! The closed table of routes: what is not in it is refused (I14).
//!
//! A request is matched on the bytes of its target as they came. Percent signs, `//`, `.` and `..`, `;`, capitals and
//! trailing slashes match nothing, so they never reach another route than the one that was metered. The target that
//! goes upstream is built anew from the row and a checked id, and only known query parameters go with it.

use crate::policy::compiled::Api;

/// The longest id in a path.
const ID_BYTES_MAX: usize = 128;
/// The longest query.
const QUERY_BYTES_MAX: usize = 2048;

/// What a route may cost, and who may use it. A route has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It can cost upstream money: decided, held, settled.
    Metered(Api),
    /// It is about a thing that one account made.
    Owned,
    /// It costs nothing.
    Free,
    /// The gateway itself answers.
    Local,
}

impl Class {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metered(_) => "metered",
            Self::Owned => "owned",
            Self::Free => "free",
            Self::Local => "local",
        }
    }
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes a response.
    CreateResponse,
    /// Compacts a conversation into a response.
    CompactResponse,
    /// Counts the tokens of an input.
    CountInputTokens,
    /// Makes a chat completion.
    CompleteChat,
    /// Reads a response.
    ReadResponse,
    /// Deletes a response.
    DeleteResponse,
    /// Cancels a response.
    CancelResponse,
    /// Lists what a response was made from.
    ListInputItems,
    /// Lists models.
    ListModels,
    /// Describes a model.
    DescribeModel,
    /// Tells what is left.
    Access,
    /// Tells what is left, as Codex's own service would.
    CodexUsage,
    /// Tells what became of a decision.
    Decision,
}

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; where it holds an id, what stands before that.
    pub head: &'static str,
    /// What the id looks like, and the path behind it.
    pub id: Option<(IdKind, &'static str)>,
    /// What it may cost.
    pub class: Class,
    /// What it does.
    pub action: Action,
    /// The query parameters that go upstream; others are dropped.
    pub queries: &'static [&'static str],
}

/// What an id looks like: 1 to 128 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// Letters, digits, `_` and `-`.
    Opaque,
    /// The same with `.` and `:`; begins with a letter or digit.
    Model,
}

/// A request that is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched<'a> {
    /// Its row.
    pub route: &'static Route,
    /// The id in its path; empty where the row has none.
    pub id: &'a str,
    query: &'a str,
}

/// The whole table, the busiest rows first.
pub static TABLE: [Route; 14] = [
    row("POST", "/v1/responses", Class::Metered(Api::Responses), Action::CreateResponse),
    row("POST", "/v1/chat/completions", Class::Metered(Api::Chat), Action::CompleteChat),
    row("POST", "/v1/responses/compact", Class::Metered(Api::Responses), Action::CompactResponse),
    row("POST", "/v1/responses/input_tokens", Class::Free, Action::CountInputTokens),
    Route {
        id: Some((IdKind::Opaque, "")),
        queries: &[
            "include",
            "include[]",
            "include%5B%5D",
            "stream",
            "starting_after",
            "include_obfuscation",
        ],
        ..row("GET", "/v1/responses/", Class::Owned, Action::ReadResponse)
    },
    Route {
        id: Some((IdKind::Opaque, "")),
        ..row("DELETE", "/v1/responses/", Class::Owned, Action::DeleteResponse)
    },
    Route {
        id: Some((IdKind::Opaque, "/cancel")),
        ..row("POST", "/v1/responses/", Class::Owned, Action::CancelResponse)
    },
    Route {
        id: Some((IdKind::Opaque, "/input_items")),
        queries: &["limit", "order", "after", "include", "include[]", "include%5B%5D"],
        ..row("GET", "/v1/responses/", Class::Owned, Action::ListInputItems)
    },
    // Codex asks for its catalogue with its own version.
    Route { queries: &["client_version"], ..row("GET", "/v1/models", Class::Free, Action::ListModels) },
    Route { id: Some((IdKind::Model, "")), ..row("GET", "/v1/models/", Class::Free, Action::DescribeModel) },
    row("GET", "/v1/access", Class::Local, Action::Access),
    Route {
        id: Some((IdKind::Opaque, "")),
        ..row("GET", "/v1/access/decisions/", Class::Local, Action::Decision)
    },
    // Which of the two Codex asks for depends on the base URL that it is given.
    row("GET", "/api/codex/usage", Class::Local, Action::CodexUsage),
    row("GET", "/backend-api/wham/usage", Class::Local, Action::CodexUsage),
];

const fn row(method: &'static str, head: &'static str, class: Class, action: Action) -> Route {
    Route { method, head, id: None, class, action, queries: &[] }
}

/// The row of a request, by its method and its target as it came. `None`: no such route.
pub fn find<'a>(method: &str, target: &'a [u8]) -> Option<Matched<'a>> {
    let target = std::str::from_utf8(target).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if query.len() > QUERY_BYTES_MAX || !query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return None;
    }
    TABLE.iter().find_map(|route| {
        let id = route.id_in(method, path)?;
        Some(Matched { route, id, query })
    })
}

impl Route {
    /// Whether the request may change anything upstream: then it is sent once at most.
    pub fn is_repeatable(&self) -> bool {
        self.method == "GET"
    }

    /// The id in `path`, or nothing where the row has none. `None`: another row.
    fn id_in<'a>(&self, method: &str, path: &'a str) -> Option<&'a str> {
        if method != self.method {
            return None;
        }
        let Some((kind, tail)) = self.id else { return (path == self.head).then_some("") };
        let id = path.strip_prefix(self.head)?.strip_suffix(tail)?;
        kind.fits(id).then_some(id)
    }
}

impl IdKind {
    fn fits(self, id: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let mut bytes = id.bytes();
        (1..=ID_BYTES_MAX).contains(&id.len())
            && match self {
                Self::Opaque => bytes.all(plain),
                Self::Model => {
                    id.as_bytes()[0].is_ascii_alphanumeric()
                        && bytes.all(|byte| plain(byte) || matches!(byte, b'.' | b':'))
                }
            }
    }
}

impl Matched<'_> {
    /// The target for the upstream.
    pub fn target(&self) -> Vec<u8> {
        let mut target = Vec::with_capacity(self.route.head.len() + self.id.len() + 16);
        target.extend_from_slice(self.route.head.as_bytes());
        if let Some((_, tail)) = self.route.id {
            target.extend_from_slice(self.id.as_bytes());
            target.extend_from_slice(tail.as_bytes());
        }
        let known = |pair: &&str| {
            let key = pair.split_once('=').map_or(*pair, |(key, _)| key);
            self.route.queries.contains(&key)
        };
        let mut sign = b'?';
        for pair in self.query.split('&').filter(known) {
            target.push(sign);
            target.extend_from_slice(pair.as_bytes());
            sign = b'&';
        }
        target
    }
}

#[cfg(test)]
mod tests;
