//! The deployment file exactly as written.

use std::borrow::Cow;
use std::net::SocketAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Durability, OnStoreFailure};
use crate::policy::decode::{At, Decode, List, Words, mismatch, record, shown};
use crate::policy::problem::Sink;
use crate::policy::scalars::{Count, Length, Money, Name, Text};
use crate::policy::yaml::{Node, Value};
use crate::telemetry::LogFormat;

record! {
    /// One gateway: where it listens, what it stands before, where it keeps its state.
    Document {
        /// Version of this grammar: 1.
        version: Version,
        /// The policy file, relative to this one.
        policy: At<Text>,
        /// Where it listens.
        listen: Option<Listen>,
        /// The model APIs that it stands before, best first.
        upstreams: List<Upstream>,
        /// Where it keeps its state.
        stores: Stores,
        /// `strict`: a request is forwarded once its hold is durable. `relaxed`: without waiting for that.
        durability: Option<Durability>,
        /// What happens while the store of live counts does not answer: `refuse`, or `degraded`.
        on_store_failure: Option<At<OnStoreFailure>>,
        /// What may be given meanwhile, where that is `degraded`.
        degraded: Option<At<Degraded>>,
        /// The operator.
        admin: Admin,
        /// Jobs: videos and background responses.
        jobs: Option<Jobs>,
        /// Bounds.
        limits: Option<Limits>,
        /// What is kept for requests that come again with the same key.
        idempotency: Option<Idempotency>,
        /// Signed checkpoints of the books.
        checkpoints: Option<Checkpoints>,
        /// Logs.
        log: Option<Log>,
    }
}

record! {
    /// What may be given while the store of live counts is away: at most `per_account` times `max_nodes` in one outage.
    Degraded {
        /// Credits that one gateway may give one account.
        per_account: Money,
        /// How many gateways may.
        max_nodes: Count,
    }
}

record! {
    /// Signed checkpoints of the books.
    Checkpoints {
        /// How long after one the next is made, if anything was booked; `1h` unless it says otherwise.
        every: Option<Length>,
    }
}

record! {
    /// Where the gateway listens.
    Listen {
        /// For clients.
        gateway: Option<Address>,
        /// For the operator; keep it private.
        admin: Option<Address>,
        /// TLS for clients.
        tls: Option<Tls>,
    }
}

record! {
    /// PEM files.
    Tls {
        /// The certificate and what signs it.
        certificate: At<Text>,
        /// Its key.
        key: At<Text>,
    }
}

record! {
    /// A model API that the gateway stands before.
    Upstream {
        /// What it is called: in metrics, and where what was made there is noted. Do not change it later.
        name: At<Name>,
        /// As SDKs name it, without the `/v1`.
        base_url: At<BaseUrl>,
        /// The key it wants; clients never see it.
        key: SecretSource,
        /// What its webhooks are signed with, as `whsec_…`; without one, webhooks are not taken.
        webhook_secret: Option<SecretSource>,
        /// PEM file of certificates to trust instead of the machine's.
        ca_file: Option<At<Text>>,
        /// How long to wait for a connection.
        connect_timeout: Option<Length>,
        /// How long to wait for the next bytes of an answer.
        read_timeout: Option<Length>,
        /// When it is left alone for a while.
        breaker: Option<Breaker>,
        /// How it is asked whether it is there; by default only requests tell.
        health: Option<Health>,
    }
}

record! {
    /// When an upstream is left alone for a while.
    Breaker {
        /// So many failures in a row: no connection, 502, 503, 504, no answer in time.
        failures: Option<Count>,
        /// They count together within so long.
        within: Option<Length>,
        /// It is left alone for so long, then tried by one request.
        pause: Option<Length>,
    }
}

record! {
    /// How an upstream is asked whether it is there.
    Health {
        /// What is asked for, from its `/` on, with the upstream's key.
        path: UrlPath,
        /// How long after one check the next begins.
        every: Option<Length>,
        /// How long a check may take.
        timeout: Option<Length>,
    }
}

record! {
    /// Where state is kept: all in one folder, unless it is shared with other gateways.
    Stores {
        /// The folder of journal, idempotency keys and, unless they are elsewhere, the books. One process at a time.
        data: At<Text>,
        /// Where live counts are that several gateways share; in memory unless it says otherwise.
        meter: Option<At<MeterStore>>,
        /// Where the books are; in the folder unless it says otherwise.
        ledger: Option<LedgerStore>,
    }
}

record! {
    /// Live counts in Redis.
    MeterStore {
        /// Where it is: `redis://…` or `rediss://…` with TLS; nodes of a cluster, divided by commas.
        redis: SecretSource,
        /// Whether it is a Redis Cluster.
        cluster: Option<bool>,
        /// PEM file of certificates to trust instead of the machine's, where it is `rediss://…`.
        ca_file: Option<At<Text>>,
    }
}

record! {
    /// Books that are not in the folder.
    LedgerStore {
        /// The address of a PostgreSQL server, `postgres://user:password@host:port/database`.
        postgres: SecretSource,
    }
}

record! {
    /// The operator.
    Admin {
        /// The token of the operator's API.
        token: SecretSource,
    }
}

record! {
    /// A secret stands in the environment or in a file of its own, never in this one.
    SecretParts {
        /// Name of an environment variable.
        env: Option<Text>,
        /// A file whose first line it is.
        file: Option<Text>,
    }
}

record! {
    /// How the upstream is asked for jobs whose end nobody has told.
    Jobs {
        /// Questions in a second, for all jobs together.
        polls_per_second: Option<At<Count>>,
        /// The pause before the first question for a job, where the upstream wishes none.
        poll_first: Option<At<Length>>,
        /// The longest pause between two questions for a job.
        poll_longest: Option<At<Length>>,
    }
}

record! {
    /// Bounds.
    Limits {
        /// The largest request body.
        body: Option<Bytes>,
        /// All request bodies in memory together.
        bodies: Option<Bytes>,
        /// How long a client may take to send its body.
        body_time: Option<Length>,
        /// All journal files together; no new holds beyond.
        journal: Option<Bytes>,
        /// How long streams may go on after SIGTERM.
        shutdown_grace: Option<Length>,
        /// How long it is known whose a response, video or character is; after that it is nobody's.
        owned: Option<At<Length>>,
    }
}

record! {
    /// What is kept for requests that come again with the same `Idempotency-Key`.
    Idempotency {
        /// How long a key is known.
        keep: Option<Length>,
        /// The largest answer that is kept.
        answer: Option<At<Bytes>>,
        /// All answers together; the oldest go. A key for each KiB of it is known.
        total: Option<At<Bytes>>,
    }
}

record! {
    /// Logs.
    Log {
        /// `text` or `json`.
        format: Option<LogFormat>,
        /// A level, or filter directives such as `info,overfall::settle=debug`.
        level: Option<Text>,
    }
}

/// Where a secret stands.
#[derive(Debug)]
pub(super) enum SecretSource {
    Env(String),
    File(String),
}
/// The one version of this grammar that there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version;
/// `host:port` with a literal address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub SocketAddr);
/// A number of bytes: `64KiB`, `32MiB`, `4GiB`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes(pub u64);
/// The path of a URL, from its `/` on.
#[derive(Clone, Debug)]
pub(super) struct UrlPath(pub String);
/// `http://` or `https://`, a host, perhaps a port; no path.
#[derive(Clone, Debug)]
pub(super) struct BaseUrl(pub http::Uri);

impl Words for Durability {
    const WORDS: &'static [(&'static str, Self)] = &[("strict", Self::Strict), ("relaxed", Self::Relaxed)];
}

impl Words for OnStoreFailure {
    const WORDS: &'static [(&'static str, Self)] = &[("refuse", Self::Refuse), ("degraded", Self::Degraded)];
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// Reads a text by `parse`, or reports what is wanted.
fn parsed<T>(
    node: &Node,
    allowed: &str,
    problems: &mut Sink<'_>,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let Value::Text(text) = &node.value else { return mismatch(node, allowed, problems) };
    let value = parse(text);
    if value.is_none() {
        problems.report(&node.at, shown(node), allowed);
    }
    value
}

impl Decode for Address {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        parsed(&node, "an address and a port, such as `127.0.0.1:8080`", problems, |text| {
            text.parse().ok().map(Self)
        })
    }
}

impl Decode for Bytes {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        parsed(&node, "a number of bytes above zero, such as `64KiB`, `32MiB` or `4GiB`", problems, |text| {
            let (number, unit) = [("KiB", 10), ("MiB", 20), ("GiB", 30)]
                .iter()
                .find_map(|(suffix, shift)| Some((text.strip_suffix(suffix)?, 1u64 << shift)))?;
            let bytes = number.trim_end().parse::<u64>().ok()?.checked_mul(unit)?;
            (bytes > 0).then_some(Self(bytes))
        })
    }
}

impl Decode for BaseUrl {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        let allowed = "a URL without a path, such as `https://api.openai.com`";
        parsed(&node, allowed, problems, |text| {
            let uri: http::Uri = text.trim_end_matches('/').parse().ok()?;
            let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
            let bare = uri.path() == "/" && uri.query().is_none();
            let host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            (scheme && bare && host).then_some(Self(uri))
        })
    }
}

impl Decode for UrlPath {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        parsed(&node, "a path of a URL, such as `/v1/models`", problems, |text| {
            let fits = text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok();
            fits.then(|| Self(text.to_owned()))
        })
    }
}

impl Decode for Version {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        match &node.value {
            Value::Number(number) if number == "1" => Some(Self),
            _ => mismatch(&node, "1", problems),
        }
    }
}

impl Decode for SecretSource {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        let at = node.at.clone();
        let found = match SecretParts::decode(node, problems)? {
            SecretParts { env: Some(env), file: None } => return Some(Self::Env(env.0)),
            SecretParts { env: None, file: Some(file) } => return Some(Self::File(file.0)),
            SecretParts { env: Some(_), .. } => "both `env` and `file`",
            SecretParts { env: None, .. } => "neither `env` nor `file`",
        };
        problems.report(&at, found, "one of `env` and `file`");
        None
    }
}

impl JsonSchema for Version {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"const": 1})
    }
}

impl JsonSchema for SecretSource {
    fn schema_name() -> Cow<'static, str> {
        "SecretSource".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        SecretParts::json_schema(generator)
    }
}

macro_rules! text_schema {
    ($($name:ident: $pattern:literal),*) => {
        $(impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern})
            }
        })*
    };
}
text_schema!(Address: "^.+:[0-9]+$", Bytes: "^[1-9][0-9]* ?(KiB|MiB|GiB)$", BaseUrl: "^https?://[^/@]+/?$",
    UrlPath: "^/[!-~]*$");
