//! Receipts of every call of a few lives, and what becomes of those that were changed.

use ring::rand::SystemRandom;
use ring::signature::KeyPair;
use serde_json::Value;

use super::*;
use crate::audit::tests::{books, read};
use crate::ledger::sqlite::SqliteBooks;

fn key() -> Ed25519KeyPair {
    let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(bytes.as_ref()).unwrap()
}

/// The receipts of some of the calls in books.
async fn receipts(every: usize) -> (Vec<Receipt>, Ed25519KeyPair) {
    let (path, _folder) = books(0..3, 80).await;
    let (books, key) = (SqliteBooks::open(&path).unwrap(), key());
    let events = books.events(0, 10_000).unwrap();
    let make = |event: &crate::ledger::books::BookedEvent| {
        Receipt::make(&books, event.decision, &key, Timestamp::from_ms(5), true).unwrap()
    };
    (events.iter().step_by(every).map(make).collect(), key)
}

#[tokio::test]
async fn a_receipt_of_every_call_is_verified_by_the_file_and_the_key_alone() {
    let (receipts, ours) = receipts(1).await;
    assert!(receipts.len() > 60);
    let trusted = hex::encode(ours.public_key());
    for receipt in &receipts {
        let text = serde_json::to_string(receipt).unwrap();
        let receipt: Receipt = serde_json::from_str(&text).unwrap();
        let told = receipt.verify(Some(&trusted), &read).unwrap_or_else(|why| panic!("{why}: {text}"));
        assert_eq!(told.charged, receipt.told.charged);
        let without = Receipt { policy: None, ..receipt.clone() };
        assert!(without.verify(Some(&trusted), &read).is_ok());
        let other = hex::encode(key().public_key());
        assert!(matches!(receipt.verify(Some(&other), &read), Err(Unproved::Checkpoint(_))));
    }
    let has = |what: fn(&Receipt) -> bool| receipts.iter().any(what);
    assert!(has(|receipt| receipt.monetization_events.len() > 1), "a corrected call");
    assert!(has(|receipt| receipt.balances.len() > 1), "a call that two balances paid");
    assert!(has(|receipt| receipt.rows_after.is_empty()), "an account's newest record");
}

/// Whatever is changed in a receipt, it proves nothing any more.
#[tokio::test]
async fn a_receipt_that_was_changed_anywhere_is_refused() {
    let (receipts, ours) = receipts(23).await;
    let trusted = hex::encode(ours.public_key());
    for receipt in receipts {
        let whole = serde_json::to_value(&receipt).unwrap();
        let mut pointers = Vec::new();
        leaves(&whole, String::new(), &mut pointers);
        for pointer in pointers {
            let mut changed = whole.clone();
            change(changed.pointer_mut(&pointer).unwrap());
            let refused = serde_json::from_value::<Receipt>(changed)
                .map_or(true, |changed| changed.verify(Some(&trusted), &read).is_err());
            assert!(refused, "{pointer} of {whole:#}");
        }
    }
}

fn leaves(value: &Value, pointer: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                leaves(member, format!("{pointer}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                leaves(item, format!("{pointer}/{place}"), found);
            }
        }
        _ => found.push(pointer),
    }
}

fn change(value: &mut Value) {
    *value = match value {
        Value::Number(number) => (number.as_i64().unwrap_or_default() + 1).into(),
        Value::String(text) => {
            let (rest, last) = text.split_at(text.len() - 1);
            format!("{rest}{}", if last == "1" { "0" } else { "1" }).into()
        }
        _ => "t:1".into(),
    };
}
