use super::told;

const EDITS: &[(&str, &str)] = &[
    ("requests: 60, ", ""),
    ("requests: 60", "requests: 60, tokens: 5"),
    ("requests: 60", "requests: 0"),
    ("requests: 60", "requests: unlimited"),
    ("requests: 60", "requests: 1.5"),
    ("every: 1m, per", "per"),
    (", per: user}\n      water", "}\n      water"),
    ("every: 1m", "every: day"),
    ("every: 1m", "every: 1min"),
    ("every: 1m", "every: 1m, time_zone: UTC"),
    ("every: 1m", "every: 1m, burst: 0"),
    ("every: 1m", "every: 3653d, burst: 9007199254740991"),
    ("requests: 60, every: 1m", "concurrent: 5, every: 1m, burst: 2"),
    ("requests: 60, every: 1m", "spend: 5, every: 5h, time_zone: UTC"),
    ("requests: 60, every: 1m", "spend: 5, every: month, time_zone: Europe/Berlln"),
    ("requests: 60, every: 1m", "spend: 0, every: month, burst: 2"),
    ("name: burst", "name: Burst"),
    ("name: burst, ", ""),
];

#[test]
fn guards_have_one_limit_in_a_form_that_can_be_counted() {
    insta::assert_snapshot!(told(EDITS), @r##"
    "requests: 60, " -> ""
        13:11 plans.plus.codex.guards[0]: a guard without a limit
            allowed: exactly one of requests, tokens, concurrent, spend
            hint: a guard that limits nothing is left out, or removed by `off: true`
    "requests: 60" -> "requests: 60, tokens: 5"
        13:11 plans.plus.codex.guards[0]: a guard with requests, tokens
            allowed: exactly one of requests, tokens, concurrent, spend
            hint: make it several guards, each with a name
    "requests: 60" -> "requests: 0"
        13:35 plans.plus.codex.guards[0].requests: the number `0`
            allowed: a whole number of at least 1
            hint: 0 neither limits nor means `unlimited`; leave out what is not wanted
    "requests: 60" -> "requests: unlimited"
        13:35 plans.plus.codex.guards[0].requests: the text `unlimited`
            allowed: a whole number of at least 1
            hint: only `allow` of a window can be `unlimited`
    "requests: 60" -> "requests: 1.5"
        13:35 plans.plus.codex.guards[0].requests: the number `1.5`
            allowed: a whole number of at least 1
            hint: digits only
    "every: 1m, per" -> "per"
        13:11 plans.plus.codex.guards[0]: no key `every`
            allowed: `every` must be there
    ", per: user}\n      water" -> "}\n      water"
        13:11 plans.plus.codex.guards[0]: no key `per`
            allowed: `per` must be there
    "every: 1m" -> "every: day"
        13:46 plans.plus.codex.guards[0].every: a stretch of the calendar
            allowed: a length of time such as 1m or 24h
            hint: a bucket refills steadily; limits by the calendar are windows of a layer
    "every: 1m" -> "every: 1min"
        13:46 plans.plus.codex.guards[0].every: the text `1min`
            allowed: a length of time such as 500ms, 120s, 1m, 5h or 7d, or day, week, month
    "every: 1m" -> "every: 1m, time_zone: UTC"
        13:61 plans.plus.codex.guards[0].time_zone: `time_zone` beside `requests`, where it means nothing
            allowed: name, requests, every, burst, per
    "every: 1m" -> "every: 1m, burst: 0"
        13:57 plans.plus.codex.guards[0].burst: the number `0`
            allowed: a whole number of at least 1
            hint: 0 neither limits nor means `unlimited`; leave out what is not wanted
    "every: 1m" -> "every: 3653d, burst: 9007199254740991"
        13:60 plans.plus.codex.guards[0].burst: a burst of 9007199254740991 over 315619200000 ms
            allowed: burst × milliseconds below 2^63
            hint: a smaller burst or a shorter time
    "requests: 60, every: 1m" -> "concurrent: 5, every: 1m, burst: 2"
        13:47 plans.plus.codex.guards[0].every: `every` beside `concurrent`, where it means nothing
            allowed: name, concurrent, per
        13:58 plans.plus.codex.guards[0].burst: `burst` beside `concurrent`, where it means nothing
            allowed: name, concurrent, per
    "requests: 60, every: 1m" -> "spend: 5, every: 5h, time_zone: UTC"
        13:57 plans.plus.codex.guards[0].time_zone: a time zone beside a length of time
            allowed: a time zone beside day, week or month only
            hint: leave it out
    "requests: 60, every: 1m" -> "spend: 5, every: month, time_zone: Europe/Berlln"
        13:60 plans.plus.codex.guards[0].time_zone: unknown time zone `Europe/Berlln`
            allowed: a name such as UTC or Europe/Berlin
            hint: did you mean `Europe/Berlin`?
    "requests: 60, every: 1m" -> "spend: 0, every: month, burst: 2"
        13:32 plans.plus.codex.guards[0].spend: the number `0`
            allowed: an amount of credits above 0, such as 12 or 0.5
            hint: 0 neither limits nor means `unlimited`; leave out what is not wanted
    "name: burst" -> "name: Burst"
        13:18 plans.plus.codex.guards[0].name: the text `Burst`
            allowed: a name of at most 32 of a-z, 0-9 and -, beginning with a letter, such as `plus-2`
    "name: burst, " -> ""
        13:11 plans.plus.codex.guards[0]: no key `name`
            allowed: `name` must be there
    "##);
}
