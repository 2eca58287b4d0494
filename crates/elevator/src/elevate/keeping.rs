//! What a grant keeps its application to, made ready before the launch is on record: where a layer cannot be had, nothing is
//! elevated, and which one it is is recorded. Nothing is weakened.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use elevon_policy::application::Lane;
use elevon_policy::bounds::Bounds;
use elevon_policy::capability::Capabilities;
use elevon_policy::event::{DenyReason, What};
use elevon_policy::grant::{Grant, PolicyReference};
use elevon_policy::id::GrantId;
use elevon_policy::lists::RunsAs;
use elevon_policy::text::{OsText, Text};
use elevon_wire::conversation::Refused;
use rustix::fs::fstat;
use uzers::os::unix::UserExt;

use super::Attempted;
use crate::launch::credentials::{self, Identity};
use crate::launch::view::{Folder, Inside, place_of};
use crate::launch::{Account, containment};
use crate::measure::{self, Measured, Program};

/// What the launch needs to know of it.
pub(super) struct Kept {
    pub(super) identity: Identity,
    pub(super) account: Option<Account>,
    pub(super) bounds: Bounds,
    pub(super) inside: Option<Inside>,
}

impl Kept {
    /// Root, to whom nothing is denied.
    fn full() -> Self {
        Self { identity: Identity::root(), account: None, bounds: Bounds::default(), inside: None }
    }

    /// Whether it is what this grant says.
    pub(super) fn is_of(&self, grant: &Grant) -> bool {
        self.bounds == grant.bounds && self.identity.runs_as == grant.runs_as
    }
}

/// A layer that cannot be had, in words.
pub(super) struct Missing(String);

impl Attempted<'_> {
    /// Makes it ready, or says which layer is missing.
    pub(super) fn keep(&self, measured: &Measured, grant: GrantId) -> Result<Kept, Missing> {
        match self.elevator.holdings.grant(grant) {
            Some(grant) if !grant.runs_as.is_root() || !grant.bounds.is_none() => {
                self.keep_to(measured, &grant)
            }
            // One that was taken away meanwhile is found out when it is to be taken.
            _ => Ok(Kept::full()),
        }
    }

    fn keep_to(&self, measured: &Measured, grant: &Grant) -> Result<Kept, Missing> {
        let (runs_as, bounds) = (grant.runs_as, &grant.bounds);
        if let Some(contradiction) = bounds.contradiction(runs_as) {
            return Err(Missing(format!("bounds that can be kept: {contradiction}")));
        }
        if let Some(name) = unreachable(bounds.capabilities)? {
            return Err(Missing(format!("the capability {name}, which the elevator itself runs without")));
        }
        let inside = match bounds.is_contained() {
            true => Some(self.inside(measured, grant)?),
            false => None,
        };
        let (identity, account) = match runs_as {
            RunsAs::Root => (Identity::root(), None),
            RunsAs::SameUser => self.same_user()?,
        };
        Ok(Kept { identity, account, bounds: bounds.clone(), inside })
    }

    fn inside(&self, measured: &Measured, grant: &Grant) -> Result<Inside, Missing> {
        if let Some(layer) = containment::missing() {
            return Err(Missing(layer.to_owned()));
        }
        let owner = match grant.runs_as {
            RunsAs::Root => 0,
            RunsAs::SameUser => self.visitor.caller.user.uid,
        };
        let folders = grant.bounds.writable().iter().map(|path| self.folder(path, owner));
        let lost = |what: &str, error| Missing(format!("{what}, which could not be found: {error}"));
        let program = match &measured.program {
            Program::Nothing => None,
            // The interpreter is always where it says; a program that is not trusted is a copy, and nowhere.
            Program::Script { interpreter: file, .. } => Some(file),
            Program::Binary { file } => (measured.application.lane == Lane::Trusted).then_some(file),
        };
        let program = program.map(|file| place_of(file.as_fd())).transpose();
        Ok(Inside {
            folders: folders.collect::<Result<_, _>>()?,
            directory: place_of(self.directory.as_fd())
                .map_err(|error| lost("the working directory", error))?,
            program: program.map_err(|error| lost("the program's path", error))?,
        })
    }

    /// A listed folder, and which one it is now.
    fn folder(&self, path: &OsText, owner: u32) -> Result<Folder, Missing> {
        let folder = measure::folder(path, owner, &self.elevator.known).map_err(|(component, because)| {
            Missing(format!("the folder {} to write to: {} {because}", path.visible(), component.visible()))
        })?;
        let facts =
            fstat(&folder).map_err(|error| Missing(format!("the folder {}: {error}", path.visible())))?;
        Ok(Folder { path: path.clone(), device: facts.st_dev, inode: facts.st_ino })
    }

    fn same_user(&self) -> Result<(Identity, Option<Account>), Missing> {
        let caller = &self.visitor.caller;
        let uid = caller.user.uid;
        let account = uzers::get_user_by_uid(uid).ok_or_else(|| Missing("the user's account".into()))?;
        let path = |path: &std::path::Path| OsText::new(path.as_os_str().as_bytes());
        let identity =
            Identity { runs_as: RunsAs::SameUser, uid, gid: caller.gid, groups: caller.groups.clone() };
        let account = Account { home: path(account.home_dir()), shell: path(account.shell()) };
        Ok((identity, Some(account)))
    }

    /// A launch that would lack a layer is none.
    pub(super) fn not_kept(
        &self,
        measured: &Measured,
        policy: PolicyReference,
        Missing(layer): &Missing,
    ) -> Refused {
        let reason = DenyReason::LayerMissing;
        let refused = What::LaunchRefused {
            user: self.visitor.caller.user.clone(),
            path: measured.application.place(),
            sha256: Some(measured.application.sha256),
            argv: measured.argv.clone(),
            reason,
            policy: Some(policy),
            missing: Some(Text::new(layer.as_str())),
            origin: self.visitor.origin.clone(),
        };
        self.record_as_refused(refused);
        Refused {
            status: 126,
            reason: Some(reason),
            told: format!(
                "{} is not elevated: policy keeps it to less than root may do, and this is missing here: {layer}",
                measured.application.place().visible()
            ),
            next:
                "`elevon-elevator doctor` says which layers there are; an administrator can change the list"
                    .into(),
        }
    }
}

fn unreachable(wanted: Capabilities) -> Result<Option<&'static str>, Missing> {
    if wanted.is_empty() {
        return Ok(None);
    }
    credentials::out_of_reach(wanted).map_err(|error| Missing(format!("its capabilities: {error}")))
}
