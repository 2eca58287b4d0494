//! What the agent shows to the server, and what it believes of it: four files of its own.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use elevon_policy::id::ComputerId;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::files::write_private;

const KEY: &str = "agent.key";
const CERTIFICATE: &str = "agent.pem";
const CA: &str = "ca.pem";
const ENROLLMENT: &str = "agent.json";

/// Everything that enrolling left.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) enrollment: Enrollment,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) certificate: Vec<CertificateDer<'static>>,
    pub(crate) ca: CertificateDer<'static>,
}

/// Where and as what this computer is enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enrollment {
    /// Where agents reach the server, `host:port`.
    pub(crate) server: String,
    /// Which computer this is.
    pub(crate) computer: ComputerId,
}

/// As they are written, PEM.
pub(crate) struct Written<'a> {
    pub(crate) enrollment: &'a Enrollment,
    pub(crate) key: &'a str,
    pub(crate) certificate: &'a str,
    pub(crate) ca: &'a str,
}

impl Written<'_> {
    /// Reads them as [`Credentials::load`] would.
    pub(crate) fn read(&self) -> Result<Credentials> {
        let certificate =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let certificate = certificate.context("read the agent's certificate")?;
        if certificate.is_empty() {
            bail!("read the agent's certificate: there is none");
        }
        Ok(Credentials {
            enrollment: self.enrollment.clone(),
            key: PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("read the agent's key")?,
            certificate,
            ca: CertificateDer::from_pem_slice(self.ca.as_bytes())
                .context("read the server's CA certificate")?,
        })
    }

    /// Stores them; the enrollment last, since it says that the others are there.
    pub(crate) fn store(&self, state_dir: &Path) -> Result<()> {
        write_private(&state_dir.join(KEY), self.key.as_bytes())?;
        write_private(&state_dir.join(CERTIFICATE), self.certificate.as_bytes())?;
        write_private(&state_dir.join(CA), self.ca.as_bytes())?;
        write_private(&state_dir.join(ENROLLMENT), &serde_json::to_vec_pretty(self.enrollment)?)
    }
}

impl Credentials {
    /// What enrolling left; none when this computer is not enrolled.
    pub(crate) fn load(state_dir: &Path) -> Result<Option<Self>> {
        let path = state_dir.join(ENROLLMENT);
        let enrollment = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let enrollment =
            serde_json::from_slice(&enrollment).with_context(|| format!("read {}", path.display()))?;
        let text = |name| {
            let path = state_dir.join(name);
            fs::read_to_string(&path)
                .with_context(|| format!("read {}; enroll this computer again", path.display()))
        };
        let (key, certificate, ca) = (text(KEY)?, text(CERTIFICATE)?, text(CA)?);
        let written = Written { enrollment: &enrollment, key: &key, certificate: &certificate, ca: &ca };
        written
            .read()
            .map(Some)
            .with_context(|| format!("in {}; enroll this computer again", state_dir.display()))
    }
}
