//! Signed documents: Ed25519 over a purpose and the very bytes, verified before they are parsed.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use elevon_policy::application::Sha256;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest;

/// What a signature is for. It is signed along, so that a document of one purpose never passes for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A bundle of policies; by the server.
    Bundle,
    /// A computer's sheet; by the server.
    Sheet,
    /// What time it is; by the server.
    Time,
    /// A point in the server's own chain of events; by the server.
    Checkpoint,
    /// A computer's event; by its elevator.
    Event,
}

impl Purpose {
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Bundle => b"elevon bundle 1\0",
            Self::Sheet => b"elevon sheet 1\0",
            Self::Time => b"elevon time 1\0",
            Self::Checkpoint => b"elevon checkpoint 1\0",
            Self::Event => b"elevon event 1\0",
        }
    }
}

/// Bytes with a signature. They can be read only through [`Signed::open`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    key: KeyId,
    #[serde(with = "base64_bytes")]
    body: Vec<u8>,
    #[serde(with = "base64_bytes")]
    signature: Vec<u8>,
}

impl Signed {
    /// Signs a document.
    pub fn seal(key: &SigningKey, purpose: Purpose, document: &impl Serialize) -> Self {
        // Our documents have string keys and finite numbers, so they always serialise.
        Self::seal_bytes(key, purpose, serde_json::to_vec(document).unwrap_or_default())
    }

    /// Signs bytes.
    pub fn seal_bytes(key: &SigningKey, purpose: Purpose, body: Vec<u8>) -> Self {
        let id = PublicKey(key.verifying_key()).id();
        let signature = key.sign(&message(purpose, id, &body)).to_bytes().to_vec();
        Self { key: id, body, signature }
    }

    /// The bytes, if this key signed them for this purpose.
    pub fn bytes(&self, key: &PublicKey, purpose: Purpose) -> Result<&[u8], NotSigned> {
        if self.key != key.id() {
            return Err(NotSigned::OtherKey { expected: key.id(), found: self.key });
        }
        let signature = Signature::from_slice(&self.signature).map_err(|_| NotSigned::Signature)?;
        key.0
            .verify_strict(&message(purpose, self.key, &self.body), &signature)
            .map_err(|_| NotSigned::Signature)?;
        Ok(&self.body)
    }

    /// The bytes of each, if this key signed them all for this purpose. To check many together takes a third of the time;
    /// where that fails, each is checked by itself, so that the error is about the first that does not do.
    #[cfg(feature = "batch")]
    pub fn all_bytes<'a>(
        all: &'a [Self],
        key: &PublicKey,
        purpose: Purpose,
    ) -> Result<Vec<&'a [u8]>, NotSigned> {
        let signatures: Option<Vec<_>> =
            all.iter().map(|signed| Signature::from_slice(&signed.signature).ok()).collect();
        let messages: Vec<_> = all.iter().map(|signed| message(purpose, signed.key, &signed.body)).collect();
        let messages: Vec<_> = messages.iter().map(Vec::as_slice).collect();
        // A weak key would let anyone sign; checking one by one refuses it.
        let together = !key.0.is_weak() && all.iter().all(|signed| signed.key == key.id());
        let hold = signatures.is_some_and(|signatures| {
            together && ed25519_dalek::verify_batch(&messages, &signatures, &vec![key.0; all.len()]).is_ok()
        });
        if hold {
            return Ok(all.iter().map(|signed| signed.body.as_slice()).collect());
        }
        all.iter().map(|signed| signed.bytes(key, purpose)).collect()
    }

    /// The document, if this key signed it for this purpose; nothing is parsed before that is sure.
    pub fn open<D: DeserializeOwned>(&self, key: &PublicKey, purpose: Purpose) -> Result<D, NotSigned> {
        let bytes = self.bytes(key, purpose)?;
        serde_json::from_slice(bytes).map_err(|error| NotSigned::Document(error.to_string()))
    }

    /// Digest of the bytes that were signed.
    pub fn digest(&self) -> Sha256 {
        digest(&self.body)
    }

    /// The bytes, unverified: for a party that only stores or forwards them.
    pub fn unverified_bytes(&self) -> &[u8] {
        &self.body
    }
}

/// SHA-256 of bytes.
pub fn digest(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

fn message(purpose: Purpose, key: KeyId, body: &[u8]) -> Vec<u8> {
    // The tags end in NUL and none is a prefix of another; the key's name has a fixed length.
    [purpose.tag(), &key.0, body].concat()
}

/// The name of a key: the first eight bytes of the SHA-256 of its public part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = Some(&text)
            .filter(|text| text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|text| u64::from_str_radix(text, 16).ok());
        let number = number
            .ok_or_else(|| serde::de::Error::custom("expected the name of a key: 16 hexadecimal digits"))?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// An Ed25519 public key; in text, base64 of its 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The public part of a signing key.
    pub fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key())
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        let Sha256(digest) = digest(self.0.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = digest;
        KeyId([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.as_bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidKey)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| InvalidKey)?;
        VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| InvalidKey)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidKey;

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an Ed25519 public key: base64 of 32 bytes")
    }
}

impl std::error::Error for InvalidKey {}

/// Why a document is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSigned {
    /// Another key than the one pinned.
    OtherKey {
        /// The pinned one.
        expected: KeyId,
        /// The one named.
        found: KeyId,
    },
    /// The signature does not fit purpose and bytes.
    Signature,
    /// It is signed, but this version cannot read it.
    Document(String),
}

impl fmt::Display for NotSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKey { expected, found } => {
                write!(
                    f,
                    "expected a document signed by key {expected}, found key {found}; was this computer enrolled with another server?"
                )
            }
            Self::Signature => f.write_str(
                "the signature does not fit the document; it was changed, or is not what it is said to be",
            ),
            Self::Document(error) => {
                write!(f, "the document is signed, but this version cannot read it: {error}")
            }
        }
    }
}

impl std::error::Error for NotSigned {}

mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn a_document_opens_only_for_its_key_and_purpose() {
        let signed = Signed::seal(&key(1), Purpose::Sheet, &"hello");
        let mine = PublicKey::of(&key(1));
        assert_eq!(signed.open::<String>(&mine, Purpose::Sheet).as_deref(), Ok("hello"));
        assert_eq!(signed.open::<String>(&mine, Purpose::Bundle), Err(NotSigned::Signature));
        assert!(matches!(
            signed.open::<String>(&PublicKey::of(&key(2)), Purpose::Sheet),
            Err(NotSigned::OtherKey { .. })
        ));
    }

    #[test]
    fn any_changed_bit_is_seen() {
        let signed = Signed::seal(&key(1), Purpose::Event, &"hello");
        let mine = PublicKey::of(&key(1));
        for at in 0..signed.body.len() * 8 {
            let mut changed = signed.clone();
            changed.body[at / 8] ^= 1 << (at % 8);
            assert_eq!(changed.open::<String>(&mine, Purpose::Event), Err(NotSigned::Signature));
        }
        for at in 0..signed.signature.len() * 8 {
            let mut changed = signed.clone();
            changed.signature[at / 8] ^= 1 << (at % 8);
            assert_eq!(changed.open::<String>(&mine, Purpose::Event), Err(NotSigned::Signature));
        }
    }

    #[test]
    #[cfg(feature = "batch")]
    fn many_hold_together_or_the_bad_one_is_found() {
        let mine = PublicKey::of(&key(1));
        let mut all: Vec<_> = (0..40).map(|number| Signed::seal(&key(1), Purpose::Event, &number)).collect();
        let bytes = Signed::all_bytes(&all, &mine, Purpose::Event).expect("all are signed");
        assert_eq!(bytes.last(), Some(&b"39".as_slice()));
        assert_eq!(Signed::all_bytes(&all, &mine, Purpose::Sheet), Err(NotSigned::Signature));
        assert_eq!(Signed::all_bytes(&[], &mine, Purpose::Event), Ok(Vec::new()));
        for at in 0..64 {
            let mut changed = all.clone();
            changed[17].signature[at] ^= 1;
            assert_eq!(Signed::all_bytes(&changed, &mine, Purpose::Event), Err(NotSigned::Signature));
        }
        // Each signature is good, but of another's bytes.
        let (one, other) = (all[3].signature.clone(), all[4].signature.clone());
        (all[3].signature, all[4].signature) = (other, one);
        assert_eq!(Signed::all_bytes(&all, &mine, Purpose::Event), Err(NotSigned::Signature));
        all[3] = Signed::seal(&key(2), Purpose::Event, &3);
        assert!(matches!(Signed::all_bytes(&all, &mine, Purpose::Event), Err(NotSigned::OtherKey { .. })));
    }

    #[test]
    fn keys_read_as_they_are_written() {
        let mine = PublicKey::of(&key(1));
        assert_eq!(mine.to_string().parse(), Ok(mine));
        assert_eq!("AAAA".parse::<PublicKey>(), Err(InvalidKey));
    }
}
