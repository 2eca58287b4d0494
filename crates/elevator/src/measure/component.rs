//! A component is measured by the file that defines it: nobody but root may be able to change that, and the package it is
//! from says whose component it is.

use elevon_identify::polkit;
use elevon_policy::application::{Application, Component, Lane};
use elevon_policy::text::{OsText, Text};

use super::digest::State;
use super::mounts::Mounts;
use super::walk::{Facts, joined};
use super::{Known, Measured, NotMeasured, Program, digest, trust};

/// Where polkit looks for definitions of actions; versions before 124 in the first only.
const DEFINITIONS: [&str; 3] =
    ["/usr/share/polkit-1/actions", "/usr/local/share/polkit-1/actions", "/etc/polkit-1/actions"];
/// Where packages lay the names of what the system's D-Bus starts.
const SERVICES: &str = "/usr/share/dbus-1/system-services";

/// More files are not looked through.
const MAX_FILES: usize = 4096;
/// Larger definitions are not read, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// Whether this computer has polkit: somewhere where it would find definitions.
pub(crate) fn are_there_any() -> bool {
    DEFINITIONS.iter().any(|folder| std::fs::metadata(folder).is_ok_and(|folder| folder.is_dir()))
}

/// Measures the component of this name. A D-Bus name is answered with the actions that it is shorthand for.
pub(crate) fn component(name: &OsText, known: &Known) -> Result<Measured, NotMeasured> {
    let nothing = || NotMeasured::NoComponent { name: name.clone() };
    let mounts = Mounts::of_table(&known.mounts);
    let action = std::str::from_utf8(name.as_bytes()).ok().filter(|name| polkit::is_name(name.as_bytes()));
    let action = Text::new(action.ok_or_else(nothing)?);
    let definitions = DEFINITIONS.iter().flat_map(|folder| files(folder, b".policy"));
    let mut shorthand = Vec::new();
    for path in definitions {
        let Some(definition) = read(&path, &mounts)? else { continue };
        let actions = polkit::actions(&definition.content);
        if actions.contains(&action.as_untrusted()) {
            return measured(action, path, definition, known);
        }
        if services(&path, known).contains(&action) {
            shorthand.extend(actions.into_iter().map(Text::new));
        }
    }
    match shorthand.is_empty() {
        true => Err(nothing()),
        false => Err(NotMeasured::Shorthand { name: name.clone(), actions: shorthand }),
    }
}

struct Definition {
    file: std::os::fd::OwnedFd,
    facts: Facts,
    content: Vec<u8>,
}

/// A definition that nobody but root can change; any other defines nothing.
fn read(path: &OsText, mounts: &Mounts) -> Result<Option<Definition>, NotMeasured> {
    let Ok(place) = trust::believe(path, mounts) else { return Ok(None) };
    let Ok((file, facts)) = place.open_for_reading() else { return Ok(None) };
    let Some(size) = usize::try_from(place.facts.size).ok().filter(|_| place.facts.size <= MAX_SIZE) else {
        return Ok(None);
    };
    let content =
        digest::piece(&file, 0, size).map_err(|errno| NotMeasured::system("reading", path, errno))?;
    Ok(Some(Definition { file, facts, content }))
}

fn measured(
    action: Text,
    path: OsText,
    definition: Definition,
    known: &Known,
) -> Result<Measured, NotMeasured> {
    let services = services(&path, known);
    let owned = known.packages.owner(&path);
    let opened = (definition.file, State::of(&definition.facts));
    let bytes = digest::trusted(opened, &path, None, owned.as_deref(), &known.contents)?;
    let package = owned.map(|owned| bytes.package(&owned));
    let argv = vec![OsText::from(action.as_untrusted())];
    let application = Application {
        path,
        sha256: bytes.sha256,
        size: bytes.size,
        owner: definition.facts.owner,
        mode: definition.facts.mode & 0o7777,
        lane: Lane::Trusted,
        interpreter: None,
        package,
        package_database: known.packages.any(),
        component: Some(Component { action, services }),
    };
    Ok(Measured { application, argv, program: Program::Nothing })
}

/// The D-Bus names that the package of this file ships.
fn services(definition: &OsText, known: &Known) -> Vec<Text> {
    let Some(owner) = known.packages.owner(definition) else { return Vec::new() };
    let of_same_package = |path: &OsText| {
        known.packages.owner(path).is_some_and(|owned| owned.package.name == owner.package.name)
    };
    let names = files(SERVICES, b".service").into_iter().filter(of_same_package).filter_map(|path| {
        let name = path.file_name();
        let name = name.as_bytes().strip_suffix(b".service").filter(|name| polkit::is_name(name))?;
        std::str::from_utf8(name).ok().map(Text::new)
    });
    names.collect()
}

/// The files of a folder whose names end so, in the order of their names.
fn files(folder: &str, suffix: &[u8]) -> Vec<OsText> {
    use std::os::unix::ffi::OsStrExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.take(MAX_FILES).flatten().map(|entry| entry.file_name());
    let folder = OsText::from(folder);
    let names = names.filter(|name| name.as_bytes().ends_with(suffix));
    let mut files: Vec<OsText> = names.map(|name| joined(&folder, name.as_bytes())).collect();
    files.sort();
    files
}
