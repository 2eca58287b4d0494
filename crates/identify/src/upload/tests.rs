//! Packages as their own tools make them are measured in `server/tests`; here is what nobody's tool makes.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;

fn measured(file: &[u8]) -> Result<Upload, NotMeasured> {
    let trust = Trust { authorities: &[], revoked: &[], now: Timestamp::from_millis(0) };
    measure(&mut Cursor::new(file), &trust)
}

#[track_caller]
fn refused(file: &[u8], told: &str) {
    let refused = measured(file).expect_err("it is refused").to_string();
    assert!(refused.contains(told), "{refused}");
}

const CONTROL: &str =
    "Package: tool\nVersion: 1.0-1\nArchitecture: amd64\nOrigin: Acme\nDescription: a tool\n more\n";

fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = Header::new_gnu();
        // As it is, whatever the name leads to.
        let bytes = &mut header.as_old_mut().name;
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        header.set_entry_type(EntryType::Regular);
        header.set_cksum();
        archive.append(&header, *content).expect("a file in memory");
    }
    archive.into_inner().expect("an archive in memory")
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = deb::MAGIC.to_vec();
    for (name, content) in members {
        let size = content.len();
        file.extend(format!("{name:<16}{0:<12}{0:<6}{0:<6}{1:<8}{size:<10}`\n", 0, 100_644).as_bytes());
        file.extend(*content);
        file.resize(file.len().next_multiple_of(2), b'\n');
    }
    file
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(content).expect("memory");
    gzip.finish().expect("memory")
}

fn deb(control: &str, files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let control = tar(&[("./control", 0o644, control.as_bytes())]);
    let (control, data) = (gzip(&control), gzip(&tar(files)));
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.gz/", &data)])
}

#[test]
fn the_programs_of_a_debian_package_are_found() {
    let upload = measured(&deb(
        CONTROL,
        &[
            ("./usr/lib/tool/helper", 0o755, b"#!/bin/sh\n"),
            ("./usr/bin/tool", 0o755, b"\x7fELF..."),
            ("usr/sbin/./toold", 0o750, b"\x7fELF"),
            ("./usr/share/tool/not-executable", 0o644, b"\x7fELF"),
            ("./usr/bin/text", 0o755, b"no program"),
            ("./usr/share/polkit-1/actions/tool.policy", 0o644, b"<action id='org.tool.act'/>"),
        ],
    ))
    .expect("it can be measured");
    let paths: Vec<_> = upload.programs.iter().map(|program| program.path.escaped()).collect();
    assert_eq!(paths, ["/usr/bin/tool", "/usr/sbin/toold", "/usr/lib/tool/helper"]);
    let (sha256, size) = digest_of(&mut &b"\x7fELF..."[..]).expect("memory");
    assert_eq!((upload.programs[0].sha256, upload.programs[0].size), (sha256, size));
    assert_eq!(upload.components, [Text::new("org.tool.act")]);
    let package = upload.package.expect("it says what it is");
    assert_eq!((package.product, package.version), (Text::new("tool"), Text::new("1.0-1")));
    assert!(package.vendor.is_some_and(|vendor| vendor.name == Text::new("Acme") && !vendor.verified));
}

#[test]
fn what_leads_elsewhere_or_nowhere_or_comes_twice_is_refused() {
    let program: &[u8] = b"#!/bin/sh\n";
    for nowhere in ["", "/", "./."] {
        refused(&deb(CONTROL, &[(nowhere, 0o755, program)]), "has no name");
    }
    refused(&deb(CONTROL, &[("./usr/../../etc/x", 0o755, program)]), "would lie elsewhere");
    refused(&deb(CONTROL, &[("./x", 0o755, program), ("/x", 0o755, program)]), "two files in one place, /x");
}

#[test]
fn only_whole_packages_of_a_known_form_are_read() {
    let control = tar(&[("control", 0o644, CONTROL.as_bytes())]);
    let data = tar(&[]);
    let members = |control_name: &str, data_name: &str| {
        ar(&[("debian-binary", b"2.0\n"), (control_name, &control), (data_name, &data)])
    };
    assert!(measured(&members("control.tar", "data.tar")).is_ok());
    refused(&members("control.tar", "data.tar.lzma"), "packed as .lzma");
    refused(&members("control.tar", "other"), "no member data.tar");
    refused(&members("control.tar", "data.tar.xz"), "cannot be unpacked");
    refused(&members("control.tar", "data.tar.zst"), "cannot be read");
    refused(&ar(&[("debian-binary", b"3.0\n")]), "format that is not known");
    refused(&ar(&[("other", b"2.0\n")]), "no Debian package");
    refused(&deb("Package: tool\n", &[]), "does not name the package");
    refused(&deb("Package: ../tool\nVersion: 1\nArchitecture: all\n", &[]), "does not name the package");
    let twice = ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar", &control),
        ("data.tar", &data),
        ("data.tar.gz", &data),
    ]);
    refused(&twice, "several members data.tar");
}

/// As rpm lays out a package: lead, two headers, cpio.
fn rpm(tags: &[(u32, &str)], files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let section = |tags: &[(u32, &str)]| {
        let (mut entries, mut data) = (Vec::new(), Vec::new());
        for (tag, value) in tags {
            for number in [*tag, 6, data.len() as u32, 1] {
                entries.extend(number.to_be_bytes());
            }
            data.extend(value.as_bytes());
            data.push(0);
        }
        let mut section = vec![0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];
        section.extend((tags.len() as u32).to_be_bytes());
        section.extend((data.len() as u32).to_be_bytes());
        [section, entries, data].concat()
    };
    let mut file = rpm::MAGIC.to_vec();
    file.resize(96, 0);
    file.extend(section(&[(1000, "signature")]));
    file.resize(file.len().next_multiple_of(8), 0);
    file.extend(section(tags));
    let mut archive = Vec::new();
    for (name, mode, content) in files.iter().chain(&[("TRAILER!!!", 0, &b""[..])]) {
        let numbers = [0, *mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        archive.extend(b"070701");
        archive.extend(numbers.map(|number| format!("{number:08x}")).concat().as_bytes());
        archive.extend(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    file.extend(gzip(&archive));
    file
}

const TAGS: [(u32, &str); 5] =
    [(1000, "tool"), (1001, "1.2"), (1002, "3"), (1011, "Acme"), (1044, "tools-1.2-3.src.rpm")];

#[test]
fn the_programs_of_an_rpm_package_are_found() {
    let files: [(&str, u32, &[u8]); 4] = [
        ("./usr/bin/tool", 0o100_755, b"\x7fELF."),
        ("./usr/bin", 0o040_755, b""),
        ("./usr/bin/link", 0o120_777, b"\x7fELF"),
        ("./usr/libexec/helper", 0o100_755, b"#!/bin/sh"),
    ];
    let upload = measured(&rpm(&TAGS, &files)).expect("it can be measured");
    let paths: Vec<_> = upload.programs.iter().map(|program| program.path.escaped()).collect();
    assert_eq!(paths, ["/usr/bin/tool", "/usr/libexec/helper"]);
    let package = upload.package.expect("it says what it is");
    assert_eq!((package.product, package.version), (Text::new("tools"), Text::new("1.2-3")));
    assert!(package.vendor.is_some_and(|vendor| vendor.name == Text::new("Acme") && !vendor.verified));
}

#[test]
fn other_rpm_packages_are_refused() {
    let file = rpm(&TAGS, &[("./usr/bin/tool", 0o100_755, b"\x7fELF.")]);
    let mut source = file.clone();
    source[7] = 1;
    refused(&source, "source package");
    refused(&rpm(&TAGS[1..], &[]), "does not name the package");
    let with = |tag, value| rpm(&[&TAGS[..], &[(tag, value)]].concat(), &[]);
    refused(&with(1125, "bzip2"), "packed in a way that is not read");
    refused(&with(1124, "drpm"), "expected cpio");
    refused(&with(1125, "xz"), "cannot be unpacked");
}

#[test]
fn whatever_is_cut_short_is_refused() {
    let whole = [
        deb(CONTROL, &[("./usr/bin/tool", 0o755, &[b"\x7fELF", &[7; 5000][..]].concat())]),
        rpm(&TAGS, &[("./usr/bin/tool", 0o100_755, &[b"\x7fELF", &[7; 5000][..]].concat())]),
    ];
    for file in whole {
        assert!(measured(&file).is_ok());
        // What follows the end of an archive says nothing.
        for end in 0..file.len() - 64 {
            assert!(measured(&file[..end]).is_err(), "{end} of {}", file.len());
        }
    }
}

#[test]
fn what_is_told_is_bounded() {
    let names: Vec<_> = (0..300).map(|number| format!("./opt/tool/{number:04}")).collect();
    let script: &[u8] = b"#!/bin/sh\n";
    let mut files: Vec<_> = names.iter().map(|name| (name.as_str(), 0o755, script)).collect();
    files.push(("./usr/bin/tool", 0o755, script));
    let upload = measured(&deb(CONTROL, &files)).expect("it can be measured");
    assert_eq!((upload.programs.len(), upload.programs_left_out), (200, 101));
    assert_eq!(upload.programs[0].path, OsText::from("/usr/bin/tool"));
    let long = "x".repeat(20_000);
    let told = "longer than any program or package says";
    refused(&deb(&format!("{CONTROL}Vendor: {long}\n"), &[]), told);
    refused(&rpm(&[(1000, "tool"), (1001, &long), (1002, "3")], &[]), told);
    let deep = "d/".repeat(300);
    let upload = measured(&rpm(&TAGS, &[(&deep, 0o100_755, script)])).expect("it can be measured");
    assert_eq!((upload.programs.len(), upload.programs_left_out), (0, 1));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        kind in 0_usize..6,
        at in 0_usize..2000,
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let files: &[(&str, u32, &[u8])] = &[("./usr/bin/tool", 0o100_755, b"\x7fELF")];
        let mut file = match kind {
            0 => deb(CONTROL, files),
            1 => rpm(&TAGS, files),
            2 => b"\x7fELF\x02\x01\x01".to_vec(),
            3 => b"#!".to_vec(),
            4 => b"MZ".to_vec(),
            _ => vec![0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1],
        };
        let at = at.min(file.len());
        let end = (at + bytes.len()).min(file.len());
        file.splice(at..end, bytes);
        let _ = measured(&file);
    }
}
