use super::told;

const EDITS: &[(&str, &str)] = &[
    ("      waterfall:\n", "      waterfal:\n"),
    ("    codex:\n", "    codes:\n"),
    ("plans:\n", "plans:\n  free: {extends: plus, codex: {guards: []}}\n  two: {codex: {guards: []}}\n"),
    ("plans:\n", "plans:\n  max: {extends: plsu}\n"),
    ("plans:\n", "plans:\n  a: {extends: b}\n  b: {extends: c}\n  c: {extends: b}\n"),
    ("plans:\n", "plans:\n  a: {extends: a}\n"),
    ("plans:\n", "plans:\n  max: {extends: plus, codex: {guards: [{name: brust, off: true}]}}\n"),
    ("plans:\n", "plans:\n  max: {extends: plus, codex: {guards: [{name: burst, off: false}]}}\n"),
    (
        "plans:\n",
        "plans:\n  max: {extends: plus, codex: {guards: [{name: burst, off: true, requests: 5}]}}\n",
    ),
    (
        "plans:\n",
        "plans:\n  max: {extends: plus, codex: {guards: [{name: x, concurrent: 5, per: user}, {name: x, concurrent: 5, per: user}]}}\n",
    ),
    (
        "plans:\n",
        "plans:\n  max: {extends: plus, codex: {guards: [{name: included, concurrent: 5, per: user}]}}\n",
    ),
    ("plans:\n", "plans:\n  max: {codex: {waterfall: []}}\n"),
    ("plans:\n", "plans:\n  max:\n"),
];

#[test]
fn plans_extend_what_is_there() {
    insta::assert_snapshot!(told(EDITS), @r##"
    "      waterfall:\n" -> "      waterfal:\n"
        14:7 plans.plus.codex.waterfal: unknown key `waterfal`
            allowed: guards, waterfall
            hint: did you mean `waterfall`?
    "    codex:\n" -> "    codes:\n"
        11:5 plans.plus.codes: unknown feature `codes`
            allowed: extends, codex
            hint: did you mean `codex`?
    "plans:\n" -> "plans:\n  free: {extends: plus, codex: {guards: []}}\n  two: {codex: {guards: []}}\n"
        11:9 plans.two.codex: feature `codex` without a waterfall
            allowed: a waterfall of at least one layer
            hint: to leave the feature out of the plan, leave out its key
    "plans:\n" -> "plans:\n  max: {extends: plsu}\n"
        10:18 plans.max.extends: unknown plan `plsu`
            allowed: max, plus
            hint: did you mean `plus`?
    "plans:\n" -> "plans:\n  a: {extends: b}\n  b: {extends: c}\n  c: {extends: b}\n"
        11:16 plans.b.extends: plans that extend each other: b → c → b
            allowed: plans that lead to one without `extends`
    "plans:\n" -> "plans:\n  a: {extends: a}\n"
        10:16 plans.a.extends: plans that extend each other: a → a
            allowed: plans that lead to one without `extends`
    "plans:\n" -> "plans:\n  max: {extends: plus, codex: {guards: [{name: brust, off: true}]}}\n"
        10:48 plans.max.codex.guards[0].name: no guard `brust` to remove
            allowed: burst
    "plans:\n" -> "plans:\n  max: {extends: plus, codex: {guards: [{name: burst, off: false}]}}\n"
        10:60 plans.max.codex.guards[0].off: `off: false`
            allowed: off: true
            hint: a guard is on unless it is removed; leave `off` out
    "plans:\n" -> "plans:\n  max: {extends: plus, codex: {guards: [{name: burst, off: true, requests: 5}]}}\n"
        10:76 plans.max.codex.guards[0].requests: `requests` in a guard that is removed
            allowed: name, off
            hint: a guard of the same name replaces the other without `off`
    "plans:\n" -> "plans:\n  max: {extends: plus, codex: {guards: [{name: x, concurrent: 5, per: user}, {name: x, concurrent: 5, per: user}]}}\n"
        10:85 plans.max.codex.guards[1].name: the name `x` a second time
            allowed: each name once within a feature of a plan, guards and layers together
            hint: the first is in line 10
    "plans:\n" -> "plans:\n  max: {extends: plus, codex: {guards: [{name: included, concurrent: 5, per: user}]}}\n"
        16:18 plans.plus.codex.waterfall[0].name: the name `included` a second time
            allowed: each name once within a feature of a plan, guards and layers together
            hint: the first is in line 10
    "plans:\n" -> "plans:\n  max: {codex: {waterfall: []}}\n"
        10:28 plans.max.codex.waterfall: an empty list
            allowed: at least one item
    "plans:\n" -> "plans:\n  max:\n"
        10:6 plans.max: nothing
            allowed: a mapping of features, and `extends`
    "##);
}
