//! Overfall stands in front of model APIs and asks of every request: **how much is allowed, and from where?**
//!
//! The answer walks a waterfall – rate limits, free tier, promotions, enterprise entitlements, prepaid credits – and one
//! request may be paid from several of them. The gateway forwards or answers at once, says why in headers, and settles
//! the debit afterwards, once, into books that anyone can prove.
//!
//! # Life of a request
//!
//! ```text
//!  client                        gateway                                   upstream
//!    │  POST /v1/responses          │
//!    ├─────────────────────────────►│ routes    one row of a closed table
//!    │                              │ keys      key → account, user, plan      (ledger::directory)
//!    │                              │ body      read, bounded
//!    │                              │ key       asked before? answered again    (idempotency)
//!    │                              │ demand    quantities, estimated; priced  (policy::prices)
//!    │                              │ decide    guards, then layers            (access)
//!    │                              │ hold      all draws or none              (meter)
//!    │                              │ journal   the hold is durable            (journal)
//!    │◄── 429, and why ─────────────┤
//!    │                              │ upstreams the first that is usable, or the next (proxy::upstreams)
//!    │                              ├──────────────────────────────────────────►│
//!    │◄── chunk by chunk ───────────┤ observe   the real usage, as it passes    │
//!    │                              │ extend    more is held where more passes  (proxy::extension)
//!    │                              │ finish    hold + truth → draws, numbered
//!    │                              │ journal   the record is durable
//!    │                              ┊ settle    usage event, monetization event, balance updates   (ledger)
//! ```
//!
//! # Where things are
//!
//! | module | idea |
//! |---|---|
//! | [`units`] | credits, quantities, prices, identities, instants: checked whole numbers |
//! | [`policy`] | the YAML file: every problem at once, then a compiled value; prices |
//! | [`access`] | the pure core: demand, walk, decision, hold, finish; no clock, no I/O, no float |
//! | [`observe`] | the real usage, read as it passes; what a call is charged when it has ended |
//! | [`meter`] | the port of live counts; the embedded store: one lock per account; Redis, for many nodes: the core decides, a script compares and writes |
//! | [`journal`] | the node's durable file: open holds, and records until the ledger has them |
//! | [`ledger`] | the port of the books and the directory; the embedded store, SQLite; that of many machines, PostgreSQL |
//! | [`settle`] | journal → ledger; deadlines; jobs that outlive their request; the log of blocks |
//! | [`idempotency`] | the port of keys and kept answers, and the embedded store: a SQLite file of its own |
//! | [`audit`] | proves the books, from the books alone |
//! | [`proxy`] | Pingora: routes, identity, bodies, metering, headers, upstreams; one place that refuses |
//! | [`admin`] | the operator's API |
//! | [`simulate`] | a simulated model API for the demo, tests and benches |
//! | [`config`], [`telemetry`], [`cli`] | the deployment file; logs and metrics; the command |
//!
//! Arrows run one way: `units ← policy ← access ← observe, meter, journal, ledger ← settle, audit ← proxy, admin ← cli`;
//! `idempotency` knows `units` alone.
//!
//! # What is absent on purpose
//!
//! - `units`, `policy` and `access` know no runtime, store, clock or float; they take `now` as an argument.
//! - Settlement decides nothing: the draws stand in each record.
//! - Nothing but `proxy::refusal` knows the status, code and headers of a refusal.
//! - Nothing but [`config`] knows which stores a node uses.
//! - Nothing resets a window: which instance is present follows from its start and `now`.
//!
//! # Invariants
//!
//! | | |
//! |---|---|
//! | I1 | one decision per request; header, stored decision and books agree |
//! | I2 | a block changes no window, guard, balance, hold or issue |
//! | I3 | the draws of an allowed request are its demand |
//! | I4 | no window is admitted past its limit, no guard past its bound |
//! | I5 | no balance is below zero, or below the debt that policy allows |
//! | I6 | a usage event has one live monetization event; its balance updates sum to −charged |
//! | I7 | any redelivery in any order has the effect of one application in seq order |
//! | I8 | a balance is the sum of its updates; before, after and hash chain hold |
//! | I9 | every hold ends once, within a stated time |
//! | I10 | what was acknowledged survives `kill -9` |
//! | I11 | the books can be regenerated from usage events, entries and policy snapshots |
//! | I12 | granted + adjusted + refunded = balance + debited + expired |
//! | I13 | saving never lowers what is left; more credits never turn an allow into a block |
//! | I14 | every route has one class, and an owned resource is served to its account only |

// What tests share with benches speaks of this crate from outside.
#[cfg(test)]
extern crate self as overfall;

pub mod access;
pub mod admin;
pub mod audit;
pub mod cli;
pub mod config;
pub mod idempotency;
pub mod journal;
pub mod ledger;
pub mod meter;
pub mod observe;
pub mod policy;
pub mod proxy;
pub mod settle;
pub mod simulate;
#[cfg(test)]
mod simulation;
pub mod telemetry;
pub mod units;
