//! Policies with round numbers. `one*` costs a credit a request, whatever its tokens.

/// A plan for every reason to be blocked, and some to be allowed.
pub(crate) const EVERY_REASON: &str = r#"
version: 1
prices:
  - model: "gpt-5.5*"
    per_million_tokens: {input: 125, cached_input: 12.5, output: 750}
  - model: "one*"
    per_million_tokens: {input: 0, output: 0}
    per_request: 1
  - model: "five*"
    per_million_tokens: {input: 0, output: 0}
    per_request: 5
balances:
  wallet: {per: account}
features:
  codex:
    apis: [responses, chat]
    unit: credit
    overage: {forgive: 100, debt: 0}
  sora:
    apis: [videos]
    unit: second
plans:
  free:
    codex:
      waterfall:
        - {name: included, kind: free_tier, per: user, windows: [{allow: unlimited, every: 1d, starts: first_use}]}
  prepaid:
    codex:
      waterfall:
        - {name: credits, kind: prepaid, balance: wallet}
  split:
    codex:
      waterfall:
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 3, every: 5h, starts: first_use}]}
        - {name: credits, kind: prepaid, balance: wallet}
  short:
    codex:
      waterfall:
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 1, every: 4s, starts: first_use}]}
  long:
    codex:
      waterfall:
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 1, every: 5h, starts: first_use}]}
  capped:
    codex:
      guards:
        - {name: member-cap, spend: 1, every: month, time_zone: UTC, per: user}
      waterfall:
        - {name: credits, kind: prepaid, balance: wallet}
  single:
    codex:
      guards:
        - {name: in-flight, concurrent: 1, per: user}
      waterfall:
        - {name: credits, kind: prepaid, balance: wallet}
  burst:
    codex:
      guards:
        - {name: burst, requests: 1, every: 5s, burst: 1, per: user}
      waterfall:
        - {name: credits, kind: prepaid, balance: wallet}
  fifty:
    codex:
      waterfall:
        - {name: fifty, kind: rate_limit, per: user, unit: request, windows: [{allow: 50, every: 5h, starts: first_use}]}
  video:
    sora:
      waterfall:
        - {name: credits, kind: prepaid, balance: wallet}
"#;
