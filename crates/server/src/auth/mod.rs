//! Who is asking, and what they may: from a session, a token or a certificate to the right to act.

pub mod computer;
pub mod session;
pub mod sql;
pub mod token;

use std::fmt;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use elevon_policy::event::By;
use elevon_policy::id::AccountId;
use elevon_policy::request::Decider;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use elevon_wire::signed::digest;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::Error;

/// What an account or API token may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, accounts among it.
    Owner,
    /// Policies, groups, computers, decisions.
    Administrator,
    /// Decisions.
    Approver,
    /// Reads.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Administrator, Self::Approver, Self::Auditor];

    /// As in the database and the documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Administrator => "administrator",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
        }
    }

    /// Whether this role is enough.
    pub fn may(self, needs: Needs) -> bool {
        match needs {
            Needs::Anyone | Needs::Reader => true,
            Needs::Approver => self != Self::Auditor,
            Needs::Administrator => matches!(self, Self::Owner | Self::Administrator),
            Needs::Owner => self == Self::Owner,
            Needs::Computer => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.word() == text).ok_or(UnknownRole)
    }
}

/// The word names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownRole;

impl fmt::Display for UnknownRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a role: owner, administrator, approver or auditor")
    }
}

impl std::error::Error for UnknownRole {}

/// What a route needs of whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: signing in, setting up, enrolling.
    Anyone,
    /// To be signed in.
    Reader,
    /// To be allowed to decide.
    Approver,
    /// To be allowed to change policies, groups and computers.
    Administrator,
    /// To be an owner.
    Owner,
    /// To be an enrolled computer.
    Computer,
}

/// Who is asking.
#[derive(Debug, Clone)]
pub struct Actor {
    /// As the audit trail names them.
    pub by: By,
    /// What they may.
    pub role: Role,
    /// As a decision names them, with the operating-system users they are tied to.
    pub decider: Decider,
}

impl Actor {
    /// Someone at the server's own command line: whoever can read the keys needs no leave.
    pub fn command_line() -> Self {
        let decider = Decider {
            account: AccountId::new(Timestamp::from_millis(0), [0; 10]),
            name: Text::new("command line"),
            os_users: Vec::new(),
        };
        Self { by: By::CommandLine, role: Role::Owner, decider }
    }

    /// What they are called.
    pub fn name(&self) -> &Text {
        &self.decider.name
    }

    /// Whether their role is enough.
    pub fn may(&self, needs: Needs) -> bool {
        self.role.may(needs)
    }
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(Actor);

        impl $name {
            /// The right, if the actor's role gives it.
            pub fn of(actor: Actor) -> Result<Self, Error> {
                if actor.may(Needs::$name) {
                    return Ok(Self(actor));
                }
                Err(Error::Forbidden(forbidden(actor.role, Needs::$name).into()))
            }

            /// Whose right it is.
            pub fn actor(&self) -> &Actor {
                &self.0
            }
        }

        impl FromRequestParts<App> for $name {
            type Rejection = Error;

            async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
                Self::of(parts.extensions.get::<Actor>().cloned().ok_or_else(nobody)?)
            }
        }
    )+};
}

rights! {
    /// The right to read everything that is not a secret.
    Reader,
    /// The right to decide.
    Approver,
    /// The right to change policies, groups and computers.
    Administrator,
    /// The right to change accounts.
    Owner,
}

/// Why a role is not enough.
pub fn forbidden(role: Role, needs: Needs) -> String {
    let wanted = match needs {
        Needs::Anyone | Needs::Reader => "any role",
        Needs::Approver => "approver, administrator or owner",
        Needs::Administrator => "administrator or owner",
        Needs::Owner => "owner",
        Needs::Computer => "an enrolled computer",
    };
    format!("this needs the role {wanted}; yours is {role}; ask an owner")
}

/// Nobody is signed in.
pub fn nobody() -> Error {
    Error::Unauthenticated("sign in first, or send an API token as Authorization: Bearer".into())
}

/// What is stored of a secret. Secrets are 256 random bits, so that a plain digest is as good as a slow one.
pub fn secret_hash(secret: &str) -> String {
    digest(secret.as_bytes()).to_string()
}

/// A new secret of 256 random bits, in letters that survive a URL.
pub fn new_secret() -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(crate::app::chance::<32>())
}
