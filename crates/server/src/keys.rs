//! The keys: what signs documents, and the small certificate authority of server and agents. All in `keys/` of the
//! state, never in the database.

mod own;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use elevon_policy::application::Sha256;
use elevon_policy::id::ComputerId;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::signed::{PublicKey, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

pub use self::own::Own;
use crate::app::chance;

/// So long before it is made each certificate begins, for clocks that are a little off.
const SLACK: Span = Span::from_hours(1);
/// How long the authority lives.
const AUTHORITY_LIFE: Span = Span::from_days(3650);

/// What signs, and what certifies.
pub struct Keys {
    /// Signs bundles, sheets, time and checkpoints.
    pub signing: SigningKey,
    /// The authority's certificate, PEM.
    pub ca_pem: String,
    /// The authority's certificate.
    pub ca: CertificateDer<'static>,
    authority: Issuer<'static, KeyPair>,
    /// The server's own certificate.
    pub own: Arc<Own>,
}

/// Why keys could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file or folder.
    #[error("could not {doing} {}: {error}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{} does not hold {expected}; restore keys/ from a copy, or start with an empty state folder", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The server's own certificate is not there, or not of this authority.
    #[error("{} is no certificate of this site; start `elevon-server serve`, which makes it", path.display())]
    NoCertificate {
        /// Where it should be.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("could not make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

impl Keys {
    /// Reads the keys below this state folder, and makes those that are not there yet. The server's own certificate is
    /// also made anew when the host names changed or its end is near.
    pub fn open(state_dir: &Path, host_names: &[String], now: Timestamp) -> Result<Self, KeysError> {
        private_folder(state_dir)?;
        private_folder(&state_dir.join("keys"))?;
        Self::read(state_dir, host_names, Some(now))
    }

    /// Reads the keys for a command that is run beside the server: as they are, but made where there are none yet. The server's
    /// own certificate is for the server to make.
    pub fn beside(state_dir: &Path, host_names: &[String], now: Timestamp) -> Result<Self, KeysError> {
        match state_dir.join("keys/server.key").exists() {
            true => Self::look(state_dir, host_names),
            false => Self::open(state_dir, host_names, now),
        }
    }

    /// Reads the keys as they are, and makes nothing.
    pub fn look(state_dir: &Path, host_names: &[String]) -> Result<Self, KeysError> {
        Self::read(state_dir, host_names, None)
    }

    fn read(state_dir: &Path, host_names: &[String], make: Option<Timestamp>) -> Result<Self, KeysError> {
        let folder = state_dir.join("keys");
        let signing = signing_key(&folder, make)?;
        let (ca_pem, authority) = authority(&folder, make)?;
        let ca_path = folder.join("ca.pem");
        let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|_| KeysError::Content { path: ca_path, expected: "a certificate" })?;
        let own = Arc::new(Own::open(folder, host_names.to_vec(), &ca, &authority, make)?);
        Ok(Self { signing, ca_pem, ca, authority, own })
    }

    /// Makes the server's own certificate anew when its end is near; connections that begin later are shown that one. Tells
    /// whether another is shown now.
    pub fn renew(&self, now: Timestamp) -> Result<bool, KeysError> {
        self.own.renew(&self.ca, &self.authority, now)
    }

    /// The public part of what signs.
    pub fn public(&self) -> PublicKey {
        PublicKey::of(&self.signing)
    }

    /// What an enrollment token pins.
    pub fn ca_fingerprint(&self) -> Sha256 {
        digest(&self.ca)
    }

    /// Certifies an agent's own key. Of the request only the key counts; the names are ours. Gives the certificate as
    /// PEM, and its fingerprint.
    pub fn certify(
        &self,
        request: &str,
        computer: ComputerId,
        now: Timestamp,
        life: Span,
    ) -> Result<(String, Sha256), rcgen::Error> {
        let request = CertificateSigningRequestParams::from_pem(request)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&computer.to_string());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        lives(&mut params, now, life);
        let certificate = CertificateSigningRequestParams { params, public_key: request.public_key }
            .signed_by(&self.authority)?;
        Ok((certificate.pem(), digest(certificate.der())))
    }
}

fn authority(
    folder: &Path,
    make: Option<Timestamp>,
) -> Result<(String, Issuer<'static, KeyPair>), KeysError> {
    let (key_path, pem_path) = (folder.join("ca.key"), folder.join("ca.pem"));
    if let (Some(key), Some(pem)) = (read(&key_path)?, read(&pem_path)?) {
        let broken = |path: &Path, expected| KeysError::Content { path: path.to_owned(), expected };
        let key = String::from_utf8(key).map_err(|_| broken(&key_path, "a private key"))?;
        let pem = String::from_utf8(pem).map_err(|_| broken(&pem_path, "a certificate"))?;
        let key = KeyPair::from_pem(&key).map_err(|_| broken(&key_path, "a private key"))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|_| broken(&pem_path, "a certificate"))?;
        return Ok((pem, issuer));
    }
    // Another authority in place of one of which a part went lost would lock every computer out. Whoever wants another takes
    // both parts away; and of one that was being made for the first time when the power went, there is at most the key.
    if pem_path.exists() {
        return Err(KeysError::Content { path: key_path, expected: "a private key" });
    }
    let make = make.filter(|_| !key_path.exists() || !folder.join("tls.pem").exists());
    let now = make.ok_or(KeysError::Content { path: pem_path.clone(), expected: "a certificate" })?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Elevon certificate authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lives(&mut params, now, AUTHORITY_LIFE);
    let certificate = params.self_signed(&key)?;
    write(&key_path, key.serialize_pem().as_bytes())?;
    write(&pem_path, certificate.pem().as_bytes())?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn lives(params: &mut CertificateParams, now: Timestamp, life: Span) {
    let start = now.before(SLACK);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = |at: Timestamp| at.since(Timestamp::from_millis(0)).std();
    params.not_before = epoch + since_epoch(start);
    params.not_after = epoch + since_epoch(now.after(life));
    params.serial_number = Some(SerialNumber::from_slice(&chance::<16>()));
}

fn signing_key(folder: &Path, make: Option<Timestamp>) -> Result<SigningKey, KeysError> {
    let path = &folder.join("server.key");
    if let Some(seed) = read(path)? {
        let seed: [u8; 32] = seed.try_into().map_err(|_| KeysError::Content {
            path: path.to_owned(),
            expected: "a signing key of 32 bytes",
        })?;
        return Ok(SigningKey::from_bytes(&seed));
    }
    if make.is_none() || folder.join("ca.pem").exists() {
        // A new key in an old site would lock every computer out, and nobody would know why.
        return Err(KeysError::Content { path: path.to_owned(), expected: "a signing key of 32 bytes" });
    }
    let seed = chance::<32>();
    write(path, &seed)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Makes a folder that only its owner can enter, and shuts one that others can.
pub fn private_folder(path: &Path) -> Result<(), KeysError> {
    let failed = |doing| move |error| KeysError::File { doing, path: path.to_owned(), error };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make folder"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed("shut folder"))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, KeysError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KeysError::File { doing: "read", path: path.to_owned(), error }),
    }
}

/// Whole or not at all: a key that is half written would lock everyone out.
fn write(path: &Path, bytes: &[u8]) -> Result<(), KeysError> {
    let failed = |error| KeysError::File { doing: "write", path: path.to_owned(), error };
    let draft = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)
}
