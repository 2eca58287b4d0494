//! What this computer holds: whom it trusts, the signed documents in force, and what became of grants and requests here.
//! Everything is on disk before anyone acts on it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use elevon_policy::application::Sha256;
use elevon_policy::bundle::Bundle;
use elevon_policy::decide::{self, Attempt, Decision, HeldGrant};
use elevon_policy::grant::{Ends, Grant, PolicyReference};
use elevon_policy::id::{ComputerId, GrantId, RequestId};
use elevon_policy::lists::Launches;
use elevon_policy::request::ElevationRequest;
use elevon_policy::rule::Listed;
use elevon_policy::sheet::{Answer, AnswerOutcome, ChainHead, Sheet};
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::channel::Trust;
use elevon_wire::signed::{Purpose, Signed};
use elevon_wire::uplink::Holds;
use serde::{Deserialize, Serialize};

use crate::files;

/// How long an answered request stays to be told of, and a finished grant to be known.
const REMEMBERED: Span = Span::from_days(1);

/// How many of a user's justifications are offered again.
const RECENT: usize = 3;

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
    local: Local,
}

/// A sheet and the bundle it goes with, both verified.
#[derive(Debug, Clone)]
struct Documents {
    sheet: Arc<Sheet>,
    bundle: Arc<Bundle>,
}

/// What became of grants and requests here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// What users wrote lately.
    justifications: BTreeMap<u32, Vec<Text>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    request: ElevationRequest,
    answer: Option<Answer>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Used {
    end: Option<Timestamp>,
    launched: u64,
}

/// Nothing can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// The computer is not enrolled, or has no policy yet.
    NotEnrolled,
    /// The sheet is too old to be relied on.
    LeaseEnded {
        /// Since when.
        since: Timestamp,
    },
}

/// What a newly accepted sheet means for what runs.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    /// The sheet.
    pub(crate) sheet: Arc<Sheet>,
    /// Whether it is another version than the one before.
    pub(crate) is_news: bool,
}

/// A grant, taken for one launch.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// The grant.
    pub(crate) grant: Grant,
    /// Its end.
    pub(crate) end: Timestamp,
    /// Whether this launch fixed the end.
    pub(crate) started: bool,
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
        let local = files::read_json(&state.join("local.json"))?.unwrap_or_default();
        let holdings = Self { state: state.to_owned(), held: Mutex::new(Held { local, ..Held::default() }) };
        holdings.take_up_trust()?;
        let mut complaints = Vec::new();
        let trust = holdings.held().trust.clone();
        if let Some(trust) = trust {
            match holdings.take_up_documents(&trust) {
                Ok(documents) => holdings.held().documents = documents,
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

    /// What the agent is told; `recorded` is the number of the last event.
    pub(crate) fn holds(&self, recorded: u64) -> Holds {
        let held = self.held();
        let sheet = held.documents.as_ref().map(|documents| &documents.sheet);
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
            return Err(NotReady::LeaseEnded { since: documents.sheet.lease_ends });
        }
        let holdings =
            decide::Holdings { bundle: &documents.bundle, locks: &documents.sheet.locks, grants: &grants };
        Ok(decide::decide(&holdings, attempt, now))
    }

    // ---- documents ----

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
                    documents.sheet.version, documents.sheet.issued.millis(), before.version
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
        held.take_answers(&sheet.answers);
        held.forget(sheet.issued);
        self.keep(&mut held).map_err(|error| format!("what became of requests could not be stored: {error}"))?;
        Ok(Accepted { sheet, is_news })
    }

    fn take_up_documents(&self, trust: &Trust) -> Result<Option<Documents>, String> {
        let read = |path: &Path| files::read_json::<Signed>(path).map_err(|error| error.to_string());
        let Some(sheet) = read(&self.state.join("sheet.signed"))? else {
            return Ok(None);
        };
        let wanted: Sheet = sheet
            .open(&trust.server_key, Purpose::Sheet)
            .map_err(|cause| format!("the stored sheet is not taken, nothing is elevated until the server is reached: {cause}"))?;
        let bundle = read(&self.bundle_path(wanted.bundle))?;
        verify(trust, &sheet, bundle.as_ref(), || None)
            .map(Some)
            .map_err(|cause| format!("what is stored does not verify, nothing is elevated until the server is reached: {cause}"))
    }

    fn bundle_path(&self, digest: Sha256) -> PathBuf {
        self.state.join(format!("bundle-{digest}.signed"))
    }

    fn bundle_in_hand(&self) -> Option<(Sha256, Arc<Bundle>)> {
        let held = self.held();
        held.documents.as_ref().map(|documents| (documents.sheet.bundle, Arc::clone(&documents.bundle)))
    }

    // ---- grants ----

    /// Takes a grant for one launch, durably where it matters: a first launch fixes the end, and a grant that is good for
    /// one launch is used up.
    pub(crate) fn take(&self, id: GrantId, now: Timestamp) -> Result<Taken, NotTaken> {
        let mut held = self.held();
        let sheet = held.documents.as_ref().map(|documents| Arc::clone(&documents.sheet)).ok_or(NotTaken::Gone)?;
        let grant = held.grant_in_force(&sheet, id).ok_or(NotTaken::Gone)?;
        let used = held.local.used.get(&id).copied().unwrap_or_default();
        if grant.launches == Launches::Once && used.launched > 0 {
            return Err(NotTaken::Gone);
        }
        let end = grant.end_when_launched(used.end, now).ok_or(NotTaken::Gone)?;
        let started = matches!(grant.ends, Ends::AfterFirstLaunch { .. }) && used.end.is_none();
        if started || grant.launches == Launches::Once {
            let used = Used { end: Some(end), launched: used.launched + 1 };
            held.local.used.insert(id, used);
            if let Err(error) = self.keep(&mut held) {
                held.local.used.remove(&id);
                return Err(NotTaken::Io(error));
            }
        }
        Ok(Taken { grant, end, started })
    }

    /// Whether a grant may still be used.
    pub(crate) fn in_force(&self, id: GrantId) -> bool {
        let held = self.held();
        let sheet = held.documents.as_ref().map(|documents| Arc::clone(&documents.sheet));
        sheet.is_some_and(|sheet| held.grant_in_force(&sheet, id).is_some())
    }

    /// A user's grants in force, with the ends that are fixed.
    pub(crate) fn grants_of(&self, uid: u32, now: Timestamp) -> Vec<(Grant, Option<Timestamp>)> {
        let held = self.held();
        let Some(documents) = &held.documents else {
            return Vec::new();
        };
        let grants = held.grants_in_force(&documents.sheet, uid);
        let usable = |grant: &HeldGrant| {
            (grant.grant.launches == Launches::Any || grant.launched == 0)
                && (grant.fixed_end.is_some() || grant.grant.end_when_launched(None, now).is_some())
        };
        grants
            .into_iter()
            .filter(usable)
            .map(|held| {
                let end = held.fixed_end.or(match held.grant.ends {
                    Ends::At { end } => Some(end),
                    Ends::AfterFirstLaunch { .. } => None,
                });
                (held.grant, end)
            })
            .filter(|(_, end)| end.is_none_or(|end| end > now))
            .collect()
    }

    /// Whether a grant's user gave it back.
    pub(crate) fn is_given_back(&self, id: GrantId) -> bool {
        self.held().local.given_back.contains_key(&id)
    }

    /// The rules in hand that match nothing here, and why.
    pub(crate) fn rules_not_evaluated(&self) -> Vec<(PolicyReference, &'static str)> {
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
                Some((PolicyReference { policy, version, rule }, listed.not_evaluated()?.sentence()))
            })
            .collect()
    }

    /// Adds a grant that policy alone gave.
    pub(crate) fn add_grant(&self, grant: Grant) -> io::Result<()> {
        let mut held = self.held();
        held.local.grants.push(grant);
        self.keep(&mut held)
    }

    /// A user gives a grant back; `None` where it is not theirs.
    pub(crate) fn give_back(&self, id: GrantId, uid: u32, now: Timestamp) -> io::Result<Option<Grant>> {
        let mut held = self.held();
        let grant = held.documents.clone().and_then(|documents| held.grant_in_force(&documents.sheet, id));
        let Some(grant) = grant.filter(|grant| grant.user.uid == uid) else {
            return Ok(None);
        };
        held.local.given_back.insert(id, now.after(Span::from_days(8)));
        self.keep(&mut held)?;
        Ok(Some(grant))
    }

    // ---- requests ----

    /// A pending request of the same user for the same thing.
    pub(crate) fn pending_like(&self, wanted: &ElevationRequest, any_arguments: bool, now: Timestamp) -> Option<ElevationRequest> {
        let held = self.held();
        let pending = held.local.requests.iter().filter(|made| made.answer.is_none() && made.request.lapses > now);
        pending
            .map(|made| &made.request)
            .find(|request| {
                request.user == wanted.user
                    && request.application.sha256 == wanted.application.sha256
                    && request.runs_as == wanted.runs_as
                    && (any_arguments || request.argv == wanted.argv)
            })
            .cloned()
    }

    /// How many requests of a user are pending.
    pub(crate) fn pending_of(&self, uid: u32, now: Timestamp) -> usize {
        let held = self.held();
        let of_user = held.local.requests.iter().filter(|made| made.request.user.uid == uid);
        of_user.filter(|made| made.answer.is_none() && made.request.lapses > now).count()
    }

    /// Remembers a request that was made.
    pub(crate) fn add_request(&self, request: ElevationRequest) -> io::Result<()> {
        let mut held = self.held();
        held.remember_justification(request.user.uid, &request.justification);
        held.local.requests.push(Made { request, answer: None });
        self.keep(&mut held)
    }

    /// Remembers what a user wrote.
    pub(crate) fn add_justification(&self, uid: u32, justification: &Text) -> io::Result<()> {
        let mut held = self.held();
        held.remember_justification(uid, justification);
        self.keep(&mut held)
    }

    /// What a user wrote lately, the last first.
    pub(crate) fn justifications(&self, uid: u32) -> Vec<Text> {
        self.held().local.justifications.get(&uid).cloned().unwrap_or_default()
    }

    /// What became of a request; `None` while nobody has decided.
    pub(crate) fn answer(&self, id: RequestId) -> Option<AnswerOutcome> {
        let held = self.held();
        let made = held.local.requests.iter().find(|made| made.request.id == id)?;
        made.answer.as_ref().map(|answer| answer.outcome.clone())
    }

    /// A user takes a pending request back; `None` where there is none of theirs.
    pub(crate) fn cancel(&self, id: RequestId, uid: u32, now: Timestamp) -> io::Result<Option<ElevationRequest>> {
        let mut held = self.held();
        let pending = |made: &&mut Made| made.request.id == id && made.request.user.uid == uid && made.answer.is_none();
        let Some(made) = held.local.requests.iter_mut().find(pending) else {
            return Ok(None);
        };
        made.answer = Some(Answer { request: id, at: now, outcome: AnswerOutcome::Cancelled });
        let request = made.request.clone();
        self.keep(&mut held)?;
        Ok(Some(request))
    }

    /// A user's requests: pending, or lately answered.
    pub(crate) fn requests_of(&self, uid: u32) -> Vec<(ElevationRequest, Option<AnswerOutcome>)> {
        let held = self.held();
        let of_user = held.local.requests.iter().filter(|made| made.request.user.uid == uid);
        of_user
            .map(|made| (made.request.clone(), made.answer.as_ref().map(|answer| answer.outcome.clone())))
            .collect()
    }

    fn keep(&self, held: &mut Held) -> io::Result<()> {
        files::write_json(&self.state.join("local.json"), &held.local)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn grants_in_force(&self, sheet: &Sheet, uid: u32) -> Vec<HeldGrant> {
        let of_user = sheet.grants.iter().chain(&self.local.grants).filter(|grant| grant.user.uid == uid);
        of_user
            .filter(|grant| self.may_be_used(sheet, grant.id))
            .map(|grant| {
                let used = self.local.used.get(&grant.id).copied().unwrap_or_default();
                HeldGrant { grant: grant.clone(), fixed_end: used.end, launched: used.launched }
            })
            .collect()
    }

    fn grant_in_force(&self, sheet: &Sheet, id: GrantId) -> Option<Grant> {
        let mut known = sheet.grants.iter().chain(&self.local.grants);
        known.find(|grant| grant.id == id && self.may_be_used(sheet, id)).cloned()
    }

    fn may_be_used(&self, sheet: &Sheet, id: GrantId) -> bool {
        !sheet.revoking.contains(&id) && !self.local.given_back.contains_key(&id)
    }

    fn take_answers(&mut self, answers: &[Answer]) {
        for answer in answers {
            let made = self.local.requests.iter_mut().find(|made| made.request.id == answer.request);
            if let Some(made) = made.filter(|made| made.answer.as_ref() != Some(answer)) {
                made.answer = Some(answer.clone());
            }
        }
    }

    fn remember_justification(&mut self, uid: u32, justification: &Text) {
        let recent = self.local.justifications.entry(uid).or_default();
        recent.retain(|known| known != justification);
        recent.insert(0, justification.clone());
        recent.truncate(RECENT);
    }

    /// Drops what nobody asks about any more.
    fn forget(&mut self, now: Timestamp) {
        let since = now.before(REMEMBERED);
        let local = &mut self.local;
        local.requests.retain(|made| made.answer.as_ref().map_or(made.request.lapses, |answer| answer.at) > since);
        local.grants.retain(|grant| match grant.ends {
            Ends::At { end } => end > since,
            Ends::AfterFirstLaunch { duration, latest_start } => latest_start.after(duration) > since,
        });
        local.used.retain(|_, used| used.end.is_some_and(|end| end > since));
        local.given_back.retain(|_, until| *until > now);
    }
}

/// Opens both documents, or says which one is not what it should be.
fn verify(
    trust: &Trust,
    sheet: &Signed,
    bundle: Option<&Signed>,
    in_hand: impl FnOnce() -> Option<(Sha256, Arc<Bundle>)>,
) -> Result<Documents, String> {
    let sheet: Sheet =
        sheet.open(&trust.server_key, Purpose::Sheet).map_err(|cause| format!("the sheet is not taken: {cause}"))?;
    if sheet.computer != trust.computer {
        return Err(format!("the sheet is for computer {}, this is computer {}", sheet.computer, trust.computer));
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
