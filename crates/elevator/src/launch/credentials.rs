//! With which rights a program runs.

use std::io;

use elevon_policy::bounds::Bounds;
use elevon_policy::capability::Capabilities;
use elevon_policy::lists::RunsAs;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capability_is_in_ambient_set,
    capability_is_in_bounding_set, clear_ambient_capability_set, configure_capability_in_ambient_set,
    no_new_privs, remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_no_new_privs,
};
use serde::{Deserialize, Serialize};

use crate::{files, syscall};

/// What the kernel says where there was no log-in.
const NO_LOGIN: u32 = u32::MAX;

/// The log-in that a process came by (`loginuid`, see audit(7)), by its number or `self`.
pub(crate) fn login_of(process: &str) -> Option<u32> {
    let login = files::read_kernel(format!("/proc/{process}/loginuid")).ok()?;
    login.trim().parse().ok().filter(|login| *login != NO_LOGIN)
}

/// Has the kernel's audit go on to name the one who logged in, whoever the program runs as. A kernel without audit has nothing to
/// keep, and one that forbids it says so in its own record; ours has the log-in either way.
pub(crate) fn keep_login(login: Option<u32>) {
    if login_of("self") != login {
        let _ = std::fs::write("/proc/self/loginuid", login.unwrap_or(NO_LOGIN).to_string());
    }
}

/// Whose rights they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// As whom.
    pub(crate) runs_as: RunsAs,
    /// The user.
    pub(crate) uid: u32,
    /// The user's group.
    pub(crate) gid: u32,
    /// The supplementary groups.
    pub(crate) groups: Vec<u32>,
}

impl Identity {
    /// Root's own group and no other: what the daemon was started with does not matter.
    pub(crate) fn root() -> Self {
        Self { runs_as: RunsAs::Root, uid: 0, gid: 0, groups: vec![0] }
    }
}

/// Takes them on for good, in the forked child that is about to execute, and reads back what was set. An error is final: the
/// caller ends.
pub(crate) fn take_on(identity: &Identity, bounds: &Bounds) -> io::Result<()> {
    let Identity { runs_as, uid, gid, groups } = identity;
    if *runs_as == RunsAs::Root && !bounds.is_contained() {
        return syscall::take_on(*uid, *gid, groups);
    }
    // Whatever is executed from here on, set-user-ID programs and files with capabilities among it, gains nothing by that.
    set_no_new_privs(true)?;
    let kept = CapabilitySet::from_bits_retain(bounds.capabilities.bits());
    keep_at_most(kept)?;
    let as_user = *runs_as == RunsAs::SameUser;
    if as_user {
        // Capabilities outlive the change of user, and uid 0 is worth none: root may be the one who asks.
        set_capabilities_secure_bits(
            CapabilitiesSecureBits::KEEP_CAPS
                | CapabilitiesSecureBits::NO_ROOT
                | CapabilitiesSecureBits::NO_ROOT_LOCKED,
        )?;
        // The memory of a program with rights is not for a file of its user's.
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    syscall::take_on(*uid, *gid, groups)?;
    let inheritable = if as_user { kept } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
    set_capabilities(None, sets)?;
    clear_ambient_capability_set()?;
    if as_user {
        each(kept).try_for_each(|capability| configure_capability_in_ambient_set(capability, true))?;
    }
    let ambient = if as_user { kept } else { CapabilitySet::empty() };
    read_back(sets, ambient)
}

/// Cuts the bounding set. One that is to be kept and is not there is an error: less than exactly these are others.
fn keep_at_most(kept: CapabilitySet) -> io::Result<()> {
    for capability in every() {
        match (capability_is_in_bounding_set(capability)?, kept.contains(capability)) {
            (true, false) => remove_capability_from_bounding_set(capability)?,
            (false, true) => {
                return Err(io::Error::other("the elevator itself lacks a capability that policy names"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_back(sets: CapabilitySets, ambient: CapabilitySet) -> io::Result<()> {
    let mut right = capabilities(None)? == sets && no_new_privs()?;
    for capability in every() {
        right &= capability_is_in_bounding_set(capability)? == sets.permitted.contains(capability);
        right &= capability_is_in_ambient_set(capability)? == ambient.contains(capability);
    }
    match right {
        true => Ok(()),
        false => Err(io::Error::other("the kernel did not take on the capabilities that were set")),
    }
}

/// Those of a set.
fn each(set: CapabilitySet) -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number)).filter(move |one| set.contains(*one))
}

/// All that the kernel knows.
fn every() -> impl Iterator<Item = CapabilitySet> {
    each(CapabilitySet::from_bits_retain(u64::MAX))
        .take_while(|one| capability_is_in_bounding_set(*one).is_ok())
}

/// Of these, the ones that nothing started here can have, because the elevator was started without them.
pub(crate) fn out_of_reach(wanted: Capabilities) -> io::Result<Option<&'static str>> {
    let there = capabilities(None)?.permitted.bits();
    let bounding = every().try_fold(0, |all, one| {
        rustix::io::Result::Ok(all | if capability_is_in_bounding_set(one)? { one.bits() } else { 0 })
    })?;
    let reach = there & bounding;
    let mut names =
        wanted.names().filter(|name| name.parse::<Capabilities>().is_ok_and(|one| one.bits() & reach == 0));
    Ok(names.next())
}
