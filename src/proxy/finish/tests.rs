use std::sync::Arc;

use super::*;
use crate::policy::compiled::Policy;
use crate::proxy::observe::{Observer, Shape};

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

fn end(observed: Option<&Observed>, cause: Cause) -> Charged {
    let terms = terms(None);
    let facts =
        Facts { terms: &terms, estimate: &quantities(7, 100), observed, status: Some(200), upstream: None };
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
        let facts = Facts {
            terms: &terms,
            estimate: &quantities(7, 100),
            observed: Some(&seen),
            status: Some(200),
            upstream: None,
        };
        let (demand, ending) = facts.end(Cause::Ended);
        assert_eq!(
            (demand.price.ceil().unwrap().micros(), ending.grade),
            (micros, grade),
            "{asked:?} {answered:?}"
        );
        assert_eq!(ending.tier.as_deref(), answered.or(asked));
    }
}

/// Tokens of input and output, how it went, and how sure that is.
type Charged = (u64, u64, Outcome, Grade);

/// What a stream of these pieces is charged, and how it went, where the input was estimated at 7 tokens.
fn charged(shape: Shape, pieces: &[&str], cause: Cause) -> Charged {
    let mut observer = Observer::new(shape, http::StatusCode::OK);
    for piece in pieces {
        let (name, data) = piece.split_once(' ').unwrap_or((*piece, ""));
        let event = match (shape, name) {
            (Shape::ChatSse, "DONE") => "data: [DONE]\n\n".to_owned(),
            (Shape::ChatSse, _) => format!("data: {{\"{name}\":{data}}}\n\n"),
            _ => format!("event: {name}\ndata: {{\"type\":\"{name}\"{data}}}\n\n"),
        };
        observer.feed(event.as_bytes());
    }
    end(Some(&observer.end()), cause)
}

/// Design section 3, "Charge by outcome", for a Responses stream: every end, none, more than one, without usage, and out
/// of order. The first end says how it went, the last word on usage what it used, and nothing is counted twice.
#[test]
fn a_responses_stream_is_charged_by_its_end_however_that_comes() {
    use Outcome::{Cancelled, ClientGone, Completed, Cut, Failed, Incomplete, Refused, Stopped};
    const CREATED: &str =
        "response.created ,\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"usage\":null}";
    const DELTA: &str = "response.output_text.delta ,\"sequence_number\":1,\"delta\":\"four by te\"";
    const ITEM: &str = "response.output_item.done ,\"item\":{\"content\":[{\"type\":\"output_text\",\"text\":\"four by te\"}]}";
    const ERROR: &str = "error ,\"code\":\"server_error\",\"message\":\"no\"";
    let ends = |kind: &str, usage: &str| {
        format!("response.{kind} ,\"response\":{{\"id\":\"resp_1\",\"usage\":{usage}}}")
    };
    let told = |kind: &str| ends(kind, "{\"input_tokens\":9,\"output_tokens\":30}");
    let bare = |kind: &str| format!("response.{kind} ,\"response\":{{\"id\":\"resp_1\"}}");
    let (completed, failed) = (told("completed"), told("failed"));
    let (exact, estimated, floor) = (Grade::Exact, Grade::Estimated, Grade::Floor);
    let mut rows: Vec<(Vec<&str>, Cause, Charged)> = vec![
        // None.
        (vec![], Cause::Ended, (0, 0, Refused, exact)),
        (vec![CREATED], Cause::Ended, (7, 0, Cut, floor)),
        (vec![CREATED, DELTA], Cause::Ended, (7, 3, Cut, floor)),
        (vec![CREATED, DELTA], Cause::Cut, (7, 3, Cut, floor)),
        (vec![CREATED, DELTA], Cause::ClientGone, (7, 3, ClientGone, floor)),
        (vec![CREATED, DELTA], Cause::Exhausted, (7, 3, Stopped, floor)),
        (vec![CREATED, DELTA], Cause::Dropped, (7, 3, Cancelled, floor)),
        // An error: before anything was accepted, and after.
        (vec![ERROR], Cause::Ended, (0, 0, Refused, exact)),
        (vec![CREATED, DELTA, ERROR], Cause::Ended, (7, 3, Failed, estimated)),
        (vec![CREATED, DELTA, ERROR, &completed], Cause::Ended, (9, 30, Failed, exact)),
        // More than one.
        (vec![CREATED, DELTA, &completed, &completed], Cause::Ended, (9, 30, Completed, exact)),
        (vec![CREATED, DELTA, &completed, &failed], Cause::Ended, (9, 30, Completed, exact)),
        (vec![CREATED, DELTA, &completed, ERROR], Cause::Ended, (9, 30, Completed, exact)),
        // The connection breaks behind the end.
        (vec![CREATED, DELTA, &completed], Cause::Cut, (9, 30, Completed, exact)),
        (vec![CREATED, DELTA, &completed], Cause::ClientGone, (9, 30, Completed, exact)),
        // Out of order: the end first, a beginning behind it, output behind it, output told twice.
        (vec![&completed], Cause::Ended, (9, 30, Completed, exact)),
        (vec![&completed, CREATED, DELTA], Cause::Ended, (9, 30, Completed, exact)),
        (vec![DELTA, CREATED, &completed], Cause::Ended, (9, 30, Completed, exact)),
        (vec![CREATED, ITEM, DELTA], Cause::Cut, (7, 3, Cut, floor)),
        (vec![CREATED, CREATED, DELTA, ITEM], Cause::Cut, (7, 3, Cut, floor)),
    ];
    let (null, empty) = (ends("completed", "null"), ends("failed", "null"));
    rows.extend([
        (vec![CREATED, DELTA, &*completed, &*empty], Cause::Ended, (9, 30, Completed, exact)),
        (vec![CREATED, DELTA, &*empty, &*completed], Cause::Ended, (9, 30, Failed, exact)),
        (vec![&*null, CREATED, DELTA], Cause::Ended, (7, 3, Completed, estimated)),
        (vec![&*null, DELTA, &*null], Cause::Ended, (7, 3, Completed, estimated)),
    ]);
    for (pieces, cause, expected) in rows {
        assert_eq!(charged(Shape::ResponsesSse, &pieces, cause), expected, "{cause:?} {pieces:?}");
    }
    for (kind, outcome) in
        [("completed", Completed), ("incomplete", Incomplete), ("failed", Failed), ("cancelled", Cancelled)]
    {
        for (end, expected) in [
            (told(kind), (9, 30, outcome, exact)),
            (ends(kind, "null"), (7, 3, outcome, estimated)),
            (bare(kind), (7, 3, outcome, estimated)),
            (ends(kind, "{\"input_tokens\":9}"), (7, 3, outcome, estimated)),
            (ends(kind, "{\"input_tokens\":9,\"output_tokens\":0}"), (9, 0, outcome, exact)),
        ] {
            let pieces = [CREATED, DELTA, ITEM, &*end];
            assert_eq!(charged(Shape::ResponsesSse, &pieces, Cause::Ended), expected, "{pieces:?}");
        }
    }
}

/// The same for chat, whose usage comes in a chunk of its own and whose end is `[DONE]`.
#[test]
fn a_chat_stream_is_charged_by_its_end_however_that_comes() {
    use Outcome::{Completed, Cut, Failed, Refused};
    const DELTA: &str = "choices [{\"delta\":{\"content\":\"four by te\"}}],\"usage\":null";
    const USAGE: &str = "usage {\"prompt_tokens\":9,\"completion_tokens\":30}";
    const LATER: &str = "usage {\"prompt_tokens\":9,\"completion_tokens\":31}";
    const ERROR: &str = "error {\"message\":\"no\"}";
    let (exact, estimated, floor) = (Grade::Exact, Grade::Estimated, Grade::Floor);
    for (pieces, expected) in [
        (vec![], (0, 0, Refused, exact)),
        (vec![ERROR], (0, 0, Refused, exact)),
        (vec![DELTA], (7, 3, Cut, floor)),
        (vec![DELTA, "DONE"], (7, 3, Completed, estimated)),
        (vec![DELTA, USAGE, "DONE"], (9, 30, Completed, exact)),
        (vec![DELTA, USAGE], (9, 30, Cut, exact)),
        (vec![DELTA, ERROR], (7, 3, Failed, estimated)),
        (vec![DELTA, ERROR, "DONE"], (7, 3, Failed, estimated)),
        (vec![DELTA, USAGE, "DONE", "DONE"], (9, 30, Completed, exact)),
        (vec![DELTA, USAGE, USAGE, "DONE"], (9, 30, Completed, exact)),
        (vec![DELTA, USAGE, LATER, "DONE"], (9, 31, Completed, exact)),
        (vec![USAGE, DELTA, "DONE"], (9, 30, Completed, exact)),
        (vec!["DONE", USAGE, DELTA], (9, 30, Completed, exact)),
        (vec!["DONE", DELTA], (7, 3, Completed, estimated)),
    ] {
        assert_eq!(charged(Shape::ChatSse, &pieces, Cause::Ended), expected, "{pieces:?}");
    }
}
