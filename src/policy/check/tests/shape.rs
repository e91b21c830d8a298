use super::told;

const EDITS: &[(&str, &str)] = &[
    ("version: 1", "version: 2"),
    ("version: 1\n", ""),
    ("version: 1", "version: \"1\""),
    ("version: 1", "version: 1\nversion: 1"),
    ("version: 1", "version: 1\nplanz: {}"),
    ("balances:", "balence:"),
    ("prices:\n  - model: \"m*\"\n    per_million_tokens: {input: 1, output: 2}", "prices: []"),
    ("codex: {apis: [responses], unit: credit}", "codex: 5"),
    ("wallet: {per: account}", "wallet: {per: account, <<: {per: user}}"),
    ("wallet: {per: account}", "wallet: {per: team}"),
    ("wallet: {per: account}", "wallet: {per: acount}"),
    ("wallet: {per: account}", "wallet: {per: account}\n  Wallet-2: {per: user}"),
    ("wallet: {per: account}", "wallet: {per: account}\n  a234567890123456789012345678901234: {per: user}"),
    ("wallet: {per: account}", "wallet: {per: account}\n  [a]: {per: user}"),
    ("unit: credit", "unit: credit, unit: credit"),
    ("unit: credit}", "unit: credit"),
    ("version: 1", "version: *one"),
    ("version: 1", "version: 1\n---\nversion: 1"),
];

#[test]
fn what_is_no_policy_is_told_where_it_stands() {
    insta::assert_snapshot!(told(EDITS), @r##"
    "version: 1" -> "version: 2"
        1:10 version: version 2
            allowed: version 1
    "version: 1\n" -> ""
        1:1: no key `version`
            allowed: `version` must be there
    "version: 1" -> "version: \"1\""
        1:10 version: the text `1`
            allowed: a whole number of at least 1
            hint: write it without quotes
    "version: 1" -> "version: 1\nversion: 1"
        2:1 version: key `version` a second time
            allowed: each key once
            hint: the first is in line 1
    "version: 1" -> "version: 1\nplanz: {}"
        2:1 planz: unknown key `planz`
            allowed: version, prices, balances, features, plans
            hint: did you mean `plans`?
    "balances:" -> "balence:"
        5:1 balence: unknown key `balence`
            allowed: version, prices, balances, features, plans
            hint: did you mean `balances`?
    "prices:\n  - model: \"m*\"\n    per_million_tokens: {input: 1, output: 2}" -> "prices: []"
        2:9 prices: an empty list
            allowed: at least one item
    "codex: {apis: [responses], unit: credit}" -> "codex: 5"
        8:10 features.codex: the number `5`
            allowed: a mapping of keys to values
    "wallet: {per: account}" -> "wallet: {per: account, <<: {per: user}}"
        6:26 balances.wallet.<<: unknown key `<<`
            allowed: per, issue
            hint: merge keys are not read; write the keys out
    "wallet: {per: account}" -> "wallet: {per: team}"
        6:17 balances.wallet.per: the text `team`
            allowed: user, account
    "wallet: {per: account}" -> "wallet: {per: acount}"
        6:17 balances.wallet.per: the text `acount`
            allowed: user, account
            hint: did you mean `account`?
    "wallet: {per: account}" -> "wallet: {per: account}\n  Wallet-2: {per: user}"
        7:3 balances.Wallet-2: key `Wallet-2`
            allowed: a name of at most 32 of a-z, 0-9 and -, beginning with a letter, such as `plus-2`
    "wallet: {per: account}" -> "wallet: {per: account}\n  a234567890123456789012345678901234: {per: user}"
        7:3 balances.a234567890123456789012345678901234: key `a234567890123456789012345678901234`
            allowed: a name of at most 32 of a-z, 0-9 and -, beginning with a letter, such as `plus-2`
    "wallet: {per: account}" -> "wallet: {per: account}\n  [a]: {per: user}"
        7:3 balances: a key that is no word
            allowed: words as keys
    "unit: credit" -> "unit: credit, unit: credit"
        8:44 features.codex.unit: key `unit` a second time
            allowed: each key once
            hint: the first is in line 8
    "unit: credit}" -> "unit: credit"
        9:6: while parsing a flow mapping, did not find expected ',' or '}'
            allowed: one document in YAML 1.2, of bounded size and depth
    "version: 1" -> "version: *one"
        1:10: alias references unknown anchor
            allowed: one document in YAML 1.2, of bounded size and depth
    "version: 1" -> "version: 1\n---\nversion: 1"
        3:1: a second document
            allowed: one document in YAML 1.2, of bounded size and depth
    "##);
}
