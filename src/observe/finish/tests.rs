use std::sync::Arc;

use super::*;
use crate::policy::compiled::Policy;

const POLICY: &str = r#"
version: 1
prices:
  - {model: "m*", per_million_tokens: {input: 1000000, output: 10000000}, tiers: {priority: 2}}
balances: {wallet: {per: account}}
features: {codex: {apis: [responses], unit: credit}}
plans: {p: {codex: {waterfall: [{name: credits, kind: prepaid, balance: wallet}]}}}
"#;

fn terms(tier: Option<&str>) -> Terms {
    let policy: Arc<Policy> = Arc::new(crate::policy::load::parse("test", POLICY).unwrap());
    Terms {
        plan: policy.plan("p").unwrap(),
        feature: policy.feature("codex").unwrap(),
        policy,
        model: "m".into(),
        tier: tier.map(Into::into),
        size: None,
    }
}

fn quantities(input_tokens: u64, output_tokens: u64) -> Quantities {
    Quantities { input_tokens, output_tokens, ..Quantities::default() }
}

fn observed(accepted: bool, terminal: Option<Terminal>, told: Option<Quantities>, deltas: u64) -> Observed {
    let mut observed = Observed { accepted, terminal, quantities: told, ..Observed::default() };
    observed.output_seen.deltas = deltas;
    observed
}

fn end(observed: Option<&Observed>, cause: Cause) -> (u64, u64, Outcome, Grade) {
    let terms = terms(None);
    let facts = Facts { terms: &terms, estimate: &quantities(7, 100), observed, status: Some(200) };
    let (demand, ending) = facts.end(cause);
    (demand.quantities.input_tokens, demand.quantities.output_tokens, ending.outcome, ending.grade)
}

/// Design section 3, "Charge by outcome": one row for each sentence.
#[test]
fn a_call_is_charged_by_how_it_ended() {
    use Terminal::{Completed, Failed, Incomplete};
    let told = || Some(quantities(9, 30));
    for (seen, cause, expected) in [
        (None, Cause::NotSent, (0, 0, Outcome::NotSent, Grade::Exact)),
        (None, Cause::Refused, (0, 0, Outcome::Refused, Grade::Exact)),
        (None, Cause::Cut, (0, 0, Outcome::Refused, Grade::Exact)),
        (Some(observed(false, None, None, 0)), Cause::Cut, (0, 0, Outcome::Refused, Grade::Exact)),
        (Some(observed(false, Some(Failed), None, 0)), Cause::Ended, (0, 0, Outcome::Refused, Grade::Exact)),
        (
            Some(observed(true, Some(Completed), told(), 5)),
            Cause::Ended,
            (9, 30, Outcome::Completed, Grade::Exact),
        ),
        (
            Some(observed(true, Some(Incomplete), told(), 5)),
            Cause::Ended,
            (9, 30, Outcome::Incomplete, Grade::Exact),
        ),
        (Some(observed(true, Some(Failed), told(), 5)), Cause::Ended, (9, 30, Outcome::Failed, Grade::Exact)),
        (
            Some(observed(true, Some(Failed), None, 5)),
            Cause::Ended,
            (7, 5, Outcome::Failed, Grade::Estimated),
        ),
        (
            Some(observed(true, Some(Completed), None, 5)),
            Cause::Ended,
            (7, 5, Outcome::Completed, Grade::Estimated),
        ),
        (Some(observed(true, None, None, 5)), Cause::Ended, (7, 5, Outcome::Cut, Grade::Floor)),
        (Some(observed(true, None, None, 5)), Cause::Cut, (7, 5, Outcome::Cut, Grade::Floor)),
        (Some(observed(true, None, None, 5)), Cause::ClientGone, (7, 5, Outcome::ClientGone, Grade::Floor)),
        (Some(observed(true, None, None, 5)), Cause::Dropped, (7, 5, Outcome::Cancelled, Grade::Floor)),
        (
            Some(observed(true, Some(Completed), told(), 5)),
            Cause::ClientGone,
            (9, 30, Outcome::Completed, Grade::Exact),
        ),
        (None, Cause::ClientGone, (7, 0, Outcome::ClientGone, Grade::Floor)),
        (None, Cause::Dropped, (7, 0, Outcome::Cancelled, Grade::Floor)),
    ] {
        assert_eq!(end(seen.as_ref(), cause), expected, "{cause:?} {seen:?}");
    }
}

#[test]
fn the_tier_of_the_answer_stands_over_the_one_that_was_asked_for() {
    for (asked, answered, micros, grade) in [
        (None, None, 39_000_000, Grade::Exact),
        (Some("priority"), None, 78_000_000, Grade::Exact),
        (Some("priority"), Some("default"), 39_000_000, Grade::Exact),
        (None, Some("priority"), 78_000_000, Grade::Exact),
        (None, Some("unheard"), 78_000_000, Grade::Estimated),
    ] {
        let terms = terms(asked);
        let mut seen = observed(true, Some(Terminal::Completed), Some(quantities(9, 3)), 0);
        seen.tier = answered.map(str::to_owned);
        let facts =
            Facts { terms: &terms, estimate: &quantities(7, 100), observed: Some(&seen), status: Some(200) };
        let (demand, ending) = facts.end(Cause::Ended);
        assert_eq!(
            (demand.price.ceil().unwrap().micros(), ending.grade),
            (micros, grade),
            "{asked:?} {answered:?}"
        );
        assert_eq!(ending.tier.as_deref(), answered.or(asked));
    }
}
