//! The whole truth about one computer, as the server signs it for that computer.

use serde::{Deserialize, Serialize};

use crate::application::{Sha256, User};
use crate::grant::Grant;
use crate::id::{ComputerId, GrantId, LockId, RequestId, Version};
use crate::request::LapseReason;
use crate::text::Text;
use crate::time::Timestamp;

/// The whole truth about one computer. Its version only goes up. A grant that is not on it is not in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sheet {
    /// Whose it is.
    pub computer: ComputerId,
    /// Goes up with each change; the revocation epoch.
    pub version: Version,
    /// When it was signed; the same version may be signed again to lengthen the lease.
    pub issued: Timestamp,
    /// Without a newer one, nothing is elevated from then on.
    pub lease_ends: Timestamp,
    /// Digest of the signed bytes of the bundle it goes with.
    pub bundle: Sha256,
    /// The grants of this computer that are in force or will be.
    pub grants: Vec<Grant>,
    /// Grants that an administrator took back, local ones among them, until this computer has said that they are out of
    /// force and nothing runs under them.
    pub revoking: Vec<GrantId>,
    /// Locks that concern this computer.
    pub locks: Vec<Lock>,
    /// Recent answers to this computer's requests.
    pub answers: Vec<Answer>,
    /// The last of this computer's events that the server has stored.
    pub stored: ChainHead,
    /// The last checkpoint of the server's own chain of events; the computer writes it down, as a witness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<ChainHead>,
}

/// A point in a chain of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainHead {
    /// Number of the last event; 0 before the first.
    pub number: u64,
    /// Its digest; zeros before the first.
    pub digest: Sha256,
}

impl ChainHead {
    /// Before the first event.
    pub const START: Self = Self { number: 0, digest: Sha256([0; 32]) };
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The request.
    pub request: RequestId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub outcome: AnswerOutcome,
}

/// What became of a request, in words for its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum AnswerOutcome {
    /// Someone agreed.
    Approved {
        /// The account's name.
        by: Text,
        /// What they wrote.
        comment: Text,
        /// The right that results.
        grant: GrantId,
    },
    /// Someone did not agree.
    Declined {
        /// The account's name.
        by: Text,
        /// What they wrote.
        comment: Text,
    },
    /// Its user took it back.
    #[serde(deserialize_with = "crate::nothing_else::read")]
    Cancelled,
    /// Nobody decided, or nobody may any more.
    Lapsed {
        /// Why.
        reason: LapseReason,
    },
}

/// Deny-all over a user, an application or the whole computer; beats any grant, and ends live launches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Its identity.
    pub id: LockId,
    /// Why, for the people it stops.
    pub justification: Text,
    /// Over what.
    pub over: LockedOut,
}

/// What a lock is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LockedOut {
    /// Everything on this computer.
    #[serde(deserialize_with = "crate::nothing_else::read")]
    Computer,
    /// One user.
    User {
        /// By name: a lock is meant to hit, also when the number changed.
        name: Text,
    },
    /// One application.
    Application {
        /// By its bytes.
        sha256: Sha256,
    },
}

impl Lock {
    /// Whether it stops this user from running these bytes.
    pub fn stops(&self, user: &User, sha256: Sha256) -> bool {
        match &self.over {
            LockedOut::Computer => true,
            LockedOut::User { name } => *name == user.name,
            LockedOut::Application { sha256: locked } => *locked == sha256,
        }
    }
}
