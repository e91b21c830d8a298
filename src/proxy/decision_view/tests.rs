use super::*;
use crate::access::record::{Charge, Grade, Outcome};
use crate::access::{Block, Reason};
use crate::policy::compiled::{CounterKey, Scope};
use crate::proxy::sample::{DECISION, GRANT, NOW, USER};
use crate::units::{AccountId, Amount, Credits, PolicyVersion, Price, Seq, Span, Unit};

const ACCOUNT: AccountId = AccountId::from_bytes([0x11; 16]);

fn draws(covered: u64, paid: u64) -> Vec<DrawEntry> {
    let entry = |layer: &str, micros, scope, origin| DrawEntry {
        layer: layer.into(),
        amount: Amount::clamped(micros),
        unit: Unit::Credit,
        covers: Amount::clamped(micros),
        scope,
        origin,
    };
    vec![
        entry("included", covered, Scope::User, OriginEntry::Windows(vec![(CounterKey(1), NOW)])),
        entry("credits", paid, Scope::Account, OriginEntry::Grant { balance: "wallet".into(), grant: GRANT }),
        entry("credits", 1, Scope::Account, OriginEntry::Debt { balance: "wallet".into() }),
    ]
}

fn shown_json(view: &DecisionView) -> String {
    serde_json::to_string_pretty(view).unwrap()
}

fn credits(text: &str) -> Credits {
    text.parse().unwrap()
}

/// I1: the stored decision of an allowed request shows held and final.
#[test]
fn a_booked_decision_shows_held_and_final_draws() {
    let row = DecisionRow {
        revision: 1,
        size: None,
        decision: DECISION,
        seq: Seq(7),
        account: ACCOUNT,
        user: USER,
        feature: "codex".into(),
        plan: "plus".into(),
        model: "gpt-5.3-codex".into(),
        policy: PolicyVersion(0x9f2c_41d0_0000_0000),
        unit: Unit::Credit,
        held_at: NOW,
        ended_at: NOW.plus(Span::from_ms(4_321)),
        priced_by: PolicyVersion(0x9f2c_41d0_0000_0000),
        settled_at: NOW.plus(Span::from_ms(4_321)),
        revised: None,
        refunded: Credits::ZERO,
        outcome: Outcome::Completed,
        grade: Grade::Exact,
        tier: Some("default".into()),
        status: Some(200),
        estimate: Quantities { input_tokens: 120, output_tokens: 900, ..Quantities::default() },
        used: Quantities {
            input_tokens: 117,
            cached_input_tokens: 64,
            output_tokens: 640,
            ..Quantities::default()
        },
        price: Price::FREE,
        held: draws(8_000_000, 4_500_000),
        draws: draws(8_000_000, 250_000),
        charge: Charge {
            gross: credits("8.350001"),
            covered: credits("8"),
            forgiven: credits("0.1"),
            excess: Credits::ZERO,
            charged: credits("0.250001"),
        },
    };
    insta::assert_snapshot!(shown_json(&DecisionView::ended(&row)));
}

#[test]
fn a_decision_in_flight_shows_what_it_holds() {
    let demand = Demand {
        quantities: Quantities { input_tokens: 120, output_tokens: 900, ..Quantities::default() },
        ..Demand::nothing()
    };
    let running = Running {
        decision: DECISION,
        user: USER,
        feature: "codex",
        model: "gpt-5.3-codex",
        held_at: NOW,
        expires_at: NOW.plus(Span::from_seconds(120)),
        demand: &demand,
        draws: &draws(8_000_000, 4_500_000)[..2],
    };
    insta::assert_snapshot!(shown_json(&DecisionView::in_flight(&running)));
}

#[test]
fn a_logged_block_shows_why_and_holds_nothing() {
    let row = BlockRow {
        decision: DECISION,
        at: NOW,
        account: ACCOUNT,
        user: USER,
        feature: "codex".into(),
        model: "gpt-5.3-codex".into(),
        policy: PolicyVersion(0x9f2c_41d0_0000_0000),
        plan: Some("plus".into()),
        tier: None,
        size: None,
        estimate: Quantities { input_tokens: 120, output_tokens: 900, ..Quantities::default() },
        block: Block {
            binding: Some("included".into()),
            next: Some(NOW.plus(Span::from_seconds(3_600))),
            need: Some(credits("12.5")),
            have: Some(credits("3")),
            ..Block::because(Reason::LimitReached)
        },
        count: 4,
    };
    insta::assert_snapshot!(shown_json(&DecisionView::blocked(&row)));
}
