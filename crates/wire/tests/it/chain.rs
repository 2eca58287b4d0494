//! The chain of events: its bytes, and that whatever is done to it is seen.

use elevon_policy::application::Sha256;
use elevon_policy::event::{Event, What};
use elevon_policy::id::ComputerId;
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use elevon_wire::chain::{Broken, Checkpoint, Link, Record, follow, head};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::golden;

fn event(n: usize) -> Event {
    let name = Text::new(format!("name {n}"));
    Event::new(Timestamp::from_millis(1_800_000_000_000), What::AccountSignInFailed { name })
}

/// A chain of so many events.
fn chain(length: usize) -> Vec<Vec<u8>> {
    let mut at = ChainHead::START;
    let mut records = Vec::new();
    for n in 0..length {
        let record = Record::encode(at, &event(n));
        at = head(at, &record);
        records.push(record);
    }
    records
}

/// How far one can follow, and what stops it.
fn walk(records: &[Vec<u8>]) -> (u64, Option<Broken>) {
    let mut at = ChainHead::START;
    for record in records {
        match follow(at, record) {
            Ok((next, _)) => at = next,
            Err(broken) => return (at.number, Some(broken)),
        }
    }
    (at.number, None)
}

#[test]
fn a_record_has_these_bytes() {
    let records = chain(2);
    let last = records.iter().fold(ChainHead::START, |at, record| follow(at, record).unwrap().0);
    let values: Vec<Value> = records.iter().map(|record| serde_json::from_slice(record).unwrap()).collect();
    golden("chain", &json!({ "records": values, "head": last }));
    assert!(
        records[0].starts_with(br#"{"after":{"number":0,"digest":"0000"#),
        "the order of keys is part of the bytes"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_taken_out_doubled_or_moved_is_seen(length in 2usize..8, at in 0usize..8, to in 0usize..8) {
        let whole = chain(length);
        let (at, to) = (at % length, to % length);
        prop_assert_eq!(walk(&whole), (length as u64, None));
        let mut doubled = whole.clone();
        doubled.insert(at, whole[at].clone());
        prop_assert!(walk(&doubled).1.is_some());
        let mut swapped = whole.clone();
        swapped.swap(at, to);
        prop_assert_eq!(walk(&swapped).1.is_some(), at != to);
        let mut cut = whole;
        cut.remove(at);
        // A missing tail is not seen by the chain itself: that is what the heads on sheets and checkpoints are for.
        prop_assert_eq!(walk(&cut).1.is_some(), at != length - 1);
    }

    #[test]
    fn any_changed_byte_is_seen_by_the_next_record(length in 2usize..5, at in 0usize..4, byte in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut changed = chain(length);
        let at = at % (length - 1);
        let byte = byte.index(changed[at].len());
        changed[at][byte] ^= 1 << bit;
        let (number, broken) = walk(&changed);
        prop_assert!(broken.is_some() && number <= at as u64 + 1);
    }

    #[test]
    fn whatever_arrives_is_refused_calmly(bytes in any::<Vec<u8>>(), number in any::<u64>()) {
        let at = ChainHead { number, digest: Sha256([1; 32]) };
        prop_assert!(follow(at, &bytes).is_err());
    }
}

#[test]
fn the_last_number_is_refused_calmly() {
    let end = ChainHead { number: u64::MAX, digest: Sha256([1; 32]) };
    let record = Record::encode(ChainHead::START, &event(1));
    assert!(matches!(follow(end, &record), Err(Broken::Number { .. })));
}

#[test]
fn a_checkpoint_has_these_bytes() {
    let head = |number, byte| ChainHead { number, digest: Sha256([byte; 32]) };
    let checkpoint = Checkpoint {
        number: 3,
        at: Timestamp::from_millis(1_700_000_000_000),
        before: Sha256([1; 32]),
        server: head(90, 2),
        computers: [(ComputerId::new(Timestamp::from_millis(7), [1; 10]), head(40, 3))].into(),
    };
    golden("checkpoint", &checkpoint);
    let text = serde_json::to_string(&checkpoint).unwrap();
    assert_eq!(serde_json::from_str::<Checkpoint>(&text).unwrap(), checkpoint);
}

#[test]
fn a_link_says_what_the_record_says() {
    for (at, record) in chain(5).iter().enumerate() {
        let (link, whole) = (Link::read(record).unwrap(), serde_json::from_slice::<Record>(record).unwrap());
        assert_eq!((link.after, link.event.at), (whole.after, whole.event.at), "{at}");
        assert_eq!(link.event.kind, whole.event.what.kind());
    }
}
