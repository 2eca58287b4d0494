//! The program that reads a script: trusted, and itself no script.

use std::os::fd::OwnedFd;

use elevon_identify::script::Shebang;
use elevon_policy::application::Interpreter;
use elevon_policy::text::OsText;

use super::look_up::look_up_absolute;
use super::mounts::Mounts;
use super::not_measured::{NotMeasured, Unfit};
use super::{Caller, Known, digest, preflight, trust};

/// Finds the program that a script's first line names, as the caller would, and believes its path as written.
pub(super) fn reader(
    caller: &Caller,
    shebang: &Shebang,
    script: &OsText,
    mounts: &Mounts,
    known: &Known,
) -> Result<(OwnedFd, Interpreter), NotMeasured> {
    let named = &shebang.interpreter;
    let found = look_up_absolute(caller, named, mounts).map_err(|error| match error {
        NotMeasured::System { .. } => error,
        _ => NotMeasured::unfit(script, Unfit::Interpreter(named.clone())),
    })?;
    let believed =
        trust::believe(named, mounts).map_err(|doubt| preflight::untrusted(script, named, doubt))?;
    if believed.facts.identity != found.place.facts.identity {
        return Err(NotMeasured::Changed { path: named.clone() });
    }
    let path = found.place.canonical()?;
    let file = found.place.open_for_reading()?;
    preflight::check(caller, &file, &path, true, mounts).map_err(|error| match error {
        NotMeasured::Unfit { .. } => NotMeasured::unfit(script, Unfit::NestedInterpreter(named.clone())),
        error => error,
    })?;
    let owned = known.packages.owner(&path);
    let bytes = digest::trusted(file, &path, owned.as_deref(), &known.digests)?;
    let package = owned.map(|owned| bytes.package(&owned));
    let argument = shebang.argument.clone();
    Ok((bytes.file, Interpreter { path, sha256: bytes.sha256, argument, package }))
}
