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
fn the_policy_that_is_edited_here_is_sound() {
    assert!(parse("policy.yaml", SOUND).is_ok());
}
