//! Signed data as in RFC 5652, section 5: the content, certificates, and one signer.

use ring::digest;

use super::Refusal;
use super::der::{self, Element, Malformed, Reader};

/// Object identifiers, as their content in DER.
pub(super) mod oid {
    /// 1.2.840.113549.1.7.2
    pub(in super::super) const SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
    /// 1.2.840.113549.1.9.3
    pub(in super::super) const CONTENT_TYPE: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03";
    /// 1.2.840.113549.1.9.4
    pub(in super::super) const MESSAGE_DIGEST: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04";
    /// 1.2.840.113549.1.9.6
    pub(in super::super) const COUNTERSIGNATURE: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x06";
    /// 1.2.840.113549.1.9.16.1.4
    pub(in super::super) const TST_INFO: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x04";
    /// 1.3.6.1.4.1.311.2.1.4
    pub(in super::super) const INDIRECT_DATA: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x04";
    /// 1.3.6.1.4.1.311.3.3.1
    pub(in super::super) const TIMESTAMP: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x03\x03\x01";
    /// 1.3.6.1.4.1.311.2.4.1
    pub(in super::super) const NESTED_SIGNATURE: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x04\x01";
    /// 2.16.840.1.101.3.4.2.1 to 3
    pub(in super::super) const SHA2: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02";
}

/// More certificates than any signature carries.
const MAX_CERTIFICATES: usize = 32;

/// A digest that cannot be forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    Sha256,
    Sha384,
    Sha512,
}

impl Digest {
    /// From an `AlgorithmIdentifier`.
    pub(super) fn read(algorithm: Element<'_>) -> Result<Self, Refusal> {
        let name = algorithm.inside().expect(der::OBJECT, "the name of a digest")?.content;
        match name.strip_prefix(oid::SHA2) {
            Some([1]) => Ok(Self::Sha256),
            Some([2]) => Ok(Self::Sha384),
            Some([3]) => Ok(Self::Sha512),
            _ => Err(Refusal::WeakDigest),
        }
    }

    /// To be fed piece by piece.
    pub(super) fn context(self) -> digest::Context {
        digest::Context::new(match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        })
    }

    /// Of these pieces, one after another.
    pub(super) fn of(self, pieces: &[&[u8]]) -> digest::Digest {
        let mut context = self.context();
        pieces.iter().for_each(|piece| context.update(piece));
        context.finish()
    }
}

/// Signed data.
#[derive(Debug)]
pub(super) struct SignedData<'a> {
    /// What the content is.
    pub(super) content_type: &'a [u8],
    /// The content.
    pub(super) content: Element<'a>,
    /// Certificates, each whole.
    pub(super) certificates: Vec<&'a [u8]>,
    /// The one who signed.
    pub(super) signer: SignerInfo<'a>,
}

/// One signer.
#[derive(Debug)]
pub(super) struct SignerInfo<'a> {
    /// The certificate's issuer, whole.
    pub(super) issuer: &'a [u8],
    /// The certificate's serial number.
    pub(super) serial: &'a [u8],
    /// By which the content is told.
    pub(super) digest: Digest,
    /// What is signed, besides the content's digest.
    pub(super) signed: Attributes<'a>,
    /// How it is signed.
    pub(super) algorithm: &'a [u8],
    /// The signature.
    pub(super) signature: &'a [u8],
    /// What others added.
    pub(super) unsigned: Attributes<'a>,
}

/// Attributes, each once.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a> {
    /// All of them, without their tag.
    pub(super) content: &'a [u8],
    all: Vec<(&'a [u8], Element<'a>)>,
}

impl<'a> SignedData<'a> {
    /// Reads a `ContentInfo` with signed data in it.
    pub(super) fn read(info: Element<'a>) -> Result<Self, Refusal> {
        const EXPECTED: &str = "signed data";
        let mut info = info.inside();
        if info.expect(der::OBJECT, EXPECTED)?.content != oid::SIGNED_DATA {
            return Err(Refusal::Malformed(EXPECTED));
        }
        let explicit = info.expect(der::FIRST, EXPECTED)?;
        info.end(EXPECTED)?;
        let mut explicit = explicit.inside();
        let data = explicit.expect(der::SEQUENCE, EXPECTED)?;
        explicit.end(EXPECTED)?;
        let mut data = data.inside();
        data.expect(der::INTEGER, "a version")?;
        data.expect(der::SET, "names of digests")?;
        let mut encapsulated = data.expect(der::SEQUENCE, "content")?.inside();
        let content_type = encapsulated.expect(der::OBJECT, "the kind of content")?.content;
        let mut explicit = encapsulated.expect(der::FIRST, "content")?.inside();
        let content = explicit.next()?.ok_or(Malformed("content"))?;
        explicit.end("one content")?;
        let certificates = match data.optional(der::FIRST)? {
            Some(set) => certificates(set.inside())?,
            None => Vec::new(),
        };
        data.optional(der::SECOND)?;
        let mut signers = data.expect(der::SET, "signers")?.inside();
        data.end("nothing after the signers")?;
        let signer = SignerInfo::read(signers.expect(der::SEQUENCE, "a signer")?)?;
        signers.end("one signer")?;
        Ok(Self { content_type, content, certificates, signer })
    }
}

fn certificates<'a>(mut set: Reader<'a>) -> Result<Vec<&'a [u8]>, Malformed> {
    let mut found = Vec::new();
    while let Some(certificate) = set.next()? {
        if certificate.tag != der::SEQUENCE || found.len() == MAX_CERTIFICATES {
            return Err(Malformed("at most 32 certificates"));
        }
        found.push(certificate.whole);
    }
    Ok(found)
}

impl<'a> SignerInfo<'a> {
    /// Reads a `SignerInfo` that names its certificate by issuer and number.
    pub(super) fn read(info: Element<'a>) -> Result<Self, Refusal> {
        let mut info = info.inside();
        info.expect(der::INTEGER, "a version")?;
        let mut name = info.expect(der::SEQUENCE, "the signer's certificate by issuer and number")?.inside();
        let issuer = name.expect(der::SEQUENCE, "an issuer")?.whole;
        let serial = name.expect(der::INTEGER, "a number")?.content;
        name.end("a number")?;
        let digest = Digest::read(info.expect(der::SEQUENCE, "the name of a digest")?)?;
        let signed = Attributes::read(info.expect(der::FIRST, "attributes that are signed")?)?;
        let algorithm = info.expect(der::SEQUENCE, "the name of a signature")?;
        let algorithm = algorithm.inside().expect(der::OBJECT, "the name of a signature")?.content;
        let signature = info.expect(der::OCTETS, "a signature")?.content;
        let unsigned = info.optional(der::SECOND)?.map(Attributes::read).transpose()?.unwrap_or_default();
        info.end("nothing after the signature")?;
        Ok(Self { issuer, serial, digest, signed, algorithm, signature, unsigned })
    }
}

impl<'a> Attributes<'a> {
    fn read(set: Element<'a>) -> Result<Self, Malformed> {
        let mut reader = set.inside();
        let mut all: Vec<(&[u8], Element<'_>)> = Vec::new();
        while let Some(attribute) = reader.next()? {
            let mut attribute = attribute.inside();
            let name = attribute.expect(der::OBJECT, "the name of an attribute")?.content;
            let mut values = attribute.expect(der::SET, "the value of an attribute")?.inside();
            attribute.end("nothing after an attribute's value")?;
            let value = values.next()?.ok_or(Malformed("the value of an attribute"))?;
            values.end("one value")?;
            if all.iter().any(|(other, _)| *other == name) {
                return Err(Malformed("each attribute once"));
            }
            all.push((name, value));
        }
        Ok(Self { content: set.content, all })
    }

    /// The value of this one.
    pub(super) fn value(&self, name: &[u8]) -> Option<Element<'a>> {
        self.all.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.all.iter().map(|(name, _)| *name)
    }
}
