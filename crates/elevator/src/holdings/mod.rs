//! What this computer holds: whom it trusts, the signed documents in force, and what became of grants and requests here.
//! Everything is on disk before anyone acts on it, but for what a new sheet takes away.

mod documents;
mod grants;
mod record;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use elevon_policy::bundle::Bundle;
use elevon_policy::decide::{self, Attempt, Decision};
use elevon_policy::grant::Grant;
use elevon_policy::id::{ComputerId, GrantId, Version};
use elevon_policy::lists::AtExpiry;
use elevon_policy::request::ElevationRequest;
use elevon_policy::sheet::{Answer, ChainHead, Sheet};
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use elevon_wire::channel::Trust;
use elevon_wire::uplink::Holds;
use serde::{Deserialize, Serialize};

use crate::clock::{Uptime, boot_id};
use crate::files;
use crate::launches::Launch;

/// Everything the computer holds.
#[derive(Debug)]
pub(crate) struct Holdings {
    state: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    trust: Option<Trust>,
    documents: Option<Documents>,
    /// The sheet that is on disk: the same one, but while the disk is full.
    stored: Option<Arc<Sheet>>,
    local: Local,
}

/// A sheet and the bundle it goes with, both verified.
#[derive(Debug, Clone)]
struct Documents {
    sheet: Arc<Sheet>,
    bundle: Arc<Bundle>,
}

/// What became of grants and requests here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Local {
    /// Requests that were made here: pending, or lately answered.
    requests: Vec<Made>,
    /// Grants that policy alone gave.
    grants: Vec<Grant>,
    /// What a first launch fixed, and how often a grant that is good for one launch was used.
    used: BTreeMap<GrantId, Used>,
    /// Grants their users gave back.
    given_back: BTreeMap<GrantId, Timestamp>,
    /// Grants that policy alone gave and an administrator took back: the server tells of them until that is in force here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    taken_back: BTreeMap<GrantId, Timestamp>,
    /// What users wrote lately.
    justifications: BTreeMap<u32, Vec<Text>>,
    /// Ends that a server's clock, set back since, would put off.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    kept_ends: BTreeMap<GrantId, KeptEnd>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Made {
    request: ElevationRequest,
    answer: Option<Answer>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Used {
    end: Option<Timestamp>,
    launched: u64,
    /// Its user has shown to be there; until when that must not be forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirmed: Option<Timestamp>,
}

/// When a grant ends at the latest, by the clock that nobody can set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptEnd {
    /// In which run of the computer; in another, the server says anew what time it is.
    boot: String,
    at: Uptime,
    /// Of the grant: a renewal has an end of its own.
    version: Version,
}

/// Nothing can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// The computer is not enrolled, or has no policy yet.
    NotEnrolled,
    /// The sheet is too old to be relied on.
    LeaseEnded,
}

/// What a newly accepted sheet means for what runs.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    /// The sheet.
    pub(crate) sheet: Arc<Sheet>,
    /// Whether it is another version than the one on disk before.
    pub(crate) is_news: bool,
    /// Why it is in force only until the elevator ends, if it is: it should be sent again.
    pub(crate) not_stored: Option<String>,
}

/// A grant, taken for one launch.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// The grant.
    pub(crate) grant: Grant,
    /// Its end, or that of the launch.
    pub(crate) end: Timestamp,
    /// The launch that it is used inside of.
    pub(crate) origin: Option<Box<Launch>>,
}

impl Taken {
    /// The same for a launch from inside this one, which it does not outlive: what may finish otherwise is ended with it.
    pub(crate) fn inside(self, origin: Launch) -> Self {
        let at_expiry = match (self.grant.at_expiry, origin.deadline) {
            (AtExpiry::Finish, Some(_)) => AtExpiry::default(),
            (own, _) => own,
        };
        let end = self.end.min(origin.end);
        Self { end, grant: Grant { at_expiry, ..self.grant }, origin: Some(Box::new(origin)) }
    }
}

/// Why a grant could not be taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It is gone, used up or over by now.
    Gone,
    /// It could not be written down that it is used.
    Io(io::Error),
}

impl Holdings {
    /// Takes up what is on disk. Documents are verified again; those that do not verify are left out and told of.
    pub(crate) fn open(state: &Path) -> io::Result<(Self, Vec<String>)> {
        let mut local: Local = files::read_json(&state.join("local.json"))?.unwrap_or_default();
        let boot = boot_id()?;
        local.kept_ends.retain(|_, kept| kept.boot == boot);
        let holdings = Self { state: state.to_owned(), held: Mutex::new(Held { local, ..Held::default() }) };
        holdings.take_up_trust()?;
        let mut complaints = Vec::new();
        let trust = holdings.held().trust.clone();
        if let Some(trust) = trust {
            match holdings.take_up_documents(&trust) {
                Ok(documents) => {
                    let mut held = holdings.held();
                    held.stored = documents.as_ref().map(|documents| Arc::clone(&documents.sheet));
                    held.documents = documents;
                }
                Err(cause) => complaints.push(cause),
            }
        }
        Ok((holdings, complaints))
    }

    /// Looks whether the computer has been enrolled meanwhile.
    pub(crate) fn take_up_trust(&self) -> io::Result<()> {
        let mut held = self.held();
        if held.trust.is_none() {
            held.trust = files::read_json(&self.state.join("trust.json"))?;
        }
        Ok(())
    }

    /// Which computer this is.
    pub(crate) fn computer(&self) -> Option<ComputerId> {
        self.held().trust.as_ref().map(|trust| trust.computer)
    }

    /// Whom to believe.
    pub(crate) fn trust(&self) -> Option<Trust> {
        self.held().trust.clone()
    }

    /// What the agent is told, which is what would be there after a restart; `recorded` is the number of the last event.
    pub(crate) fn holds(&self, recorded: u64) -> Holds {
        let held = self.held();
        let sheet = held.stored.as_ref();
        Holds {
            computer: held.trust.as_ref().map(|trust| trust.computer),
            sheet: sheet.map_or(0, |sheet| sheet.version.0),
            bundle: sheet.map(|sheet| sheet.bundle),
            stored: sheet.map_or(0, |sheet| sheet.stored.number),
            recorded,
        }
    }

    /// How far the server has stored this computer's events.
    pub(crate) fn stored(&self) -> Option<ChainHead> {
        self.held().documents.as_ref().map(|documents| documents.sheet.stored)
    }

    /// The sheet in force.
    pub(crate) fn sheet(&self) -> Option<Arc<Sheet>> {
        self.held().documents.as_ref().map(|documents| Arc::clone(&documents.sheet))
    }

    /// Decides an attempt from everything that is held.
    pub(crate) fn decide(&self, attempt: &Attempt<'_>, now: Timestamp) -> Result<Decision, NotReady> {
        let (documents, grants) = {
            let held = self.held();
            let documents = held.documents.clone().ok_or(NotReady::NotEnrolled)?;
            let grants = held.grants_in_force(&documents.sheet, attempt.user.uid);
            (documents, grants)
        };
        if now >= documents.sheet.lease_ends {
            return Err(NotReady::LeaseEnded);
        }
        let holdings =
            decide::Holdings { bundle: &documents.bundle, locks: &documents.sheet.locks, grants: &grants };
        Ok(decide::decide(&holdings, attempt, now))
    }

    /// Changes what became of grants and requests: on disk first, so that nobody acts on what is not there.
    fn change<T>(&self, held: &mut Held, change: impl FnOnce(&mut Local) -> T) -> io::Result<T> {
        let mut local = held.local.clone();
        let changed = change(&mut local);
        files::write_json(&self.state.join("local.json"), &local)?;
        held.local = local;
        Ok(changed)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
