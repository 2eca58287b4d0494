//! Signed documents: verified before they are believed, on disk before they are in force.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use elevon_policy::application::Sha256;
use elevon_policy::bundle::Bundle;
use elevon_policy::grant::PolicyReference;
use elevon_policy::rule::{Evaluates, Listed};
use elevon_policy::sheet::Sheet;
use elevon_wire::channel::Trust;
use elevon_wire::signed::{Purpose, Signed};

use super::{Accepted, Documents, Held, Holdings};
use crate::files;

impl Holdings {
    /// Takes a sheet, and the bundle where it is a new one, or says why not; what is held then stays in force. News that
    /// cannot be stored is in force nevertheless, though not held to have come: a full disk keeps no right alive.
    pub(crate) fn accept(&self, sheet: &Signed, bundle: Option<&Signed>) -> Result<Accepted, String> {
        let trust = self.trust().ok_or("this computer is not enrolled")?;
        let documents = self.verify(&trust, sheet, bundle)?;
        let mut held = self.held();
        if let Some(before) = held.documents.as_ref().map(|documents| &documents.sheet) {
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
        let new = Arc::clone(&documents.sheet);
        let is_news = held.stored.as_ref().is_none_or(|stored| stored.version != new.version);
        let stored = self.store(&mut held, &new, sheet, bundle);
        let before = held.documents.replace(documents);
        let kept = self.change(&mut held, |local| {
            local.take_answers(&new.answers);
            // Also what the sheet before told, should it not have been kept then.
            let told = before.iter().flat_map(|before| &before.sheet.revoking).chain(&new.revoking);
            local.take_back(&told.copied().collect::<Vec<_>>(), new.issued);
            local.forget(new.issued, &new.grants);
        });
        let not_stored =
            stored.and(kept).err().map(|error| format!("what the server sent could not be stored: {error}"));
        Ok(Accepted { sheet: new, is_news, not_stored })
    }

    fn store(
        &self,
        held: &mut Held,
        new: &Arc<Sheet>,
        sheet: &Signed,
        bundle: Option<&Signed>,
    ) -> io::Result<()> {
        // The bundle first, under a name of its own: after a crash the sheet that is there has its bundle.
        if let Some(bundle) = bundle {
            files::write_json(&self.bundle_path(new.bundle), bundle)?;
        }
        files::write_json(&self.state.join("sheet.signed"), sheet)?;
        let before = held.stored.replace(Arc::clone(new));
        if let Some(old) = before.map(|before| before.bundle).filter(|old| *old != new.bundle) {
            // A bundle that is left over is only a little room on the disk.
            let _ = files::remove(&self.bundle_path(old));
        }
        Ok(())
    }

    /// The rules in hand that match nothing here, and why.
    pub(crate) fn rules_not_evaluated(&self, computer: Evaluates) -> Vec<(PolicyReference, &'static str)> {
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
                Some((PolicyReference { policy, version, rule }, listed.not_evaluated(computer)?.sentence()))
            })
            .collect()
    }

    pub(super) fn take_up_documents(&self, trust: &Trust) -> Result<Option<Documents>, String> {
        let taken = match files::read_json::<Signed>(&self.state.join("sheet.signed")) {
            Ok(None) => return Ok(None),
            Ok(Some(sheet)) => self.verify(trust, &sheet, None),
            Err(error) => Err(error.to_string()),
        };
        taken.map(Some).map_err(|cause| {
            format!("what is stored is not taken, nothing is elevated until the server is reached: {cause}")
        })
    }

    /// Opens both documents, or says which one is not what it should be.
    fn verify(&self, trust: &Trust, sheet: &Signed, bundle: Option<&Signed>) -> Result<Documents, String> {
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
            Some(sent) => open_bundle(trust, sent, sheet.bundle)?,
            None => match self.bundle_in_hand(sheet.bundle) {
                Some(bundle) => bundle,
                None => {
                    let stored = files::read_json::<Signed>(&self.bundle_path(sheet.bundle));
                    let stored = stored.map_err(|error| error.to_string())?;
                    open_bundle(
                        trust,
                        &stored.ok_or("the bundle that the sheet goes with is missing")?,
                        sheet.bundle,
                    )?
                }
            },
        };
        Ok(Documents { sheet: Arc::new(sheet), bundle })
    }

    fn bundle_path(&self, digest: Sha256) -> PathBuf {
        self.state.join(format!("bundle-{digest}.signed"))
    }

    fn bundle_in_hand(&self, digest: Sha256) -> Option<Arc<Bundle>> {
        let held = self.held();
        let documents = held.documents.as_ref().filter(|documents| documents.sheet.bundle == digest);
        documents.map(|documents| Arc::clone(&documents.bundle))
    }
}

fn open_bundle(trust: &Trust, signed: &Signed, digest: Sha256) -> Result<Arc<Bundle>, String> {
    if signed.digest() != digest {
        return Err("the bundle is another one than the sheet goes with".into());
    }
    signed
        .open(&trust.server_key, Purpose::Bundle)
        .map(Arc::new)
        .map_err(|cause| format!("the bundle is not taken: {cause}"))
}
