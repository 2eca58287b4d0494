//! `elevon-server measure`: the process that looks into files which anybody may have made. It gives everything up before it
//! reads the first byte, is given the file as its standard input, and says what it found on its standard output.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use elevon_identify::upload::{Upload, measure};
use elevon_identify::windows::Trust;
use elevon_policy::time::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::confine::confine;

/// What it says, as one JSON document.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// What was measured.
    Measured(Box<Upload>),
    /// Why it could not be, as a sentence about the file.
    Refused(String),
    /// Why nothing could be.
    Failed(String),
}

/// Measures standard input. `now` is the time that signatures are judged by, in milliseconds since 1970; `authorities` a file of
/// certificates in PEM that are trusted to name publishers.
pub fn main(now: i64, authorities: Option<&Path>) -> ExitCode {
    let answer = answer(now, authorities).unwrap_or_else(Answer::Failed);
    let told = serde_json::to_vec(&answer).map_err(io::Error::other);
    match told.and_then(|told| io::stdout().write_all(&told)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(now: i64, authorities: Option<&Path>) -> Result<Answer, String> {
    let authorities = authorities.map_or(Ok(Vec::new()), certificates)?;
    let file = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| format!("could not take the file: {error}"))?;
    confine()?;
    let trust = Trust { authorities: &authorities, revoked: &[], now: Timestamp::from_millis(now) };
    Ok(match measure(&mut File::from(file), &trust) {
        Ok(upload) => Answer::Measured(Box::new(upload)),
        Err(not) => Answer::Refused(not.to_string()),
    })
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let failed = |error| {
        format!("could not read the authorities for programs of Windows in {}: {error}", path.display())
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(failed)?;
    certificates.map(|certificate| certificate.map(|bytes| bytes.to_vec()).map_err(failed)).collect()
}
