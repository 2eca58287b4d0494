//! How long it takes to measure a program: `cargo xtask bench identify`.
#![allow(clippy::disallowed_methods, reason = "it takes the time of others")]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use elevon_policy::text::Text;

use super::*;

const PACKAGES: usize = 2000;
const FILES: usize = 150;

#[test]
#[ignore = "needs root; cargo xtask bench identify runs it"]
fn identify_is_measured() {
    if std::env::var_os("ELEVON_BENCH").is_none() {
        return;
    }
    println!("{:64} {:>12} {:>12} {:>12}", "identify", "median", "p99", "worst");
    of_large_files();
    of_packages();
    of_this_computer();
}

fn tell(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at =
        |part: usize| times.get((times.len() * part / 100).min(times.len() - 1)).copied().unwrap_or_default();
    let micros = |time: Duration| format!("{:.1} µs", time.as_secs_f64() * 1e6);
    println!("{what:64} {:>12} {:>12} {:>12}", micros(at(50)), micros(at(99)), micros(at(100)));
    at(50)
}

fn times(count: usize, mut run: impl FnMut(usize)) -> Vec<Duration> {
    (0..count)
        .map(|number| {
            let start = Instant::now();
            run(number);
            start.elapsed()
        })
        .collect()
}

fn measured(path: &Path, known: &Known) -> Measured {
    let caller =
        Caller { user: User { uid: 54_321, name: Text::new("someone") }, gid: 54_321, groups: Vec::new() };
    let here = File::open("/").expect("there is a root");
    let path = OsText::new(path.as_os_str().as_encoded_bytes());
    measure(&caller, here.as_fd(), &path, &[], known).expect("it is a program")
}

/// A program of 100 MB, beside what `openssl dgst` takes for it.
fn of_large_files() {
    let folder =
        tempfile::Builder::new().prefix("elevon-bench").tempdir_in("/usr").expect("root can write to /usr");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = folder.path().join("large");
    fs::copy("/bin/true", &path).expect("there is room");
    let mut file = File::options().append(true).open(&path).expect("it is ours");
    let megabyte: Vec<u8> =
        (0..1 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    (0..100).for_each(|_| file.write_all(&megabyte).expect("there is room"));
    drop(file);
    let digest = || {
        let ran = Command::new("openssl").args(["dgst", "-sha256"]).arg(&path).output();
        assert!(ran.is_ok_and(|ran| ran.status.success()), "openssl takes its digest");
    };
    digest();
    let (mut others, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        // By turns, so that whatever else the computer does falls on both.
        others.extend(times(1, |_| digest()));
        ours.extend(times(1, |_| drop(measured(&path, &Known::default()))));
    }
    let others = tell("openssl dgst -sha256, 100 MB", others);
    let ours = tell("first measurement, 100 MB", ours);
    println!("{:64} {:>12.2}", "  in relation", ours.as_secs_f64() / others.as_secs_f64());
    let known = Known::default();
    measured(&path, &known);
    tell("repeated measurement, 100 MB", times(2000, |_| drop(measured(&path, &known))));
}

/// A made-up system of 2,000 packages with 150 files each.
fn of_packages() {
    let (root, state) =
        (tempfile::tempdir().expect("there is room"), tempfile::tempdir().expect("there is room"));
    let info = root.path().join("var/lib/dpkg/info");
    fs::create_dir_all(&info).expect("there is room");
    let mut status = String::new();
    for package in 0..PACKAGES {
        status += &format!(
            "Package: package{package}\nStatus: install ok installed\nMaintainer: Somebody <somebody@example.org>\nArchitecture: amd64\n\
Version: 1.{package}-1\nDepends: libc6 (>= 2.34), package{}\nDescription: a package\n{}\n",
            package / 2,
            " as it is described, for some lines\n".repeat(12)
        );
        let (mut list, mut sums) = (String::from("/.\n/usr\n"), String::new());
        for file in 0..FILES {
            list += &format!("/usr/lib/package{package}/some/folder/file{file}\n");
            sums += &format!(
                "{:032x}  usr/lib/package{package}/some/folder/file{file}\n",
                package * FILES + file
            );
        }
        fs::write(info.join(format!("package{package}.list")), list).expect("there is room");
        fs::write(info.join(format!("package{package}.md5sums")), sums).expect("there is room");
    }
    fs::write(root.path().join("var/lib/dpkg/status"), status).expect("there is room");
    let path = |number: usize| {
        let (package, file) = (number * 7 % PACKAGES, number * 11 % FILES);
        OsText::from(format!("/usr/lib/package{package}/some/folder/file{file}").as_str())
    };
    let index = state.path().join("packages.index");
    let making = times(5, |_| {
        let _ = fs::remove_file(&index);
        Packages::open(root.path(), state.path()).prepare();
    });
    tell("making the index, 2,000 packages with 300,000 files", making);
    let packages = Packages::open(root.path(), state.path());
    packages.prepare();
    let owner = |path: &OsText| assert!(packages.owner(path).is_some(), "it is owned");
    tell("package look-up, 2,000 packages, new", times(1900, |number| owner(&path(number))));
    tell("package look-up, 2,000 packages, repeated", times(2000, |number| owner(&path(number % 10))));
    tell(
        "look-up of what no package owns, new",
        times(1900, |number| {
            assert!(packages.owner(&OsText::from(format!("/usr/local/bin/{number}").as_str())).is_none());
        }),
    );
}

/// Programs as they are here.
fn of_this_computer() {
    let state = tempfile::tempdir().expect("there is room");
    let index = state.path().join("packages.index");
    let making = times(3, |_| {
        let _ = fs::remove_file(&index);
        Packages::open(Path::new("/"), state.path()).prepare();
    });
    tell("making the index of this computer, apt's lists and all", making);
    let known = Known::new(Packages::open(Path::new("/"), state.path()));
    known.packages.prepare();
    for program in ["/usr/bin/true", "/usr/bin/apt-get", "/usr/bin/perl"] {
        if Path::new(program).exists() {
            tell(
                &format!("first measurement, {program}"),
                times(1, |_| drop(measured(Path::new(program), &known))),
            );
            tell(
                &format!("repeated measurement, {program}"),
                times(2000, |_| drop(measured(Path::new(program), &known))),
            );
        }
    }
}
