//! Real files, real owners, real mounts. Users are bare numbers: nothing is added to the computer.
#![allow(clippy::panic)]

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use elevon_policy::application::Distrust;
use elevon_policy::event::DenyReason;
use elevon_policy::text::Text;
use sha2::Digest;
use tempfile::TempDir;

use super::not_measured::Unfit;
use super::*;

mod beliefs;
mod paths;
mod separate;

const ALICE: u32 = 54_321;
const TEAM: u32 = 54_322;

fn caller(uid: u32) -> Caller {
    Caller { user: User { uid, name: Text::new("someone") }, gid: uid, groups: Vec::new() }
}

/// A folder of root's below folders of root's, which everybody may look into.
fn trusted_folder() -> TempDir {
    let folder =
        tempfile::Builder::new().prefix("elevon-test").tempdir_in("/usr").expect("root can write to /usr");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
    folder
}

fn of_alice(path: &Path) {
    chown(path, Some(ALICE), Some(ALICE)).expect("root can give files away");
}

fn write(path: PathBuf, content: &[u8], mode: u32) -> PathBuf {
    fs::write(&path, content).expect("the folder can be written to");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
    path
}

fn shell() -> Vec<u8> {
    fs::read("/bin/sh").expect("every Unix has a shell")
}

fn os(path: &Path) -> OsText {
    OsText::new(path.as_os_str().as_encoded_bytes())
}

fn digest_of(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

fn measure_as(caller: &Caller, command: &OsText) -> Result<Measured, NotMeasured> {
    let here = File::open("/").expect("there is a root");
    measure(caller, here.as_fd(), command, &[], &Known::default())
}

#[track_caller]
fn measured(path: &Path) -> Measured {
    measure_as(&caller(ALICE), &os(path)).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn refused(path: &Path) -> NotMeasured {
    measure_as(&caller(ALICE), &os(path)).expect_err("it is not to be measured")
}

#[track_caller]
fn unfit(path: &Path) -> Unfit {
    match refused(path) {
        NotMeasured::Unfit { unfit, .. } => unfit,
        other => panic!("{other:?}"),
    }
}

fn run(program: &Program, script: &str) -> Option<i32> {
    let Program::Binary { file } = program else { panic!("a binary was expected") };
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Command::new(path).arg0("sh").args(["-c", script]).status().expect("it can be executed").code()
}

fn content(file: &OwnedFd) -> Vec<u8> {
    let size = usize::try_from(walk::Facts::of(file).expect("it is open").size).expect("it fits");
    digest::piece(file, 0, size).expect("it can be read")
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_trusted_program_is_executed_itself() {
    let folder = trusted_folder();
    let program = write(folder.path().join("tool"), &shell(), 0o755);
    let found = measured(&program);
    assert_eq!(found.application.lane, Lane::Trusted);
    assert_eq!(found.application.path, os(&program));
    assert_eq!(found.application.sha256, digest_of(&shell()));
    assert_eq!((found.application.owner, found.application.mode), (0, 0o755));
    assert_eq!(found.application.size, shell().len() as u64);
    assert_eq!(found.argv, [os(&program)]);
    assert_eq!(run(&found.program, "exit 7"), Some(7));
    let itself = format!("test \"$(readlink /proc/$$/exe)\" = {}", program.display());
    assert_eq!(run(&found.program, &itself), Some(0));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn arguments_stay_as_typed() {
    let here = File::open("/").expect("there is a root");
    let arguments = ["", "a\nb", "--"].map(OsText::from);
    let found = measure(&caller(ALICE), here.as_fd(), &"sh".into(), &arguments, &Known::default());
    let argv = found.expect("there is a shell").argv;
    assert!(argv.first().is_some_and(|name| name.as_bytes().ends_with(b"bin/sh")), "{argv:?}");
    assert_eq!(argv.get(1..), Some(arguments.as_slice()));
}

/// M1: the owner rewrites the file between measuring and execution.
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn rewriting_in_place_after_measuring_changes_nothing() {
    let folder = trusted_folder();
    let program = write(folder.path().join("tool"), &shell(), 0o755);
    of_alice(&program);
    let found = measured(&program);
    let owner = Lane::Untrusted { component: os(&program), because: Distrust::Owner };
    assert_eq!(found.application.lane, owner);
    let evil = File::options().write(true).truncate(true).open(&program).expect("alice could");
    evil.write_all_at(b"#!/bin/sh\nexit 66\n", 0).expect("alice could");
    assert_eq!(run(&found.program, "exit 7"), Some(7));
    assert_eq!(found.application.sha256, digest_of(&shell()));
}

/// M3: what was sealed cannot be written to by anybody, by no name.
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_sealed_copy_cannot_be_written_to() {
    let folder = trusted_folder();
    let program = write(folder.path().join("tool"), &shell(), 0o757);
    let Program::Binary { file } = measured(&program).program else { panic!("it is a binary") };
    assert!(rustix::io::write(&file, b"x").is_err());
    let again = File::options().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    assert!(again.is_err() || again.and_then(|mut again| again.write(b"x")).is_err());
    assert_eq!(content(&file), shell());
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn what_is_hashed_is_what_is_executed_while_the_owner_keeps_rewriting() {
    let folder = trusted_folder();
    let good = shell();
    let evil = [b"#!/bin/sh\n".as_slice(), &vec![b'#'; good.len() - 10]].concat();
    let program = write(folder.path().join("tool"), &good, 0o755);
    of_alice(&program);
    let file = File::options().write(true).open(&program).expect("alice could");
    let flip = || {
        (0..2_000).try_for_each(|_| file.write_all_at(&evil, 0).and_then(|()| file.write_all_at(&good, 0)))
    };
    std::thread::scope(|scope| {
        let flipping = scope.spawn(flip);
        while !flipping.is_finished() {
            let Ok(found) = measure_as(&caller(ALICE), &os(&program)) else { continue };
            let file = match &found.program {
                Program::Binary { file } => file,
                Program::Script { script: ScriptSource::Sealed(file), .. } => file,
                Program::Script { .. } | Program::Nothing => panic!("an untrusted script was not copied"),
            };
            assert_eq!(digest_of(&content(file)), found.application.sha256);
        }
    });
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn digests_are_remembered_until_root_changes_the_file() {
    let folder = trusted_folder();
    let hashes = Known::default();
    let here = File::open("/").expect("there is a root");
    let program = write(folder.path().join("tool"), &shell(), 0o755);
    let measure =
        || measure(&caller(ALICE), here.as_fd(), &os(&program), &[], &hashes).expect("it is a program");
    assert_eq!(measure().application.sha256, measure().application.sha256);
    let longer = [shell(), vec![0]].concat();
    write(program.clone(), &longer, 0o755);
    assert_eq!(measure().application.sha256, digest_of(&longer));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_trusted_script_is_read_by_its_path() {
    let folder = trusted_folder();
    let script = write(folder.path().join("script"), b"#! /bin/sh -e \nexit 7\n", 0o755);
    let found = measured(&script);
    let shell = fs::canonicalize("/bin/sh").expect("every Unix has a shell");
    let interpreter = found.application.interpreter.expect("it is a script");
    assert_eq!(interpreter.path, os(&shell));
    assert_eq!(interpreter.sha256, digest_of(&self::shell()));
    assert_eq!(interpreter.argument, Some("-e".into()));
    let Program::Script { interpreter_name, argument, script: ScriptSource::Path(path), .. } = found.program
    else {
        panic!("it is a trusted script")
    };
    assert_eq!((interpreter_name, argument), ("/bin/sh".into(), Some("-e".into())));
    assert_eq!(path, os(&script));
}

/// M15: the owner edits the script while it is read.
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn an_untrusted_script_is_read_from_its_sealed_copy() {
    let folder = trusted_folder();
    let script = write(folder.path().join("script"), b"#!/bin/sh\nexit 7\n", 0o755);
    of_alice(&script);
    let found = measured(&script);
    fs::write(&script, b"#!/bin/sh\nexit 66\n").expect("alice could");
    let Program::Script { script: ScriptSource::Sealed(sealed), .. } = found.program else {
        panic!("it is an untrusted script")
    };
    assert_eq!(content(&sealed), b"#!/bin/sh\nexit 7\n");
    assert_eq!(found.application.sha256, digest_of(b"#!/bin/sh\nexit 7\n"));
}

/// M4, CVE class "relative shebang".
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn interpreters_are_absolute_trusted_programs() {
    let folder = trusted_folder();
    let at = |name: &str| folder.path().join(name);
    let script = |name: &str, first: String| write(at(name), format!("{first}\n").as_bytes(), 0o755);
    let relative = script("relative", "#!bin/sh2".into());
    assert_eq!(unfit(&relative), Unfit::Interpreter("bin/sh2".into()));
    let missing = script("missing", "#!/nowhere/sh".into());
    assert_eq!(unfit(&missing), Unfit::Interpreter("/nowhere/sh".into()));
    let nested = script("nested", format!("#!{}", at("relative").display()));
    assert_eq!(unfit(&nested), Unfit::NestedInterpreter(os(&at("relative"))));
    assert!(matches!(unfit(&script("nameless", "#!  ".into())), Unfit::Shebang(_)));

    let planted = write(at("planted"), &shell(), 0o755);
    of_alice(&planted);
    let foreign = script("foreign", format!("#!{}", planted.display()));
    let refused = refused(&foreign);
    assert_eq!((refused.status(), refused.reason()), (126, Some(DenyReason::UntrustedInterpreter)));

    // A link that alice may turn is as good as a program that she may write.
    fs::create_dir(at("hers")).expect("root can");
    of_alice(&at("hers"));
    symlink("/bin/sh", at("hers/sh")).expect("root can");
    let turned = script("turned", format!("#!{}", at("hers/sh").display()));
    assert!(matches!(self::refused(&turned), NotMeasured::UntrustedInterpreter { .. }));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_hidden_interpreter_looks_as_if_it_were_not_there() {
    let folder = trusted_folder();
    let hidden = folder.path().join("hidden");
    fs::create_dir(&hidden).expect("root can");
    fs::set_permissions(&hidden, Permissions::from_mode(0o700)).expect("root can");
    write(hidden.join("sh"), &shell(), 0o755);
    for name in ["sh", "nothing"] {
        let first = format!("#!{}/{name}\n", hidden.display());
        let script = write(folder.path().join("script"), first.as_bytes(), 0o755);
        let expected = Unfit::Interpreter(os(&hidden.join(name)));
        assert_eq!(unfit(&script), expected);
    }
}

/// Puts another interpreter into a copy of the shell.
fn with_interpreter(interpreter: &Path) -> Vec<u8> {
    let mut program = shell();
    let own = elevon_identify::elf::interpreter(&program).expect("it runs").expect("it is dynamic");
    let own = own.as_bytes();
    let at = program.windows(own.len()).position(|bytes| bytes == own).expect("it is in there");
    let mut path = interpreter.as_os_str().as_encoded_bytes().to_vec();
    assert!(path.len() <= own.len(), "the new path has to fit");
    path.resize(own.len(), 0);
    program.splice(at..at + own.len(), path);
    program
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_program_with_a_foreign_dynamic_linker_is_refused() {
    let folder = trusted_folder();
    let hers =
        tempfile::Builder::new().prefix("e").rand_bytes(4).tempdir_in("/tmp").expect("there is a /tmp");
    fs::set_permissions(hers.path(), Permissions::from_mode(0o755)).expect("root can");
    let linker = write(hers.path().join("ld"), &shell(), 0o755);
    let program = write(folder.path().join("tool"), &with_interpreter(&linker), 0o755);
    let refused = refused(&program);
    assert!(matches!(refused, NotMeasured::UntrustedInterpreter { .. }), "{refused:?}");
    let relative = write(folder.path().join("relative"), &with_interpreter(Path::new("ld.so")), 0o755);
    assert_eq!(unfit(&relative), Unfit::Interpreter("ld.so".into()));
}

/// A program of one segment that takes its libraries from `search`.
fn searching(search: &str) -> Vec<u8> {
    let shell = shell();
    let interpreter = elevon_identify::elf::interpreter(&shell).expect("it runs").expect("it is dynamic");
    let interpreter = [interpreter.as_bytes(), b"\0"].concat();
    let text = [search.as_bytes(), b"\0"].concat();
    let (table, headers) = (64_u64, 3);
    let interpreter_at = table + 56 * headers;
    let text_at = interpreter_at + interpreter.len() as u64;
    let dynamic_at = text_at + text.len() as u64;
    let dynamic: Vec<u8> =
        [5, text_at, 29, 0, 0, 0].iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
    let end = dynamic_at + dynamic.len() as u64;
    let segment = |kind: u64, offset: u64, size: u64| {
        [kind, offset, offset, offset, size, size, 1]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    // The shell's own beginning, for the right class and machine; its table moved, with three entries.
    let mut head: Vec<u8> = shell.into_iter().take(64).collect();
    head.splice(32..40, table.to_le_bytes());
    head.splice(56..58, 3_u16.to_le_bytes());
    let segments = [
        segment(1, 0, end),
        segment(3, interpreter_at, interpreter.len() as u64),
        segment(2, dynamic_at, 48),
    ];
    [head, segments.concat(), interpreter, text, dynamic].concat()
}

/// CVE-2024-48991 and its like: libraries planted where a program looks for them.
#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_program_that_takes_libraries_from_where_others_can_write_is_refused() {
    let folder = trusted_folder();
    let hers = folder.path().join("hers");
    fs::create_dir(&hers).expect("root can");
    of_alice(&hers);
    let hidden = folder.path().join("hidden");
    fs::create_dir(&hidden).expect("root can");
    fs::set_permissions(&hidden, Permissions::from_mode(0o700)).expect("root can");
    let with = |search: &str| {
        let program = write(folder.path().join("tool"), &searching(search), 0o755);
        measure_as(&caller(ALICE), &os(&program))
    };
    for good in ["/usr/lib", "$ORIGIN", "$ORIGIN/nothing/yet", "/usr/lib:/lib"] {
        assert!(with(good).is_ok_and(|found| found.application.lane == Lane::Trusted), "{good}");
    }
    for bad in ["$ORIGIN/hers", "/usr/lib:$ORIGIN/hers/lib", "/tmp/build/lib"] {
        assert!(matches!(with(bad), Err(NotMeasured::UntrustedInterpreter { .. })), "{bad}");
    }
    for unclear in ["", "/usr/lib:", ".", "lib", "$LIB", "$ORIGIN/hidden/x"] {
        assert!(
            matches!(with(unclear), Err(NotMeasured::Unfit { unfit: Unfit::Libraries(_), .. })),
            "{unclear}"
        );
    }
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn what_no_program_is_is_refused() {
    let folder = trusted_folder();
    let at = |name: &str| folder.path().join(name);
    for (name, content) in
        [("empty", b"".as_slice()), ("text", b"echo hello\n"), ("dos", b"MZ\x90"), ("elf", b"\x7fELF")]
    {
        assert!(matches!(unfit(&write(at(name), content, 0o755)), Unfit::NotElf(_)), "{name}");
    }
    let mut foreign = shell();
    foreign.splice(18..20, 2_u16.to_le_bytes());
    assert_eq!(unfit(&write(at("sparc"), &foreign, 0o755)), Unfit::Machine);
    assert_eq!(refused(&at("empty")).reason(), Some(DenyReason::NotExecutable));
}

#[test]
#[ignore = "needs root; cargo xtask test runs it"]
fn a_huge_sparse_file_is_refused_by_its_size() {
    let folder = trusted_folder();
    let script = write(folder.path().join("huge"), b"#!/bin/sh\n", 0o755);
    File::options().write(true).open(&script).and_then(|file| file.set_len(1 << 40)).expect("it is sparse");
    assert!(matches!(refused(&script), NotMeasured::TooLarge { .. }));
    of_alice(&script);
    assert_eq!(refused(&script), NotMeasured::TooLarge { path: os(&script), limit: seal::MAX_SIZE });
}

#[test]
fn nul_is_refused() {
    let here = File::open("/").expect("there is a root");
    let try_with = |command: &str, argument: &str| {
        measure(&caller(ALICE), here.as_fd(), &command.into(), &[argument.into()], &Known::default())
    };
    for (command, argument) in [("sh\0", "x"), ("sh", "x\0y")] {
        let error = try_with(command, argument).expect_err("no program can be given that");
        assert_eq!((error.status(), error.reason()), (126, Some(DenyReason::NotExecutable)));
    }
}

#[test]
fn every_refusal_is_one_line_and_says_what_to_do() {
    let path = OsText::from("/a\nb");
    let all = [
        NotMeasured::Nul { command: path.clone() },
        NotMeasured::NotFound { command: path.clone() },
        NotMeasured::unfit(&path, Unfit::Denied),
        NotMeasured::unfit(&path, Unfit::Libraries("\n".into())),
        NotMeasured::unfit(&path, Unfit::Interpreter("\n".into())),
        NotMeasured::FileSystem { path: path.clone(), kind: "fuse\n".into() },
        NotMeasured::TooLarge { path: path.clone(), limit: 512 << 20 },
        NotMeasured::Changed { path: path.clone() },
        NotMeasured::CopiesOff { path: path.clone() },
        NotMeasured::system("opening", &path, rustix::io::Errno::IO),
    ];
    for error in all {
        let line = error.to_string();
        assert!(!line.contains('\n') && !line.ends_with('.'), "{line}");
        assert!(!error.next().is_empty());
    }
}
