//! Every problem a policy can have: one edit of a sound policy, and what is said of it.

use std::fmt::Write;

use super::super::load::parse;

mod balances;
mod features;
mod guards;
mod layers;
mod plans;
mod prices;
mod shape;
mod windows;

const SOUND: &str = r#"version: 1
prices:
  - model: "m*"
    per_million_tokens: {input: 1, output: 2}
balances:
  wallet: {per: account}
features:
  codex: {apis: [responses], unit: credit}
plans:
  plus:
    codex:
      guards:
        - {name: burst, requests: 60, every: 1m, per: user}
      waterfall:
        - {name: included, kind: rate_limit, per: user, windows: [{allow: 50, every: 5h, starts: first_use}]}
        - {name: credits, kind: prepaid, balance: wallet}
"#;

/// What is said of the sound policy after each edit by itself. The edited text must be there once.
fn told(edits: &[(&str, &str)]) -> String {
    let mut told = String::new();
    for (from, to) in edits {
        assert_eq!(SOUND.matches(from).count(), 1, "{from}");
        let problems = parse("policy.yaml", &SOUND.replace(from, to)).expect_err(to).problems;
        writeln!(told, "{from:?} -> {to:?}").unwrap();
        for problem in problems {
            let path = if problem.path.is_empty() { String::new() } else { format!(" {}", problem.path) };
            writeln!(told, "    {}:{}{path}: {}", problem.line, problem.column, problem.found).unwrap();
            writeln!(told, "        allowed: {}", problem.allowed).unwrap();
            if let Some(hint) = problem.hint {
                writeln!(told, "        hint: {hint}").unwrap();
            }
        }
    }
    told
}

#[test]
fn what_is_sound_is_not_refused() {
    let windows = "starts: first_use}]";
    for (from, to) in [
        ("version: 1", "version: 1"),
        // Just below what would never bind.
        (windows, "starts: first_use}, {allow: 51, every: 7d, starts: first_use}]"),
        (windows, "starts: first_use}, {allow: 1749.999999, every: 7d, starts: first_use}]"),
        (
            "every: 5h, starts: first_use}]",
            "every: day, starts: calendar}, {allow: 349, every: week, starts: calendar}]",
        ),
        (
            "every: 5h, starts: first_use}]",
            "every: day, starts: calendar}, {allow: 1549, every: month, starts: calendar}]",
        ),
        // As long, but they begin at other times.
        (
            "every: 5h, starts: first_use}]",
            "every: 24h, starts: first_use}, {allow: 60, every: day, starts: calendar}]",
        ),
        (
            "every: 5h, starts: first_use}]",
            "every: day, starts: calendar}, {allow: 60, every: day, starts: calendar, time_zone: Asia/Tokyo}]",
        ),
        ("rate_limit, per: user", "rate_limit, per: user, unit: credit"),
        ("rate_limit, per: user", "rate_limit, per: user, unit: request"),
        ("unit: credit", "unit: request"),
        ("unit: credit", "unit: output_token"),
        (
            "        - {name: included",
            "        - {name: calls, kind: free_tier, per: user, unit: request, windows: [{allow: 5, every: 1h, starts: first_use}]}\n        - {name: included",
        ),
        (
            "        - {name: credits, kind: prepaid, balance: wallet}\n",
            "        - {name: credits, kind: promotion, balance: wallet}\n",
        ),
        ("requests: 60, every: 1m", "spend: 0.000001, every: month"),
        ("requests: 60, every: 1m", "requests: 1_000, every: 500ms, burst: 9_000"),
        ("plans:\n", "plans:\n  free: {}\n  two: {extends: plus, codex: {guards: []}}\n"),
        ("plans:\n", "plans:\n  a: {extends: b}\n  b: {extends: plus}\n"),
        // A name is free again in another plan, and in another feature.
        (
            "plans:\n",
            "plans:\n  two: {codex: {waterfall: [{name: burst, kind: prepaid, balance: wallet}]}}\n",
        ),
        ("\"m*\"", "\"mini\"\n    per_million_tokens: {input: 0, output: 0}\n  - model: \"*\""),
        ("{per: account}", "{per: account, issue: {amount: 1, until: \"2001-01-01T00:00:00+01:00\"}}"),
    ] {
        assert!(SOUND.contains(from), "{from}");
        if let Err(problems) = parse("policy.yaml", &SOUND.replacen(from, to, 1)) {
            panic!("{to}\n{problems}");
        }
    }
}
