use super::told;

const EDITS: &[(&str, &str)] = &[
    ("name: credits", "name: included"),
    ("name: included", "name: burst"),
    ("name: credits", "name: 5"),
    ("balance: wallet", "balance: walet"),
    ("balance: wallet", "balence: wallet"),
    (", balance: wallet", ""),
    ("balance: wallet", "balance: wallet, per: user, unit: request"),
    ("balance: wallet", "balance: wallet, windows: [{allow: 1, every: 1h, starts: first_use}]"),
    ("kind: prepaid", "kind: pre_paid"),
    ("kind: prepaid, ", ""),
    ("rate_limit, per: user", "rate_limit"),
    ("rate_limit, per: user", "rate_limit, per: user, unit: second"),
    (
        "        - {name: credits",
        "        - {name: more, kind: prepaid, balance: wallet}\n        - {name: credits",
    ),
    (
        "        - {name: included",
        "        - {name: early, kind: prepaid, balance: wallet}\n        - {name: included",
    ),
    (
        "        - {name: credits",
        "        - {name: calls, kind: free_tier, per: user, unit: request, windows: [{allow: 5, every: 1h, starts: first_use}]}\n        - {name: credits",
    ),
    ("allow: 50", "allow: unlimited"),
];

#[test]
fn layers_stand_where_they_can_be_reached() {
    insta::assert_snapshot!(told(EDITS), @r##"
    "name: credits" -> "name: included"
        16:18 plans.plus.codex.waterfall[1].name: the name `included` a second time
            allowed: each name once within a feature of a plan, guards and layers together
            hint: the first is in line 15
    "name: included" -> "name: burst"
        15:18 plans.plus.codex.waterfall[0].name: the name `burst` a second time
            allowed: each name once within a feature of a plan, guards and layers together
            hint: the first is in line 13
    "name: credits" -> "name: 5"
        16:18 plans.plus.codex.waterfall[1].name: the number `5`
            allowed: a name of at most 32 of a-z, 0-9 and -, beginning with a letter, such as `plus-2`
    "balance: wallet" -> "balance: walet"
        16:51 plans.plus.codex.waterfall[1].balance: unknown balance `walet`
            allowed: wallet
            hint: did you mean `wallet`?
    "balance: wallet" -> "balence: wallet"
        16:42 plans.plus.codex.waterfall[1].balence: unknown key `balence`
            allowed: name, kind, per, unit, windows, balance
            hint: did you mean `balance`?
    ", balance: wallet" -> ""
        16:11 plans.plus.codex.waterfall[1]: a layer without a source
            allowed: one of windows, balance
    "balance: wallet" -> "balance: wallet, per: user, unit: request"
        16:64 plans.plus.codex.waterfall[1].per: `per` in a layer that draws a balance
            allowed: name, kind, balance
            hint: the balance itself says whose it is
        16:76 plans.plus.codex.waterfall[1].unit: `unit` in a layer that draws a balance
            allowed: name, kind, balance
            hint: a balance gives in credits
    "balance: wallet" -> "balance: wallet, windows: [{allow: 1, every: 1h, starts: first_use}]"
        16:51 plans.plus.codex.waterfall[1].balance: windows and a balance in one layer
            allowed: one of them
            hint: make it two layers, the windows first
    "kind: prepaid" -> "kind: pre_paid"
        16:33 plans.plus.codex.waterfall[1].kind: the text `pre_paid`
            allowed: rate_limit, free_tier, promotion, entitlement, prepaid
            hint: did you mean `prepaid`?
    "kind: prepaid, " -> ""
        16:11 plans.plus.codex.waterfall[1]: no key `kind`
            allowed: `kind` must be there
    "rate_limit, per: user" -> "rate_limit"
        15:11 plans.plus.codex.waterfall[0]: no key `per`
            allowed: `per` must be there
    "rate_limit, per: user" -> "rate_limit, per: user, unit: second"
        15:63 plans.plus.codex.waterfall[0].unit: unit `second` in feature `codex`
            allowed: credit, request
    "        - {name: credits" -> "        - {name: more, kind: prepaid, balance: wallet}\n        - {name: credits"
        17:18 plans.plus.codex.waterfall[2].name: a layer that is never reached: `more` in line 16 draws the same balance
            allowed: each balance once in a waterfall
    "        - {name: included" -> "        - {name: early, kind: prepaid, balance: wallet}\n        - {name: included"
        16:18 plans.plus.codex.waterfall[1].name: layer `included` behind `early` in line 15
            allowed: windows by request, then windows by the feature's unit, then balances
            hint: move it before `early`
        17:18 plans.plus.codex.waterfall[2].name: a layer that is never reached: `early` in line 15 draws the same balance
            allowed: each balance once in a waterfall
    "        - {name: credits" -> "        - {name: calls, kind: free_tier, per: user, unit: request, windows: [{allow: 5, every: 1h, starts: first_use}]}\n        - {name: credits"
        16:18 plans.plus.codex.waterfall[1].name: layer `calls` behind `included` in line 15
            allowed: windows by request, then windows by the feature's unit, then balances
            hint: move it before `included`
    "allow: 50" -> "allow: unlimited"
        16:18 plans.plus.codex.waterfall[1].name: a layer that is never reached: `included` in line 15 gives without limit
            allowed: nothing behind an unlimited layer
    "##);
}
