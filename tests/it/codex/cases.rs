//! What each user of Codex CLI meets, and how Codex ends then.

pub(super) const POLICY: &str = r#"
version: 1
prices:
  - model: "gpt-5.5-fast*"
    per_million_tokens: {input: 0, output: 0}
    per_request: 5
  - model: "gpt-5.5-long*"
    per_million_tokens: {input: 0, output: 750}
  - model: "gpt-5.5*"
    per_million_tokens: {input: 0, output: 0}
    per_request: 1
balances:
  wallet: {per: account}
features:
  codex: {apis: [responses, chat], unit: credit, when_exhausted: stop}
  sora: {apis: [videos], unit: second}
plans:
  plus:
    codex:
      waterfall:
        - name: included
          kind: rate_limit
          per: user
          windows:
            - {allow: 40, every: 5h, starts: first_use}
            - {allow: 300, every: 7d, starts: first_use}
        - {name: credits, kind: prepaid, balance: wallet}
  free:
    codex:
      waterfall:
        - name: included
          kind: free_tier
          per: user
          windows:
            - {allow: 1, every: 5h, starts: first_use}
            - {allow: 4, every: 7d, starts: first_use}
  short:
    codex:
      waterfall: [{name: included, kind: rate_limit, per: user, windows: [{allow: 1, every: 20s, starts: first_use}]}]
  payg:
    codex:
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  capped:
    codex:
      guards: [{name: member-cap, spend: 1, every: month, time_zone: UTC, per: user}]
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  single:
    codex:
      guards: [{name: in-flight, concurrent: 1, per: user}]
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
  video:
    sora:
      waterfall: [{name: credits, kind: prepaid, balance: wallet}]
"#;

/// What has happened to a user before the run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// They are the second in their account, and so no owner.
    Joined,
    /// They have made one request.
    Spent,
    /// Their account has been suspended.
    Suspended,
    /// Their key has been revoked.
    Revoked,
}

/// What happens on the way of its requests, so that they meet it however slow it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meanwhile {
    /// Nothing.
    Nothing,
    /// Just before its first request arrives, the user makes another.
    Spends,
    /// A stream of the user's is in flight, until it asks again.
    Streams,
}

/// What the gateway is in the configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    /// A provider of its own.
    Own,
    /// The same, with fewer retries.
    Impatient,
    /// In the place of the one that is built in, which is asked for a WebSocket first.
    BuiltIn,
}

/// One user's run of Codex, and what is expected of it.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) plan: &'static str,
    pub(super) credits: Option<&'static str>,
    /// What has happened to the user.
    pub(super) before: &'static [Before],
    pub(super) meanwhile: Meanwhile,
    pub(super) model: &'static str,
    pub(super) provider: Provider,
    /// Requests that Codex posts.
    pub(super) asks: usize,
    /// Those that get to the upstream.
    pub(super) reaches: usize,
    /// How its words about the failure begin; none where it ends well.
    pub(super) says: Option<&'static str>,
    /// Whether it is told limits; they are what `GET /v1/access` says.
    pub(super) limits: bool,
}

const CASE: Case = Case {
    name: "",
    plan: "plus",
    credits: None,
    before: &[],
    meanwhile: Meanwhile::Nothing,
    model: "gpt-5.5",
    provider: Provider::Own,
    asks: 1,
    reaches: 0,
    says: None,
    limits: true,
};

/// The policy stops a stream for which nothing is left.
pub(super) const STOPPED: &str = "credits that end in a stream";

pub(super) const CASES: &[Case] = &[
    Case { name: "success", credits: Some("9.5"), reaches: 1, ..CASE },
    Case { name: "the built-in provider", provider: Provider::BuiltIn, reaches: 1, ..CASE },
    Case { name: "a tool call", model: "gpt-5.5-sim-call=exec_command", asks: 2, reaches: 2, ..CASE },
    Case {
        name: "a window spent",
        plan: "free",
        before: &[Before::Spent],
        says: Some("You’ve hit your usage limit. Try again at "),
        ..CASE
    },
    Case {
        name: "credits spent",
        plan: "payg",
        credits: Some("1"),
        before: &[Before::Spent],
        says: Some("Your workspace is out of credits. Add credits to continue."),
        ..CASE
    },
    Case {
        name: "a member's credits spent",
        plan: "payg",
        before: &[Before::Joined],
        says: Some(
            "Your workspace is out of credits. Ask your workspace owner to refill in order to continue.",
        ),
        ..CASE
    },
    Case {
        name: "a spend cap",
        plan: "capped",
        credits: Some("10"),
        before: &[Before::Spent],
        says: Some("You hit your spend cap set in your workspace. Increase your spend cap to continue."),
        ..CASE
    },
    Case {
        name: "a member's spend cap",
        plan: "capped",
        credits: Some("10"),
        before: &[Before::Joined, Before::Spent],
        says: Some(
            "You hit your spend cap set by the owner of your workspace. Ask an owner to increase your spend cap to continue.",
        ),
        ..CASE
    },
    // Its window has gone by when the others have ended: what it records is compared nowhere.
    Case {
        name: "a short limit",
        plan: "short",
        meanwhile: Meanwhile::Spends,
        asks: 2,
        reaches: 1,
        limits: false,
        ..CASE
    },
    Case {
        name: "too many at once",
        plan: "single",
        credits: Some("10"),
        meanwhile: Meanwhile::Streams,
        asks: 2,
        reaches: 1,
        ..CASE
    },
    // What it is told at the head of its stream is what was held.
    Case {
        name: STOPPED,
        plan: "payg",
        credits: Some("2"),
        model: "gpt-5.5-long-sim-out=200000+events=4000+pace=5",
        reaches: 1,
        says: Some("Quota exceeded. Check your plan and billing details."),
        limits: false,
        ..CASE
    },
    Case {
        name: "a cut stream",
        model: "gpt-5.5-sim-cut=6",
        asks: 6,
        reaches: 6,
        says: Some("stream disconnected before completion: "),
        ..CASE
    },
    Case {
        name: "overload",
        provider: Provider::Impatient,
        model: "gpt-5.5-sim-status=503",
        asks: 4,
        reaches: 4,
        says: Some("Selected model is at capacity. Please try a different model."),
        limits: false,
        ..CASE
    },
    Case {
        name: "not in the plan",
        plan: "video",
        says: Some(
            "You’ve hit your usage limit. Your plan does not include codex. Ask for a plan that does, or try again later.",
        ),
        limits: false,
        ..CASE
    },
    Case {
        name: "a suspended account",
        before: &[Before::Suspended],
        says: Some(
            "You’ve hit your usage limit. Your account is suspended. Ask whoever runs this gateway, or try again later.",
        ),
        limits: false,
        ..CASE
    },
    // It asks again as it does for whatever it does not know; none of it costs anything.
    Case {
        name: "a revoked key",
        before: &[Before::Revoked],
        asks: 6,
        says: Some("unexpected status 401 Unauthorized: Incorrect API key provided"),
        limits: false,
        ..CASE
    },
    Case {
        name: "more than ever fits",
        plan: "free",
        model: "gpt-5.5-fast",
        says: Some("{\"error\":{\"message\":\"This request is larger than"),
        limits: false,
        ..CASE
    },
    Case {
        name: "no price",
        model: "gpt-5.4",
        says: Some("The model `gpt-5.4` does not exist"),
        limits: false,
        ..CASE
    },
];
