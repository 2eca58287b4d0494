//! Against a small root folder of dpkg and apt. As root, because only root's files are believed.

use std::fs;
use std::path::Path;

use elevon_identify::package::{Owned, Recorded};
use elevon_policy::application::Vendor;
use elevon_policy::text::{OsText, Text};
use tempfile::TempDir;

use super::Packages;

const STATUS: &str = "Package: tool\nStatus: install ok installed\nArchitecture: amd64\nSource: tools (1.0)\nVersion: 1.0-1\n\
Conffiles:\n /etc/tool/run 0cc175b9c0f1b6a831c399e269772661\nDescription: x\n\nPackage: gone\nStatus: deinstall ok config-files\n\
Architecture: amd64\nVersion: 1\n\nPackage: lib\nStatus: install ok installed\nMulti-Arch: same\nArchitecture: amd64\nVersion: 2\n\
Vendor: Acme\n\nPackage: other\nStatus: install ok installed\nArchitecture: all\nVersion: 3\n\n";

const A: Recorded = Recorded::Md5([
    0x0c, 0xc1, 0x75, 0xb9, 0xc0, 0xf1, 0xb6, 0xa8, 0x31, 0xc3, 0x99, 0xe2, 0x69, 0x77, 0x26, 0x61,
]);

struct Root {
    folder: TempDir,
    state: TempDir,
}

impl Root {
    fn new() -> Self {
        let root = Self {
            folder: TempDir::new().expect("there is room"),
            state: TempDir::new().expect("there is room"),
        };
        root.write("var/lib/dpkg/status", STATUS);
        root.write("var/lib/dpkg/diversions", "/usr/bin/tool\n/usr/bin/tool.real\nother\n");
        root.write("var/lib/dpkg/info/tool.list", "/.\n/bin\n/bin/sh\n/etc\n/etc/tool\n/etc/tool/run\n/usr\n/usr/bin\n/usr/bin/bare\n/usr/bin/tool\n");
        root.write(
            "var/lib/dpkg/info/tool.md5sums",
            "0cc175b9c0f1b6a831c399e269772661  usr/bin/tool\n0cc175b9c0f1b6a831c399e269772661  bin/sh\n",
        );
        root.write("var/lib/dpkg/info/gone.list", "/usr/bin/gone\n");
        root.write("var/lib/dpkg/info/lib:amd64.list", "/usr/lib/x/helper\n");
        root.write(
            "var/lib/dpkg/info/lib:amd64.md5sums",
            "0cc175b9c0f1b6a831c399e269772661  usr/lib/x/helper\n",
        );
        root.write("var/lib/dpkg/info/other.list", "/usr/bin/tool\n");
        root.write("var/lib/dpkg/info/other.md5sums", "92eb5ffee6ae2fec3ad71c777531578f  usr/bin/tool\n");
        fs::create_dir_all(root.folder.path().join("usr/bin")).expect("there is room");
        std::os::unix::fs::symlink("usr/bin", root.folder.path().join("bin")).expect("there is room");
        root.list("Debian", "a.example_debian_dists_stable", "Package: tool\nVersion: 1.0-1\nArchitecture: amd64\n\nPackage: lib\nVersion: 9\nArchitecture: amd64\n");
        root
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("there is room");
        // Another file in the same place, so that it shows even within the clock's grain.
        let _ = fs::remove_file(&path);
        fs::write(path, text).expect("there is room");
    }

    /// A list of apt's, and the Release that names it.
    fn list(&self, origin: &str, prefix: &str, packages: &str) {
        let digest = elevon_wire::signed::digest(packages.as_bytes());
        let release = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: {origin}\nSHA256:\n {digest} 1 main/binary-amd64/Packages\n\
-----BEGIN PGP SIGNATURE-----\n\nx\n"
        );
        self.write(&format!("var/lib/apt/lists/{prefix}_InRelease"), &release);
        self.write(&format!("var/lib/apt/lists/{prefix}_main_binary-amd64_Packages"), packages);
    }

    fn open(&self) -> Packages {
        Packages::open(self.folder.path(), self.state.path())
    }

    fn owner(&self, path: &str) -> Option<Owned> {
        self.open().owner(&OsText::from(path)).map(|owned| Owned::clone(&owned))
    }

    fn vendor(&self, path: &str) -> Option<Vendor> {
        self.owner(path).expect("a package owns it").package.vendor
    }
}

fn vendor(name: &str, verified: bool) -> Option<Vendor> {
    Some(Vendor { name: Text::new(name), verified })
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_file_belongs_to_the_package_that_recorded_it() {
    let root = Root::new();
    for (path, package, digest) in [
        // `/usr/bin/tool` of the package tool lies elsewhere: other diverted it, and has its own there.
        ("/usr/bin/tool.real", "tool", Some(A)),
        ("/usr/bin/sh", "tool", Some(A)),
        ("/etc/tool/run", "tool", Some(A)),
        ("/usr/bin/bare", "tool", None),
        ("/usr/lib/x/helper", "lib", Some(A)),
    ] {
        let owned = root.owner(path).expect("it is owned");
        assert_eq!(owned.package.name, Text::new(package), "{path}");
        assert_eq!(owned.digest, digest, "{path}");
        assert!(!owned.package.unmodified);
    }
    let diverting = root.owner("/usr/bin/tool").expect("it is owned");
    assert_eq!(diverting.package.name, Text::new("other"));
    for unowned in
        ["/usr/bin/gone", "/usr/bin", "/usr/bin/to", "/usr/bin/tools", "/opt/tool", "/bin/sh", "/", ""]
    {
        assert_eq!(root.owner(unowned), None, "{unowned}");
    }
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_vendor_is_verified_where_a_signed_index_lists_the_very_version() {
    let root = Root::new();
    assert_eq!(root.vendor("/usr/bin/sh"), vendor("Debian", true));
    // Another version is listed; what the package says of itself is only a claim.
    assert_eq!(root.vendor("/usr/lib/x/helper"), vendor("Acme", false));
    assert_eq!(root.vendor("/usr/bin/tool"), None);
    // Two vendors list it.
    root.list("Mirror", "b.example_dists_x", "Package: tool\nVersion: 1.0-1\nArchitecture: amd64\n");
    fs::remove_file(root.state.path().join("packages.index")).expect("it was made");
    assert_eq!(root.vendor("/usr/bin/sh"), None);
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_vendor_stays_for_as_long_as_the_version_does() {
    let root = Root::new();
    assert_eq!(root.vendor("/usr/bin/sh"), vendor("Debian", true));
    root.list(
        "Debian",
        "a.example_debian_dists_stable",
        "Package: tool\nVersion: 1.0-2\nArchitecture: amd64\n",
    );
    assert_eq!(root.vendor("/usr/bin/sh"), vendor("Debian", true));
    root.write("var/lib/dpkg/status", &STATUS.replace("Version: 1.0-1", "Version: 1.0-0"));
    assert_eq!(root.vendor("/usr/bin/sh"), None);
    root.write("var/lib/dpkg/status", &STATUS.replace("Version: 1.0-1", "Version: 1.0-2"));
    assert_eq!(root.vendor("/usr/bin/sh"), vendor("Debian", true));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn lists_that_prove_nothing_verify_nobody() {
    let entry = "Package: tool\nVersion: 1.0-1\nArchitecture: amd64\n";
    let list = "a.example_debian_dists_stable";
    type Change<'a> = (&'a str, &'a dyn Fn(&Root));
    let unproven: [Change<'_>; 5] = [
        ("the index is another than the Release names", &|root| {
            root.write(
                &format!("var/lib/apt/lists/{list}_main_binary-amd64_Packages"),
                &format!("{entry}\n"),
            );
        }),
        ("there is no signature", &|root| {
            let path = format!("var/lib/apt/lists/{list}_InRelease");
            let signed = fs::read_to_string(root.folder.path().join(&path)).expect("it is there");
            root.write(&path, signed.split_once("\n\n").expect("a header").1);
        }),
        ("somebody else's file", &|root| {
            let path = root.folder.path().join(format!("var/lib/apt/lists/{list}_InRelease"));
            std::os::unix::fs::chown(path, Some(1000), None).expect("root may");
        }),
        ("apt was told to trust it", &|root| {
            root.write("etc/apt/sources.list", "deb [trusted=yes] http://a.example/debian stable main\n");
        }),
        ("no Release goes with it", &|root| {
            let path = Path::new("var/lib/apt/lists").join(format!("{list}_InRelease"));
            fs::remove_file(root.folder.path().join(path)).expect("it is there");
        }),
    ];
    for (why, change) in unproven {
        let root = Root::new();
        change(&root);
        assert_eq!(root.vendor("/usr/bin/sh"), None, "{why}");
    }
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_change_of_the_database_shows_at_once() {
    let root = Root::new();
    let packages = root.open();
    let sh = OsText::from("/usr/bin/sh");
    assert!(packages.any() && packages.owner(&sh).is_some() && packages.owner(&sh).is_some());
    root.write(
        "var/lib/dpkg/status",
        &STATUS.replace(
            "Package: tool\nStatus: install ok installed",
            "Package: tool\nStatus: deinstall ok config-files",
        ),
    );
    assert!(packages.owner(&sh).is_none());
    root.write("var/lib/dpkg/status", STATUS);
    assert!(packages.owner(&sh).is_some());
    fs::remove_file(root.folder.path().join("var/lib/dpkg/status")).expect("it is there");
    assert!(!packages.any() && packages.owner(&sh).is_none());
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_database_that_others_could_write_says_nothing() {
    let root = Root::new();
    std::os::unix::fs::chown(root.folder.path().join("var/lib/dpkg/status"), Some(1000), None)
        .expect("root may");
    assert_eq!(root.owner("/usr/bin/sh"), None);
    let root = Root::new();
    std::os::unix::fs::chown(root.folder.path().join("var/lib/dpkg/info/tool.md5sums"), Some(1000), None)
        .expect("root may");
    assert_eq!(root.owner("/usr/bin/sh"), None);
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn hostile_databases_are_survived() {
    for status in [
        "",
        "\n\n\n",
        "Package",
        ":\n",
        "\0",
        "Package: x\nStatus: install ok installed\nArchitecture: a\nVersion: \u{1}\n",
    ] {
        let root = Root::new();
        root.write("var/lib/dpkg/status", status);
        assert_eq!(root.owner("/usr/bin/sh"), None, "{status:?}");
    }
    let root = Root::new();
    root.write("var/lib/dpkg/status", &format!("Description: {}\n\n{STATUS}", "x".repeat(2 << 20)));
    assert_eq!(root.owner("/usr/bin/sh"), None);
    let root = Root::new();
    assert!(root.owner("/usr/bin/sh").is_some());
    fs::write(root.state.path().join("packages.index"), "nonsense").expect("there is room");
    assert!(root.owner("/usr/bin/sh").is_some());
}

/// The database that the reader's own tests are tried on, made by rpm 4.18.
const RPM: &[u8] = include_bytes!("../../../identify/tests/rpmdb.sqlite");

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn rpm_is_asked_where_dpkg_owns_nothing() {
    let root = Root::new();
    let folder = root.folder.path().join("var/lib/rpm");
    fs::create_dir_all(&folder).expect("there is room");
    let database = folder.join("rpmdb.sqlite");
    fs::write(&database, RPM).expect("there is room");
    fs::write(folder.join("rpmdb.sqlite-wal"), "").expect("there is room");
    let owned = root.owner("/usr/share/second/file7").expect("rpm owns it");
    assert_eq!(owned.package.name, Text::new("second"));
    assert!(matches!(owned.digest, Some(Recorded::Sha256(_))));
    assert_eq!(root.owner("/usr/bin/sh").expect("dpkg owns it").package.name, Text::new("tool"));
    // rpm is writing.
    fs::write(folder.join("rpmdb.sqlite-wal"), "x").expect("there is room");
    assert_eq!(root.owner("/usr/share/second/file7"), None);
    fs::remove_file(folder.join("rpmdb.sqlite-wal")).expect("it is there");
    assert!(root.owner("/usr/share/second/file7").is_some());
    std::os::unix::fs::chown(&database, Some(1000), None).expect("root may");
    assert_eq!(root.owner("/usr/share/second/file7"), None);
    fs::rename(&database, folder.join("Packages.db")).expect("it is there");
    assert_eq!(root.open().told().1, Some(folder.join("Packages.db")));
}
