//! The program that reads a script: trusted, and itself no script.

use std::os::fd::OwnedFd;

use elevon_identify::script::Shebang;
use elevon_policy::application::Interpreter;
use elevon_policy::text::OsText;

use super::digest::{self, Form, State};
use super::look_up::look_up_absolute;
use super::mounts::Mounts;
use super::not_measured::{NotMeasured, Unfit};
use super::{Caller, Known, preflight, trust};

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
        trust::leads_to(named, mounts).map_err(|doubt| preflight::untrusted(script, named, doubt))?;
    if believed.identity != found.place.facts.identity {
        return Err(NotMeasured::Changed { path: named.clone() });
    }
    let path = found.place.canonical()?;
    let (file, facts) = found.place.open_for_reading()?;
    let state = State::of(&facts);
    let nested = || NotMeasured::unfit(script, Unfit::NestedInterpreter(named.clone()));
    let form = match known.contents.form(&state) {
        Some(form) => Ok(form),
        None => Form::read(&file, &path),
    };
    let form = form.and_then(|form| match &form {
        Form::Program(program) => preflight::check(caller, program, &path, true, mounts).map(|()| form),
        Form::Script(_) => Err(nested()),
    });
    let form =
        form.map_err(|error| if matches!(error, NotMeasured::Unfit { .. }) { nested() } else { error })?;
    let owned = known.packages.owner(&path);
    let bytes = digest::trusted((file, state), &path, Some(&form), owned.as_deref(), &known.contents)?;
    let package = owned.map(|owned| bytes.package(&owned));
    let argument = shebang.argument.clone();
    Ok((bytes.file, Interpreter { path, sha256: bytes.sha256, argument, package }))
}
