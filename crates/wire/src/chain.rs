//! The chain of events: each record carries its number and the digest of the one before it.

use std::collections::BTreeMap;
use std::fmt;

use elevon_policy::application::Sha256;
use elevon_policy::event::Event;
use elevon_policy::id::ComputerId;
use elevon_policy::sheet::ChainHead;
use elevon_policy::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::signed::digest;

/// An event in its place in a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The place of the record before it, and its digest.
    pub after: ChainHead,
    /// The event.
    pub event: Event,
}

impl Record {
    /// The bytes that are stored, signed and digested.
    pub fn encode(after: ChainHead, event: &Event) -> Vec<u8> {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            after: ChainHead,
            event: &'a Event,
        }
        // An event has string keys and finite numbers, so it always serialises.
        serde_json::to_vec(&Borrowed { after, event }).unwrap_or_default()
    }

    /// Whether it is the one that comes after `at`.
    pub fn follows(&self, at: ChainHead) -> Result<(), Broken> {
        if self.after.number != at.number {
            return Err(Broken::Number {
                expected: at.number.saturating_add(1),
                found: self.after.number.saturating_add(1),
            });
        }
        if self.after.digest != at.digest {
            return Err(Broken::Digest { number: at.number.saturating_add(1) });
        }
        Ok(())
    }
}

/// The head of a chain that ends with this record.
pub fn head(after: ChainHead, record: &[u8]) -> ChainHead {
    ChainHead { number: after.number.saturating_add(1), digest: digest(record) }
}

/// Reads the record that should follow `head`, and gives the new head.
pub fn follow(at: ChainHead, bytes: &[u8]) -> Result<(ChainHead, Event), Broken> {
    let record: Record =
        serde_json::from_slice(bytes).map_err(|error| Broken::Unreadable(error.to_string()))?;
    record.follows(at)?;
    Ok((head(at, bytes), record.event))
}

/// What of a record the chain itself needs: a fraction of the work of reading the event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Link<'a> {
    /// The place of the record before it, and its digest.
    pub after: ChainHead,
    /// The outside of the event.
    #[serde(borrow)]
    pub event: Outside<'a>,
}

/// When, and of which kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Outside<'a> {
    /// When.
    pub at: Timestamp,
    /// The word for it.
    pub kind: &'a str,
}

impl<'a> Link<'a> {
    /// Reads what the chain needs; whether the rest is an event is not looked at.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Broken> {
        serde_json::from_slice(bytes).map_err(|error| Broken::Unreadable(error.to_string()))
    }
}

/// How far the chains were that a server keeps; it signs one from time to time. Whoever has kept one sees whether a chain
/// was cut, written anew or set back since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Counts the checkpoints of a database, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// The digest of the one before; zeros in the first.
    pub before: Sha256,
    /// The head of the server's own chain.
    pub server: ChainHead,
    /// The heads of the computers' chains that grew since the one before.
    pub computers: BTreeMap<ComputerId, ChainHead>,
}

/// A record does not follow the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// Not a record.
    Unreadable(String),
    /// Records are missing, doubled or out of order.
    Number {
        /// The number that should come next.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The record before it was another one.
    Digest {
        /// The record that does not fit.
        number: u64,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "expected a record of an event: {error}"),
            Self::Number { expected, found } => write!(f, "expected event {expected}, found event {found}"),
            Self::Digest { number } => write!(f, "event {number} does not follow the event before it"),
        }
    }
}

impl std::error::Error for Broken {}

#[cfg(test)]
mod tests {
    use elevon_policy::event::What;
    use elevon_policy::text::Text;
    use elevon_policy::time::Timestamp;

    use super::*;

    fn event(at: i64) -> Event {
        Event::new(Timestamp::from_millis(at), What::AccountSignInFailed { name: Text::new("x") })
    }

    #[test]
    fn a_chain_tells_gaps_repeats_and_changes() {
        let first = Record::encode(ChainHead::START, &event(1));
        let after_first = head(ChainHead::START, &first);
        let second = Record::encode(after_first, &event(2));
        assert_eq!(follow(ChainHead::START, &first), Ok((after_first, event(1))));
        assert_eq!(follow(after_first, &second).map(|(_, event)| event), Ok(event(2)));
        assert_eq!(follow(ChainHead::START, &second), Err(Broken::Number { expected: 1, found: 2 }));
        assert_eq!(follow(after_first, &first), Err(Broken::Number { expected: 2, found: 1 }));
        let other_first = Record::encode(ChainHead::START, &event(3));
        assert_eq!(follow(head(ChainHead::START, &other_first), &second), Err(Broken::Digest { number: 2 }));
    }
}
