use super::told;

const EDITS: &[(&str, &str)] = &[
    ("wallet: {per: account}", "wallet: {per: account, issue: {amount: 0}}"),
    ("wallet: {per: account}", "wallet: {per: account, issue: {amount: 0.0000001}}"),
    (
        "wallet: {per: account}",
        "wallet: {per: account, issue: {amount: 1, from: \"2026-12-31T00:00:00Z\", until: \"2026-11-01T00:00:00Z\"}}",
    ),
    (
        "wallet: {per: account}",
        "wallet: {per: account, issue: {amount: 1, from: 2026-12-31, until: \"2026-13-01T00:00:00Z\"}}",
    ),
    ("wallet: {per: account}", "wallet: {per: account, issue: {amount: 1, from: \"2026-12-31T00:00:00\"}}"),
    ("wallet: {per: account}", "wallet: {per: account, issue: {amount: 1, expires_after: 0d}}"),
    ("wallet: {per: account}", "wallet: {per: account, issue: {amount: 1, expires_after: 30}}"),
    ("wallet: {per: account}", "wallet: {per: account, issue: {amount: 1, expires_after: 4w}}"),
    ("wallet: {per: account}", "wallet: {per: account, issue: {amount: 1, expires_after: 4000d}}"),
    ("wallet: {per: account}", "wallet: {per: account}\n  gift: {per: user}"),
];

#[test]
fn balances_are_issued_within_reason_and_drawn() {
    insta::assert_snapshot!(told(EDITS), @r##"
    "wallet: {per: account}" -> "wallet: {per: account, issue: {amount: 0}}"
        6:42 balances.wallet.issue.amount: the number `0`
            allowed: an amount of credits above 0, such as 12 or 0.5
            hint: 0 neither limits nor means `unlimited`; leave out what is not wanted
    "wallet: {per: account}" -> "wallet: {per: account, issue: {amount: 0.0000001}}"
        6:42 balances.wallet.issue.amount: the number `0.0000001`
            allowed: an amount of credits above 0, such as 12 or 0.5
            hint: finer than a micro-credit (six decimals)
    "wallet: {per: account}" -> "wallet: {per: account, issue: {amount: 1, from: \"2026-12-31T00:00:00Z\", until: \"2026-11-01T00:00:00Z\"}}"
        6:82 balances.wallet.issue.until: an end at 2026-11-01T00:00:00.000Z and a start at 2026-12-31T00:00:00.000Z
            allowed: `until` after `from`
    "wallet: {per: account}" -> "wallet: {per: account, issue: {amount: 1, from: 2026-12-31, until: \"2026-13-01T00:00:00Z\"}}"
        6:51 balances.wallet.issue.from: the text `2026-12-31`
            allowed: an instant as RFC 3339 writes it, such as "2026-11-01T00:00:00Z"
            hint: with time and zone: `2026-12-31T00:00:00Z`
        6:70 balances.wallet.issue.until: the text `2026-13-01T00:00:00Z`
            allowed: an instant as RFC 3339 writes it, such as "2026-11-01T00:00:00Z"
    "wallet: {per: account}" -> "wallet: {per: account, issue: {amount: 1, from: \"2026-12-31T00:00:00\"}}"
        6:51 balances.wallet.issue.from: the text `2026-12-31T00:00:00`
            allowed: an instant as RFC 3339 writes it, such as "2026-11-01T00:00:00Z"
            hint: with time and zone: `2026-12-31T00:00:00Z`
    "wallet: {per: account}" -> "wallet: {per: account, issue: {amount: 1, expires_after: 0d}}"
        6:60 balances.wallet.issue.expires_after: the text `0d`
            allowed: a length of time such as 500ms, 120s, 1m, 5h or 7d
            hint: 0 is no time at all
    "wallet: {per: account}" -> "wallet: {per: account, issue: {amount: 1, expires_after: 30}}"
        6:60 balances.wallet.issue.expires_after: the number `30`
            allowed: a length of time such as 500ms, 120s, 1m, 5h or 7d
            hint: with a unit: 30s, say
    "wallet: {per: account}" -> "wallet: {per: account, issue: {amount: 1, expires_after: 4w}}"
        6:60 balances.wallet.issue.expires_after: the text `4w`
            allowed: a length of time such as 500ms, 120s, 1m, 5h or 7d
            hint: count a week as 7d
    "wallet: {per: account}" -> "wallet: {per: account, issue: {amount: 1, expires_after: 4000d}}"
        6:60 balances.wallet.issue.expires_after: the text `4000d`
            allowed: a length of time such as 500ms, 120s, 1m, 5h or 7d
            hint: at most 3653d
    "wallet: {per: account}" -> "wallet: {per: account}\n  gift: {per: user}"
        7:3 balances.gift: balance `gift` that no plan draws
            allowed: balances that a waterfall names
            hint: add a layer such as {name: gift, kind: prepaid, balance: gift}, or remove it
    "##);
}
