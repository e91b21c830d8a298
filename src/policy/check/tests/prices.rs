use super::told;

const EDITS: &[(&str, &str)] = &[
    ("{input: 1, output: 2}", "{input: 1}"),
    ("{input: 1, output: 2}", "{input: -1, output: 2}"),
    ("{input: 1, output: 2}", "{input: 1e3, output: .5}"),
    ("{input: 1, output: 2}", "{input: 0.0000001, output: 1234567890}"),
    ("{input: 1, output: 2}", "{input: \"1\", output: unlimited}"),
    ("{input: 1, output: 2}", "{input: 1, output: 2, cashed_input: 1}"),
    ("    per_million_tokens: {input: 1, output: 2}\n", ""),
    ("    per_million_tokens: {input: 1, output: 2}\n", "    per_second: {720x1280: 1}\n"),
    ("{input: 1, output: 2}\n", "{input: 1, output: 2}\n    per_second: {720x1280: 1}\n"),
    ("\"m*\"", "\"m*x\""),
    ("\"m*\"", "\"\""),
    ("\"m*\"", "5"),
    (
        "{input: 1, output: 2}\n",
        "{input: 1, output: 2}\n  - model: \"mini*\"\n    per_million_tokens: {input: 1, output: 2}\n",
    ),
    ("{input: 1, output: 2}\n", "{input: 1, output: 2}\n    tiers: {default: 2, flex: 0, PRIORITY: 3}\n"),
    ("{input: 1, output: 2}\n", "{input: 1, output: 2}\n    tiers: {}\n"),
    (
        "{input: 1, output: 2}\n",
        "{input: 1, output: 2}\n    long_context: {over_input_tokens: 0, multiply: {input: 2}}\n",
    ),
    ("{input: 1, output: 2}\n", "{input: 1, output: 2}\n    per_tool_call: {web search: 1}\n"),
    ("responses", "videos"),
];

#[test]
fn prices_that_cannot_be_read_or_cannot_apply_are_told() {
    insta::assert_snapshot!(told(EDITS), @r##"
    "{input: 1, output: 2}" -> "{input: 1}"
        4:25 prices[0].per_million_tokens: no key `output`
            allowed: `output` must be there
    "{input: 1, output: 2}" -> "{input: -1, output: 2}"
        4:33 prices[0].per_million_tokens.input: the number `-1`
            allowed: a price in credits such as 43.75, or 0 for free
            hint: not a decimal number of at most nine digits before and six behind the point
    "{input: 1, output: 2}" -> "{input: 1e3, output: .5}"
        4:33 prices[0].per_million_tokens.input: the number `1e3`
            allowed: a price in credits such as 43.75, or 0 for free
            hint: not a decimal number of at most nine digits before and six behind the point
        4:46 prices[0].per_million_tokens.output: the number `.5`
            allowed: a price in credits such as 43.75, or 0 for free
            hint: not a decimal number of at most nine digits before and six behind the point
    "{input: 1, output: 2}" -> "{input: 0.0000001, output: 1234567890}"
        4:33 prices[0].per_million_tokens.input: the number `0.0000001`
            allowed: a price in credits such as 43.75, or 0 for free
            hint: not a decimal number of at most nine digits before and six behind the point
        4:52 prices[0].per_million_tokens.output: the number `1234567890`
            allowed: a price in credits such as 43.75, or 0 for free
            hint: not a decimal number of at most nine digits before and six behind the point
    "{input: 1, output: 2}" -> "{input: \"1\", output: unlimited}"
        4:33 prices[0].per_million_tokens.input: the text `1`
            allowed: a price in credits such as 43.75, or 0 for free
            hint: write it without quotes
        4:46 prices[0].per_million_tokens.output: the text `unlimited`
            allowed: a price in credits such as 43.75, or 0 for free
            hint: only `allow` of a window can be `unlimited`
    "{input: 1, output: 2}" -> "{input: 1, output: 2, cashed_input: 1}"
        4:47 prices[0].per_million_tokens.cashed_input: unknown key `cashed_input`
            allowed: input, cached_input, cache_write, output
            hint: did you mean `cached_input`?
    "    per_million_tokens: {input: 1, output: 2}\n" -> ""
        3:5 prices[0]: no price by token or by second
            allowed: one of per_million_tokens, per_second
    "    per_million_tokens: {input: 1, output: 2}\n" -> "    per_second: {720x1280: 1}\n"
        3:12 prices[0].model: a price by second that never applies: no feature has the API videos
            allowed: prices in what a feature's API counts
    "{input: 1, output: 2}\n" -> "{input: 1, output: 2}\n    per_second: {720x1280: 1}\n"
        3:5 prices[0]: prices by token and by second in one row
            allowed: one of per_million_tokens, per_second
    "\"m*\"" -> "\"m*x\""
        3:12 prices[0].model: `m*x`
            allowed: the name of a model, or its beginning and one `*` at the end
    "\"m*\"" -> "\"\""
        3:12 prices[0].model: ``
            allowed: the name of a model, or its beginning and one `*` at the end
    "\"m*\"" -> "5"
        3:12 prices[0].model: the number `5`
            allowed: a text
            hint: put it in quotes
    "{input: 1, output: 2}\n" -> "{input: 1, output: 2}\n  - model: \"mini*\"\n    per_million_tokens: {input: 1, output: 2}\n"
        5:12 prices[1].model: a price that never applies: the row in line 3 matches first
            allowed: a model that no earlier row matches
            hint: put the narrower pattern first
    "{input: 1, output: 2}\n" -> "{input: 1, output: 2}\n    tiers: {default: 2, flex: 0, PRIORITY: 3}\n"
        5:13 prices[0].tiers.default: a multiplier for `default`, which is always 1
            allowed: other tiers
            hint: leave it out
        5:31 prices[0].tiers.flex: the number `0`
            allowed: a multiplier above 0, such as 1.5
            hint: what is free has a row of its own with the price 0
        5:34 prices[0].tiers.PRIORITY: key `PRIORITY`
            allowed: a word of at most 32 of a-z, 0-9 and _, beginning with a letter, such as `web_search`
    "{input: 1, output: 2}\n" -> "{input: 1, output: 2}\n    tiers: {}\n"
        5:12 prices[0].tiers: an empty mapping
            allowed: at least one key
    "{input: 1, output: 2}\n" -> "{input: 1, output: 2}\n    long_context: {over_input_tokens: 0, multiply: {input: 2}}\n"
        5:39 prices[0].long_context.over_input_tokens: the number `0`
            allowed: a whole number of at least 1
            hint: 0 neither limits nor means `unlimited`; leave out what is not wanted
    "{input: 1, output: 2}\n" -> "{input: 1, output: 2}\n    per_tool_call: {web search: 1}\n"
        5:21 prices[0].per_tool_call.web search: key `web search`
            allowed: a word of at most 32 of a-z, 0-9 and _, beginning with a letter, such as `web_search`
    "responses" -> "videos"
        3:12 prices[0].model: a price by token that never applies: no feature has the API responses or chat
            allowed: prices in what a feature's API counts
    "##);
}

const EDITS_OF_VIDEOS: &[(&str, &str)] = &[(
    "{input: 1, output: 2}\n",
    "{input: 1, output: 2}\n  - model: \"v\"\n    per_second: {720: 1, 1280x720: free}\n    tiers: {flex: 2}\n    long_context: {over_input_tokens: 1, multiply: {}}\n    per_tool_call: {web_search: 1}\n",
)];

#[test]
fn what_prices_no_seconds_is_told() {
    insta::assert_snapshot!(told(EDITS_OF_VIDEOS), @r##"
    "{input: 1, output: 2}\n" -> "{input: 1, output: 2}\n  - model: \"v\"\n    per_second: {720: 1, 1280x720: free}\n    tiers: {flex: 2}\n    long_context: {over_input_tokens: 1, multiply: {}}\n    per_tool_call: {web_search: 1}\n"
        5:12 prices[1].model: a price by second that never applies: no feature has the API videos
            allowed: prices in what a feature's API counts
        6:18 prices[1].per_second.720: key `720`
            allowed: a size in pixels, such as `1280x720`
        6:36 prices[1].per_second.1280x720: the text `free`
            allowed: a price in credits such as 43.75, or 0 for free
        7:12 prices[1].tiers: `tiers` in a row by second, where it never applies
            allowed: model, per_second, per_request
            hint: leave it out
        8:19 prices[1].long_context: `long_context` in a row by second, where it never applies
            allowed: model, per_second, per_request
            hint: leave it out
        9:20 prices[1].per_tool_call: `per_tool_call` in a row by second, where it never applies
            allowed: model, per_second, per_request
            hint: leave it out
    "##);
}
