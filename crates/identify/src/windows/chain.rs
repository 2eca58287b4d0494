//! From a signer's certificate to an authority that is trusted (RFC 5280, section 6), for one use, at one time.

use elevon_policy::application::Sha256;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use ring::digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::Refusal;
use super::signer::{issued_by, read};

/// What the caller trusts, and when.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// Certificates of authorities, in DER.
    pub authorities: &'a [Vec<u8>],
    /// Certificates that are not believed any more.
    pub revoked: &'a [Revoked],
    /// The time it is.
    pub now: Timestamp,
}

/// A certificate that is not believed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// SHA-256 of the certificate in DER.
    pub certificate: Sha256,
    /// Since when; what was signed before that, as a time stamp proves, is believed. Without it nothing is.
    pub since: Option<Timestamp>,
}

/// What a certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    CodeSigning,
    TimeStamping,
}

/// The moment that certificates are looked at for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    /// Whether a time stamp says so.
    pub(super) proven: bool,
}

/// More certificates in a row than any authority issues.
const MAX_LENGTH: usize = 8;
/// So many signatures are verified at most, whatever an attacker lays out.
const MAX_TRIES: usize = 64;

/// Checks the way from the signer's certificate to an authority; gives that authority.
pub(super) fn follow<'a>(
    signer: &X509Certificate<'_>,
    others: &'a [&'a [u8]],
    purpose: Purpose,
    moment: Moment,
    trust: &'a Trust<'a>,
) -> Result<Sha256, Refusal> {
    check_use(signer, purpose)?;
    let authorities: Vec<_> = trust.authorities.iter().filter_map(|bytes| read(bytes).ok()).collect();
    let others = others.iter().filter_map(|bytes| read(bytes).ok()).collect();
    let mut search =
        Search { authorities, others, purpose, moment, revoked: trust.revoked, tries: MAX_TRIES };
    search.from(signer, 0)
}

struct Search<'a> {
    authorities: Vec<X509Certificate<'a>>,
    others: Vec<X509Certificate<'a>>,
    purpose: Purpose,
    moment: Moment,
    revoked: &'a [Revoked],
    tries: usize,
}

impl Search<'_> {
    /// `below` is how many certificates of authorities lie between this one and the signer's.
    fn from(&mut self, certificate: &X509Certificate<'_>, below: usize) -> Result<Sha256, Refusal> {
        self.check(certificate)?;
        // One that is an authority itself is trusted as such, whoever else vouches for it.
        let own = fingerprint(certificate);
        if self.authorities.iter().any(|authority| fingerprint(authority) == own) {
            return Ok(own);
        }
        let mut refusal = Refusal::NotTrusted { issuer: name(certificate.issuer()) };
        if below >= MAX_LENGTH {
            return Err(refusal);
        }
        let candidates = self.authorities.iter().chain(&self.others).cloned().collect::<Vec<_>>();
        for issuer in candidates {
            let itself = fingerprint(&issuer) == own;
            if itself || issuer.subject().as_raw() != certificate.issuer().as_raw() {
                continue;
            }
            match self.step(certificate, &issuer, below) {
                Ok(authority) => return Ok(authority),
                // Of several ways that lead nowhere, the one that came to an authority's door says most.
                Err(Refusal::NotTrusted { .. } | Refusal::BadSignature) => {}
                Err(other) => refusal = other,
            }
        }
        Err(refusal)
    }

    fn step(
        &mut self,
        certificate: &X509Certificate<'_>,
        issuer: &X509Certificate<'_>,
        below: usize,
    ) -> Result<Sha256, Refusal> {
        self.tries = self.tries.checked_sub(1).ok_or(Refusal::Malformed("fewer certificates"))?;
        issued_by(certificate, issuer)?;
        check_issuer(issuer, self.purpose, below)?;
        self.from(issuer, below + 1)
    }

    fn check(&self, certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
        let subject = || name(certificate.subject());
        let own = fingerprint(certificate);
        let revoked = self.revoked.iter().any(|revoked| {
            let before = revoked.since.is_some_and(|since| self.moment.proven && self.moment.at < since);
            revoked.certificate == own && !before
        });
        if revoked {
            return Err(Refusal::Revoked { subject: subject() });
        }
        let seconds = |time: i64| Timestamp::from_millis(time.saturating_mul(1000));
        let validity = certificate.validity();
        if self.moment.at < seconds(validity.not_before.timestamp()) {
            return Err(Refusal::NotYetValid { subject: subject() });
        }
        let ended = seconds(validity.not_after.timestamp());
        if self.moment.at > ended {
            return Err(Refusal::Expired { subject: subject(), ended });
        }
        Ok(())
    }
}

/// The signer's own certificate: for this use, and not for issuing others.
fn check_use(certificate: &X509Certificate<'_>, purpose: Purpose) -> Result<(), Refusal> {
    let wrong = || Refusal::WrongUse { subject: name(certificate.subject()) };
    all_understood(certificate)?;
    let uses = certificate.extended_key_usage().map_err(|_| wrong())?.ok_or_else(wrong)?.value;
    let meant = match purpose {
        Purpose::CodeSigning => uses.code_signing,
        // For nothing else (RFC 3161, 2.3).
        Purpose::TimeStamping => {
            uses.time_stamping && !uses.code_signing && !uses.server_auth && !uses.client_auth && !uses.any
        }
    };
    let key = certificate.key_usage().map_err(|_| wrong())?;
    let signs = key.is_none_or(|key| key.value.digital_signature());
    if meant && signs { Ok(()) } else { Err(wrong()) }
}

/// An issuer's certificate: for issuing others, so many, for this use.
fn check_issuer(certificate: &X509Certificate<'_>, purpose: Purpose, below: usize) -> Result<(), Refusal> {
    let wrong = || Refusal::WrongUse { subject: name(certificate.subject()) };
    all_understood(certificate)?;
    let basic = certificate.basic_constraints().map_err(|_| wrong())?.ok_or_else(wrong)?.value;
    let deep_enough = basic.path_len_constraint.is_none_or(|most| below <= most as usize);
    let key = certificate.key_usage().map_err(|_| wrong())?;
    let issues = key.is_none_or(|key| key.value.key_cert_sign());
    let uses = certificate.extended_key_usage().map_err(|_| wrong())?;
    let meant = uses.is_none_or(|uses| match purpose {
        Purpose::CodeSigning => uses.value.code_signing || uses.value.any,
        Purpose::TimeStamping => uses.value.time_stamping || uses.value.any,
    });
    if basic.ca && deep_enough && issues && meant { Ok(()) } else { Err(wrong()) }
}

/// What is critical and not looked at here might say no.
fn all_understood(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    let understood = |extension: &ParsedExtension<'_>| {
        matches!(
            extension,
            ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
        )
    };
    let mut critical = certificate.extensions().iter().filter(|extension| extension.critical);
    match critical.all(|extension| understood(extension.parsed_extension())) {
        true => Ok(()),
        false => Err(Refusal::WrongUse { subject: name(certificate.subject()) }),
    }
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(certificate: &X509Certificate<'_>) -> Sha256 {
    let digest = digest::digest(&digest::SHA256, certificate.as_raw());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    Sha256(bytes)
}

/// What a person would call the holder: the common name, else the organisation.
pub(super) fn name(holder: &x509_parser::x509::X509Name<'_>) -> Text {
    let common = holder.iter_common_name().chain(holder.iter_organization());
    let mut named = common.filter_map(|attribute| attribute.as_str().ok());
    Text::new(named.next().unwrap_or_default())
}
