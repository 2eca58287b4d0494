//! Signed documents: verified before they are believed, on disk before they are in force.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use elevon_policy::application::Sha256;
use elevon_policy::bundle::Bundle;
use elevon_policy::grant::PolicyReference;
use elevon_policy::rule::Listed;
use elevon_policy::sheet::Sheet;
use elevon_wire::channel::Trust;
use elevon_wire::signed::{Purpose, Signed};

use super::{Accepted, Documents, Holdings};
use crate::files;

impl Holdings {
    /// Takes a sheet, and the bundle where it is a new one, or says why not; what is held then stays in force.
    pub(crate) fn accept(&self, sheet: &Signed, bundle: Option<&Signed>) -> Result<Accepted, String> {
        let trust = self.trust().ok_or("this computer is not enrolled")?;
        let documents = verify(&trust, sheet, bundle, || self.bundle_in_hand())?;
        let mut held = self.held();
        let before = held.documents.as_ref().map(|documents| Arc::clone(&documents.sheet));
        if let Some(before) = &before {
            let order = |sheet: &Sheet| (sheet.version, sheet.issued);
            if order(&documents.sheet) < order(before) {
                return Err(format!(
                    "the sheet is version {} of {}, older than version {} in force: an old document was sent again",
                    documents.sheet.version,
                    documents.sheet.issued.millis(),
                    before.version
                ));
            }
        }
        let store = || -> io::Result<()> {
            // The bundle first, under a name of its own: after a crash the sheet that is there has its bundle.
            if let Some(bundle) = bundle {
                files::write(&self.bundle_path(documents.sheet.bundle), &serde_json::to_vec(bundle)?)?;
            }
            files::write(&self.state.join("sheet.signed"), &serde_json::to_vec(sheet)?)
        };
        store().map_err(|error| format!("the documents could not be stored: {error}"))?;
        let sheet = Arc::clone(&documents.sheet);
        if let Some(old) = before.as_ref().map(|before| before.bundle).filter(|old| *old != sheet.bundle) {
            // A bundle that is left over is only a little room on the disk.
            let _ = files::remove(&self.bundle_path(old));
        }
        held.documents = Some(documents);
        let is_news = before.is_none_or(|before| before.version != sheet.version);
        let kept = self.change(&mut held, |local| {
            local.take_answers(&sheet.answers);
            local.forget(sheet.issued);
        });
        kept.map_err(|error| format!("what became of requests could not be stored: {error}"))?;
        Ok(Accepted { sheet, is_news })
    }

    /// The rules in hand that match nothing here, and why.
    pub(crate) fn rules_not_evaluated(&self, package_database: bool) -> Vec<(PolicyReference, &'static str)> {
        let Some(documents) = self.held().documents.clone() else {
            return Vec::new();
        };
        let bundle = &documents.bundle;
        let privileged = bundle.privileged_application_lists.iter().map(|deployed| &deployed.policy);
        let lists = bundle.allowlists.iter().chain(&bundle.blocklists).map(|deployed| &deployed.policy);
        let rules = privileged
            .map(|list| (list.id, list.version, &list.rules))
            .chain(lists.map(|list| (list.id, list.version, &list.rules)));
        rules
            .flat_map(|(policy, version, rules)| rules.iter().map(move |listed| (policy, version, listed)))
            .filter_map(|(policy, version, listed)| {
                let rule = match listed {
                    Listed::Rule(rule) => Some(rule.id),
                    Listed::Unreadable(_) => None,
                };
                Some((
                    PolicyReference { policy, version, rule },
                    listed.not_evaluated(package_database)?.sentence(),
                ))
            })
            .collect()
    }

    pub(super) fn take_up_documents(&self, trust: &Trust) -> Result<Option<Documents>, String> {
        let read = |path: &Path| files::read_json::<Signed>(path).map_err(|error| error.to_string());
        let Some(sheet) = read(&self.state.join("sheet.signed"))? else {
            return Ok(None);
        };
        let wanted: Sheet = sheet.open(&trust.server_key, Purpose::Sheet).map_err(|cause| {
            format!("the stored sheet is not taken, nothing is elevated until the server is reached: {cause}")
        })?;
        let bundle = read(&self.bundle_path(wanted.bundle))?;
        verify(trust, &sheet, bundle.as_ref(), || None).map(Some).map_err(|cause| {
            format!(
                "what is stored does not verify, nothing is elevated until the server is reached: {cause}"
            )
        })
    }

    fn bundle_path(&self, digest: Sha256) -> PathBuf {
        self.state.join(format!("bundle-{digest}.signed"))
    }

    fn bundle_in_hand(&self) -> Option<(Sha256, Arc<Bundle>)> {
        let held = self.held();
        held.documents.as_ref().map(|documents| (documents.sheet.bundle, Arc::clone(&documents.bundle)))
    }
}

/// Opens both documents, or says which one is not what it should be.
fn verify(
    trust: &Trust,
    sheet: &Signed,
    bundle: Option<&Signed>,
    in_hand: impl FnOnce() -> Option<(Sha256, Arc<Bundle>)>,
) -> Result<Documents, String> {
    let sheet: Sheet = sheet
        .open(&trust.server_key, Purpose::Sheet)
        .map_err(|cause| format!("the sheet is not taken: {cause}"))?;
    if sheet.computer != trust.computer {
        return Err(format!(
            "the sheet is for computer {}, this is computer {}",
            sheet.computer, trust.computer
        ));
    }
    let bundle = match bundle {
        Some(signed) if signed.digest() == sheet.bundle => signed
            .open(&trust.server_key, Purpose::Bundle)
            .map(Arc::new)
            .map_err(|cause| format!("the bundle is not taken: {cause}"))?,
        Some(_) => return Err("the bundle is another one than the sheet goes with".into()),
        None => match in_hand() {
            Some((digest, bundle)) if digest == sheet.bundle => bundle,
            _ => return Err("the bundle that the sheet goes with is missing".into()),
        },
    };
    Ok(Documents { sheet: Arc::new(sheet), bundle })
}
