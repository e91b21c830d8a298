//! The way in: text to policy, and the grammar as a JSON Schema.

use serde_json::Value;

use super::check;
use super::compiled::Policy;
use super::decode::Decode;
use super::problem::{Problems, Sink};
use super::raw::Document;
use super::yaml;

/// The policy of this text, or all that is wrong with it. `file_name` is what messages call it.
pub fn parse(file_name: &str, text: &str) -> Result<Policy, Problems> {
    let mut problems = Sink::new(text);
    let document = yaml::read(text, &mut problems).and_then(|node| Document::decode(node, &mut problems));
    let policy = document.map(|document| check::check(&document, text, &mut problems));
    match policy {
        Some(policy) if problems.is_clean() => Ok(policy),
        _ => Err(problems.into_problems(file_name)),
    }
}

/// The JSON Schema (2020-12) of the policy file, for editors. It knows keys, words and ranges; what belongs together
/// and what could never matter is for [`parse`].
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    forget_null(&mut schema);
    schema
}

/// An optional key may be absent but not empty, so no `null` is allowed anywhere.
fn forget_null(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(forget_null);
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|one| one != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    members.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|one| one != "null"));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    members.remove("anyOf");
                    members.extend(only.into_iter().filter(|(key, _)| key != "description"));
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(forget_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
