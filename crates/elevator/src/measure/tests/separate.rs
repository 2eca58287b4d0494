//! What needs mounts or settings of its own: the test runs itself again in namespaces of its own, which end with it.

use super::*;

/// Runs the named test again, prepared by a shell script in new namespaces, whose `$1` is a folder of its own.
fn again(name: &str, namespaces: &[&str], prepare: &str) -> Option<PathBuf> {
    const FOLDER: &str = "ELEVON_TEST_FOLDER";
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Some(folder.into());
    }
    let folder = trusted_folder();
    let script =
        format!("set -e; {prepare}; exec \"$0\" --include-ignored --exact measure::tests::separate::{name}");
    let done = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", &script])
        .arg(std::env::current_exe().expect("a program knows itself"))
        .arg(folder.path())
        .env(FOLDER, folder.path())
        .output()
        .expect("util-linux has unshare");
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && told.contains("1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    None
}

const MOUNTS: [&str; 3] = ["--mount", "--propagation", "private"];

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn mounts_count() {
    let prepare = "cd \"$1\"
        for kind in plain nosuid noexec; do mkdir $kind; mount -t tmpfs -o mode=755 none $kind; cp /bin/sh $kind/sh; done
        mount -o remount,nosuid nosuid; mount -o remount,noexec noexec
        mkdir ramfs; mount -t ramfs none ramfs; cp /bin/sh ramfs/sh";
    let Some(folder) = again("mounts_count", &MOUNTS, prepare) else { return };
    let lane = |name: &str| measured(&folder.join(name).join("sh")).application.lane;
    let untrusted = |name: &str, because| Lane::Untrusted { component: os(&folder.join(name)), because };
    assert_eq!(lane("plain"), Lane::Trusted);
    assert_eq!(lane("nosuid"), untrusted("nosuid", Distrust::Mount));
    assert_eq!(lane("ramfs"), untrusted("ramfs", Distrust::FileSystem));
    assert_eq!(unfit(&folder.join("noexec/sh")), Unfit::Denied);
}

/// The table is read once, and again whenever it changed: also where a known mount only became another.
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_mount_that_changes_later_counts_as_it_is_now() {
    let prepare = "cd \"$1\"; mkdir there; mount -t tmpfs -o mode=755 none there; cp /bin/sh there/sh";
    let Some(folder) = again("a_mount_that_changes_later_counts_as_it_is_now", &MOUNTS, prepare) else {
        return;
    };
    let (there, known) = (folder.join("there"), Known::default());
    let lane = || {
        let here = fs::File::open("/").expect("there is a root");
        let found = measure(&caller(ALICE), here.as_fd(), &os(&there.join("sh")), &[], &known);
        found.expect("it is a program").application.lane
    };
    let mount = |arguments: &[&str]| {
        let done = Command::new("mount").args(arguments).arg(&there).status();
        assert!(done.is_ok_and(|status| status.success()), "{arguments:?}");
    };
    let unproven = Lane::Untrusted { component: os(&there), because: Distrust::Mount };
    assert_eq!((lane(), lane()), (Lane::Trusted, Lane::Trusted));
    mount(&["-o", "remount,nosuid"]);
    assert_eq!((lane(), lane()), (unproven.clone(), unproven.clone()));
    mount(&["-o", "remount,suid"]);
    assert_eq!(lane(), Lane::Trusted);
    mount(&["-t", "tmpfs", "-o", "mode=755,nosuid", "none"]);
    fs::copy("/bin/sh", there.join("sh")).expect("there is room");
    assert_eq!(lane(), unproven);
}

/// Over the folder, over the program itself, over its dynamic linker, and over where it takes libraries from.
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn what_is_mounted_over_a_component_is_seen_at_once() {
    let prepare = "cd \"$1\"; mkdir there lib; cp /bin/sh there/sh; mount -t tmpfs -o mode=755 none lib";
    let Some(folder) = again("what_is_mounted_over_a_component_is_seen_at_once", &MOUNTS, prepare) else {
        return;
    };
    let known = Known::default();
    let measure = |path: &Path| {
        let here = fs::File::open("/").expect("there is a root");
        measure(&caller(ALICE), here.as_fd(), &os(path), &[], &known)
    };
    let program = folder.join("there/sh");
    let linker = write(folder.join("ld"), &shell(), 0o755);
    let linked = write(folder.join("a"), &with_interpreter(&linker), 0o755);
    let searches =
        write(folder.join("b"), &searching(folder.join("lib").to_str().expect("it is text")), 0o755);
    let theirs = folder.join("theirs");
    fs::create_dir(&theirs).expect("root can");
    write(theirs.join("sh"), &shell(), 0o755);
    of_alice(&theirs);
    of_alice(&theirs.join("sh"));
    let mount = |over: &Path, what: &Path| {
        let done = Command::new("mount").arg("--bind").args([what, over]).status();
        assert!(done.is_ok_and(|status| status.success()), "{}", over.display());
    };
    let unmount = |over: &Path| {
        assert!(Command::new("umount").arg(over).status().is_ok_and(|status| status.success()));
    };
    for _ in 0..3 {
        for path in [&program, &linked, &searches] {
            for _ in 0..50 {
                let found = measure(path).expect("it is a program");
                assert_eq!(found.application.lane, Lane::Trusted);
            }
        }
        for (over, what) in [(folder.join("there"), &theirs), (program.clone(), &theirs.join("sh"))] {
            mount(&over, what);
            let lane = measure(&program).expect("it is a program").application.lane;
            assert_eq!(lane, Lane::Untrusted { component: os(&over), because: Distrust::Owner });
            unmount(&over);
            assert_eq!(measure(&program).expect("it is a program").application.lane, Lane::Trusted);
        }
        for (over, what, program) in
            [(&linker, &theirs.join("sh"), &linked), (&folder.join("lib"), &theirs, &searches)]
        {
            mount(over, what);
            let refused = measure(program).expect_err("what it needs is hers");
            assert!(matches!(refused, NotMeasured::UntrustedInterpreter { .. }), "{refused:?}");
            unmount(over);
            measure(program).expect("all is as it was");
        }
    }
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn an_overlay_is_as_good_as_its_layers() {
    let prepare = "cd \"$1\"
        mkdir tmp; mount -t tmpfs -o mode=755 none tmp; cd tmp
        for kind in good hers; do
            mkdir -p $kind/lower $kind/upper $kind/work $kind/merged; cp /bin/sh $kind/lower/sh; cp /bin/sh $kind/upper/up
            layers=lowerdir=$1/tmp/$kind/lower,upperdir=$1/tmp/$kind/upper,workdir=$1/tmp/$kind/work
            mount -t overlay -o $layers none $kind/merged
        done
        mkdir hidden; chmod 777 hidden; mkdir hidden/lower; cp /bin/sh hidden/lower/sh; mkdir hers/other
        mount -t overlay -o lowerdir=$1/tmp/hidden/lower:$1/tmp/good/lower none hers/other
        mkdir deep; mount -t overlay -o lowerdir=$1/tmp/good/merged:$1/tmp/good/lower none deep";
    let Some(folder) = again("an_overlay_is_as_good_as_its_layers", &MOUNTS, prepare) else { return };
    let lane = |name: &str| measured(&folder.join("tmp").join(name)).application.lane;
    assert_eq!(lane("good/merged/sh"), Lane::Trusted);
    assert_eq!(lane("good/merged/up"), Lane::Trusted);
    assert_eq!(lane("deep/sh"), Lane::Trusted);
    let component = os(&folder.join("tmp/hers/other"));
    assert_eq!(lane("hers/other/sh"), Lane::Untrusted { component, because: Distrust::FileSystem });
}

/// Nobody answers for this one: whoever asks it anything waits for ever.
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_file_system_that_a_program_serves_is_never_asked() {
    let prepare = "exec 9<>/dev/fuse; mkdir $1/fuse
        mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0,allow_other none $1/fuse
        ln -s fuse/sh $1/link";
    let Some(folder) = again("a_file_system_that_a_program_serves_is_never_asked", &MOUNTS, prepare) else {
        return;
    };
    for path in ["fuse/sh", "fuse", "link", "fuse/../fuse/x/y"] {
        let error = refused(&folder.join(path));
        assert!(matches!(error, NotMeasured::FileSystem { .. }), "{path}: {error:?}");
    }
    let here =
        walk::hold(folder.join("fuse").as_os_str().as_encoded_bytes()).expect("a mount point can be held");
    let relative = measure(&caller(ALICE), here.as_fd(), &"./sh".into(), &[], &Known::default());
    assert!(matches!(relative, Err(NotMeasured::FileSystem { .. })), "{relative:?}");
    let script = format!("#!{}/fuse/sh\n", folder.display());
    let script = write(folder.join("script"), script.as_bytes(), 0o755);
    assert!(matches!(unfit(&script), Unfit::Interpreter(_)));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn without_executable_memory_only_scripts_are_copied() {
    let setting = "/proc/sys/vm/memfd_noexec";
    if !Path::new(setting).exists() {
        return;
    }
    let prepare = format!("echo 2 > {setting}");
    let namespaces = ["--pid", "--fork", "--mount-proc"];
    let Some(folder) = again("without_executable_memory_only_scripts_are_copied", &namespaces, &prepare)
    else {
        return;
    };
    let program = write(folder.join("tool"), &shell(), 0o755);
    assert_eq!(measured(&program).application.lane, Lane::Trusted);
    of_alice(&program);
    assert_eq!(refused(&program), NotMeasured::CopiesOff { path: os(&program) });
    let script = write(folder.join("script"), b"#!/bin/sh\nexit 7\n", 0o755);
    of_alice(&script);
    let Program::Script { script: ScriptSource::Sealed(sealed), .. } = measured(&script).program else {
        panic!("it is an untrusted script")
    };
    assert_eq!(content(&sealed), b"#!/bin/sh\nexit 7\n");
}
