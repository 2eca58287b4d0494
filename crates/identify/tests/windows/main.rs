//! Signed programs as vendors sign them, and everything that is nearly one. `cargo xtask test windows` runs all of it.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod decisions;
mod sample;

use std::io::{Cursor, Seek, SeekFrom, Write};

use elevon_policy::application::Sha256;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use rcgen::ExtendedKeyUsagePurpose as Use;
use ring::digest;

use elevon_identify::windows::authenticode::{Signature, claims, verify};
use elevon_identify::windows::msi::Msi;
use elevon_identify::windows::pe::{NotPe, Pe};
use elevon_identify::windows::version::Version;
use elevon_identify::windows::{Refusal, Revoked, Trust};
use sample::{Authority, Wanted, package, program, sign};

const PUBLISHER: &str = "Example Tools Inc.";

/// The name of the attribute that holds a time stamp: 1.3.6.1.4.1.311.3.3.1.
const TIMESTAMP: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x03\x03\x01";

/// The beginning of a year, in seconds.
const fn year(year: i64) -> i64 {
    let before = year - 1970;
    (before * 365 + (before + 1) / 4) * 86_400
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// What is trusted, in 2030 unless a test says otherwise.
struct World {
    authorities: Vec<Vec<u8>>,
    revoked: Vec<Revoked>,
    now: Timestamp,
}

impl World {
    fn trusting(authorities: &[&Authority]) -> Self {
        let authorities = authorities.iter().map(|authority| authority.certificate.clone()).collect();
        Self { authorities, revoked: Vec::new(), now: at(year(2030)) }
    }

    fn verify(&self, file: &[u8]) -> Result<Signature, Refusal> {
        let trust = Trust { authorities: &self.authorities, revoked: &self.revoked, now: self.now };
        verify(&Pe::read(file).expect("a program"), &trust)
    }

    fn verify_package(&self, file: &[u8]) -> Result<Signature, Refusal> {
        let trust = Trust { authorities: &self.authorities, revoked: &self.revoked, now: self.now };
        Msi::read(file).expect("a package").verify(&trust)
    }
}

fn sha256(bytes: &[u8]) -> Sha256 {
    let digest = digest::digest(&digest::SHA256, bytes);
    Sha256(digest.as_ref().try_into().unwrap())
}

fn stamper() -> Wanted {
    Wanted { uses: vec![Use::TimeStamping], ..Wanted::code_signing("Example Clock") }
}

#[test]
fn a_program_says_what_it_is() {
    let file = program();
    let version = Version::of(&Pe::read(&file).unwrap());
    assert_eq!(version.product, Some(Text::new("Example Tool")));
    assert_eq!(version.company, Some(Text::new("Example Tools Inc.")));
    assert_eq!(version.file_name, Some(Text::new("tool.exe")));
    assert_eq!(version.version, Some([2, 1, 4, 3]));
    assert_eq!(World::trusting(&[]).verify(&file), Err(Refusal::NotSigned));
}

#[test]
fn what_is_cut_short_or_something_else_is_refused() {
    assert_eq!(Pe::read(b"\x7fELF").unwrap_err(), NotPe("MZ at its beginning"));
    let file = program();
    for end in 0..file.len() {
        if let Ok(pe) = Pe::read(&file[..end]) {
            let _ = Version::of(&pe);
        }
    }
    let file = package();
    for end in (0..file.len()).step_by(61) {
        if let Ok(mut msi) = Msi::read(&file[..end]) {
            let _ = msi.summary();
        }
    }
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn the_publisher_is_whom_the_certificate_names() {
    let root = Authority::new("Example Root");
    let wanted = Wanted { is_ca: true, ..Wanted::code_signing("Example Code Signing CA") };
    let between = root.below(&wanted);
    let signer = between.issue(&Wanted::code_signing(PUBLISHER));
    let world = World::trusting(&[&root]);
    for options in [
        &[][..],
        &["-h", "sha384"],
        &["-h", "sha512"],
        &["-ph"],
        &["-n", "A tool", "-i", "https://example.org"],
    ] {
        if options == ["-h", "sha512"] {
            // A curve of 256 bits with SHA-512 is not verified.
            assert_eq!(
                world.verify(&sign(&program(), &signer, None, options)),
                Err(Refusal::UnknownAlgorithm)
            );
            continue;
        }
        let signature = world.verify(&sign(&program(), &signer, None, options)).unwrap();
        assert_eq!(signature.publisher, Text::new(PUBLISHER));
        assert_eq!(signature.issuer, Text::new("Example Code Signing CA"));
        assert_eq!(signature.certificate, sha256(&signer.certificate));
        assert_eq!(signature.authority, sha256(&root.certificate));
        assert_eq!(signature.signed, None);
    }
    // Trusted by the one between alone, too: whoever trusts that need not trust the root.
    assert!(World::trusting(&[&between]).verify(&sign(&program(), &signer, None, &[])).is_ok());
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn every_byte_counts() {
    let root = Authority::new("Example Root");
    let stamp = root.issue(&stamper());
    let signed =
        sign(&program(), &root.issue(&Wanted::code_signing(PUBLISHER)), Some((&stamp, year(2025))), &[]);
    let world = World::trusting(&[&root]);
    assert!(world.verify(&signed).is_ok());
    let trust = Trust { authorities: &world.authorities, revoked: &[], now: world.now };
    // The optional header begins at 0x58: the checksum is of no program that runs, and nobody signs it.
    let uncovered = 0x58 + 64..0x58 + 68;
    // Copies of the authority's certificate prove nothing: what is believed is the one that the caller trusts. And of the
    // stamper's there are two.
    let places = |certificate: &[u8]| -> Vec<_> {
        let windows = signed.windows(certificate.len()).enumerate();
        let found = windows.filter(|(_, window)| *window == certificate);
        found.map(|(at, copy)| at..at + copy.len()).collect()
    };
    let copies = [places(&root.certificate), places(&stamp.certificate)[1..].to_vec()].concat();
    let first_copy = places(&stamp.certificate)[0].clone();
    let unproven: Vec<usize> = (0..signed.len())
        .filter(|at| !uncovered.contains(at) && !first_copy.contains(at))
        .filter(|at| !copies.iter().any(|copy| copy.contains(at)))
        .filter(|at| {
            let mut changed = signed.clone();
            changed[*at] ^= 1;
            Pe::read(&changed).is_ok_and(|pe| verify(&pe, &trust).is_ok())
        })
        .collect();
    // What is only repeated: names of digests and versions in the outer structure.
    let area = Pe::read(&signed).unwrap().certificates().unwrap();
    assert!(unproven.iter().all(|at| area.contains(at)), "changed without notice: {unproven:?}");
    assert!(unproven.len() < 80, "{} bytes of the signature can be changed: {unproven:?}", unproven.len());
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn nothing_is_added_to_the_certificate_area() {
    let root = Authority::new("Example Root");
    let signer = root.issue(&Wanted::code_signing(PUBLISHER));
    let world = World::trusting(&[&root]);
    let signed = sign(&program(), &signer, None, &[]);
    let area = Pe::read(&signed).unwrap().certificates().unwrap();
    let grown = |by: usize, fill: u8, entry_too: bool| {
        let mut file = signed.clone();
        file.extend(vec![fill; by]);
        let size = u32::try_from(area.len() + by).unwrap().to_le_bytes();
        let entry = 0x58 + 112 + 4 * 8 + 4;
        file[entry..entry + 4].copy_from_slice(&size);
        if entry_too {
            file[area.start..area.start + 4].copy_from_slice(&size);
        }
        file
    };
    for by in [8, 16, 4096] {
        for fill in [0, 1] {
            for entry_too in [false, true] {
                let refusal = world.verify(&grown(by, fill, entry_too)).err();
                let padding_alone = by == 8 && fill == 0 && entry_too;
                assert!(
                    padding_alone || refusal == Some(Refusal::BytesAppended),
                    "{by} {fill} {entry_too}: {refusal:?}"
                );
            }
        }
    }
    let behind = [signed.as_slice(), b"payload!"].concat();
    assert_eq!(world.verify(&behind), Err(Refusal::BytesAppended));
    let blob = sign(&program(), &signer, None, &["-addUnauthenticatedBlob"]);
    assert_eq!(world.verify(&blob), Err(Refusal::BytesAppended));
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn what_has_ended_is_believed_only_with_a_time_stamp() {
    let root = Authority::new("Example Root");
    let wanted = Wanted { years: (2020, 2024), ..Wanted::code_signing(PUBLISHER) };
    let signer = root.issue(&wanted);
    let stamp = root.issue(&stamper());
    let world = World::trusting(&[&root]);
    let expired = |ended| Err(Refusal::Expired { subject: Text::new(PUBLISHER), ended: at(ended) });
    let plain = sign(&program(), &signer, None, &[]);
    assert_eq!(world.verify(&plain), expired(year(2024)));
    let told = claims(&Pe::read(&plain).unwrap()).unwrap();
    assert_eq!((told.publisher, told.signed), (Text::new(PUBLISHER), None));
    assert!(World { now: at(year(2022)), ..World::trusting(&[&root]) }.verify(&plain).is_ok());

    let stamped = |when| sign(&program(), &signer, Some((&stamp, when)), &[]);
    let signature = world.verify(&stamped(year(2023))).unwrap();
    assert_eq!(signature.signed, Some(at(year(2023))));
    let late = stamped(year(2025));
    assert_eq!(world.verify(&late), expired(year(2024)));
    assert_eq!(claims(&Pe::read(&late).unwrap()).unwrap().signed, Some(at(year(2025))));
    let early = World { now: at(year(2019)), ..World::trusting(&[&root]) };
    assert_eq!(early.verify(&plain), Err(Refusal::NotYetValid { subject: Text::new(PUBLISHER) }));
    assert_eq!(early.verify(&stamped(year(2023))), Err(Refusal::BadTimestamp), "from the future");
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn a_time_stamp_is_believed_as_far_as_whoever_gave_it() {
    let (root, other) = (Authority::new("Example Root"), Authority::new("Other Root"));
    let signer = root.issue(&Wanted::code_signing(PUBLISHER));
    let world = World::trusting(&[&root]);
    let stamped = |by: &sample::Signer| world.verify(&sign(&program(), &signer, Some((by, year(2023))), &[]));
    assert_eq!(
        stamped(&other.issue(&stamper())),
        Err(Refusal::NotTrusted { issuer: Text::new("Other Root") })
    );
    let ended = Wanted { years: (2020, 2022), ..stamper() };
    assert!(matches!(stamped(&root.issue(&ended)), Err(Refusal::Expired { .. })));
    // The stamp of another signature, of one length and so at the same place.
    let stamp = root.issue(&stamper());
    let signed = |file: &[u8]| sign(file, &signer, Some((&stamp, year(2023))), &[]);
    let mut another = program();
    another[0x20] = 1;
    let token = |file: &[u8]| file.windows(TIMESTAMP.len()).position(|window| window == TIMESTAMP).unwrap();
    // Signatures on curves differ in length by a few bytes, and then the structure itself is broken: until they are alike.
    let moved = (0..100).find_map(|_| {
        let (one, two) = (signed(&program()), signed(&another));
        assert!(world.verify(&one).is_ok() && world.verify(&two).is_ok());
        let moved = [&one[..token(&one)], &two[token(&two)..]].concat();
        world
            .verify(&moved)
            .err()
            .filter(|refusal| !matches!(refusal, Refusal::Malformed(_) | Refusal::BytesAppended))
    });
    assert_eq!(moved, Some(Refusal::BadTimestamp));
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn a_name_is_worth_what_its_authority_is() {
    let (root, other) = (Authority::new("Example Root"), Authority::new("Example Root"));
    let world = World::trusting(&[&root]);
    let impostor = other.issue(&Wanted::code_signing(PUBLISHER));
    assert_eq!(
        world.verify(&sign(&program(), &impostor, None, &[])),
        Err(Refusal::NotTrusted { issuer: Text::new("Example Root") })
    );
    let refused =
        |wanted: &Wanted| world.verify(&sign(&program(), &root.issue(wanted), None, &[])).unwrap_err();
    let wrong = |name| Refusal::WrongUse { subject: Text::new(name) };
    assert_eq!(refused(&Wanted { uses: vec![Use::ServerAuth], ..Wanted::code_signing("Web") }), wrong("Web"));
    assert_eq!(refused(&Wanted { uses: vec![], ..Wanted::code_signing("Nothing") }), wrong("Nothing"));
    // Whoever holds a certificate for signing programs is no authority.
    let no_authority = root.below(&Wanted::code_signing("No Authority"));
    let signed = sign(&program(), &no_authority.issue(&Wanted::code_signing(PUBLISHER)), None, &[]);
    assert_eq!(world.verify(&signed), Err(wrong("No Authority")));
    let for_web =
        root.below(&Wanted { uses: vec![Use::ServerAuth], is_ca: true, ..Wanted::code_signing("Web CA") });
    let signed = sign(&program(), &for_web.issue(&Wanted::code_signing(PUBLISHER)), None, &[]);
    assert_eq!(world.verify(&signed), Err(wrong("Web CA")));
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn what_was_revoked_is_refused_from_then_on() {
    let root = Authority::new("Example Root");
    let between = root.below(&Wanted { is_ca: true, ..Wanted::code_signing("Example CA") });
    let signer = between.issue(&Wanted::code_signing(PUBLISHER));
    let stamp = root.issue(&stamper());
    let stamped = sign(&program(), &signer, Some((&stamp, year(2023))), &[]);
    let plain = sign(&program(), &signer, None, &[]);
    let check = |certificate: &[u8], since: Option<i64>, file: &[u8]| {
        let revoked = vec![Revoked { certificate: sha256(certificate), since: since.map(at) }];
        World { revoked, ..World::trusting(&[&root]) }.verify(file)
    };
    let refused = |subject| Err(Refusal::Revoked { subject: Text::new(subject) });
    assert_eq!(check(&signer.certificate, None, &stamped), refused(PUBLISHER));
    assert_eq!(check(&between.certificate, None, &stamped), refused("Example CA"));
    assert_eq!(check(&stamp.certificate, None, &stamped), refused("Example Clock"));
    assert_eq!(check(&signer.certificate, Some(year(2022)), &stamped), refused(PUBLISHER));
    assert!(check(&signer.certificate, Some(year(2024)), &stamped).is_ok());
    // Without a time stamp nobody knows that it was signed before.
    assert_eq!(check(&signer.certificate, Some(year(2024)), &plain), refused(PUBLISHER));
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn weak_digests_prove_nothing() {
    let root = Authority::new("Example Root");
    let signer = root.issue(&Wanted::code_signing(PUBLISHER));
    let signed = sign(&program(), &signer, None, &["-h", "sha1"]);
    assert_eq!(World::trusting(&[&root]).verify(&signed), Err(Refusal::WeakDigest));
}

/// A package changed by this, and whether its signature still holds.
fn changed(
    world: &World,
    package: &[u8],
    change: impl FnOnce(&mut cfb::CompoundFile<Cursor<Vec<u8>>>),
) -> Option<Refusal> {
    let mut file = cfb::CompoundFile::open(Cursor::new(package.to_vec())).unwrap();
    change(&mut file);
    file.flush().unwrap();
    world.verify_package(&file.into_inner().into_inner()).err()
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn a_package_is_its_streams() {
    let root = Authority::new("Example Root");
    let signer = root.issue(&Wanted::code_signing(PUBLISHER));
    let stamp = root.issue(&stamper());
    let world = World::trusting(&[&root]);
    let unsigned = package();
    let summary = Msi::read(&unsigned).unwrap().summary();
    assert_eq!(summary.product, Some(Text::new("Example Tool")));
    assert_eq!(summary.author, Some(Text::new("Example Tools Inc.")));
    assert_eq!(world.verify_package(&unsigned), Err(Refusal::NotSigned));
    for (options, names) in [(&[][..], false), (&["-add-msi-dse"], true)] {
        let signed = sign(&unsigned, &signer, Some((&stamp, year(2023))), options);
        let signature = world.verify_package(&signed).unwrap();
        assert_eq!(signature.publisher, Text::new(PUBLISHER));
        assert_eq!(signature.signed, Some(at(year(2023))));
        let put = |path: &str, content: &[u8]| {
            changed(&world, &signed, |file| {
                file.create_stream(path).unwrap().write_all(content).unwrap();
            })
        };
        assert_eq!(changed(&world, &signed, |_| {}), None);
        assert_eq!(put("\u{4840}", b"shorT"), Some(Refusal::OtherBytes));
        assert_eq!(put("inner/data", b"in the storagE"), Some(Refusal::OtherBytes));
        assert_eq!(put("more", b"payload"), Some(Refusal::OtherBytes));
        let renamed = changed(&world, &signed, |file| {
            file.remove_stream("\u{4840}").unwrap();
            file.create_stream("\u{4841}").unwrap().write_all(b"short").unwrap();
        });
        // Another name that leaves the order as it is: only where names are signed is that seen.
        assert_eq!(renamed.is_some(), names || renamed == Some(Refusal::OtherBytes));
        let appended = changed(&world, &signed, |file| {
            let mut stream = file.open_stream("\u{5}DigitalSignature").unwrap();
            stream.seek(SeekFrom::End(0)).unwrap();
            stream.write_all(b"payload").unwrap();
        });
        assert_eq!(appended, Some(Refusal::BytesAppended));
        let without = changed(&world, &signed, |file| file.remove_stream("\u{5}DigitalSignature").unwrap());
        assert_eq!(without, Some(Refusal::NotSigned));
        let of_other = World::trusting(&[&Authority::new("Example Root")]).verify_package(&signed);
        assert!(matches!(of_other, Err(Refusal::NotTrusted { .. })));
    }
}

/// Node.js for Windows as its foundation signs it; RSA all the way, with a time stamp.
#[test]
#[ignore = "needs a program of a vendor: `cargo xtask test windows`"]
fn a_vendors_own_program_is_what_it_says() {
    let told = "ELEVON_TEST_NODE_EXE names node.exe, ELEVON_TEST_AUTHORITY its authority in PEM; `cargo xtask test windows` does";
    let file = std::fs::read(std::env::var_os("ELEVON_TEST_NODE_EXE").expect(told)).unwrap();
    let pem = std::fs::read(std::env::var_os("ELEVON_TEST_AUTHORITY").expect(told)).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let world = World { authorities: vec![pem.contents], revoked: Vec::new(), now: at(year(2028)) };
    let version = Version::of(&Pe::read(&file).unwrap());
    assert_eq!(version.product, Some(Text::new("Node.js")));
    assert_eq!(version.version, Some([20, 11, 0, 0]));
    let signature = world.verify(&file).unwrap();
    assert_eq!(signature.publisher, Text::new("OpenJS Foundation"));
    assert!(signature.signed.is_some_and(|signed| signed > at(year(2024)) && signed < at(year(2025))));

    let changed = |at: usize| {
        let mut changed = file.clone();
        changed[at] ^= 1;
        world.verify(&changed)
    };
    for at in [0x2, 0x1000, file.len() / 2] {
        assert_eq!(changed(at), Err(Refusal::OtherBytes), "{at:#x}");
    }
    let appended = [file.as_slice(), &[0; 8]].concat();
    assert_eq!(world.verify(&appended), Err(Refusal::BytesAppended));
    assert!(matches!(World::trusting(&[]).verify(&file), Err(Refusal::NotTrusted { .. })));
}
