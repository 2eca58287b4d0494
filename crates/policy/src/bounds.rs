//! What an application that runs elevated is kept to: where it may write, which capabilities it has, whether it may start
//! other programs, how much it may take, whether it gets to its user's display.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::capability::Capabilities;
use crate::lists::RunsAs;
use crate::text::OsText;

/// What an application is kept to. Without any it is as any other program of its user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Its capabilities: as the same user exactly these, as contained root no others. Root that is not contained has all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub capabilities: Capabilities,
    /// Whether it is contained.
    #[serde(default, skip_serializing_if = "is_default")]
    pub containment: Containment,
    /// Whether it may start other programs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub children: Children,
    /// How much it may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// Whether it gets to a display. Left out where it does not, so that a computer which does not know of displays reads
    /// the document as before; with it, such a computer refuses the whole.
    #[serde(default, skip_serializing_if = "is_default")]
    pub display: Display,
}

/// What holds a program while it runs, beside the end of its grant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Containment {
    /// Nothing: its end is enforced on its processes, and what it changed stays changed.
    #[default]
    #[serde(deserialize_with = "crate::nothing_else::read")]
    Full,
    /// It writes to nothing but these folders and a /tmp of its own, sees neither service sockets nor devices, and leaves no
    /// right behind. What it reads, and the network, are not limited.
    Contained {
        /// Absolute paths, without links.
        writable: Vec<OsText>,
    },
}

/// Whether a program may start others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Children {
    /// Any.
    #[default]
    Allowed,
    /// None: it is one process, and stays the program that it is.
    Denied,
}

/// Whether a program with windows gets to a display; from the stricter to the freer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Display {
    /// To none: it learns of no display, and has no key to one.
    #[default]
    None,
    /// To that of the user who asked: their X display, with their own key to it, and their Wayland compositor. Whatever else
    /// runs on the same X display can type into its windows.
    OfTheUser,
}

/// How much the processes of a launch may take together; without a number, as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How many processes and threads, those that watch over it among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// How much memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// More folders than a single-purpose tool writes to.
pub const MOST_FOLDERS: usize = 16;

/// Where a contained program sees something of its own, or nothing.
const OWN: [&str; 6] = ["/tmp", "/run", "/var/run", "/dev", "/proc", "/sys"];

/// Whoever writes here decides what the system runs as root.
const DECISIVE: [&str; 12] = [
    "/etc",
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/boot",
    "/root",
    "/var/spool/cron",
    "/var/lib/dpkg",
    "/var/lib/systemd",
    "/opt",
];

impl Bounds {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a program is contained under them.
    pub fn is_contained(&self) -> bool {
        matches!(self.containment, Containment::Contained { .. })
    }

    /// The folders a contained program may write to.
    pub fn writable(&self) -> &[OsText] {
        match &self.containment {
            Containment::Full => &[],
            Containment::Contained { writable } => writable,
        }
    }

    /// Whether a program under these may do nothing that one under `wider` may not.
    pub fn is_within(&self, wider: &Self) -> bool {
        let contained = match (&self.containment, &wider.containment) {
            (_, Containment::Full) => true,
            (Containment::Full, Containment::Contained { .. }) => false,
            (Containment::Contained { writable }, Containment::Contained { writable: wider }) => {
                writable.iter().all(|folder| wider.iter().any(|wider| is_in(folder, wider)))
            }
        };
        // Full root, the only one without a list of capabilities, has all of them.
        let all = |bounds: &Self| bounds.capabilities.is_empty() && !bounds.is_contained();
        let capabilities = all(wider) || !all(self) && self.capabilities.is_within(wider.capabilities);
        contained
            && capabilities
            && self.children >= wider.children
            && self.limits.is_within(wider.limits)
            && self.display <= wider.display
    }

    /// The stricter, the greater: for choosing between lists that say the same otherwise. Contained before anything else, then
    /// without children, without a display, then by the number of capabilities and of folders, then by limits.
    pub fn strictness(&self) -> impl Ord + use<> {
        (
            self.is_contained(),
            self.children,
            Reverse(self.display),
            Reverse(self.capabilities.count()),
            Reverse(self.writable().len()),
            Reverse(self.limits.memory.unwrap_or(u64::MAX)),
            Reverse(self.limits.processes.unwrap_or(u32::MAX)),
        )
    }

    /// As whom, and under what, in a few words: `root`, `root, contained`, `the same user with net_raw`.
    pub fn in_words(&self, runs_as: RunsAs) -> String {
        let mut words = match runs_as {
            RunsAs::Root => "root".to_owned(),
            RunsAs::SameUser => format!("the same user with {}", self.capabilities),
        };
        if self.is_contained() {
            words.push_str(", contained");
        }
        if self.children == Children::Denied {
            words.push_str(", without child processes");
        }
        if self.display == Display::OfTheUser {
            words.push_str(", on the user's display");
        }
        words
    }

    /// What that means, a sentence each, for whoever decides and for whoever asks why something is refused. What is not limited
    /// is said, too.
    pub fn sentences(&self, runs_as: RunsAs) -> Vec<String> {
        let mut told = Vec::new();
        if runs_as == RunsAs::SameUser {
            told.push(format!(
                "It runs as the user who asked, with {} and no other capability, and gains none by what it executes. Other programs of that user can stop or end it, and change the files it reads; they cannot trace it or read its memory.",
                self.capabilities
            ));
        }
        match &self.containment {
            Containment::Full if runs_as == RunsAs::Root => told.push(
                "Full: when its time is over its processes are ended; what it changed before stays changed."
                    .into(),
            ),
            Containment::Full => {}
            Containment::Contained { writable } => {
                let mut folders: Vec<_> =
                    writable.iter().map(|folder| folder.visible().to_string()).collect();
                folders.push("a /tmp of its own".into());
                told.push(format!(
                    "Contained: it writes to {} and nothing else, sees neither service sockets nor devices, and leaves no set-user-ID file behind. What it reads, and the network, are not limited.",
                    folders.join(", ")
                ));
                if runs_as == RunsAs::Root {
                    told.push(match self.capabilities.is_empty() {
                        true => "It is root without any capability.".into(),
                        false => format!("Of root's capabilities it has {}.", self.capabilities),
                    });
                }
            }
        }
        if self.children == Children::Denied {
            told.push("It starts no other program.".into());
        }
        if self.display == Display::OfTheUser {
            told.push("It opens windows on the display of the user who asked. Whatever else runs on the same X display can read what they show and type into them.".into());
        }
        let most = [
            self.limits.processes.map(|most| format!("{most} processes")),
            self.limits.memory.map(|most| format!("{} MiB of memory", most >> 20)),
        ];
        let most: Vec<_> = most.into_iter().flatten().collect();
        if !most.is_empty() {
            told.push(format!("It takes at most {}, where the computer can limit that.", most.join(" and ")));
        }
        told
    }

    /// What makes no sense, or cannot be kept, with a program that runs with these rights.
    pub fn contradiction(&self, runs_as: RunsAs) -> Option<Contradiction> {
        let refused = self.capabilities.among(Capabilities::NEVER_CONTAINED);
        if self.is_contained() && !refused.is_empty() {
            return Some(Contradiction::NeverContained(refused));
        }
        if self.is_contained() && self.display != Display::None {
            return Some(Contradiction::ContainedDisplay);
        }
        match (runs_as, &self.containment) {
            (RunsAs::SameUser, _) if self.capabilities.is_empty() => {
                return Some(Contradiction::NoCapabilities);
            }
            (RunsAs::Root, Containment::Full) if !self.capabilities.is_empty() => {
                return Some(Contradiction::FullRoot);
            }
            _ => {}
        }
        if self.limits.processes.is_some_and(|processes| processes < 2)
            || self.limits.memory.is_some_and(|memory| memory < 1 << 20)
        {
            return Some(Contradiction::TooLittle);
        }
        if self.writable().len() > MOST_FOLDERS {
            return Some(Contradiction::TooManyFolders);
        }
        self.writable().iter().find_map(no_folder)
    }

    /// The folders in which whoever writes decides what runs as root.
    pub fn decisive_folders(&self) -> impl Iterator<Item = &OsText> {
        self.writable().iter().filter(|folder| {
            DECISIVE.iter().any(|decisive| {
                let decisive = OsText::from(*decisive);
                is_in(folder, &decisive) && decisive.as_bytes() != b"/opt" || is_in(&decisive, folder)
            })
        })
    }
}

impl Limits {
    fn is_within(self, wider: Self) -> bool {
        fn fits<N: PartialOrd>(own: Option<N>, wider: Option<N>) -> bool {
            wider.is_none_or(|wider| own.is_some_and(|own| own <= wider))
        }
        fits(self.processes, wider.processes) && fits(self.memory, wider.memory)
    }
}

impl PartialOrd for Children {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The stricter is the greater.
impl Ord for Children {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (*self == Self::Denied).cmp(&(*other == Self::Denied))
    }
}

/// Why a folder can be none that a contained program writes to.
fn no_folder(folder: &OsText) -> Option<Contradiction> {
    let bytes = folder.as_bytes();
    let plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    let whole = bytes.strip_prefix(b"/").is_some_and(|rest| rest.split(|byte| *byte == b'/').all(plain));
    if !whole || bytes.contains(&0) || bytes.len() > 4_000 {
        return Some(Contradiction::NoFolder(folder.clone()));
    }
    let own = OWN.iter().find(|own| is_in(folder, &OsText::from(**own)))?;
    Some(Contradiction::OwnOfContained { folder: folder.clone(), own })
}

/// Whether a path is this folder or lies below it.
fn is_in(path: &OsText, folder: &OsText) -> bool {
    let rest = path.as_bytes().strip_prefix(folder.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Bounds that make no sense, or that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contradiction {
    /// The same user without any capability is no elevation.
    NoCapabilities,
    /// Root that is not contained has all capabilities.
    FullRoot,
    /// These undo a containment.
    NeverContained(Capabilities),
    /// A display is a service socket, and those a contained program does not see.
    ContainedDisplay,
    /// Nothing can run with so little.
    TooLittle,
    /// More folders than a single-purpose tool writes to.
    TooManyFolders,
    /// No absolute path of a folder below the root.
    NoFolder(OsText),
    /// A contained program sees its own there, or nothing.
    OwnOfContained {
        /// The folder.
        folder: OsText,
        /// Where it lies.
        own: &'static str,
    },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCapabilities => f.write_str(
                "the same user without a capability is no elevation; expected at least one, such as net_raw",
            ),
            Self::FullRoot => f.write_str(
                "root that is not contained has every capability; expected none to be named, or containment",
            ),
            Self::NeverContained(found) => {
                write!(
                    f,
                    "{found} would undo the containment; expected other capabilities, or full containment"
                )
            }
            Self::ContainedDisplay => f.write_str(
                "a contained program sees no service socket, and so no display; expected none, or full containment",
            ),
            Self::TooLittle => {
                f.write_str("nothing runs with so little; expected at least 2 processes and 1 MiB")
            }
            Self::TooManyFolders => write!(f, "expected at most {MOST_FOLDERS} folders to write to"),
            Self::NoFolder(folder) => write!(
                f,
                "{} is no folder to write to; expected an absolute path such as /var/lib/tool, without . and .. and a slash at its end",
                folder.visible()
            ),
            Self::OwnOfContained { folder, own } => write!(
                f,
                "{} is not what a contained program sees: its {own} is its own, or empty; expected another folder",
                folder.visible()
            ),
        }
    }
}

impl std::error::Error for Contradiction {}

#[cfg(test)]
mod tests {
    use super::*;

    fn contained(folders: &[&str], capabilities: &str) -> Bounds {
        Bounds {
            containment: Containment::Contained {
                writable: folders.iter().map(|path| (*path).into()).collect(),
            },
            capabilities: capabilities.parse().expect("known"),
            ..Bounds::default()
        }
    }

    #[test]
    fn what_may_do_less_is_within() {
        let full = Bounds::default();
        let some = contained(&["/srv/a", "/srv/b"], "net_raw chown");
        assert!(full.is_within(&full) && some.is_within(&full) && some.is_within(&some));
        assert!(!full.is_within(&some));
        let same_user = Bounds { capabilities: "chown".parse().expect("known"), ..Bounds::default() };
        assert!(same_user.is_within(&full) && !full.is_within(&same_user), "full root has all of them");
        assert!(contained(&["/srv/a/deep"], "net_raw").is_within(&some));
        assert!(!contained(&["/srv/ab"], "net_raw").is_within(&some), "a name that begins alike is another");
        assert!(!contained(&["/srv"], "").is_within(&some));
        assert!(!contained(&[], "net_admin").is_within(&some));
        let alone = Bounds { children: Children::Denied, ..some.clone() };
        assert!(alone.is_within(&some) && !some.is_within(&alone));
        let limited =
            |memory| Bounds { limits: Limits { memory: Some(memory), processes: None }, ..Bounds::default() };
        assert!(
            limited(1 << 20).is_within(&limited(1 << 30)) && !limited(1 << 30).is_within(&limited(1 << 20))
        );
        assert!(limited(1 << 20).is_within(&full) && !full.is_within(&limited(1 << 20)));
        let shown = Bounds { display: Display::OfTheUser, ..Bounds::default() };
        assert!(full.is_within(&shown) && !shown.is_within(&full) && shown.is_within(&shown));
    }

    #[test]
    fn the_stricter_is_the_greater() {
        let (some, more) = (contained(&["/srv/a"], "net_raw"), contained(&["/srv/a", "/srv/b"], "net_raw"));
        let alone = Bounds { children: Children::Denied, ..Bounds::default() };
        assert!(some.strictness() > more.strictness());
        assert!(more.strictness() > alone.strictness());
        assert!(alone.strictness() > Bounds::default().strictness());
        let shown = Bounds { display: Display::OfTheUser, ..Bounds::default() };
        assert!(Bounds::default().strictness() > shown.strictness());
    }

    #[test]
    fn what_cannot_be_kept_is_a_contradiction() {
        let said = |bounds: &Bounds, runs_as| bounds.contradiction(runs_as).map(|found| found.to_string());
        assert_eq!(said(&Bounds::default(), RunsAs::Root), None);
        assert_eq!(said(&contained(&["/srv/a", "/home/alice/out"], "net_raw"), RunsAs::Root), None);
        assert_eq!(said(&contained(&[], "net_raw"), RunsAs::SameUser), None);
        for folder in
            ["/", "srv", "/srv/", "/srv/../etc", "/srv//a", "/tmp", "/run/x", "/dev/shm", "/proc", "/sys/fs"]
        {
            assert!(said(&contained(&[folder], ""), RunsAs::Root).is_some(), "{folder}");
        }
        for never in Capabilities::NEVER_CONTAINED.names() {
            assert!(said(&contained(&[], never), RunsAs::Root).is_some(), "{never}");
        }
        let named = Bounds { capabilities: "net_raw".parse().expect("known"), ..Bounds::default() };
        assert!(said(&named, RunsAs::Root).is_some());
        assert!(said(&named, RunsAs::SameUser).is_none());
        assert!(said(&Bounds::default(), RunsAs::SameUser).is_some());
        assert!(said(&contained(&vec!["/srv/a"; 17], ""), RunsAs::Root).is_some());
        let shown = |bounds| Bounds { display: Display::OfTheUser, ..bounds };
        assert_eq!(said(&shown(Bounds::default()), RunsAs::Root), None);
        assert_eq!(said(&shown(named.clone()), RunsAs::SameUser), None);
        let hidden = said(&shown(contained(&[], "")), RunsAs::Root);
        assert!(hidden.is_some_and(|told| told.contains("sees no service socket")));
    }

    #[test]
    fn folders_that_decide_what_runs_as_root_are_told_apart() {
        let decisive = |folder| contained(&[folder], "").decisive_folders().count() == 1;
        assert!(decisive("/etc") && decisive("/etc/cron.d") && decisive("/usr/local") && decisive("/var"));
        assert!(!decisive("/srv") && !decisive("/var/lib/tool") && !decisive("/opt/tool/data"));
    }

    #[test]
    fn unknown_words_are_refused() {
        for text in [
            r#"{"containment":{"type":"mostly"}}"#,
            r#"{"containment":{"type":"full","but":1}}"#,
            r#"{"containment":{"type":"contained"}}"#,
            r#"{"containment":{"type":"contained","writable":[],"readable":[]}}"#,
            r#"{"children":"few"}"#,
            r#"{"display":"of_everybody"}"#,
            r#"{"display":true}"#,
            r#"{"limits":{"files":1}}"#,
            r#"{"capabilities":["all"]}"#,
            r#"{"colour":"red"}"#,
        ] {
            assert!(serde_json::from_str::<Bounds>(text).is_err(), "{text}");
        }
    }
}
