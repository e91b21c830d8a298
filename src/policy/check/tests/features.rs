use super::told;

const EDITS: &[(&str, &str)] = &[
    ("[responses]", "[]"),
    ("[responses]", "[responses, responses]"),
    ("apis: [responses], ", ""),
    ("[responses]", "[response]"),
    ("unit: credit}", "unit: credit}\n  other: {apis: [responses], unit: credit}"),
    ("unit: credit}", "unit: credit}\n  extends: {apis: [chat], unit: credit}"),
    ("unit: credit}", "unit: second}"),
    ("unit: credit}", "unit: euro}"),
    ("unit: credit}", "unit: credit, when_exhausted: stop, websocket: true}"),
    ("unit: credit}", "unit: credit, when_exhausted: go}"),
    ("unit: credit}", "unit: credit, websocket: yes}"),
    ("unit: credit}", "unit: credit, overage: {forgive: unlimited, debt: -1}}"),
    (
        "unit: credit}\nplans:",
        "unit: credit}\n  film: {apis: [videos], unit: second, overage: {debt: 5}}\nplans:\n  film: {film: {waterfall: [{name: daily, kind: free_tier, per: user, windows: [{allow: 5, every: 1h, starts: first_use}]}]}}",
    ),
    ("unit: credit}", "unit: credit, clamp: {minimum_output_tokens: 0}}"),
    ("unit: credit}", "unit: credit, deadlines: {request: 0s}}"),
    (
        "unit: credit}",
        "unit: credit}\n  film: {apis: [videos], unit: token, clamp: {minimum_output_tokens: 1}}",
    ),
    ("unit: credit}", "unit: credit}\n  film: {apis: [videos], unit: second, when_exhausted: stop}"),
];

#[test]
fn features_own_their_apis_and_use_what_is_built() {
    insta::assert_snapshot!(told(EDITS), @r##"
    "[responses]" -> "[]"
        8:17 features.codex.apis: an empty list
            allowed: at least one item
    "[responses]" -> "[responses, responses]"
        8:29 features.codex.apis[1]: an API that feature `codex` has already
            allowed: each API in one feature, once
    "apis: [responses], " -> ""
        8:10 features.codex: no key `apis`
            allowed: `apis` must be there
    "[responses]" -> "[response]"
        8:18 features.codex.apis[0]: the text `response`
            allowed: responses, chat, videos
            hint: did you mean `responses`?
    "unit: credit}" -> "unit: credit}\n  other: {apis: [responses], unit: credit}"
        9:18 features.other.apis[0]: an API that feature `codex` has already
            allowed: each API in one feature, once
    "unit: credit}" -> "unit: credit}\n  extends: {apis: [chat], unit: credit}"
        9:3 features.extends: a feature named `extends`
            allowed: a name that no key of a plan has
    "unit: credit}" -> "unit: second}"
        8:36 features.codex.unit: unit `second`
            allowed: a unit that every API of the feature counts in
            hint: responses and chat have no seconds
    "unit: credit}" -> "unit: euro}"
        8:36 features.codex.unit: the text `euro`
            allowed: request, input_token, output_token, token, second, credit
    "unit: credit}" -> "unit: credit, when_exhausted: stop, websocket: true}"
        8:77 features.codex.websocket: WebSocket, which is not built yet
            allowed: false
            hint: clients fall back to streams over HTTP
    "unit: credit}" -> "unit: credit, when_exhausted: go}"
        8:60 features.codex.when_exhausted: the text `go`
            allowed: finish, stop
    "unit: credit}" -> "unit: credit, websocket: yes}"
        8:55 features.codex.websocket: the text `yes`
            allowed: true, false
    "unit: credit}" -> "unit: credit, overage: {forgive: unlimited, debt: -1}}"
        8:63 features.codex.overage.forgive: the text `unlimited`
            allowed: an amount of credits such as 12 or 0.5, or 0 for none
            hint: only `allow` of a window can be `unlimited`
        8:80 features.codex.overage.debt: the number `-1`
            allowed: an amount of credits such as 12 or 0.5, or 0 for none
            hint: not a decimal number of credits, such as 12 or 0.5
    "unit: credit}\nplans:" -> "unit: credit}\n  film: {apis: [videos], unit: second, overage: {debt: 5}}\nplans:\n  film: {film: {waterfall: [{name: daily, kind: free_tier, per: user, windows: [{allow: 5, every: 1h, starts: first_use}]}]}}"
        9:56 features.film.overage.debt: a debt where no plan draws `film` from a balance
            allowed: a debt beside a layer with `balance`
            hint: leave `debt` out: what no window covers is forgiven up to `forgive`
    "unit: credit}" -> "unit: credit, clamp: {minimum_output_tokens: 0}}"
        8:75 features.codex.clamp.minimum_output_tokens: the number `0`
            allowed: a whole number of at least 1
            hint: 0 neither limits nor means `unlimited`; leave out what is not wanted
    "unit: credit}" -> "unit: credit, deadlines: {request: 0s}}"
        8:65 features.codex.deadlines.request: the text `0s`
            allowed: a length of time such as 500ms, 120s, 1m, 5h or 7d
            hint: 0 is no time at all
    "unit: credit}" -> "unit: credit}\n  film: {apis: [videos], unit: token, clamp: {minimum_output_tokens: 1}}"
        9:32 features.film.unit: unit `token`
            allowed: a unit that every API of the feature counts in
            hint: videos have no tokens
        9:46 features.film.clamp: a clamp on output tokens where no API has any
            allowed: a clamp beside responses or chat
            hint: leave it out
    "unit: credit}" -> "unit: credit}\n  film: {apis: [videos], unit: second, when_exhausted: stop}"
        9:56 features.film.when_exhausted: `stop` where no API has streams
            allowed: `stop` beside responses or chat
            hint: leave it out
    "##);
}
