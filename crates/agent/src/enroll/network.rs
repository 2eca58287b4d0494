//! The part of enrolling that speaks with the server: a process of its own, without rights.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use elevon_policy::text::Text;
use elevon_wire::channel::{Enroll, Enrolled};
use elevon_wire::signed::{PublicKey, digest};
use elevon_wire::token::EnrollmentToken;
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::credentials::{Enrollment, Written};
use crate::rights::{AgentUser, become_user};
use crate::tls;

/// The word that starts it; root does, nobody types it.
pub(crate) const COMMAND: &str = "enroll-over-network";

/// What root wants done. It comes on standard input: the token is a secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Task {
    pub(crate) token: String,
    pub(crate) event_key: PublicKey,
    pub(crate) state_dir: PathBuf,
    pub(crate) user: String,
}

/// Enrolls, stores what belongs to the agent, and prints the server's answer for root.
pub(crate) fn enroll() -> Result<()> {
    let mut task = Vec::new();
    std::io::stdin().take(1 << 20).read_to_end(&mut task).context("read what to do")?;
    let task: Task =
        serde_json::from_slice(&task).context("expected to be started by `elevon-agent enroll`")?;
    become_user(&AgentUser::named(&task.user)?)?;
    let token: EnrollmentToken = task.token.parse()?;
    let key = KeyPair::generate().context("make the agent's key")?;
    let enrolled = ask(&token, task.event_key, &key)?;
    let enrollment = Enrollment { server: token.address.clone(), computer: enrolled.computer };
    let key = key.serialize_pem();
    let written =
        Written { enrollment: &enrollment, key: &key, certificate: &enrolled.certificate, ca: &enrolled.ca };
    let credentials = written.read()?;
    ensure!(
        digest(&credentials.ca) == token.ca_fingerprint,
        "the server answered with another CA certificate than the token names; nothing was stored"
    );
    tls::enrolled(&credentials)?;
    written.store(&task.state_dir)?;
    std::io::stdout().write_all(&serde_json::to_vec(&enrolled)?).context("hand the answer over")
}

fn ask(token: &EnrollmentToken, event_key: PublicKey, key: &KeyPair) -> Result<Enrolled> {
    let request =
        CertificateParams::default().serialize_request(key).context("make a certificate request")?;
    let channel = Channel::to(&token.address, tls::enrolling(token.ca_fingerprint)?);
    let enroll = Enroll {
        secret: token.secret.clone(),
        certificate_request: request.pem().context("write the certificate request")?,
        event_key,
        host_name: host_name(),
        operating_system: operating_system(),
    };
    channel.enroll(&enroll).context("enroll")
}

fn host_name() -> Text {
    Text::new(rustix::system::uname().nodename().to_string_lossy())
}

/// As `/etc/os-release` calls it.
fn operating_system() -> Text {
    let places = ["/etc/os-release", "/usr/lib/os-release"];
    let text = places.iter().find_map(|place| fs::read_to_string(place).ok()).unwrap_or_default();
    Text::new(pretty_name(&text).unwrap_or("Linux"))
}

fn pretty_name(os_release: &str) -> Option<&str> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_called_by_its_pretty_name() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(text), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name(""), None);
    }
}
