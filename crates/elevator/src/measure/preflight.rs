//! What a program needs before its first own instruction runs: the dynamic linker that it names, and where that looks for
//! libraries. All of it comes from where only root can write, or the program is not started.

use std::os::fd::OwnedFd;

use elevon_identify::elf::{self, Machine, Unread};
use elevon_policy::text::OsText;

use super::Caller;
use super::digest;
use super::look_up::{as_caller, look_up_absolute};
use super::mounts::Mounts;
use super::not_measured::{NotMeasured, Unfit};
use super::trust::{self, Doubt};

/// Reads the file as a program for this computer.
pub(super) fn program(file: &OwnedFd, path: &OsText) -> Result<elf::Program, NotMeasured> {
    let program =
        elf::read(|offset, length| digest::piece(file, offset, length)).map_err(|unread| match unread {
            Unread::NotElf(not) => NotMeasured::unfit(path, Unfit::NotElf(not)),
            Unread::Bytes(errno) => NotMeasured::system("reading", path, errno),
        })?;
    if runs_here(program.machine) { Ok(program) } else { Err(NotMeasured::unfit(path, Unfit::Machine)) }
}

/// Another processor's program would be given to whatever `binfmt_misc` names for it, unmeasured.
fn runs_here(machine: Machine) -> bool {
    match machine {
        Machine::X86_64 => cfg!(target_arch = "x86_64"),
        Machine::X86 => cfg!(any(target_arch = "x86_64", target_arch = "x86")),
        Machine::Aarch64 => cfg!(target_arch = "aarch64"),
        Machine::Arm => cfg!(any(target_arch = "aarch64", target_arch = "arm")),
        Machine::Riscv64 => cfg!(target_arch = "riscv64"),
        Machine::Other(_) => false,
    }
}

/// Believes all that the program needs. `trusted` is whether the file itself is executed, not a copy.
pub(super) fn check(
    caller: &Caller,
    program: &elf::Program,
    path: &OsText,
    trusted: bool,
    mounts: &Mounts,
) -> Result<(), NotMeasured> {
    if let Some(interpreter) = &program.interpreter {
        linker(caller, interpreter, path, mounts)?;
    }
    let known = |needs: &&OsText| {
        expanded(needs.as_bytes(), path, trusted)
            .is_some_and(|place| mounts.beliefs().find_for_all(&place, mounts).is_some())
    };
    let needed: Vec<&OsText> =
        program.search.iter().chain(&program.libraries).filter(|needs| !known(needs)).collect();
    if needed.is_empty() {
        return Ok(());
    }
    as_caller(caller, || needed.into_iter().try_for_each(|needs| library(needs, path, trusted, mounts)))
        .map_err(|errno| NotMeasured::system("taking on your rights to look at", path, errno))?
}

/// The kernel opens it again by its path: what counts is that the path leads nowhere else by then.
fn linker(caller: &Caller, interpreter: &OsText, path: &OsText, mounts: &Mounts) -> Result<(), NotMeasured> {
    if mounts.beliefs().find_for_all(interpreter, mounts).is_some() {
        return Ok(());
    }
    let found = look_up_absolute(caller, interpreter, mounts).map_err(|error| match error {
        NotMeasured::System { .. } => error,
        _ => NotMeasured::unfit(path, Unfit::Interpreter(interpreter.clone())),
    })?;
    let believed =
        trust::leads_to(interpreter, mounts).map_err(|doubt| untrusted(path, interpreter, doubt))?;
    if believed.identity == found.place.facts.identity {
        Ok(())
    } else {
        Err(NotMeasured::Changed { path: interpreter.clone() })
    }
}

/// A folder of libraries, or one library, that need not be there; but if it is, or comes to be, then by root alone. Looked
/// at with the caller's rights: a program that names a hidden folder tells its user nothing about it.
fn library(needs: &OsText, path: &OsText, trusted: bool, mounts: &Mounts) -> Result<(), NotMeasured> {
    let unclear = || NotMeasured::unfit(path, Unfit::Libraries(needs.clone()));
    let place = expanded(needs.as_bytes(), path, trusted).ok_or_else(unclear)?;
    match trust::leads_to(&place, mounts) {
        Ok(_) | Err(Doubt::Missing { .. }) => Ok(()),
        Err(Doubt::Hidden { .. }) => Err(unclear()),
        Err(doubt) => Err(untrusted(path, needs, doubt)),
    }
}

/// The absolute path that is meant, with the program's folder in place of `$ORIGIN` at its beginning (ld.so(8)); `None` where
/// it is relative to the working directory, or has tokens elsewhere. A sealed copy lies nowhere: the dynamic linker takes
/// the root folder for its origin.
fn expanded(needs: &[u8], path: &OsText, trusted: bool) -> Option<OsText> {
    let slash = path.as_bytes().iter().rposition(|byte| *byte == b'/').filter(|_| trusted);
    let origin = slash.and_then(|at| path.as_bytes().get(..at)).unwrap_or_default();
    let token = [b"$ORIGIN".as_slice(), b"${ORIGIN}"].into_iter().find(|token| needs.starts_with(token));
    let (base, rest) = match token {
        Some(token) => (origin, needs.strip_prefix(token)?),
        None => (b"".as_slice(), needs),
    };
    let clear = !rest.contains(&b'$') && (rest.starts_with(b"/") || token.is_some() && rest.is_empty());
    let rest = if rest.is_empty() { b"/" } else { rest };
    clear.then(|| OsText::new([base, rest].concat()))
}

pub(super) fn untrusted(path: &OsText, needs: &OsText, doubt: Doubt) -> NotMeasured {
    let (component, because) = doubt.parts();
    NotMeasured::UntrustedInterpreter { path: path.clone(), needs: needs.clone(), component, because }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_libraries_are_looked_for() {
        let program = OsText::from("/opt/app/bin/app");
        let meant =
            |needs: &str, trusted| expanded(needs.as_bytes(), &program, trusted).map(|place| place.escaped());
        assert_eq!(meant("/opt/lib", true).as_deref(), Some("/opt/lib"));
        assert_eq!(meant("$ORIGIN/../lib", true).as_deref(), Some("/opt/app/bin/../lib"));
        assert_eq!(meant("${ORIGIN}", true).as_deref(), Some("/opt/app/bin/"));
        assert_eq!(meant("$ORIGIN/../lib", false).as_deref(), Some("/../lib"));
        for unclear in ["", ".", "lib", "./x.so", "$ORIGINx", "$LIB", "/opt/$LIB", "$ORIGIN/$PLATFORM", "$"] {
            assert_eq!(meant(unclear, true), None, "{unclear}");
        }
    }
}
