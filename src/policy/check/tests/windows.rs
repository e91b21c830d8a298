use super::told;

const EDITS: &[(&str, &str)] = &[
    ("allow: 50", "allow: 0"),
    ("allow: 50", "allow: -5"),
    ("allow: 50", "allow: Unlimited"),
    ("allow: 50", "allow: \"50\""),
    ("allow: 50", "allow: 0.0000001"),
    ("allow: 50", "allow: 99999999999"),
    ("allow: 50, ", ""),
    ("starts: first_use", "starts: calender"),
    (", starts: first_use", ""),
    ("every: 5h", "every: day"),
    ("every: 5h, starts: first_use", "every: 5h, starts: calendar"),
    ("every: 5h", "every: 5h, time_zone: UTC"),
    ("every: 5h, starts: first_use", "every: day, starts: calendar, time_zone: Mars/Base"),
    ("windows: [{allow: 50, every: 5h, starts: first_use}]", "windows: []"),
    ("user, windows: [{allow: 50,", "user, unit: request, windows: [{allow: 1.5,"),
];

#[test]
fn windows_say_how_much_and_over_what_time() {
    insta::assert_snapshot!(told(EDITS), @r##"
    "allow: 50" -> "allow: 0"
        15:75 plans.plus.codex.waterfall[0].windows[0].allow: the number `0`
            allowed: an amount of credits above 0 (unit `credit`), or the word `unlimited`
            hint: no limit is the word `unlimited`; to give nothing, leave it out
    "allow: 50" -> "allow: -5"
        15:75 plans.plus.codex.waterfall[0].windows[0].allow: the number `-5`
            allowed: an amount of credits above 0 (unit `credit`), or the word `unlimited`
            hint: not a decimal number of credits, such as 12 or 0.5
    "allow: 50" -> "allow: Unlimited"
        15:75 plans.plus.codex.waterfall[0].windows[0].allow: the text `Unlimited`
            allowed: a number above 0 in the layer's unit, or the word `unlimited`
            hint: did you mean `unlimited`?
    "allow: 50" -> "allow: \"50\""
        15:75 plans.plus.codex.waterfall[0].windows[0].allow: the text `50`
            allowed: a number above 0 in the layer's unit, or the word `unlimited`
            hint: write it without quotes
    "allow: 50" -> "allow: 0.0000001"
        15:75 plans.plus.codex.waterfall[0].windows[0].allow: the number `0.0000001`
            allowed: an amount of credits above 0 (unit `credit`), or the word `unlimited`
            hint: finer than a micro-credit (six decimals)
    "allow: 50" -> "allow: 99999999999"
        15:75 plans.plus.codex.waterfall[0].windows[0].allow: the number `99999999999`
            allowed: an amount of credits above 0 (unit `credit`), or the word `unlimited`
            hint: more than 9007199254.740991 credits
    "allow: 50, " -> ""
        15:67 plans.plus.codex.waterfall[0].windows[0]: no key `allow`
            allowed: `allow` must be there
    "starts: first_use" -> "starts: calender"
        15:98 plans.plus.codex.waterfall[0].windows[0].starts: the text `calender`
            allowed: first_use, calendar
            hint: did you mean `calendar`?
    ", starts: first_use" -> ""
        15:67 plans.plus.codex.waterfall[0].windows[0]: no key `starts`
            allowed: `starts` must be there
    "every: 5h" -> "every: day"
        15:86 plans.plus.codex.waterfall[0].windows[0].every: a stretch of the calendar from the first use
            allowed: a length of time such as 24h or 7d
            hint: day, week and month go with `starts: calendar`
    "every: 5h, starts: first_use" -> "every: 5h, starts: calendar"
        15:86 plans.plus.codex.waterfall[0].windows[0].every: a length of time by the calendar
            allowed: day, week, month
            hint: a length of time goes with `starts: first_use`
    "every: 5h" -> "every: 5h, time_zone: UTC"
        15:101 plans.plus.codex.waterfall[0].windows[0].time_zone: a time zone where the first use starts
            allowed: allow, every, starts
            hint: only `starts: calendar` has a time zone
    "every: 5h, starts: first_use" -> "every: day, starts: calendar, time_zone: Mars/Base"
        15:120 plans.plus.codex.waterfall[0].windows[0].time_zone: unknown time zone `Mars/Base`
            allowed: a name such as UTC or Europe/Berlin
    "windows: [{allow: 50, every: 5h, starts: first_use}]" -> "windows: []"
        15:66 plans.plus.codex.waterfall[0].windows: an empty list
            allowed: at least one item
    "user, windows: [{allow: 50," -> "user, unit: request, windows: [{allow: 1.5,"
        15:90 plans.plus.codex.waterfall[0].windows[0].allow: the number `1.5`
            allowed: a whole number above 0 (unit `request`), or the word `unlimited`
            hint: digits only, at most 9007199254740991
    "##);
}

const LOOSE: &[(&str, &str)] = &[
    ("starts: first_use}]", "starts: first_use}, {allow: 40, every: 7d, starts: first_use}]"),
    ("starts: first_use}]", "starts: first_use}, {allow: 50, every: 7d, starts: first_use}]"),
    ("starts: first_use}]", "starts: first_use}, {allow: 1750, every: 7d, starts: first_use}]"),
    ("starts: first_use}]", "starts: first_use}, {allow: unlimited, every: 7d, starts: first_use}]"),
    ("starts: first_use}]", "starts: first_use}, {allow: 60, every: 300m, starts: first_use}]"),
    ("starts: first_use}]", "starts: first_use}, {allow: 50, every: 5h, starts: first_use}]"),
    (
        "every: 5h, starts: first_use}]",
        "every: day, starts: calendar}, {allow: 350, every: week, starts: calendar, time_zone: UTC}, {allow: 1550, every: month, starts: calendar}]",
    ),
];

#[test]
fn a_window_that_never_binds_is_told() {
    insta::assert_snapshot!(told(LOOSE), @r##"
    "starts: first_use}]" -> "starts: first_use}, {allow: 40, every: 7d, starts: first_use}]"
        15:67 plans.plus.codex.waterfall[0].windows[0]: a window that never binds: the one at 15:110 lasts longer and gives no more
            allowed: windows that each can be the first to run out
            hint: remove it
    "starts: first_use}]" -> "starts: first_use}, {allow: 50, every: 7d, starts: first_use}]"
        15:67 plans.plus.codex.waterfall[0].windows[0]: a window that never binds: the one at 15:110 lasts longer and gives no more
            allowed: windows that each can be the first to run out
            hint: remove it
    "starts: first_use}]" -> "starts: first_use}, {allow: 1750, every: 7d, starts: first_use}]"
        15:110 plans.plus.codex.waterfall[0].windows[1]: a window that never binds: the one at 15:67 is shorter and gives less in all that time
            allowed: windows that each can be the first to run out
            hint: remove it
    "starts: first_use}]" -> "starts: first_use}, {allow: unlimited, every: 7d, starts: first_use}]"
        15:110 plans.plus.codex.waterfall[0].windows[1]: a window that never binds: the one at 15:67 has a limit and this has none
            allowed: windows that each can be the first to run out
            hint: remove it
    "starts: first_use}]" -> "starts: first_use}, {allow: 60, every: 300m, starts: first_use}]"
        15:110 plans.plus.codex.waterfall[0].windows[1]: a window that never binds: the one at 15:67 lasts as long and gives no more
            allowed: windows that each can be the first to run out
            hint: remove it
    "starts: first_use}]" -> "starts: first_use}, {allow: 50, every: 5h, starts: first_use}]"
        15:110 plans.plus.codex.waterfall[0].windows[1]: a window that never binds: the one at 15:67 lasts as long and gives no more
            allowed: windows that each can be the first to run out
            hint: remove it
    "every: 5h, starts: first_use}]" -> "every: day, starts: calendar}, {allow: 350, every: week, starts: calendar, time_zone: UTC}, {allow: 1550, every: month, starts: calendar}]"
        15:110 plans.plus.codex.waterfall[0].windows[1]: a window that never binds: the one at 15:67 is shorter and gives less in all that time
            allowed: windows that each can be the first to run out
            hint: remove it
        15:171 plans.plus.codex.waterfall[0].windows[2]: a window that never binds: the one at 15:67 is shorter and gives less in all that time
            allowed: windows that each can be the first to run out
            hint: remove it
    "##);
}

const SAME_COUNTERS: &[(&str, &str)] = &[(
    "plans:\n",
    "plans:\n  max:\n    codex:\n      guards: [{name: included, spend: 9, every: 5h, per: user}]\n      waterfall: [{name: credits, kind: prepaid, balance: wallet}]\n",
)];

#[test]
fn two_parts_never_count_into_each_other() {
    insta::assert_snapshot!(told(SAME_COUNTERS), @r##"
    "plans:\n" -> "plans:\n  max:\n    codex:\n      guards: [{name: included, spend: 9, every: 5h, per: user}]\n      waterfall: [{name: credits, kind: prepaid, balance: wallet}]\n"
        19:18 plans.plus.codex.waterfall[0].name: the same counter as guard `included` in line 12
            allowed: a counter of its own
            hint: give one of them another name
    "##);
}
