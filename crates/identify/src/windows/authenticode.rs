//! The signature of a Windows program: who signed exactly these bytes, and when.

use elevon_policy::application::Sha256;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;

use super::chain::{Moment, Purpose, Trust, fingerprint, follow, name};
use super::cms::{Digest, SignedData, oid};
use super::der::{self, Element, Reader};
use super::pe::{Pe, word16, word32};
use super::signer::{certificate_of, signed_by};
use super::{Refusal, timestamp};

/// A signature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whom the certificate names: the publisher.
    pub publisher: Text,
    /// Who says so.
    pub issuer: Text,
    /// SHA-256 of the publisher's certificate.
    pub certificate: Sha256,
    /// SHA-256 of the authority's, at the end of the way.
    pub authority: Sha256,
    /// When it was signed, where a time stamp says so.
    pub signed: Option<Timestamp>,
    /// What was signed: the Authenticode digest of the file, in hexadecimal digits.
    pub digest: String,
}

/// What a signature says of itself, before any of it is believed: to tell people of one that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Whom the certificate names.
    pub publisher: Text,
    /// Who is to have said so.
    pub issuer: Text,
    /// When it is to have been signed.
    pub signed: Option<Timestamp>,
}

/// Signatures are aligned to so many bytes.
const ALIGNED: usize = 8;
/// `WIN_CERT_REVISION_2_0`
const REVISION: u16 = 0x0200;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`
const SIGNED_DATA: u16 = 2;

/// Verifies a program's signature: that it is of these very bytes, and that its signer can be believed.
pub fn verify(pe: &Pe<'_>, trust: &Trust<'_>) -> Result<Signature, Refusal> {
    let (entry, end) = entry(pe)?;
    let data = SignedData::read(entry)?;
    let covered = pe.covered(end).ok_or(Refusal::Malformed("headers before the certificate area"))?;
    verify_data(&data, trust, |digest| digest.of(&covered).as_ref().to_vec())
}

/// What a program's signature says of itself.
pub fn claims(pe: &Pe<'_>) -> Result<Claims, Refusal> {
    let (entry, _) = entry(pe)?;
    claims_of(entry.whole)
}

/// What a signature says of itself; `signature` is signed data in DER.
pub fn claims_of(signature: &[u8]) -> Result<Claims, Refusal> {
    let data = SignedData::read(Element::first_of(signature)?)?;
    indirect(data.content)?;
    let certificate = certificate_of(&data.signer, &data.certificates)?;
    Ok(Claims {
        publisher: name(certificate.subject()),
        issuer: name(certificate.issuer()),
        signed: timestamp::claimed(&data.signer)?,
    })
}

/// Verifies signed data over whatever `digest_of` says that the file comes to.
pub(super) fn verify_data(
    data: &SignedData<'_>,
    trust: &Trust<'_>,
    digest_of: impl FnOnce(Digest) -> Vec<u8>,
) -> Result<Signature, Refusal> {
    if data.content_type != oid::INDIRECT_DATA || data.content.tag != der::SEQUENCE {
        return Err(Refusal::Malformed("the digest of a program among what is signed"));
    }
    // Whatever stands where no signature covers it and nobody looks can carry what an installer then runs.
    let known = [oid::TIMESTAMP, oid::COUNTERSIGNATURE, oid::NESTED_SIGNATURE];
    if data.signer.unsigned.names().any(|name| !known.contains(&name)) {
        return Err(Refusal::BytesAppended);
    }
    let (digest, expected) = indirect(data.content)?;
    if digest_of(digest) != expected {
        return Err(Refusal::OtherBytes);
    }
    let certificate = certificate_of(&data.signer, &data.certificates)?;
    signed_by(&data.signer, oid::INDIRECT_DATA, data.content.content, &certificate)?;
    let signed = timestamp::of(&data.signer, trust)?;
    let moment = Moment { at: signed.unwrap_or(trust.now), proven: signed.is_some() };
    let authority = follow(&certificate, &data.certificates, Purpose::CodeSigning, moment, trust)?;
    Ok(Signature {
        publisher: name(certificate.subject()),
        issuer: name(certificate.issuer()),
        certificate: fingerprint(&certificate),
        authority,
        signed,
        digest: expected.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// The one signature in the certificate area, and where that area begins. It is the last thing in the file, and the
/// signature the only thing in it: room beside it could hold what no signature covers.
fn entry<'a>(pe: &Pe<'a>) -> Result<(Element<'a>, usize), Refusal> {
    let area = pe.certificates().ok_or(Refusal::NotSigned)?;
    let file = pe.bytes();
    let begin = area.start;
    let bytes = file.get(area.clone()).ok_or(Refusal::Malformed("a certificate area in the file"))?;
    if area.end != file.len() {
        return Err(Refusal::BytesAppended);
    }
    let length = word32(bytes, 0).ok_or(Refusal::Malformed("a certificate area"))? as usize;
    if (word16(bytes, 4), word16(bytes, 6)) != (Some(REVISION), Some(SIGNED_DATA)) {
        return Err(Refusal::Malformed("signed data in the certificate area"));
    }
    if length.checked_next_multiple_of(ALIGNED) != Some(bytes.len()) {
        return Err(Refusal::BytesAppended);
    }
    let data = bytes.get(8..).ok_or(Refusal::Malformed("a certificate area"))?;
    let signature = Element::first_of(data)?;
    let padding = data.get(signature.whole.len()..).unwrap_or_default();
    if padding.len() >= 2 * ALIGNED || padding.iter().any(|byte| *byte != 0) {
        return Err(Refusal::BytesAppended);
    }
    Ok((signature, begin))
}

/// `SpcIndirectDataContent`: what kind of file it is, and its digest.
fn indirect<'a>(content: Element<'a>) -> Result<(Digest, &'a [u8]), Refusal> {
    let mut content: Reader<'a> = content.inside();
    content.expect(der::SEQUENCE, "the kind of a program")?;
    let mut digest = content.expect(der::SEQUENCE, "the digest of a program")?.inside();
    content.end("nothing after the digest of a program")?;
    let name = Digest::read(digest.expect(der::SEQUENCE, "the name of a digest")?)?;
    Ok((name, digest.expect(der::OCTETS, "the digest of a program")?.content))
}
