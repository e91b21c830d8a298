//! Checkpoints: what they are taken of holds against them for ever, and nothing else does.

use ring::rand::SystemRandom;

use super::*;
use crate::audit::tests::{books, forger, live, report, report_of};
use crate::audit::{Invariant, Scope};
use crate::ledger::sqlite::{SqliteBooks, SqliteLedger};

fn key() -> Ed25519KeyPair {
    let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(bytes.as_ref()).unwrap()
}

fn taken(path: &std::path::Path) -> Checkpoint {
    Checkpoint::take(&SqliteBooks::open(path).unwrap(), Timestamp::from_ms(7)).unwrap()
}

#[test]
fn a_signature_is_of_one_checkpoint_under_one_key() {
    let checkpoint = Checkpoint {
        version: VERSION,
        at: Timestamp::from_ms(1),
        usage_events: 1,
        records: 2,
        balance_updates: 3,
        leaves: 4,
        root: "00".repeat(32),
        policies: Vec::new(),
    };
    let (ours, other) = (key(), key());
    let signed = checkpoint.sign(&ours);
    assert!(signed.verify(None).is_ok());
    assert!(signed.verify(Some(&hex::encode(ours.public_key()))).is_ok());
    assert_eq!(signed.verify(Some(&hex::encode(other.public_key()))), Err(Untrusted::Key));
    let text = serde_json::to_string(&signed).unwrap();
    assert_eq!(serde_json::from_str::<Signed>(&text).unwrap(), signed);
    for (change, why) in [
        (Signed { key: hex::encode(other.public_key()), ..signed.clone() }, Untrusted::Signature),
        (Signed { signature: "zz".into(), ..signed.clone() }, Untrusted::Hex),
        (
            Signed { checkpoint: Checkpoint { leaves: 5, ..signed.checkpoint.clone() }, ..signed.clone() },
            Untrusted::Signature,
        ),
        (
            Signed { checkpoint: Checkpoint { version: 2, ..signed.checkpoint.clone() }, ..signed.clone() },
            Untrusted::Version,
        ),
    ] {
        assert_eq!(change.verify(None), Err(why));
    }
}

#[tokio::test]
async fn books_hold_against_every_checkpoint_that_was_taken_of_them() {
    let (path, _folder) = books(0..4, 60).await;
    let first = taken(&path);
    assert!(first.leaves > 8);
    assert_eq!(first.policies.len(), 2);
    {
        let ledger = SqliteLedger::open(&path).unwrap();
        live(&ledger, 4..7, 60).await;
    }
    let second = taken(&path);
    assert_ne!(first.root, second.root);
    for checkpoint in [&first, &second] {
        let report = report_of(&path, Scope { checkpoint: Some(checkpoint), ..Scope::default() });
        assert!(report.holds(), "{report}");
        assert_eq!(report.checkpoint, Some(Timestamp::from_ms(7)));
    }
}

/// Somebody who changes the books and computes every hash anew is not found by the books alone, but by a checkpoint.
#[tokio::test]
async fn books_that_were_rewritten_hold_alone_and_not_against_a_checkpoint() {
    let (path, folder) = books(0..2, 60).await;
    let checkpoint = taken(&path);
    // Other books in their place, as whole as these, in which less has happened.
    let (other, _other_folder) = books(0..2, 30).await;
    std::fs::copy(&other, folder.path().join("rewritten.db")).unwrap();
    let rewritten = folder.path().join("rewritten.db");
    assert!(report(&rewritten).holds());
    let against = report_of(&rewritten, Scope { checkpoint: Some(&checkpoint), ..Scope::default() });
    assert!(against.violations.iter().all(|violation| violation.invariant == Invariant::Checkpoint));
    assert!(!against.holds());
    // A policy snapshot that is gone, with nothing that names it.
    forger(&path)
        .execute(
            "INSERT INTO policies VALUES (?1, 'version: 1')",
            [PolicyVersion::of("version: 1").0.cast_signed()],
        )
        .unwrap();
    let with_policy = taken(&path);
    forger(&path).execute("DELETE FROM policies WHERE text = 'version: 1'", []).unwrap();
    let against = report_of(&path, Scope { checkpoint: Some(&with_policy), ..Scope::default() });
    assert_eq!(against.violations_total, 1, "{against}");
}
