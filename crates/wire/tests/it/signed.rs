//! Signed documents: their bytes for a fixed key, and that nothing else opens.

use ed25519_dalek::SigningKey;
use elevon_policy::id::ComputerId;
use elevon_policy::time::Timestamp;
use elevon_wire::channel::{TimeStatement, Trust};
use elevon_wire::signed::{NotSigned, PublicKey, Purpose, Signed};
use serde_json::{Value, json};

use crate::{golden, held};

const PURPOSES: [Purpose; 5] =
    [Purpose::Bundle, Purpose::Sheet, Purpose::Time, Purpose::Checkpoint, Purpose::Event];

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn statement() -> TimeStatement {
    TimeStatement { nonce: 42, at: Timestamp::from_millis(1_800_000_000_000) }
}

/// Ed25519 is deterministic, so the whole document is pinned: the tag, the key's name, the encoding and the signature.
#[test]
fn a_signed_document_has_these_bytes() {
    let signed = PURPOSES.map(|purpose| Signed::seal(&key(), purpose, &statement()));
    golden("signed", &json!({ "public": PublicKey::of(&key()), "documents": signed }));
    let stored: [Signed; 5] = serde_json::from_value(held("signed")["documents"].clone()).unwrap();
    for (signed, purpose) in stored.iter().zip(PURPOSES) {
        assert_eq!(signed.open::<TimeStatement>(&PublicKey::of(&key()), purpose), Ok(statement()));
    }
}

#[test]
fn a_document_opens_for_no_other_purpose() {
    for made_for in PURPOSES {
        let signed = Signed::seal(&key(), made_for, &statement());
        for opened_as in PURPOSES {
            let opened = signed.open::<TimeStatement>(&PublicKey::of(&key()), opened_as);
            assert_eq!(opened.is_ok(), made_for == opened_as, "{made_for:?} as {opened_as:?}");
        }
    }
}

/// Were the bytes parsed first, this would be an error about JSON.
#[test]
fn nothing_is_parsed_before_it_is_verified() {
    let signed = Signed::seal_bytes(&key(), Purpose::Sheet, b"{ not json".to_vec());
    let mut value = serde_json::to_value(&signed).unwrap();
    let opened = signed.open::<TimeStatement>(&PublicKey::of(&key()), Purpose::Sheet);
    assert!(matches!(opened, Err(NotSigned::Document(_))));
    value["signature"] = Value::from("AAAA");
    let unsigned: Signed = serde_json::from_value(value).unwrap();
    let opened = unsigned.open::<TimeStatement>(&PublicKey::of(&key()), Purpose::Sheet);
    assert_eq!(opened, Err(NotSigned::Signature));
}

/// A key of small order signs everything for everyone, unless verification is strict.
#[test]
fn a_weak_key_opens_nothing() {
    let identity = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let weak: PublicKey = identity.parse().unwrap();
    let mut value = serde_json::to_value(Signed::seal(&key(), Purpose::Time, &statement())).unwrap();
    value["key"] = json!(weak.id().to_string());
    // R is the identity as well, and s is zero: an equation that holds for any message.
    value["signature"] =
        json!(format!("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA{}", "A".repeat(43) + "=="));
    let forged: Signed = serde_json::from_value(value).unwrap();
    assert_eq!(forged.open::<TimeStatement>(&weak, Purpose::Time), Err(NotSigned::Signature));
}

#[test]
fn what_is_not_a_signed_document_is_refused() {
    let signed = serde_json::to_value(Signed::seal(&key(), Purpose::Time, &statement())).unwrap();
    let reads = |value: Value| serde_json::from_value::<Signed>(value).is_ok();
    assert!(reads(signed.clone()));
    for (member, value) in [
        ("key", json!("ea4a6c63e29c520")),
        ("key", json!("+a4a6c63e29c520a")),
        ("key", json!("ga4a6c63e29c520a")),
        ("body", json!("not base64!")),
        ("body", json!([1, 2, 3])),
        ("signature", json!(null)),
        ("algorithm", json!("none")),
    ] {
        let mut changed = signed.clone();
        changed[member] = value;
        assert!(!reads(changed), "{member}");
    }
}

#[test]
fn trust_reads_as_it_is_written() {
    let computer: ComputerId = "01900000-0000-7000-8000-000000000001".parse().unwrap();
    let trust = Trust { computer, server_key: PublicKey::of(&key()) };
    golden("trust", &trust);
    assert_eq!(serde_json::from_value::<Trust>(held("trust")).unwrap(), trust);
}
