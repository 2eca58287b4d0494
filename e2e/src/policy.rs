//! The policies of a site, as the documents that the API takes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Result;
use elevon_policy::application::Sha256;
use elevon_policy::id::{PolicyId, RuleId, Version};
use elevon_policy::lists::{ApplicationList, AppliesTo, AtExpiry, PrivilegedApplicationList, Terms, Way};
use elevon_policy::rule::{Listed, Recognises, Rule};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Span;
use elevon_wire::signed::digest;

use crate::clock::now;

/// Ten random bytes, for an id.
pub fn chance() -> Result<[u8; 10]> {
    let mut bytes = [0; 10];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A rule that recognises what lies in a folder.
pub fn folder(path: &Path, with_subfolders: bool) -> Result<Rule> {
    rule(Recognises::FolderPath { path: os_text(path), with_subfolders })
}

/// A rule that recognises the bytes that a file has now.
pub fn hash_of(path: &Path) -> Result<Rule> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    rule(Recognises::FileHash { sha256: sha256(path)?, display_name: Text::new(name) })
}

/// The digest of the bytes that a file has now.
pub fn sha256(path: &Path) -> Result<Sha256> {
    Ok(digest(&std::fs::read(path)?))
}

/// A rule that recognises applications this way, with any arguments.
pub fn rule(recognises: Recognises) -> Result<Rule> {
    Ok(Rule::of(RuleId::new(now(), chance()?), recognises))
}

/// Terms with short warnings, so that tests need not wait.
pub fn brisk_terms() -> Terms {
    Terms {
        at_expiry: AtExpiry::Terminate { warning: Span::from_secs(1), grace: Span::from_millis(300) },
        ..Terms::default()
    }
}

/// A privileged application list over these rules; where a rule says nothing else, someone has to agree.
pub fn privileged(name: &str, rules: Vec<Rule>) -> Result<PrivilegedApplicationList> {
    Ok(PrivilegedApplicationList {
        id: PolicyId::new(now(), chance()?),
        version: Version::FIRST,
        name: Text::new(name),
        description: Text::default(),
        enabled: true,
        elevate: Way::Approval,
        applies_to: AppliesTo::SpecificApplications,
        rules: rules.into_iter().map(Listed::Rule).collect(),
        terms: brisk_terms(),
    })
}

/// An allowlist or a blocklist over these rules.
pub fn application_list(name: &str, rules: Vec<Rule>) -> Result<ApplicationList> {
    Ok(ApplicationList {
        id: PolicyId::new(now(), chance()?),
        version: Version::FIRST,
        name: Text::new(name),
        description: Text::default(),
        enabled: true,
        rules: rules.into_iter().map(Listed::Rule).collect(),
    })
}

fn os_text(path: &Path) -> OsText {
    use std::os::unix::ffi::OsStrExt;
    OsText::new(path.as_os_str().as_bytes())
}
