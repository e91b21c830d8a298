use serde_json::Value;

use super::super::schema;
use super::EXAMPLE;

/// Whether `value` fits `schema`, by the keywords that the schema of the policy uses but `pattern` and `format`.
fn fits(value: &Value, schema: &Value, root: &Value) -> bool {
    let Value::Object(rules) = schema else {
        return schema == &Value::Bool(true);
    };
    rules.iter().all(|(rule, by)| match rule.as_str() {
        "$ref" => {
            let name = by.as_str().unwrap().strip_prefix("#").unwrap();
            fits(value, root.pointer(name).unwrap(), root)
        }
        "type" => match by.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            "integer" => value.is_u64(),
            other => panic!("type {other}"),
        },
        "const" => value == by,
        "enum" => by.as_array().unwrap().contains(value),
        "anyOf" => choices(value, by, root) > 0,
        "oneOf" => choices(value, by, root) == 1,
        "required" => by.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
        "properties" => by
            .as_object()
            .unwrap()
            .iter()
            .all(|(key, schema)| value.get(key).is_none_or(|value| fits(value, schema, root))),
        "additionalProperties" => {
            let known = rules.get("properties").and_then(Value::as_object);
            let mut others = value.as_object().into_iter().flatten();
            others.all(|(key, value)| {
                known.is_some_and(|known| known.contains_key(key)) || fits(value, by, root)
            })
        }
        "items" => value.as_array().into_iter().flatten().all(|item| fits(item, by, root)),
        "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= by.as_u64().unwrap()),
        "minProperties" => value.as_object().is_none_or(|map| map.len() as u64 >= by.as_u64().unwrap()),
        "minimum" => value.as_f64().is_none_or(|number| number >= by.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= by.as_f64().unwrap()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > by.as_f64().unwrap()),
        "$schema" | "$defs" | "title" | "description" | "pattern" | "propertyNames" | "format" => true,
        other => panic!("keyword {other}"),
    })
}

fn choices(value: &Value, choices: &Value, root: &Value) -> usize {
    choices.as_array().unwrap().iter().filter(|choice| fits(value, choice, root)).count()
}

fn accepts(text: &str) -> bool {
    let schema = schema();
    fits(&serde_saphyr::from_str(text).unwrap(), &schema, &schema)
}

#[test]
fn the_schema_accepts_the_policy_that_we_ship() {
    assert!(accepts(EXAMPLE));
}

#[test]
fn the_schema_refuses_what_an_editor_should_underline() {
    for (from, to) in [
        ("version: 1", "version: 2"),
        ("version: 1\n", ""),
        ("overage:", "overige:"),
        ("burst: 20", "burst: 0"),
        ("per: account}", "per: team}"),
        ("input: 125, ", ""),
        ("{allow: 50, ", "{allow: 0, "),
        ("{allow: 50, ", "{allow: none, "),
        ("websocket: false", "websocket: true"),
        ("websocket: false", "websocket: null"),
        ("requests: 60,", "requests: 60, tokens: 5,"),
        ("concurrent: 8, ", ""),
        ("promotion, balance: launch", "promotion"),
        ("apis: [videos]", "apis: []"),
        ("extends: plus", "extends: {}"),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        assert!(!accepts(&EXAMPLE.replace(from, to)), "{to}");
    }
}

#[test]
fn nothing_in_the_schema_may_be_null() {
    assert!(!schema().to_string().contains("null"));
}
