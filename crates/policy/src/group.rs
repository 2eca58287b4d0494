//! Custom groups: named sets of computers or of users, to which policies are deployed.

use serde::{Deserialize, Serialize};

use crate::application::User;
use crate::id::{ComputerId, GroupId};
use crate::text::Text;

/// A named set of computers or of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomGroup {
    /// Its identity.
    pub id: GroupId,
    /// What people call it.
    pub name: Text,
    /// Who is in it.
    pub members: Members,
}

/// Static members of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Members {
    /// Computers.
    Computers {
        /// By identity.
        computers: Vec<ComputerId>,
    },
    /// Users.
    Users {
        /// By name, on every computer or on one.
        users: Vec<Member>,
    },
}

/// A user by name, on every computer or on one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The operating-system account's name.
    pub name: Text,
    /// Only on this computer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computer: Option<ComputerId>,
}

impl Member {
    /// Whether this user on this computer is meant.
    pub fn is(&self, user: &User, computer: ComputerId) -> bool {
        self.name == user.name && self.computer.is_none_or(|only| only == computer)
    }
}
