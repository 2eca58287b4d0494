//! The enrollment token: one line to copy, with the server's address, its CA's fingerprint and a secret.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use elevon_policy::application::Sha256;
use serde::{Deserialize, Serialize};

/// Everything a computer needs to enroll. In text: `elevon1.` and base64url of its JSON. It is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollmentToken {
    /// Where agents reach the server, `host:port`.
    #[serde(rename = "a")]
    pub address: String,
    /// SHA-256 of the DER form of the server's CA certificate.
    #[serde(rename = "f")]
    pub ca_fingerprint: Sha256,
    /// Proves that an administrator handed it out.
    #[serde(rename = "s")]
    pub secret: String,
}

const PREFIX: &str = "elevon1.";

impl EnrollmentToken {
    /// The line to copy.
    pub fn reveal(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

/// Never shows the secret.
impl fmt::Debug for EnrollmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollmentToken").field("address", &self.address).finish_non_exhaustive()
    }
}

impl FromStr for EnrollmentToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(InvalidToken)?;
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken)?;
        serde_json::from_slice(&json).map_err(|_| InvalidToken)
    }
}

/// The text is not an enrollment token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidToken;

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an enrollment token, elevon1.…, whole and on one line; copy it again from Computers in the console")
    }
}

impl std::error::Error for InvalidToken {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_as_it_is_written() {
        let token = EnrollmentToken {
            address: "server.example:8444".into(),
            ca_fingerprint: Sha256([7; 32]),
            secret: "s3cret".into(),
        };
        assert_eq!(token.reveal().parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("s3cret"));
        for text in ["", "elevon1.", "elevon2.abc", "elevon1.!!"] {
            assert_eq!(text.parse::<EnrollmentToken>(), Err(InvalidToken), "{text}");
        }
    }
}
