//! Why a signature is not believed.

use std::fmt;

use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;

/// Why a signature is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    NotSigned,
    /// It cannot be read: what was read, and what was expected of it.
    Malformed(&'static str),
    /// The file's bytes are not those that were signed.
    OtherBytes,
    /// There are bytes in or behind the certificate area that no signature covers.
    BytesAppended,
    /// A digest that can be forged (SHA-1, MD5), or one that is not known.
    WeakDigest,
    /// A kind of signature that is not verified: another algorithm, or another length of key.
    UnknownAlgorithm,
    /// The signature was not made with the certificate's key.
    BadSignature,
    /// No certificate in the file is the signer's.
    NoCertificate,
    /// The certificates lead to no authority that is trusted.
    NotTrusted {
        /// Who issued the last certificate that could be found.
        issuer: Text,
    },
    /// A certificate was not made for signing programs, or for time stamps, or for issuing others.
    WrongUse {
        /// Whose.
        subject: Text,
    },
    /// A certificate had ended when it was used; without a time stamp that is now.
    Expired {
        /// Whose.
        subject: Text,
        /// When it ended.
        ended: Timestamp,
    },
    /// A certificate was not in force yet.
    NotYetValid {
        /// Whose.
        subject: Text,
    },
    /// A certificate was revoked.
    Revoked {
        /// Whose.
        subject: Text,
    },
    /// The time stamp is about another signature, or from the future.
    BadTimestamp,
}

impl From<super::der::Malformed> for Refusal {
    fn from(malformed: super::der::Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSigned => f.write_str("it is not signed"),
            Self::Malformed(expected) => write!(f, "its signature cannot be read: expected {expected}"),
            Self::OtherBytes => f.write_str("its bytes are not those that were signed"),
            Self::BytesAppended => {
                f.write_str("bytes that no signature covers were added to its certificate area")
            }
            Self::WeakDigest => f.write_str("its signature rests on a digest that can be forged"),
            Self::UnknownAlgorithm => f.write_str("its signature is of a kind that Elevon does not verify"),
            Self::BadSignature => f.write_str("its signature was not made with the signer's key"),
            Self::NoCertificate => f.write_str("the certificate of its signer is not in it"),
            Self::NotTrusted { issuer } => {
                write!(
                    f,
                    "its signer's certificate leads to no authority that is trusted, but to {}",
                    issuer.visible()
                )
            }
            Self::WrongUse { subject } => {
                write!(f, "the certificate of {} was not made for this use", subject.visible())
            }
            Self::Expired { subject, .. } => {
                write!(f, "the certificate of {} had ended when it was used", subject.visible())
            }
            Self::NotYetValid { subject } => {
                write!(f, "the certificate of {} was not in force yet when it was used", subject.visible())
            }
            Self::Revoked { subject } => write!(f, "the certificate of {} was revoked", subject.visible()),
            Self::BadTimestamp => f.write_str("its time stamp is about something else, or from the future"),
        }
    }
}

impl std::error::Error for Refusal {}
