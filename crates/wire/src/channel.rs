//! Bodies between an agent and the server, JSON over HTTPS on the agents' port.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `POST /channel/v1/enroll` (no client certificate) | [`Enroll`] | [`Enrolled`] |
//! | `GET /channel/v1/state?after=V&bundle=DIGEST&wait=SECONDS` | – | [`State`], or 204 when nothing changed meanwhile |
//! | `POST /channel/v1/events` | [`Events`] | [`Stored`] |
//! | `POST /channel/v1/certificate` | [`Renew`] | [`Renewed`] |
//! | `POST /channel/v1/time` | [`TimeQuestion`] | a signed [`TimeStatement`] |
//!
//! All but the first need the computer's client certificate. Errors are RFC 9457 problem details.

use elevon_policy::application::Sha256;
use elevon_policy::id::ComputerId;
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::signed::{PublicKey, Signed};

/// Enrolls a computer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enroll {
    /// The token's secret.
    pub secret: String,
    /// PKCS #10 request for the agent's own key, PEM. What it says of names is ignored.
    pub certificate_request: String,
    /// The public part of the elevator's event key.
    pub event_key: PublicKey,
    /// What the computer calls itself; shown, never identity.
    pub host_name: Text,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system: Text,
}

/// The computer is enrolled.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolled {
    /// Its identity from now on.
    pub computer: ComputerId,
    /// The agent's client certificate, PEM.
    pub certificate: String,
    /// The server's CA certificate, PEM; its fingerprint must be the token's.
    pub ca: String,
    /// The key that signs what the elevator believes.
    pub server_key: PublicKey,
}

/// Asks for a new certificate, if one is due.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// PKCS #10 request for a new key of the agent, PEM. What it says of names is ignored.
    pub certificate_request: String,
}

/// A new certificate, or when to ask for one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renewed {
    /// The agent's new client certificate, PEM; left out where none is due. The old one goes on until its own end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// When to ask again, in seconds from now.
    pub again: u64,
}

/// What the elevator believes; written once by root when the computer is enrolled (`trust.json` in its state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Which computer this is.
    pub computer: ComputerId,
    /// Whose signature counts.
    pub server_key: PublicKey,
}

/// What a computer should hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Its sheet, signed.
    pub sheet: Signed,
    /// The bundle, signed; left out when the computer has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Signed>,
}

/// The question of [`State`], as a query string.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct StateQuestion {
    /// The version of the sheet in hand; 0 for none, and to have the lease lengthened.
    pub after: u64,
    /// The digest of the bundle in hand.
    pub bundle: Option<Sha256>,
    /// How long to wait for news, in seconds; the server may answer sooner.
    pub wait: u64,
}

/// Events, in the order of their chain, each signed by the elevator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Without gaps.
    pub records: Vec<Signed>,
}

/// Most events that go up at once.
pub const EVENTS_AT_ONCE: usize = 512;

/// How far the server has stored this computer's events.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// The last one stored.
    pub head: ChainHead,
}

/// Asks what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeQuestion {
    /// Drawn by the elevator, used once.
    pub nonce: u64,
}

/// What time it was when the question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeStatement {
    /// The question's.
    pub nonce: u64,
    /// The server's time.
    pub at: Timestamp,
}
