//! The policies of a set of deployments: one document, shared by all computers with the same deployments.

use serde::{Deserialize, Serialize};

use crate::application::User;
use crate::group::Member;
use crate::id::ComputerId;
use crate::lists::{ApplicationList, PrivilegedApplicationList};

/// Every policy that is deployed to a computer, with the users it is for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// What may be elevated, and how.
    pub privileged_application_lists: Vec<Deployed<PrivilegedApplicationList>>,
    /// What counts as allowed.
    pub allowlists: Vec<Deployed<ApplicationList>>,
    /// What is blocked, whatever else is said.
    pub blocklists: Vec<Deployed<ApplicationList>>,
}

/// A policy and the users it is deployed to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployed<T> {
    /// The policy.
    pub policy: T,
    /// For whom.
    pub users: DeployedTo,
}

/// The users a policy is deployed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum DeployedTo {
    /// All of them.
    #[serde(deserialize_with = "crate::nothing_else::read")]
    Everyone,
    /// The members of the custom groups that were named.
    Members {
        /// Each member once.
        members: Vec<Member>,
    },
}

impl DeployedTo {
    /// Whether this user on this computer is meant.
    pub fn includes(&self, user: &User, computer: ComputerId) -> bool {
        match self {
            Self::Everyone => true,
            Self::Members { members } => members.iter().any(|member| member.is(user, computer)),
        }
    }
}
