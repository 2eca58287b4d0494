//! The server's own certificate: kept across starts, for a browser that was told to trust it should not have to ask again, and
//! made anew in time while the server runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use elevon_policy::application::Sha256;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::signed::digest;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use super::{KeysError, SLACK, lives, named, read, write};

/// How long one lives.
const LIFE: Span = Span::from_days(398);
/// So long before its end another is made.
const RENEW: Span = Span::from_days(60);

/// The server's own certificate, as whoever connects is shown it.
#[derive(Debug)]
pub struct Own {
    folder: PathBuf,
    host_names: Vec<String>,
    shown: RwLock<Arc<CertifiedKey>>,
}

/// What one was made for; kept beside it.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct MadeFor {
    host_names: Vec<String>,
    ca: Sha256,
    ends: Timestamp,
}

impl Own {
    pub(super) fn open(
        folder: PathBuf,
        host_names: Vec<String>,
        ca: &CertificateDer<'static>,
        authority: &Issuer<'_, KeyPair>,
        make: Option<Timestamp>,
    ) -> Result<Self, KeysError> {
        let stored = stored(&folder, ca)?;
        let shown = match make {
            Some(now) => in_time(stored, &folder, &host_names, ca, authority, now)?,
            None => stored.ok_or_else(|| KeysError::NoCertificate { path: folder.join("tls.pem") })?.1,
        };
        Ok(Self { folder, host_names, shown: RwLock::new(Arc::new(shown)) })
    }

    pub(super) fn renew(
        &self,
        ca: &CertificateDer<'static>,
        authority: &Issuer<'_, KeyPair>,
        now: Timestamp,
    ) -> Result<bool, KeysError> {
        let again = in_time(stored(&self.folder, ca)?, &self.folder, &self.host_names, ca, authority, now)?;
        let other = again.cert != self.shown().cert;
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(again);
        Ok(other)
    }

    /// The certificate that is shown now.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.shown().cert.first().cloned().expect("it stands before the authority's in each chain")
    }

    fn shown(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown())
    }
}

/// What is stored where that is good now and for long enough, or else another, which is stored then. One that was made while
/// the clock was ahead is not good yet, and ends later than any that is made now.
fn in_time(
    stored: Option<(MadeFor, CertifiedKey)>,
    folder: &Path,
    host_names: &[String],
    ca: &CertificateDer<'static>,
    authority: &Issuer<'_, KeyPair>,
    now: Timestamp,
) -> Result<CertifiedKey, KeysError> {
    match stored {
        Some((made_for, own))
            if made_for.host_names == host_names
                && made_for.ends > now.after(RENEW)
                && made_for.ends <= now.after(LIFE).after(SLACK) =>
        {
            Ok(own)
        }
        _ => make(folder, host_names, ca, authority, now),
    }
}

/// The one that this authority issued, with the key that belongs to it.
fn stored(folder: &Path, ca: &CertificateDer<'static>) -> Result<Option<(MadeFor, CertifiedKey)>, KeysError> {
    let (Some(made_for), Some(pem), Some(key)) =
        (read(&folder.join("tls.json"))?, read(&folder.join("tls.pem"))?, read(&folder.join("tls.key"))?)
    else {
        return Ok(None);
    };
    let made_for = serde_json::from_slice::<MadeFor>(&made_for).ok().filter(|it| it.ca == digest(ca));
    let own = CertificateDer::from_pem_slice(&pem).ok().zip(PrivateKeyDer::from_pem_slice(&key).ok());
    let own = own.and_then(|(own, key)| certified(own, ca, key).ok());
    Ok(made_for.zip(own))
}

fn make(
    folder: &Path,
    host_names: &[String],
    ca: &CertificateDer<'static>,
    authority: &Issuer<'_, KeyPair>,
    now: Timestamp,
) -> Result<CertifiedKey, KeysError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(host_names.to_vec())?;
    params.distinguished_name = named("Elevon server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    lives(&mut params, now, LIFE);
    let certificate = params.signed_by(&key, authority)?;
    let made_for = MadeFor { host_names: host_names.to_vec(), ca: digest(ca), ends: now.after(LIFE) };
    let (pem_path, key_path) = (folder.join("tls.pem"), folder.join("tls.key"));
    write(&pem_path, certificate.pem().as_bytes())?;
    write(&key_path, key.serialize_pem().as_bytes())?;
    write(&folder.join("tls.json"), &serde_json::to_vec(&made_for).unwrap_or_default())?;
    PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())
        .ok()
        .and_then(|key| certified(certificate.der().clone(), ca, key).ok())
        .ok_or(KeysError::Content { path: key_path, expected: "a private key" })
}

fn certified(
    own: CertificateDer<'static>,
    ca: &CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(vec![own, ca.clone()], key, &rustls::crypto::ring::default_provider())
}
