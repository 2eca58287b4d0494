//! What an administrator should know before a list is saved: rules that let through more than they seem to. A warning forbids
//! nothing; it is shown, acknowledged, and the acknowledgement is recorded.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bounds::Display;
use crate::capability::Capabilities;
use crate::lists::{ApplicationList, Confirm, Covers, PrivilegedApplicationList, RunsAs, Terms};
use crate::risk::{self, Kind};
use crate::rule::{ArgumentPattern, Listed, Outcome, Recognises, Rule};
use crate::text::OsText;

/// Something to know about one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The machine's word for it.
    pub code: Code,
    sentence: String,
}

/// The machine's words for what rules may be warned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Whoever runs the program as root can do anything.
    EqualsRoot,
    /// The folder holds shells and interpreters.
    HoldsShells,
    /// Users can write in the folder, or somewhere below it.
    WritableFolder,
    /// Nothing stands behind the vendor's name.
    UnverifiedVendor,
    /// Every program of the vendor, shells and interpreters among them where it is a distribution.
    AllOfVendor,
    /// Any arguments, for a program that does what its arguments say.
    FreeArguments,
    /// A capability with which its holder can become root.
    RootCapability,
    /// A contained program may write where whoever writes decides what runs as root.
    DecisiveFolder,
    /// It equals root, and nobody has to show that they are there.
    Unconfirmed,
    /// What else is on the user's display can type into its windows.
    SharedDisplay,
}

impl Code {
    /// Whether it equals root, so that whoever saves it must say that they know.
    pub fn is_grave(self) -> bool {
        matches!(
            self,
            Self::EqualsRoot
                | Self::HoldsShells
                | Self::AllOfVendor
                | Self::RootCapability
                | Self::DecisiveFolder
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EqualsRoot => "equals_root",
            Self::HoldsShells => "holds_shells",
            Self::WritableFolder => "writable_folder",
            Self::UnverifiedVendor => "unverified_vendor",
            Self::AllOfVendor => "all_of_vendor",
            Self::FreeArguments => "free_arguments",
            Self::RootCapability => "root_capability",
            Self::DecisiveFolder => "decisive_folder",
            Self::Unconfirmed => "unconfirmed",
            Self::SharedDisplay => "shared_display",
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// What there is to know of a privileged application list: warnings of its rules, each with the rule's place.
pub fn of_privileged(list: &PrivilegedApplicationList) -> Vec<(usize, Warning)> {
    of_rules(&list.rules, |rule| of_rule(rule, rule.terms.as_ref().unwrap_or(&list.terms)))
}

/// The same of an allowlist, whose rules say nothing of arguments that a grant covers. A blocklist lets nothing through.
pub fn of_allowlist(list: &ApplicationList) -> Vec<(usize, Warning)> {
    // Nor of who has to be there.
    let terms = Terms { confirm: Confirm::EachLaunch, ..Terms::default() };
    of_rules(&list.rules, |rule| of_rule(rule, &terms))
}

fn of_rules(rules: &[Listed], warn: impl Fn(&Rule) -> Vec<Warning>) -> Vec<(usize, Warning)> {
    let readable = rules.iter().enumerate().filter_map(|(at, listed)| match listed {
        Listed::Rule(rule) => Some((at, rule)),
        Listed::Unreadable(_) => None,
    });
    readable.flat_map(|(at, rule)| warn(rule).into_iter().map(move |warning| (at, warning))).collect()
}

/// What there is to know of a rule with these terms; nothing of one that denies. The gravest first.
pub fn of_rule(rule: &Rule, terms: &Terms) -> Vec<Warning> {
    if rule.outcome == Outcome::Deny {
        return Vec::new();
    }
    let equals_root = risk::is_root(terms.runs_as, &terms.bounds);
    let kind = kind(&rule.recognises).filter(|_| equals_root);
    let place =
        of_place(&rule.recognises).into_iter().filter(|warning| equals_root || !warning.code.is_grave());
    let mut warnings: Vec<Warning> = kind
        .map(|kind| Warning {
            code: Code::EqualsRoot,
            sentence: format!(
                "{} Whoever may run it as root can do anything on the computer.",
                kind.sentence()
            ),
        })
        .into_iter()
        .chain(root_capability(terms))
        .chain(decisive_folders(terms))
        .chain(place)
        .collect();
    warnings.extend(free_arguments(rule, terms, kind));
    // Full root: what is kept to less does not become more by being used by another program of the same user.
    let is_root = |code| matches!(code, Code::EqualsRoot | Code::HoldsShells | Code::AllOfVendor);
    if terms.confirm.is_none() && warnings.iter().any(|warning| is_root(warning.code)) {
        let sentence = "Nobody has to show that they are there: any program that runs under the user's account can use such a grant, unless a password confirms it.";
        warnings.push(Warning { code: Code::Unconfirmed, sentence: sentence.to_owned() });
    }
    if terms.bounds.display == Display::OfTheUser {
        let sentence = "It opens windows on the user's display: whatever else runs on the same X display can read what they show and type into them, and a password that confirms the launch does not change that.";
        warnings.push(Warning { code: Code::SharedDisplay, sentence: sentence.to_owned() });
    }
    warnings
}

fn root_capability(terms: &Terms) -> Option<Warning> {
    let found = terms.bounds.capabilities.among(Capabilities::EQUAL_ROOT);
    let free = !terms.bounds.is_contained() && terms.runs_as == RunsAs::SameUser && !found.is_empty();
    let sentence = format!("Whoever runs a program with {found} can become root with it.");
    free.then_some(Warning { code: Code::RootCapability, sentence })
}

fn decisive_folders(terms: &Terms) -> Option<Warning> {
    let folder = terms.bounds.decisive_folders().next()?;
    let sentence = format!(
        "Whoever writes to {} decides what runs as root: what a contained program leaves there outlives it.",
        folder.visible()
    );
    Some(Warning { code: Code::DecisiveFolder, sentence })
}

/// The kind of program that a rule names, where running it as root equals root; as far as the rule says.
fn kind(recognises: &Recognises) -> Option<Kind> {
    match recognises {
        Recognises::FileHash { display_name, .. } => {
            risk::equals_root(&OsText::from(display_name.as_untrusted()).file_name())
        }
        Recognises::VerifiedExecutable { file_name, .. } => risk::equals_root(file_name),
        Recognises::Product { product, .. } => risk::equals_root(&OsText::from(product.as_untrusted())),
        Recognises::Clsid { component } => risk::component_equals_root(component),
        Recognises::Vendor { .. } | Recognises::FolderPath { .. } => None,
    }
}

fn of_place(recognises: &Recognises) -> Vec<Warning> {
    let warning = |code, sentence| Warning { code, sentence };
    match recognises {
        Recognises::FolderPath { path, with_subfolders } => {
            let shown = path.visible();
            let shells = holds_shells(path, *with_subfolders).then(|| {
                warning(
                    Code::HoldsShells,
                    format!("{shown} has shells and interpreters in it: whoever may run those as root can do anything on the computer."),
                )
            });
            let open = others_write(path, *with_subfolders).map(|folder| {
                warning(
                    Code::WritableFolder,
                    format!("Users can write below {folder}: what lies there never matches a folder; list such files by their hash."),
                )
            });
            shells.into_iter().chain(open).collect()
        }
        Recognises::Vendor { vendor, verified } => {
            let all = warning(
                Code::AllOfVendor,
                format!(
                    "Every program of {} that is installed matches; a distribution's own are shells, interpreters and package managers, too.",
                    vendor.visible()
                ),
            );
            let unverified = (!verified).then(|| {
                let sentence =
                    "Without a signature behind it, the vendor is whatever the package calls itself.";
                warning(Code::UnverifiedVendor, sentence.to_owned())
            });
            std::iter::once(all).chain(unverified).collect()
        }
        _ => Vec::new(),
    }
}

/// Where a program equals root, its arguments are the only thing that a rule could still narrow.
fn free_arguments(rule: &Rule, terms: &Terms, kind: Option<Kind>) -> Option<Warning> {
    if matches!(rule.recognises, Recognises::Clsid { .. }) {
        return None;
    }
    let free = match rule.arguments {
        ArgumentPattern::Any => terms.arguments == Covers::AnyArguments,
        ArgumentPattern::Prefix { .. } => true,
        ArgumentPattern::Exact { .. } | ArgumentPattern::Patterns { .. } => false,
    };
    let sentence = match (free, kind) {
        (true, Some(_)) => {
            "Any further arguments are covered, and what this program does is up to its arguments."
        }
        (true, None) if terms.arguments == Covers::AnyArguments => {
            "A grant covers any arguments: whoever approves one does not see what it will be used for."
        }
        _ => return None,
    };
    Some(Warning { code: Code::FreeArguments, sentence: sentence.to_owned() })
}

/// Folders of the system that have shells in them.
fn holds_shells(path: &OsText, with_subfolders: bool) -> bool {
    const SHELLS: [&[u8]; 5] = [b"/bin", b"/sbin", b"/usr/bin", b"/usr/sbin", b"/usr/local/bin"];
    let path = trimmed(path);
    SHELLS.iter().any(|folder| *folder == path || with_subfolders && is_below(folder, path))
}

/// The folder that users can write in, which is this one, has it below it, or is above it.
fn others_write(path: &OsText, with_subfolders: bool) -> Option<&'static str> {
    const OPEN: [&str; 8] =
        ["/home", "/tmp", "/var/tmp", "/dev/shm", "/run/user", "/run/lock", "/media", "/var/crash"];
    let path = trimmed(path);
    OPEN.into_iter().find(|open| {
        let open = open.as_bytes();
        open == path || is_below(path, open) || with_subfolders && is_below(open, path)
    })
}

fn trimmed(path: &OsText) -> &[u8] {
    let path = path.as_bytes();
    path.strip_suffix(b"/").unwrap_or(path)
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}
