//! What a grant on a program is really worth. Some programs do whatever their user wants, so that the right to run one
//! as root equals root; the names are those that GTFOBins (<https://gtfobins.github.io>) lists with `sudo`. The list is
//! short and honest rather than complete: a name on it is a warning, a name that is missing is no promise.

use crate::application::{Application, Lane};
use crate::bounds::Bounds;
use crate::capability::Capabilities;
use crate::lists::RunsAs;
use crate::text::{OsText, Text};

/// Why a grant is worth more, or is less sure, than it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Risk {
    /// Whoever runs it as root can do anything.
    EqualsRoot {
        /// What kind of program it is.
        kind: Kind,
    },
    /// Somebody else than root could change the file, so only its bytes count.
    UserWritable {
        /// Where and why.
        lane: Lane,
    },
}

/// Kinds of programs that do whatever their user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A shell.
    Shell,
    /// An editor.
    Editor,
    /// A pager.
    Pager,
    /// An interpreter.
    Interpreter,
    /// A package manager.
    PackageManager,
    /// A service manager.
    ServiceManager,
    /// A container engine.
    ContainerEngine,
    /// A debugger or tracer.
    Debugger,
    /// A program that starts other programs.
    Launcher,
    /// A program that writes files anywhere.
    Writer,
    /// A build tool.
    BuildTool,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Shell,
        Self::Editor,
        Self::Pager,
        Self::Interpreter,
        Self::PackageManager,
        Self::ServiceManager,
        Self::ContainerEngine,
        Self::Debugger,
        Self::Launcher,
        Self::Writer,
        Self::BuildTool,
    ];

    /// One plain sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Shell => "A shell runs any command as root.",
            Self::Editor => "An editor can change any file and start a shell as root.",
            Self::Pager => "A pager can start a shell as root.",
            Self::Interpreter => "An interpreter runs any program text as root.",
            Self::PackageManager => "A package manager runs scripts as root.",
            Self::ServiceManager => "A service manager starts any program as root.",
            Self::ContainerEngine => "A container engine can mount the whole disk as root.",
            Self::Debugger => "A debugger can change what other programs do, as root.",
            Self::Launcher => "It starts any other program as root.",
            Self::Writer => "It can change any file, those that say who is root among them.",
            Self::BuildTool => "A build tool runs the commands its input files name, as root.",
        }
    }

    /// Program names without version and variant: `python3.11` is `python`, `vim.basic` is `vim`.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Shell => &[
                "ash", "bash", "busybox", "csh", "dash", "elvish", "fish", "ksh", "mksh", "nu", "rbash",
                "sash",
            ] as &[_],
            Self::Editor => {
                &["ed", "emacs", "ex", "hx", "jed", "joe", "kak", "mcedit", "micro", "nano", "nvim", "pico"]
            }
            Self::Pager => &["journalctl", "less", "lynx", "man", "more", "most", "pg", "w3m"],
            Self::Interpreter => &[
                "awk",
                "bpftrace",
                "bun",
                "deno",
                "expect",
                "gawk",
                "gdbserver",
                "ghci",
                "guile",
                "irb",
                "java",
                "jjs",
                "jrunscript",
                "julia",
                "lua",
                "luajit",
                "mawk",
                "nawk",
                "node",
                "nodejs",
                "octave",
                "perl",
                "php",
                "pwsh",
                "python",
                "R",
                "Rscript",
                "ruby",
                "sqlite",
                "tclsh",
                "wish",
            ],
            Self::PackageManager => &[
                "apk", "apt", "apt-get", "aptitude", "cargo", "composer", "cpan", "dnf", "dpkg", "flatpak",
                "gem", "microdnf", "nix", "npm", "pacman", "pip", "pkg", "pnpm", "rpm", "snap", "tdnf",
                "yarn", "yum", "zypper",
            ],
            Self::ServiceManager => &[
                "at",
                "batch",
                "cron",
                "crontab",
                "init",
                "initctl",
                "openrc",
                "rc-service",
                "runit",
                "service",
                "sv",
                "systemctl",
                "systemd-run",
            ],
            Self::ContainerEngine => &[
                "buildah",
                "containerd",
                "crictl",
                "ctr",
                "docker",
                "kubectl",
                "lxc",
                "nerdctl",
                "podman",
                "runc",
                "virsh",
            ],
            Self::Debugger => &["gdb", "lldb", "ltrace", "perf", "rr", "strace", "valgrind"],
            Self::Launcher => &[
                "capsh",
                "chpst",
                "chroot",
                "chrt",
                "cpulimit",
                "doas",
                "env",
                "find",
                "firejail",
                "flock",
                "hping",
                "ionice",
                "nice",
                "nmap",
                "nohup",
                "nsenter",
                "parallel",
                "pkexec",
                "run-parts",
                "runuser",
                "screen",
                "script",
                "setarch",
                "setpriv",
                "setsid",
                "ssh",
                "start-stop-daemon",
                "stdbuf",
                "su",
                "sudo",
                "taskset",
                "time",
                "timeout",
                "tmux",
                "unshare",
                "watch",
                "xargs",
            ],
            Self::Writer => &[
                "cp", "chmod", "chown", "curl", "dd", "debugfs", "install", "ln", "mount", "mv", "passwd",
                "patch", "rsync", "scp", "sed", "setfacl", "tar", "tee", "truncate", "unzip", "useradd",
                "usermod", "visudo", "wget", "zip",
            ],
            Self::BuildTool => &[
                "ansible-playbook",
                "cmake",
                "gcc",
                "git",
                "gmake",
                "make",
                "mvn",
                "ninja",
                "rake",
                "terraform",
            ],
        }
    }

    fn has(self, name: &str) -> bool {
        self.names().contains(&name)
    }
}

/// The kind of a program of this name, where running it as root equals root.
pub fn equals_root(file_name: &OsText) -> Option<Kind> {
    let name = std::str::from_utf8(file_name.as_bytes()).ok()?;
    let spellings =
        [name, without_version(name), without_variant(name), without_version(without_variant(name))];
    match spellings.into_iter().find_map(|name| Kind::ALL.into_iter().find(|kind| kind.has(name))) {
        // Names too short to be told from others by their beginning, and those that are their own variant.
        None if matches!(without_variant(name), "sh" | "zsh" | "tcsh" | "yash") => Some(Kind::Shell),
        None if matches!(without_variant(name), "vi" | "view" | "vim" | "vimdiff" | "rvim" | "rview") => {
            Some(Kind::Editor)
        }
        found => found,
    }
}

/// Actions of polkit, and D-Bus names that stand for them, whose right equals root.
const COMPONENTS: [(&str, Kind); 17] = [
    ("org.freedesktop.policykit.exec", Kind::Launcher),
    ("org.freedesktop.systemd1.manage-units", Kind::ServiceManager),
    ("org.freedesktop.systemd1.manage-unit-files", Kind::ServiceManager),
    ("org.freedesktop.systemd1", Kind::ServiceManager),
    ("org.freedesktop.portable1.attach-images", Kind::ServiceManager),
    ("org.freedesktop.portable1", Kind::ServiceManager),
    ("org.freedesktop.packagekit.package-install", Kind::PackageManager),
    ("org.freedesktop.packagekit.package-install-untrusted", Kind::PackageManager),
    ("org.freedesktop.packagekit.system-sources-configure", Kind::PackageManager),
    ("org.freedesktop.PackageKit", Kind::PackageManager),
    ("com.ubuntu.softwareproperties.applychanges", Kind::PackageManager),
    ("org.freedesktop.machine1.host-shell", Kind::Shell),
    ("org.freedesktop.machine1", Kind::Shell),
    ("org.libvirt.unix.manage", Kind::ContainerEngine),
    ("org.freedesktop.accounts.user-administration", Kind::Writer),
    ("org.freedesktop.Accounts", Kind::Writer),
    ("org.dpkg.pkexec.update-alternatives", Kind::Writer),
];

/// The kind of what a component of this name does, where the right to it equals root.
pub fn component_equals_root(name: &Text) -> Option<Kind> {
    let found = COMPONENTS.iter().find(|(component, _)| *component == name.as_untrusted());
    found.map(|(_, kind)| *kind)
}

/// `python3.11` → `python`, `perl5.36.0` → `perl`, `sqlite3` → `sqlite`.
fn without_version(name: &str) -> &str {
    name.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.')
        .trim_end_matches('-')
}

/// `vim.basic` → `vim`, `emacs-nox` → `emacs`, `bash-static` → `bash`.
fn without_variant(name: &str) -> &str {
    const VARIANTS: [&str; 12] = [
        ".basic", ".tiny", ".nox", ".gtk3", ".motif", ".athena", "-nox", "-gtk", "-lucid", "-static",
        ".real", ".distrib",
    ];
    VARIANTS.iter().find_map(|variant| name.strip_suffix(variant)).unwrap_or(name)
}

/// Whether a program that does whatever its user wants makes them root, when it runs so.
pub fn is_root(runs_as: RunsAs, bounds: &Bounds) -> bool {
    let can_become = || !bounds.capabilities.among(Capabilities::EQUAL_ROOT).is_empty();
    !bounds.is_contained() && (runs_as == RunsAs::Root || can_become())
}

/// What someone who decides about this application, to run so, should know; the gravest first.
pub fn of_application(application: &Application, runs_as: RunsAs, bounds: &Bounds) -> Vec<Risk> {
    let kind = match &application.component {
        Some(component) => component_equals_root(&component.action),
        None if is_root(runs_as, bounds) => equals_root(&application.name()),
        None => None,
    };
    let equals_root = kind.map(|kind| Risk::EqualsRoot { kind });
    let user_writable = match &application.lane {
        Lane::Trusted => None,
        lane @ Lane::Untrusted { .. } => Some(Risk::UserWritable { lane: lane.clone() }),
    };
    equals_root.into_iter().chain(user_writable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_variants_of_a_program_are_the_program() {
        for (name, kind) in [
            ("bash", Kind::Shell),
            ("dash", Kind::Shell),
            ("sh", Kind::Shell),
            ("zsh", Kind::Shell),
            ("bash-static", Kind::Shell),
            ("vim.basic", Kind::Editor),
            ("vim.tiny", Kind::Editor),
            ("vi", Kind::Editor),
            ("emacs-nox", Kind::Editor),
            ("nano", Kind::Editor),
            ("python3.11", Kind::Interpreter),
            ("python3", Kind::Interpreter),
            ("perl5.36.0", Kind::Interpreter),
            ("sqlite3", Kind::Interpreter),
            ("apt-get", Kind::PackageManager),
            ("pip3", Kind::PackageManager),
            ("systemctl", Kind::ServiceManager),
            ("docker", Kind::ContainerEngine),
            ("gcc-12", Kind::BuildTool),
            ("find", Kind::Launcher),
            ("tee", Kind::Writer),
        ] {
            assert_eq!(equals_root(&OsText::from(name)), Some(kind), "{name}");
        }
    }

    #[test]
    fn other_programs_are_not_labelled() {
        for name in
            ["tcpdump", "cat", "id", "flashtool", "edit-config", "vimtutor", "7", "", "3.11", "sha256sum"]
        {
            assert_eq!(equals_root(&OsText::from(name)), None, "{name}");
        }
        assert_eq!(equals_root(&OsText::new(b"\xffbash".to_vec())), None);
    }

    #[test]
    fn no_name_stands_in_two_kinds() {
        let mut names: Vec<_> = Kind::ALL.iter().flat_map(|kind| kind.names()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
