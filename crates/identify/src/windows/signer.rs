//! Whether a signer signed: the digest of the content, the signed attributes, and the key of the certificate.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::Refusal;
use super::cms::{Digest, SignerInfo, oid};
use super::der;

/// Checks that the signer signed this content, which is of this kind, with the key of its certificate.
pub(super) fn signed_by(
    signer: &SignerInfo<'_>,
    kind: &[u8],
    content: &[u8],
    certificate: &X509Certificate<'_>,
) -> Result<(), Refusal> {
    let attribute = |name, tag, what| {
        let value = signer.signed.value(name).filter(|value| value.tag == tag);
        value.map(|value| value.content).ok_or(Refusal::Malformed(what))
    };
    if attribute(oid::CONTENT_TYPE, der::OBJECT, "the kind of content among what is signed")? != kind {
        return Err(Refusal::Malformed("the same kind of content among what is signed"));
    }
    let digest = attribute(oid::MESSAGE_DIGEST, der::OCTETS, "a digest among what is signed")?;
    if digest != signer.digest.of(&[content]).as_ref() {
        return Err(Refusal::BadSignature);
    }
    // Signed as a SET of its own, whatever tag it has where it stands (RFC 5652, 5.4).
    let mut message = vec![der::SET];
    message.extend(length(signer.signed.content.len()));
    message.extend(signer.signed.content);
    let algorithm = algorithm(signer.algorithm, signer.digest, certificate)?;
    verify(certificate, algorithm, &message, signer.signature)
}

/// Checks that this key signed that certificate.
pub(super) fn issued_by(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
) -> Result<(), Refusal> {
    if certificate.signature_algorithm != certificate.tbs_certificate.signature {
        return Err(Refusal::Malformed("a certificate that names its signature's kind once"));
    }
    let name = certificate.signature_algorithm.algorithm.as_bytes();
    let digest = digest_of_signature(name).ok_or(Refusal::WeakDigest)?;
    let algorithm = algorithm(name, digest, issuer)?;
    verify(issuer, algorithm, certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
}

/// The one certificate among these that the signer names.
pub(super) fn certificate_of<'a>(
    signer: &SignerInfo<'_>,
    certificates: &[&'a [u8]],
) -> Result<X509Certificate<'a>, Refusal> {
    let parsed = certificates.iter().filter_map(|bytes| read(bytes).ok());
    let mut named = parsed.filter(|certificate| {
        certificate.issuer().as_raw() == signer.issuer && certificate.raw_serial() == signer.serial
    });
    named.next().ok_or(Refusal::NoCertificate)
}

/// Reads a certificate, and nothing after it.
pub(super) fn read(bytes: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    match X509Certificate::from_der(bytes) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Refusal::Malformed("a certificate")),
    }
}

fn verify(
    by: &X509Certificate<'_>,
    algorithm: &'static dyn VerificationAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Refusal> {
    let key = &by.tbs_certificate.subject_pki.subject_public_key;
    if key.unused_bits != 0 {
        return Err(Refusal::Malformed("a key of whole bytes"));
    }
    let key = UnparsedPublicKey::new(algorithm, &key.data);
    key.verify(message, signature).map_err(|_| Refusal::BadSignature)
}

/// 1.2.840.113549.1.1: RSA.
const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01";
/// 1.2.840.10045.4.3: ECDSA with SHA-2.
const ECDSA: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x03";
/// 1.2.840.10045.2.1: a key on an elliptic curve.
const EC_KEY: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
/// 1.2.840.10045.3.1.7
const P256: &[u8] = b"\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// 1.3.132.0.34
const P384: &[u8] = b"\x2b\x81\x04\x00\x22";

/// The digest that the name of a signature holds.
fn digest_of_signature(name: &[u8]) -> Option<Digest> {
    match (name.strip_prefix(RSA), name.strip_prefix(ECDSA)) {
        (Some([11]), _) | (_, Some([2])) => Some(Digest::Sha256),
        (Some([12]), _) | (_, Some([3])) => Some(Digest::Sha384),
        (Some([13]), _) | (_, Some([4])) => Some(Digest::Sha512),
        _ => None,
    }
}

/// How to verify a signature of this name over this digest with this key.
fn algorithm(
    name: &[u8],
    digest: Digest,
    key: &X509Certificate<'_>,
) -> Result<&'static dyn VerificationAlgorithm, Refusal> {
    // A signer may name the key's kind alone (1.2.840.113549.1.1.1, 1.2.840.10045.2.1), and the digest apart.
    let alone = name.strip_prefix(RSA) == Some(&[1]) || name == EC_KEY;
    if !alone && digest_of_signature(name) != Some(digest) {
        return Err(Refusal::UnknownAlgorithm);
    }
    let of_key = &key.tbs_certificate.subject_pki.algorithm;
    let kind = of_key.algorithm.as_bytes();
    if kind.strip_prefix(RSA) == Some(&[1]) && name.starts_with(RSA) {
        return Ok(match digest {
            Digest::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Digest::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Digest::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        });
    }
    let curve = of_key.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let curve = curve.as_ref().map(|curve| curve.as_bytes());
    if kind != EC_KEY || !(name == EC_KEY || name.starts_with(ECDSA)) {
        return Err(Refusal::UnknownAlgorithm);
    }
    match (curve, digest) {
        (Some(P256), Digest::Sha256) => Ok(&signature::ECDSA_P256_SHA256_ASN1),
        (Some(P256), Digest::Sha384) => Ok(&signature::ECDSA_P256_SHA384_ASN1),
        (Some(P384), Digest::Sha256) => Ok(&signature::ECDSA_P384_SHA256_ASN1),
        (Some(P384), Digest::Sha384) => Ok(&signature::ECDSA_P384_SHA384_ASN1),
        _ => Err(Refusal::UnknownAlgorithm),
    }
}

/// A length as DER writes it.
fn length(length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => vec![short],
        _ => {
            let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
            // At most eight digits.
            std::iter::once(0x80 | u8::try_from(digits.len()).unwrap_or(0)).chain(digits).collect()
        }
    }
}
