//! Identifiers: one newtype each, so that a request can never be taken for a grant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A UUIDv7 made of the time and ten random bytes; both are the caller's.
            pub fn new(now: Timestamp, chance: [u8; 10]) -> Self {
                let millis = u64::try_from(now.millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { expected: stringify!($name) })
            }
        }
    )+};
}

ids! {
    /// An enrolled endpoint. Never its host name.
    ComputerId,
    /// Someone who signs in to the console.
    AccountId,
    /// A custom group.
    GroupId,
    /// A privileged application list, allowlist or blocklist.
    PolicyId,
    /// One rule inside a list.
    RuleId,
    /// An elevation request; made by the elevator.
    RequestId,
    /// A grant; made by the server, or by the elevator where policy lets it run without asking.
    GrantId,
    /// One execution under a grant; made by the elevator.
    LaunchId,
    /// A lock.
    LockId,
    /// An enrollment token.
    TokenId,
}

/// The text is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    expected: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected a {} such as 0193b3e2-7c5a-7d10-9c1e-3f2a5b6c7d8e", self.expected)
    }
}

impl std::error::Error for InvalidId {}

/// Counts the changes of one record. An act names the version it saw; on another one it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// The version of a record that was just made.
    pub const FIRST: Self = Self(1);

    /// The version after the next change.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
