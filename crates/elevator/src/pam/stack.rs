//! What PAM will be told to do: the service's file, the files it includes, and the modules they name. Each must be root's alone,
//! for PAM itself does not look: who may write to one decides who counts as whom.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use elevon_policy::text::OsText;

use crate::files;
use crate::measure::root_alone_can_change;

/// The service that PAM is asked about.
pub(crate) const SERVICE: &str = "elevon";

/// The service that PAM reads along, and goes by where the one it is asked about says nothing.
const OTHER: &str = "other";

/// Where PAM looks for services, the administrator's folder first.
const FOLDERS: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

/// More files than a service is made of.
const MOST_FILES: usize = 32;

/// A service as it is on file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    /// The files it is made of, the service's own first.
    pub(crate) files: Vec<PathBuf>,
    /// Where they were looked for, whether there was one or not: what appears there counts.
    pub(crate) places: BTreeSet<PathBuf>,
    /// The modules they name, where they lie.
    pub(crate) modules: BTreeSet<PathBuf>,
    /// How many of them the service itself names.
    pub(crate) own: usize,
}

/// Why a service is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// There is none.
    #[error("there is no PAM service {}; put packaging/pam/{SERVICE} there", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Somebody else than root decides.
    #[error("{path}: {because}, so PAM would do what others say; make it root's alone")]
    Distrusted {
        /// The file.
        path: String,
        /// What is wrong with it.
        because: String,
    },
    /// It cannot be read, or has no end.
    #[error("could not read the PAM service: {0}")]
    Unreadable(String),
}

impl Stack {
    /// Reads the service from this folder or, where none is named, from where PAM looks. `modules` is the folder of those that
    /// are named without one.
    pub(crate) fn read(folder: Option<&Path>, modules: Option<&Path>) -> Result<Self, Unfit> {
        let folders: Vec<&Path> = match folder {
            Some(folder) => vec![folder],
            None => FOLDERS.iter().map(Path::new).collect(),
        };
        let mut stack = Self::default();
        stack.include(Path::new(SERVICE), &folders, modules, false)?;
        stack.own = stack.modules.len();
        stack.include(Path::new(OTHER), &folders, modules, true)?;
        Ok(stack)
    }

    /// What is missing is passed over where the file that names it is no part of the service.
    fn include(
        &mut self,
        name: &Path,
        folders: &[&Path],
        modules: Option<&Path>,
        beside: bool,
    ) -> Result<(), Unfit> {
        let is_there = |path: &PathBuf| {
            self.places.insert(path.clone());
            path.exists()
        };
        let Some(path) = folders.iter().map(|folder| folder.join(name)).find(is_there) else {
            if beside {
                return Ok(());
            }
            let path = folders.first().map_or_else(|| name.to_owned(), |folder| folder.join(name));
            return Err(Unfit::Missing { path });
        };
        if self.files.contains(&path) {
            return Ok(());
        }
        if self.files.len() >= MOST_FILES {
            return Err(Unfit::Unreadable(format!("it is made of more than {MOST_FILES} files")));
        }
        believe(&path)?;
        let text = match files::read(&path) {
            Ok(text) => String::from_utf8_lossy(&text.unwrap_or_default()).into_owned(),
            Err(error) => return Err(Unfit::Unreadable(error.to_string())),
        };
        self.files.push(path);
        for line in lines(&text) {
            match line {
                Line::Include(name) => self.include(Path::new(&name), folders, modules, beside)?,
                Line::Module(name) => self.add(Path::new(&name), modules)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &Path, modules: Option<&Path>) -> Result<(), Unfit> {
        let path = match (name.is_absolute(), modules) {
            (true, _) => name.to_owned(),
            (false, Some(folder)) => folder.join(name),
            (false, None) => return Ok(()),
        };
        // Without it PAM fails, or goes on where the line says so (`-auth`).
        if path.exists() && self.modules.insert(path.clone()) {
            believe(&path)?;
        }
        Ok(())
    }
}

fn believe(path: &Path) -> Result<(), Unfit> {
    use std::os::unix::ffi::OsStrExt as _;
    root_alone_can_change(&OsText::new(path.as_os_str().as_bytes())).map_err(|(component, because)| {
        Unfit::Distrusted { path: component.visible().to_string(), because: because.to_owned() }
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Include(String),
    Module(String),
}

/// What the lines of a service's file name; see pam.d(5).
fn lines(text: &str) -> Vec<Line> {
    let whole = text.replace("\\\n", " ");
    whole.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Line> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let (first, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let word = |text: &str| text.split_whitespace().next().map(str::to_owned);
    if first == "@include" {
        return word(rest).map(Line::Include);
    }
    // The control may be a bracket with blanks in it.
    let (control, module) = match rest.strip_prefix('[') {
        Some(bracket) => bracket.split_once(']')?,
        None => rest.split_once(char::is_whitespace)?,
    };
    match control.to_ascii_lowercase().as_str() {
        "include" | "substack" => word(module).map(Line::Include),
        _ => word(module).map(Line::Module),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_modules_are_found_in_every_form_of_a_line() {
        let text = "# PAM\n@include common-auth\nauth\t[success=1 default=ignore]\tpam_unix.so nullok\n\
                    -account  required pam_sss.so # likewise\naccount INCLUDE system-auth\naccount substack more\n\
                    account required \\\n  /opt/own/pam_own.so debug\n\nauth\n";
        let module = |name: &str| Line::Module(name.into());
        let include = |name: &str| Line::Include(name.into());
        assert_eq!(
            lines(text),
            [
                include("common-auth"),
                module("pam_unix.so"),
                module("pam_sss.so"),
                include("system-auth"),
                include("more"),
                module("/opt/own/pam_own.so"),
            ]
        );
    }

    #[test]
    fn a_service_that_is_not_there_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SERVICE);
        assert_eq!(Stack::read(Some(folder.path()), None), Err(Unfit::Missing { path }));
    }

    /// Below a folder that anybody may write to nothing can be believed.
    #[test]
    fn a_service_that_others_can_change_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SERVICE), "account required pam_permit.so\n").unwrap();
        let read = Stack::read(Some(folder.path()), None);
        assert!(matches!(read, Err(Unfit::Distrusted { .. })), "{read:?}");
    }
}
