//! The agent has no rights: it becomes its own user for good, and refuses to run as anyone who could do more.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// The agent's user, as the system knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentUser {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl AgentUser {
    /// Looks the user up.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let Some(user) = uzers::get_user_by_name(name) else {
            bail!(
                "there is no user {name}; make one with `useradd --system --no-create-home --shell /usr/sbin/nologin {name}`, or name another with --user"
            );
        };
        ensure!(user.uid() != 0, "the agent's user must not be root; name another with --user");
        Ok(Self { name: name.into(), uid: user.uid(), gid: user.primary_group_id() })
    }
}

/// Becomes this user, for good: groups, user, capabilities, and no way to gain any by executing something. Only from root,
/// and only while the process has one thread. Each step is fatal, and all are read back.
pub(crate) fn become_user(user: &AgentUser) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    empty_bounding_set()?;
    rustix::thread::set_thread_groups(&[gid]).context("set the agent's groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).context("set the agent's group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).context("set the agent's user")?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none).context("give up capabilities")?;
    rustix::thread::set_no_new_privs(true).context("give up gaining privileges")?;
    let status = Status::of_this_process()?;
    status.check_powerless()?;
    for (field, expected) in [
        ("Uid", format!("{0}\t{0}\t{0}\t{0}", user.uid)),
        ("Gid", format!("{0}\t{0}\t{0}\t{0}", user.gid)),
        ("Groups", user.gid.to_string()),
        ("CapBnd", format!("{:016x}", 0)),
        ("NoNewPrivs", "1".to_owned()),
    ] {
        let found = status.field(field)?;
        ensure!(
            found == expected,
            "become the user {}: expected {field} to be {expected}, found {found}",
            user.name
        );
    }
    Ok(())
}

/// Refuses a process that is root or has capabilities.
pub(crate) fn check_powerless() -> Result<()> {
    Status::of_this_process()?.check_powerless()
}

fn empty_bounding_set() -> Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(false) => {}
            Ok(true) => rustix::thread::remove_capability_from_bounding_set(capability)
                .with_context(|| format!("take capability {number} out of the bounding set"))?,
            // The kernel knows no more of them.
            Err(rustix::io::Errno::INVAL) => return Ok(()),
            Err(errno) => return Err(errno).context("read the bounding set"),
        }
    }
    Ok(())
}

/// What the kernel says of this process.
struct Status(String);

impl Status {
    fn of_this_process() -> Result<Self> {
        fs::read_to_string("/proc/self/status").map(Self).context("read /proc/self/status")
    }

    fn field(&self, name: &str) -> Result<&str> {
        let fields = self.0.lines().filter_map(|line| line.split_once(':'));
        let value = fields.filter(|(field, _)| *field == name).map(|(_, value)| value.trim()).next();
        value.with_context(|| format!("expected {name} in /proc/self/status"))
    }

    fn check_powerless(&self) -> Result<()> {
        let root = self.field("Uid")?.split_whitespace().any(|uid| uid == "0");
        ensure!(
            !root,
            "the agent does not run as root; start it as its own user, as `User=elevon` in its unit does"
        );
        for set in ["CapEff", "CapPrm", "CapAmb"] {
            let held = u64::from_str_radix(self.field(set)?, 16).with_context(|| format!("read {set}"))?;
            ensure!(
                held == 0,
                "the agent runs without capabilities, but has {held:#x} ({set}); take them from its unit or from whatever starts it"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uid: &str, effective: &str) -> Status {
        Status(format!(
            "Name:\tx\nUid:\t{uid}\nCapPrm:\t0000000000000000\nCapEff:\t{effective}\nCapAmb:\t0000000000000000\n"
        ))
    }

    #[test]
    fn neither_root_nor_capabilities() {
        let (none, some) = ("0000000000000000", "0000000000000400");
        assert!(status("1000\t1000\t1000\t1000", none).check_powerless().is_ok());
        for (uid, effective, told) in [
            ("0\t0\t0\t0", none, "does not run as root"),
            ("1000\t1000\t0\t1000", none, "does not run as root"),
            ("1000\t1000\t1000\t1000", some, "without capabilities, but has 0x400"),
        ] {
            let refused = status(uid, effective).check_powerless().expect_err("refused").to_string();
            assert!(refused.contains(told), "{refused}");
        }
        assert!(Status(String::new()).check_powerless().is_err(), "what is unknown is refused");
    }
}
