//! What was believed is proven anew: whatever root changes is seen by the very next measurement.

use super::*;

/// What is known, and a caller.
struct Ground {
    known: Known,
    folder: TempDir,
}

impl Ground {
    fn new() -> Self {
        Self { known: Known::default(), folder: trusted_folder() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn measure(&self, path: &Path) -> Result<Measured, NotMeasured> {
        self.measure_as(&caller(ALICE), path)
    }

    fn measure_as(&self, caller: &Caller, path: &Path) -> Result<Measured, NotMeasured> {
        let here = File::open("/").expect("there is a root");
        measure(caller, here.as_fd(), &os(path), &[], &self.known)
    }

    fn lane(&self, path: &Path) -> Lane {
        self.measure(path).expect("it is a program").application.lane
    }

    fn believes(&self, path: &Path) -> bool {
        let mounts = Mounts::of_table(&self.known.mounts);
        mounts.beliefs().find(&os(path), &mounts).is_some()
    }

    /// Measures until what is believed is kept: what changed within this tick of the clock is not.
    fn settle(&self, program: &Path, believed: &Path) {
        while !self.believes(believed) {
            self.measure(program).expect("it is a program");
        }
        self.measure(program).expect("it is a program");
    }
}

/// What root does to a component.
type Change = fn(&Path);

const NO_ONE: u32 = u32::MAX;

/// An access list that lets alice write.
fn let_alice_write(path: &Path) {
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, NO_ONE), (2, 7, ALICE), (4, 5, NO_ONE), (16, 7, NO_ONE), (32, 5, NO_ONE)];
    let entry = |(tag, may, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let list: Vec<u8> =
        [2_u32.to_le_bytes().to_vec()].into_iter().chain(entries.map(entry)).flatten().collect();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, c"system.posix_acl_access", &list, flags).expect("there are access lists");
}

fn as_it_was(path: &Path) {
    let _ = rustix::fs::removexattr(path, c"system.posix_acl_access");
    chown(path, Some(0), Some(0)).expect("root can");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("root can");
}

/// Again and again, so that a change within the very tick of the clock in which the last measurement was is among them.
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn every_change_of_a_component_is_seen_at_once() {
    let ground = Ground::new();
    let deep = ground.at("deep");
    fs::create_dir(&deep).expect("root can");
    as_it_was(&deep);
    let program = write(deep.join("tool"), &shell(), 0o755);
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o775)).expect("root can");
    let changes: [(Change, Distrust); 3] =
        [(let_alice_write, Distrust::AccessList), (open, Distrust::Writable), (of_alice, Distrust::Owner)];
    for _ in 0..40 {
        for (change, because) in changes {
            for component in [ground.folder.path(), &deep, &program] {
                ground.settle(&program, &program);
                change(component);
                let expected = Lane::Untrusted { component: os(component), because };
                assert_eq!(ground.lane(&program), expected);
                assert_eq!(ground.lane(&program), expected);
                as_it_was(component);
                assert_eq!(ground.lane(&program), Lane::Trusted);
            }
        }
    }
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn another_file_in_the_same_place_is_seen_at_once() {
    let ground = Ground::new();
    let program = write(ground.at("tool"), &shell(), 0o755);
    let sha256 = |path: &Path| ground.measure(path).expect("it is a program").application.sha256;
    for number in 0..40_u8 {
        ground.settle(&program, &program);
        let bytes = [shell(), vec![number]].concat();
        let other = write(ground.at("other"), &bytes, 0o755);
        fs::rename(other, &program).expect("root can");
        assert_eq!(sha256(&program), digest_of(&bytes));
        ground.settle(&program, &program);
        // In place, and of the same length.
        let bytes = [shell(), vec![number ^ 0xff]].concat();
        fs::write(&program, &bytes).expect("root can");
        assert_eq!(sha256(&program), digest_of(&bytes));
    }
    // A script where a program was, and back.
    ground.settle(&program, &program);
    write(program.clone(), b"#!/bin/sh\n", 0o755);
    let found = ground.measure(&program).expect("it is a script");
    assert!(matches!(found.program, Program::Script { .. }) && found.application.interpreter.is_some());
    write(program.clone(), &shell(), 0o755);
    assert!(matches!(ground.measure(&program).expect("it is a program").program, Program::Binary { .. }));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_link_that_is_turned_is_seen_at_once() {
    let ground = Ground::new();
    let program = write(ground.at("tool"), &shell(), 0o755);
    let link = ground.at("link");
    symlink(&program, &link).expect("root can");
    ground.settle(&link, &link);
    assert_eq!(ground.measure(&link).expect("it is a program").argv, [os(&link)]);
    let hers = tempfile::Builder::new().tempdir_in("/tmp").expect("there is a /tmp");
    fs::set_permissions(hers.path(), Permissions::from_mode(0o755)).expect("root can");
    let planted = write(hers.path().join("tool"), &shell(), 0o755);
    fs::remove_file(&link).expect("root can");
    symlink(&planted, &link).expect("root can");
    assert!(matches!(ground.lane(&link), Lane::Untrusted { .. }));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_dynamic_linker_that_changes_is_seen_at_once() {
    let ground = Ground::new();
    let linker = write(ground.at("ld"), &shell(), 0o755);
    let program = write(ground.at("tool"), &with_interpreter(&linker), 0o755);
    for _ in 0..20 {
        ground.settle(&program, &linker);
        of_alice(&linker);
        let refused = ground.measure(&program).expect_err("its linker is hers");
        assert!(matches!(refused, NotMeasured::UntrustedInterpreter { .. }), "{refused:?}");
        as_it_was(&linker);
        ground.settle(&program, &linker);
        fs::set_permissions(&linker, Permissions::from_mode(0o700)).expect("root can");
        let refused = ground.measure(&program).expect_err("she may not execute its linker");
        assert!(matches!(refused, NotMeasured::Unfit { unfit: Unfit::Interpreter(_), .. }), "{refused:?}");
        as_it_was(&linker);
    }
    ground.settle(&program, &linker);
    let other = write(ground.at("other"), &shell(), 0o755);
    of_alice(&other);
    fs::rename(other, &linker).expect("root can");
    assert!(ground.measure(&program).is_err(), "another linker lies there, and it is hers");
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_folder_of_libraries_that_changes_is_seen_at_once() {
    let ground = Ground::new();
    let libraries = ground.at("lib");
    fs::create_dir(&libraries).expect("root can");
    as_it_was(&libraries);
    let program = write(ground.at("tool"), &searching(libraries.to_str().expect("it is text")), 0o755);
    for _ in 0..20 {
        for change in [let_alice_write, of_alice] {
            ground.settle(&program, &libraries);
            change(&libraries);
            let refused = ground.measure(&program).expect_err("she can plant a library");
            assert!(matches!(refused, NotMeasured::UntrustedInterpreter { .. }), "{refused:?}");
            as_it_was(&libraries);
        }
    }
    // It goes, and comes back as hers.
    ground.settle(&program, &libraries);
    fs::remove_dir(&libraries).expect("root can");
    ground.measure(&program).expect("nothing is taken from where nothing is");
    fs::create_dir(&libraries).expect("root can");
    of_alice(&libraries);
    assert!(ground.measure(&program).is_err());
}

/// What one user's launch made known opens nothing to another who may not go there, and tells them nothing.
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn what_some_may_see_is_known_for_them_alone() {
    let ground = Ground::new();
    let teams = ground.at("t");
    fs::create_dir(&teams).expect("root can");
    chown(&teams, Some(0), Some(TEAM)).expect("root can");
    fs::set_permissions(&teams, Permissions::from_mode(0o750)).expect("root can");
    let linker = write(teams.join("l"), &shell(), 0o755);
    let tool = write(ground.at("tool"), &with_interpreter(&linker), 0o755);
    let inside = write(teams.join("tool"), &shell(), 0o755);
    let member = Caller { groups: vec![TEAM], ..caller(ALICE) };
    for _ in 0..50 {
        ground.measure_as(&member, &tool).expect("a member may");
        ground.measure_as(&member, &inside).expect("a member may");
    }
    let refused = ground.measure(&tool).expect_err("others may not");
    assert!(matches!(refused, NotMeasured::Unfit { unfit: Unfit::Interpreter(_), .. }), "{refused:?}");
    assert!(matches!(ground.measure(&inside), Err(NotMeasured::NotFound { .. })));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_package_database_that_changes_is_seen_at_once() {
    let folder = trusted_folder();
    let program = write(folder.path().join("tool"), &shell(), 0o755);
    let (root, state) = (TempDir::new().expect("there is room"), TempDir::new().expect("there is room"));
    let database = root.path().join("var/lib/dpkg");
    fs::create_dir_all(database.join("info")).expect("there is room");
    let list = format!("/.\n{}\n", program.display());
    fs::write(database.join("info/tool.list"), list).expect("there is room");
    let installed = |version: &str| {
        let status = format!(
            "Package: tool\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n"
        );
        // As dpkg does it: another file in the same place.
        fs::write(database.join("status-new"), status).expect("there is room");
        fs::rename(database.join("status-new"), database.join("status")).expect("there is room");
    };
    installed("1.0-1");
    let known = Known::new(Packages::open(root.path(), state.path()));
    let ground = Ground { known, folder };
    let version = || {
        let package = ground.measure(&program).expect("it is a program").application.package;
        package.expect("a package owns it").version
    };
    ground.settle(&program, &program);
    assert_eq!(version(), Text::new("1.0-1"));
    installed("1.0-2");
    assert_eq!(version(), Text::new("1.0-2"));
    fs::remove_file(database.join("status")).expect("it is there");
    let found = ground.measure(&program).expect("it is a program").application;
    assert!(found.package.is_none() && !found.package_database);
}
