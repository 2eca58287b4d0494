//! Where a path leads, and whether it can be believed.

use super::*;

fn lane(path: &Path) -> Lane {
    measured(path).application.lane
}

fn untrusted(component: &Path, because: Distrust) -> Lane {
    Lane::Untrusted { component: os(component), because }
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn every_component_counts() {
    let folder = trusted_folder();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).expect("root can");
    let program = write(inner.join("tool"), &shell(), 0o755);
    let with_mode = |path: &Path, mode: u32| {
        let before = fs::metadata(path).expect("it is there").permissions();
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("root can");
        let lane = lane(&program);
        fs::set_permissions(path, before).expect("root can");
        lane
    };
    for path in [&program, &inner, &folder.path().to_owned()] {
        assert_eq!(with_mode(path, 0o755), Lane::Trusted);
        for writable in [0o775, 0o757, 0o1777] {
            assert_eq!(with_mode(path, writable), untrusted(path, Distrust::Writable));
        }
        of_alice(path);
        assert_eq!(lane(&program), untrusted(path, Distrust::Owner));
        chown(path, Some(0), Some(0)).expect("root can");
    }
    assert_eq!(lane(&program), Lane::Trusted);
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn access_lists_count() {
    const NOBODY: u32 = u32::MAX;
    let folder = trusted_folder();
    let program = write(folder.path().join("tool"), &shell(), 0o755);
    let set = |path: &Path, alice: u16| {
        let entries: [(u16, u16, u32); 5] =
            [(1, 7, NOBODY), (2, alice, ALICE), (4, 5, NOBODY), (16, 7, NOBODY), (32, 5, NOBODY)];
        let entry = |(tag, may, id): (u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let list: Vec<u8> =
            [2_u32.to_le_bytes().to_vec()].into_iter().chain(entries.map(entry)).flatten().collect();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, c"system.posix_acl_access", &list, flags)
            .expect("the file system has access lists");
    };
    for path in [&program, &folder.path().to_owned()] {
        set(path, 7);
        assert_eq!(lane(&program), untrusted(path, Distrust::AccessList));
        rustix::fs::removexattr(path, c"system.posix_acl_access").expect("it was set");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("root can");
    }
    assert_eq!(lane(&program), Lane::Trusted);
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_link_of_roots_gives_its_name_and_a_link_of_hers_does_not() {
    let folder = trusted_folder();
    let at = |name: &str| folder.path().join(name);
    let program = write(at("tool"), &shell(), 0o755);
    symlink("second", at("first")).expect("root can");
    symlink(&program, at("second")).expect("root can");
    let found = measured(&at("first"));
    assert_eq!((found.argv, found.application.path), (vec![os(&at("first"))], os(&program)));
    assert_eq!(measured(&at("./../").join(at("./first"))).argv, [os(&at("first"))]);

    fs::create_dir(at("hers")).expect("root can");
    of_alice(&at("hers"));
    symlink(&program, at("hers/rm")).expect("root can");
    let found = measured(&at("hers/rm"));
    assert_eq!((found.argv, found.application.lane), (vec![os(&program)], Lane::Trusted));

    // Through a link of hers in the middle, the name at the end may still be root's.
    symlink(folder.path(), at("hers/there")).expect("root can");
    assert_eq!(measured(&at("hers/there/first")).argv, [os(&at("first"))]);
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_script_called_by_a_link_of_roots_sees_that_name() {
    let folder = trusted_folder();
    let at = |name: &str| folder.path().join(name);
    write(at("script"), b"#!/bin/sh\n", 0o755);
    symlink("script", at("alias")).expect("root can");
    let found = measured(&at("alias"));
    let Program::Script { script: ScriptSource::Path(path), .. } = found.program else {
        panic!("it is a script")
    };
    assert_eq!(path, os(&at("alias")));
    assert_eq!(found.application.path, os(&at("script")));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_hard_link_is_judged_by_where_it_lies() {
    let folder = trusted_folder();
    let program = write(folder.path().join("tool"), &shell(), 0o755);
    let hers = folder.path().join("hers");
    fs::create_dir(&hers).expect("root can");
    of_alice(&hers);
    fs::hard_link(&program, hers.join("tool")).expect("root can");
    assert_eq!(lane(&hers.join("tool")), untrusted(&hers, Distrust::Owner));
    assert_eq!(lane(&program), Lane::Trusted);
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_file_that_was_moved_or_removed_meanwhile_is_not_believed() {
    let folder = trusted_folder();
    let program = write(folder.path().join("tool"), &shell(), 0o755);
    let mounts = Mounts::default();
    let here = File::open("/").expect("there is a root");
    let found = look_up::look_up(&caller(ALICE), here.as_fd(), &os(&program), &mounts).expect("it is there");
    assert_eq!(trust::lane(&found.place, &os(&program), &mounts), Lane::Trusted);
    fs::rename(&program, folder.path().join("other")).expect("root can");
    assert_eq!(trust::lane(&found.place, &os(&program), &mounts), untrusted(&program, Distrust::Moved));
    write(program.clone(), &shell(), 0o755);
    assert_eq!(trust::lane(&found.place, &os(&program), &mounts), untrusted(&program, Distrust::Moved));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn folders_fifos_and_devices_are_neither_opened_nor_waited_for() {
    let folder = trusted_folder();
    let at = |name: &str| folder.path().join(name);
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o777.into(), 0)
        .expect("root can");
    fs::set_permissions(at("fifo"), Permissions::from_mode(0o777)).expect("root can");
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("root can");
    fs::set_permissions(at("socket"), Permissions::from_mode(0o777)).expect("root can");
    symlink("fifo", at("link")).expect("root can");
    let dot = at("dot");
    fs::create_dir(&dot).expect("root can");
    for path in [
        at("fifo"),
        at("link"),
        at("socket"),
        at("dot"),
        at("dot/."),
        at("dot/.."),
        at("dot/"),
        "/".into(),
        "/dev/null".into(),
    ] {
        assert_eq!(unfit(&path), Unfit::NoRegularFile, "{path:?}");
    }
}

/// M7: such a link leads into another process's view of the files.
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn magic_links_are_not_followed() {
    let mut child = Command::new("sleep").arg("60").spawn().expect("there is sleep");
    let paths =
        ["/proc/self/exe".to_owned(), "/proc/self/root/bin/sh".into(), "/proc/thread-self/exe".into()];
    let foreign = format!("/proc/{}/root/bin/sh", child.id());
    let of_root = |path: &str| measure_as(&caller(0), &path.into());
    let errors: Vec<_> =
        paths.iter().chain([&foreign]).map(|path| of_root(path).expect_err("it is magic")).collect();
    child.kill().and_then(|()| child.wait()).expect("it is ours");
    for error in errors {
        assert!(matches!(error, NotMeasured::FileSystem { .. }), "{error:?}");
    }
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn what_the_caller_may_not_see_is_not_found() {
    let folder = trusted_folder();
    let hidden = folder.path().join("hidden");
    fs::create_dir(&hidden).expect("root can");
    fs::set_permissions(&hidden, Permissions::from_mode(0o750)).expect("root can");
    chown(&hidden, Some(0), Some(TEAM)).expect("root can");
    let program = write(hidden.join("tool"), &shell(), 0o755);
    for path in [program.clone(), hidden.join("nothing")] {
        assert_eq!(refused(&path), NotMeasured::NotFound { command: os(&path) });
    }
    assert_eq!(refused(&program).status(), 127);
    let member = Caller { groups: vec![1, TEAM], ..caller(ALICE) };
    assert_eq!(measure_as(&member, &os(&program)).expect("her team may").application.lane, Lane::Trusted);
    assert!(measure_as(&caller(0), &os(&program)).is_ok());
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn what_the_caller_may_not_execute_is_not_executed_for_them() {
    let folder = trusted_folder();
    let program = write(folder.path().join("tool"), &shell(), 0o744);
    assert_eq!(unfit(&program), Unfit::Denied);
    assert!(measure_as(&caller(0), &os(&program)).is_ok());
    fs::set_permissions(&program, Permissions::from_mode(0o644)).expect("root can");
    assert!(measure_as(&caller(0), &os(&program)).is_err());
    fs::set_permissions(&program, Permissions::from_mode(0o711)).expect("root can");
    assert_eq!(lane(&program), Lane::Trusted);
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn the_threads_own_rights_come_back_whatever_happens() {
    let rights = || {
        let text = fs::read_to_string("/proc/thread-self/status").expect("there is a /proc");
        let lines = text
            .lines()
            .filter(|line| ["Uid:", "Gid:", "Groups:", "CapEff:"].iter().any(|key| line.starts_with(key)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = rights();
    let inside = look_up::as_caller(&caller(ALICE), rights).expect("root can");
    assert!(inside.iter().any(|line| line == "Uid:\t0\t0\t0\t54321"), "{inside:?}");
    assert_eq!(rights(), before);
    let thrown = std::panic::catch_unwind(|| look_up::as_caller(&caller(ALICE), || panic!("as meant")));
    assert!(thrown.is_err());
    assert_eq!(rights(), before);
    for nobody in [caller(u32::MAX), Caller { groups: vec![u32::MAX], ..caller(ALICE) }] {
        assert!(look_up::as_caller(&nobody, || ()).is_err());
        assert_eq!(rights(), before);
    }
    let odd = measure_as(&caller(4_000_000_000), &"sh".into());
    assert!(odd.is_ok());
    assert_eq!(rights(), before);
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn relative_paths_start_at_the_callers_folder() {
    let folder = trusted_folder();
    let program = write(folder.path().join("tool"), &shell(), 0o755);
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).expect("root can");
    let here = walk::hold(sub.as_os_str().as_encoded_bytes()).expect("it is there");
    let at = |path: &str| measure(&caller(ALICE), here.as_fd(), &path.into(), &[], &Known::default());
    for path in ["../tool", "./..//tool", "./../sub/../tool"] {
        let found = at(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!((found.application.path, found.argv), (os(&program), vec![os(&program)]));
    }
    for path in
        ["../tool/", "../tool/.", "../tool/..", "tool", "../nothing/../tool", "", ".", "..", "nowhere"]
    {
        assert!(at(path).is_err(), "{path}");
    }
    // A bare name is never looked for in the caller's folder.
    let beside = walk::hold(folder.path().as_os_str().as_encoded_bytes()).expect("it is there");
    let bare = measure(&caller(ALICE), beside.as_fd(), &"tool".into(), &[], &Known::default());
    assert_eq!(bare.expect_err("not in the constant path").status(), 127);
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn links_that_others_laid_where_all_may_are_not_followed() {
    let folder = trusted_folder();
    let open = folder.path().join("open");
    fs::create_dir(&open).expect("root can");
    fs::set_permissions(&open, Permissions::from_mode(0o1777)).expect("root can");
    let lay = |name: &str, owner: u32| {
        symlink("/bin/sh", open.join(name)).expect("root can");
        std::os::unix::fs::lchown(open.join(name), Some(owner), Some(owner)).expect("root can");
        measure_as(&caller(ALICE), &os(&open.join(name)))
    };
    assert!(lay("her own", ALICE).is_ok());
    assert!(lay("the folder's owner's", 0).is_ok());
    assert!(matches!(lay("somebody else's", TEAM), Err(NotMeasured::NotFound { .. })));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn links_that_lead_nowhere_end() {
    let folder = trusted_folder();
    symlink("loop", folder.path().join("loop")).expect("root can");
    assert!(matches!(refused(&folder.path().join("loop")), NotMeasured::NotFound { .. }));
    // A slash at the end asks for a folder, also behind a link.
    write(folder.path().join("tool"), &shell(), 0o755);
    symlink("tool/", folder.path().join("slash")).expect("root can");
    assert!(matches!(refused(&folder.path().join("slash")), NotMeasured::NotFound { .. }));
    let long = OsText::new([b"/".as_slice(), &vec![b'a'; 5000]].concat());
    assert!(matches!(measure_as(&caller(ALICE), &long), Err(NotMeasured::NotFound { .. })));
}
