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

/// What one is made from, and where it is kept.
struct Sources<'a> {
    folder: &'a Path,
    host_names: &'a [String],
    ca: &'a CertificateDer<'static>,
    authority: &'a Issuer<'static, KeyPair>,
}

impl Own {
    pub(super) fn open(
        folder: PathBuf,
        host_names: Vec<String>,
        ca: &CertificateDer<'static>,
        authority: &Issuer<'static, KeyPair>,
        make: Option<Timestamp>,
    ) -> Result<Self, KeysError> {
        let sources = Sources { folder: &folder, host_names: &host_names, ca, authority };
        let shown = match make {
            Some(now) => sources.in_time(now)?,
            None => {
                sources.stored()?.ok_or_else(|| KeysError::NoCertificate { path: folder.join("tls.pem") })?.1
            }
        };
        Ok(Self { folder, host_names, shown: RwLock::new(Arc::new(shown)) })
    }

    pub(super) fn renew(
        &self,
        ca: &CertificateDer<'static>,
        authority: &Issuer<'static, KeyPair>,
        now: Timestamp,
    ) -> Result<bool, KeysError> {
        let sources = Sources { folder: &self.folder, host_names: &self.host_names, ca, authority };
        let again = sources.in_time(now)?;
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

impl Sources<'_> {
    /// What is stored where that is good now and for long enough, or else another, which is stored then. One that was made while
    /// the clock was ahead is not good yet, and ends later than any that is made now.
    fn in_time(&self, now: Timestamp) -> Result<CertifiedKey, KeysError> {
        let is_good = |made_for: &MadeFor| {
            made_for.host_names == self.host_names
                && made_for.ends > now.after(RENEW)
                && made_for.ends <= now.after(LIFE).after(SLACK)
        };
        match self.stored()? {
            Some((made_for, own)) if is_good(&made_for) => Ok(own),
            _ => self.make(now),
        }
    }

    /// The one that this authority issued, with the key that belongs to it.
    fn stored(&self) -> Result<Option<(MadeFor, CertifiedKey)>, KeysError> {
        let read = |name| read(&self.folder.join(name));
        let (Some(made_for), Some(pem), Some(key)) = (read("tls.json")?, read("tls.pem")?, read("tls.key")?)
        else {
            return Ok(None);
        };
        let made_for =
            serde_json::from_slice::<MadeFor>(&made_for).ok().filter(|it| it.ca == digest(self.ca));
        let own = CertificateDer::from_pem_slice(&pem).ok().zip(PrivateKeyDer::from_pem_slice(&key).ok());
        Ok(made_for.zip(own.and_then(|(own, key)| self.certified(own, key))))
    }

    fn make(&self, now: Timestamp) -> Result<CertifiedKey, KeysError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(self.host_names.to_vec())?;
        params.distinguished_name = named("Elevon server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        lives(&mut params, now, LIFE);
        let certificate = params.signed_by(&key, self.authority)?;
        let host_names = self.host_names.to_vec();
        let made_for = MadeFor { host_names, ca: digest(self.ca), ends: now.after(LIFE) };
        let (key, key_path) = (key.serialize_pem(), self.folder.join("tls.key"));
        write(&self.folder.join("tls.pem"), certificate.pem().as_bytes())?;
        write(&key_path, key.as_bytes())?;
        write(&self.folder.join("tls.json"), &serde_json::to_vec(&made_for).unwrap_or_default())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok();
        key.and_then(|key| self.certified(certificate.der().clone(), key))
            .ok_or(KeysError::Content { path: key_path, expected: "a private key" })
    }

    fn certified(&self, own: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Option<CertifiedKey> {
        let chain = vec![own, self.ca.clone()];
        CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).ok()
    }
}
