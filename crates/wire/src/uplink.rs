//! Messages between agent and elevator on the agent's socket. The agent only carries: whatever it hands over is signed by
//! the server, and whatever it is handed is signed by the elevator.

use elevon_policy::application::Sha256;
use elevon_policy::id::ComputerId;
use serde::{Deserialize, Serialize};

use crate::channel::TimeQuestion;
use crate::signed::Signed;

/// From the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromAgent {
    /// The agent is there; answered by [`ToAgent::Holds`], then [`ToAgent::Ask`] for the time.
    Hello,
    /// What the server answered; answered by [`ToAgent::Holds`], or [`ToAgent::Refused`].
    State {
        /// The sheet.
        sheet: Box<Signed>,
        /// The bundle, where it is a new one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bundle: Option<Box<Signed>>,
    },
    /// The server's answer to [`ToAgent::Ask`].
    Time {
        /// A time statement.
        statement: Box<Signed>,
    },
    /// Wants events; answered by [`ToAgent::Events`], empty when there are none behind that number.
    Events {
        /// The last one the server has stored.
        after: u64,
    },
}

/// To the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToAgent {
    /// What the elevator holds.
    Holds(Holds),
    /// A document was not taken; what is held stays in force.
    Refused {
        /// In one line.
        cause: String,
    },
    /// Please ask the server for the time.
    Ask {
        /// With this nonce.
        question: TimeQuestion,
    },
    /// Events that were asked for.
    Events {
        /// In order, at most [`crate::channel::EVENTS_AT_ONCE`].
        records: Vec<Signed>,
    },
    /// There are new events; sent by itself.
    Recorded {
        /// The number of the last one.
        number: u64,
    },
}

/// What the elevator holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holds {
    /// Which computer it is; none before it is enrolled.
    pub computer: Option<ComputerId>,
    /// The version of its sheet; 0 for none.
    pub sheet: u64,
    /// The digest of its bundle.
    pub bundle: Option<Sha256>,
    /// The last of its events that its sheet says is stored.
    pub stored: u64,
    /// The last of its events.
    pub recorded: u64,
}
