//! What the agent shows to the server, and what it believes of it: four files of its own.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use elevon_policy::id::ComputerId;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::files::{sync_folder, write_private};

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

    /// Stores them in place of those there are. They are all written before any of those goes; then the enrollment goes first and comes
    /// last, since it says that the others are there. What was on its way to its place goes, too.
    pub(crate) fn store(&self, state_dir: &Path) -> Result<()> {
        let enrollment = serde_json::to_vec_pretty(self.enrollment)?;
        let files = [
            (KEY, self.key.as_bytes()),
            (CERTIFICATE, self.certificate.as_bytes()),
            (CA, self.ca.as_bytes()),
            (ENROLLMENT, &enrollment),
        ];
        let next = |name: &str| state_dir.join(format!("{name}.next"));
        for (name, bytes) in files {
            write_private(&next(name), bytes)?;
        }
        for name in [ENROLLMENT, RENEWED_CERTIFICATE, RENEWED_KEY] {
            let path = state_dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", path.display()));
                }
                _ => sync_folder(&path)?,
            }
        }
        for (name, _) in files {
            let path = state_dir.join(name);
            fs::rename(next(name), &path).with_context(|| format!("put {name} in place"))?;
            sync_folder(&path)?;
        }
        Ok(())
    }
}

/// A renewed key and certificate on their way to their places: the certificate is written last, and so says that both are
/// there.
const RENEWED_KEY: &str = "renewed.key";
const RENEWED_CERTIFICATE: &str = "renewed.pem";

/// Puts a renewed key and certificate in place that a crash may have left on their way.
pub(crate) fn settle(state_dir: &Path) -> Result<()> {
    let renewed = state_dir.join(RENEWED_CERTIFICATE);
    if !renewed.try_exists().with_context(|| format!("look for {}", renewed.display()))? {
        return Ok(());
    }
    for (from, to) in [(RENEWED_KEY, KEY), (RENEWED_CERTIFICATE, CERTIFICATE)] {
        match fs::rename(state_dir.join(from), state_dir.join(to)) {
            // The key went before the crash.
            Err(error) if error.kind() == ErrorKind::NotFound && from == RENEWED_KEY => {}
            moved => moved.with_context(|| format!("put {to} in place"))?,
        }
    }
    sync_folder(&renewed)
}

impl Credentials {
    /// The same computer with another key and certificate, both PEM.
    pub(crate) fn renewed(&self, key: &str, certificate: &str) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            enrollment: self.enrollment.clone(),
            key: PrivateKeyDer::from_pem_slice(key.as_bytes()).context("read the new key")?,
            certificate: chain.context("read the new certificate")?,
            ca: self.ca.clone(),
        })
    }

    /// Stores another key and certificate, both PEM, in place of those there are: both or none. Those that were on their way get
    /// there first: a key is not paired with the certificate of another.
    pub(crate) fn store_renewed(state_dir: &Path, key: &str, certificate: &str) -> Result<()> {
        settle(state_dir)?;
        write_private(&state_dir.join(RENEWED_KEY), key.as_bytes())?;
        write_private(&state_dir.join(RENEWED_CERTIFICATE), certificate.as_bytes())?;
        settle(state_dir)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("written");
        }
    }

    fn pair(folder: &Path) -> (String, String) {
        let read = |name| fs::read_to_string(folder.join(name)).expect("read");
        (read(KEY), read(CERTIFICATE))
    }

    #[test]
    fn a_renewal_is_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path();
        write(state, &[(KEY, "old"), (CERTIFICATE, "old")]);
        settle(state).expect("nothing to do");
        // Before the certificate was written.
        write(state, &[(RENEWED_KEY, "new")]);
        settle(state).expect("nothing to do");
        assert_eq!(pair(state), ("old".into(), "old".into()));
        // Before either was moved.
        write(state, &[(RENEWED_CERTIFICATE, "new")]);
        settle(state).expect("moved");
        assert_eq!(pair(state), ("new".into(), "new".into()));
        // Between the two.
        write(state, &[(KEY, "newer"), (RENEWED_CERTIFICATE, "newer")]);
        settle(state).expect("moved");
        assert_eq!(pair(state), ("newer".into(), "newer".into()));
        Credentials::store_renewed(state, "newest", "newest").expect("stored");
        assert_eq!(pair(state), ("newest".into(), "newest".into()));
        assert_eq!(fs::read_dir(state).expect("read").count(), 2);
        // One that could not be put in place is not mixed with the next one.
        fs::remove_file(state.join(CERTIFICATE))
            .and_then(|()| fs::create_dir(state.join(CERTIFICATE)))
            .expect("made");
        Credentials::store_renewed(state, "a", "a").expect_err("there is a folder in its place");
        Credentials::store_renewed(state, "b", "b").expect_err("still");
        fs::remove_dir(state.join(CERTIFICATE)).expect("removed");
        settle(state).expect("moved");
        assert_eq!(pair(state), ("a".into(), "a".into()));
    }

    #[test]
    fn an_enrollment_that_was_interrupted_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path();
        write(state, &[(KEY, "old"), (CERTIFICATE, "old"), (CA, "old"), (ENROLLMENT, "old")]);
        write(state, &[(RENEWED_KEY, "old"), (RENEWED_CERTIFICATE, "old")]);
        fs::remove_file(state.join(CA)).and_then(|()| fs::create_dir(state.join(CA))).expect("made");
        let computer = ComputerId::new(elevon_policy::time::Timestamp::from_millis(0), [1; 10]);
        let enrollment = Enrollment { server: "localhost:1".into(), computer };
        let new = Written { enrollment: &enrollment, key: "new", certificate: "new", ca: "new" };
        new.store(state).expect_err("there is a folder in the place of the last but one");
        settle(state).expect("nothing of the old one is left to put in place");
        assert!(Credentials::load(state).expect("looked").is_none());
        assert_eq!(pair(state), ("new".into(), "new".into()));
        // What cannot even be written, as on a full disk, takes nothing away.
        write(state, &[(KEY, "old"), (ENROLLMENT, "old")]);
        fs::create_dir(state.join(format!("{CERTIFICATE}.next"))).expect("made");
        new.store(state).expect_err("there is a folder in the place of the next certificate");
        let left = [KEY, ENROLLMENT].map(|name| fs::read_to_string(state.join(name)).expect("read"));
        assert_eq!(left, ["old", "old"]);
    }
}
