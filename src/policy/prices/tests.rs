use super::super::load::parse;
use super::*;

/// The rows of design section 7, and one with everything else a row can have.
fn book() -> PriceBook {
    let text = include_str!("../../../config/policy.yaml");
    let more = r#"prices:
  - model: "exact"
    per_million_tokens: {input: 10, cache_write: 12.5, output: 20}
    per_request: 0.25
    per_tool_call: {web_search: 0.5}
    tiers: {flex: 0.5}
    long_context: {over_input_tokens: 100, multiply: {input: 3}}
"#;
    parse("p", &text.replacen("prices:\n", more, 1)).unwrap().prices
}

fn tokens(input: u64, cached: u64, output: u64) -> Quantities {
    Quantities {
        input_tokens: input,
        cached_input_tokens: cached,
        output_tokens: output,
        ..Quantities::default()
    }
}

/// Micro-credits.
fn cost(model: &str, quantities: &Quantities) -> u64 {
    let (price, fit) = book().row(model).unwrap().price(quantities, None, None).unwrap();
    assert_eq!(fit, TierFit::Listed);
    price.ceil().unwrap().micros()
}

#[test]
fn the_first_row_that_matches_wins_and_no_row_is_no_price() {
    let book = book();
    let place = |model: &str| {
        let row = book.row(model)?;
        book.rows.iter().position(|other| std::ptr::eq(other, row))
    };
    for (model, expected) in [
        ("exact", Some(0)),
        ("exactly", None),
        ("gpt-5.3-codex", Some(1)),
        ("gpt-5.3-codex-max", Some(1)),
        ("gpt-5.5-2026-10-01", Some(2)),
        ("sora-2-pro", Some(3)),
        ("sora-2", Some(4)),
        ("gpt-5.3", None),
        ("GPT-5.5", None),
        ("", None),
    ] {
        assert_eq!(place(model), expected, "{model}");
    }
}

#[test]
fn cached_and_written_tokens_are_parts_of_the_input_at_their_own_rates() {
    assert_eq!(cost("gpt-5.3-codex", &tokens(100_000, 0, 0)), 4_375_000);
    assert_eq!(cost("gpt-5.3-codex", &tokens(1000, 400, 10)), 600 * 43_750 / 1000 + 400 * 4375 / 1000 + 3500);
    // Where the row names no rate for the cache, the input's holds.
    assert_eq!(cost("exact", &tokens(10, 4, 1)), 250_000 + 100 + 20);
    let written = Quantities { cache_write_tokens: 4, ..tokens(10, 2, 0) };
    assert_eq!(cost("exact", &written), 250_000 + 6 * 10 + 50);
    // More cached than there is counts as all of it.
    assert_eq!(cost("gpt-5.3-codex", &tokens(1000, 5000, 0)), 4375);
}

#[test]
fn a_long_prompt_is_one_over_the_threshold() {
    let per_token = |input: u64, milli: u64| (input * milli).div_ceil(1000);
    assert_eq!(cost("gpt-5.3-codex", &tokens(272_000, 0, 0)), per_token(272_000, 43_750));
    assert_eq!(cost("gpt-5.3-codex", &tokens(272_001, 0, 0)), per_token(272_001, 87_500));
    assert_eq!(cost("gpt-5.3-codex", &tokens(272_001, 272_001, 10)), per_token(272_001, 8750) + 5250);
    // The parts of the input go with the input; what is not named stays.
    assert_eq!(cost("exact", &tokens(101, 1, 1)), 250_000 + 101 * 30 + 20);
}

#[test]
fn an_unlisted_tier_costs_the_highest_and_says_so() {
    let book = book();
    for (model, tier, micros, fit) in [
        ("gpt-5.3-codex", None, 350, TierFit::Listed),
        ("gpt-5.3-codex", Some("default"), 350, TierFit::Listed),
        ("gpt-5.3-codex", Some("priority"), 700, TierFit::Listed),
        ("gpt-5.3-codex", Some("flex"), 175, TierFit::Listed),
        ("gpt-5.3-codex", Some("scale"), 700, TierFit::Unlisted),
        ("gpt-5.5", Some("priority"), 750, TierFit::Unlisted),
        // A row whose tiers are all cheaper: default is the highest. What is charged once is not multiplied.
        ("exact", Some("scale"), 250_020, TierFit::Unlisted),
        ("exact", Some("flex"), 250_010, TierFit::Listed),
    ] {
        let (price, found) = book.row(model).unwrap().price(&tokens(0, 0, 1), None, tier).unwrap();
        assert_eq!((price.ceil().unwrap().micros(), found), (micros, fit), "{model} {tier:?}");
    }
}

#[test]
fn hosted_tools_are_charged_by_the_call() {
    let mut quantities = tokens(0, 0, 0);
    quantities.tool_calls.push((Arc::from("web_search"), 3));
    quantities.tool_calls.push((Arc::from("unpriced_tool"), 7));
    assert_eq!(cost("exact", &quantities), 250_000 + 3 * 500_000);
}

#[test]
fn seconds_are_priced_by_size_and_an_unknown_size_costs_the_highest() {
    let quantities = Quantities { seconds: 8, ..Quantities::default() };
    let book = book();
    for (model, size, micros) in [
        ("sora-2", Some("720x1280"), 20_000_000),
        ("sora-2-pro", Some("1280x720"), 60_000_000),
        ("sora-2-pro", Some("1792x1024"), 100_000_000),
        ("sora-2-pro", Some("4096x4096"), 100_000_000),
        ("sora-2-pro", None, 100_000_000),
    ] {
        let (price, _) = book.row(model).unwrap().price(&quantities, size, None).unwrap();
        assert_eq!(price.ceil().unwrap().micros(), micros, "{model} {size:?}");
    }
}
