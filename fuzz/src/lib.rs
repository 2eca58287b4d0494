//! What the fuzz targets try, apart from the engine: so that the corpus can be replayed with any toolchain.

use ed25519_dalek::SigningKey;
use elevon_identify::dpkg::Names;
use elevon_identify::{
    apt as lists, dpkg as packages, elf, polkit as actions, rpm as database, script, upload as files, windows,
};
use elevon_policy::application::{Application, Lane, Sha256, User};
use elevon_policy::bundle::Bundle;
use elevon_policy::decide::{Attempt, HeldGrant, Holdings, Verdict, decide};
use elevon_policy::id::ComputerId;
use elevon_policy::rule::Listed;
use elevon_policy::rules::Rules;
use elevon_policy::sheet::{ChainHead, Sheet};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Timestamp;
use elevon_wire::chain::{Record, follow};
use elevon_wire::conversation::FromClient;
use elevon_wire::frame::{Decoder, Frame, HEADER, Kind};
use elevon_wire::signed::{PublicKey, Purpose, Signed};
use elevon_wire::uplink::FromAgent;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Every target by its name.
pub const TARGETS: [(&str, fn(&[u8])); 14] = [
    ("apt", apt),
    ("authenticode", authenticode),
    ("chain_record", chain_record),
    ("dpkg", dpkg),
    ("elf", elf),
    ("frame", frame),
    ("msi", msi),
    ("pe", pe),
    ("policies", policies),
    ("polkit", polkit),
    ("rpm", rpm),
    ("shebang", shebang),
    ("signed_document", signed_document),
    ("upload", upload),
];

const LIMIT: usize = 1 << 16;

/// Bytes on a socket: the first says in which pieces the rest arrives. However they are cut, the same frames come out, and
/// what they carry is read without a panic.
pub fn frame(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let in_pieces = decoded(bytes.chunks(usize::from(*cut) + 1));
    assert_eq!(in_pieces, decoded([bytes].into_iter()));
    for frame in &in_pieces {
        assert!(frame.payload.len() <= LIMIT);
        assert_eq!(frame.encode().len(), HEADER + frame.payload.len());
        if frame.kind == Kind::Message {
            survives::<FromClient>(&frame.payload);
            survives::<FromAgent>(&frame.payload);
        }
    }
}

fn decoded<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut decoder = Decoder::new(LIMIT);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

/// Reads it; and if it can be read, writes it and reads that as the same.
fn survives<D: DeserializeOwned + Serialize>(json: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<D>(json) {
        let written = serde_json::to_vec(&document).expect("what was read can be written");
        let again: D = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).expect("it can be written again"), written);
    }
}

/// A signed document from outside never opens under a key that did not sign it, whatever it says of itself.
pub fn signed_document(bytes: &[u8]) {
    let Ok(signed) = serde_json::from_slice::<Signed>(bytes) else { return };
    // Nobody else has this key, so nothing in any input is signed with it, but for what the seed corpus holds.
    let key = PublicKey::of(&SigningKey::from_bytes(&[7; 32]));
    for purpose in [Purpose::Bundle, Purpose::Sheet, Purpose::Time, Purpose::Checkpoint, Purpose::Event] {
        if signed.bytes(&key, purpose).is_ok() {
            let again = Signed::seal_bytes(
                &SigningKey::from_bytes(&[7; 32]),
                purpose,
                signed.unverified_bytes().into(),
            );
            assert_eq!(again, signed, "a signature that the key did not make");
        }
    }
}

/// A record of a chain: what can be read follows only the head it names.
pub fn chain_record(bytes: &[u8]) {
    let start = follow(ChainHead::START, bytes);
    if let Ok((head, event)) = &start {
        assert_eq!(head.number, 1);
        let ours = Record::encode(ChainHead::START, event);
        let (_, again) = follow(ChainHead::START, &ours).expect("what was written can be read");
        assert_eq!(&again, event);
        let _ = event.what.subjects();
    }
    let elsewhere = ChainHead { number: 7, digest: Sha256([7; 32]) };
    assert!(start.is_err() || follow(elsewhere, bytes).is_err());
    survives::<Record>(bytes);
}

/// Policies and sheets: what can be read can be decided with, no unreadable rule matches, and no grant outlives its end.
pub fn policies(bytes: &[u8]) {
    survives::<Bundle>(bytes);
    survives::<Sheet>(bytes);
    let sheet = serde_json::from_slice::<Sheet>(bytes).ok();
    let bundle = serde_json::from_slice::<Bundle>(bytes).unwrap_or_default();
    let held: Vec<HeldGrant> = sheet
        .iter()
        .flat_map(|sheet| &sheet.grants)
        .map(|grant| HeldGrant { grant: grant.clone(), fixed_end: None, launched: 0 })
        .collect();
    let locks = sheet.as_ref().map_or(&[][..], |sheet| &sheet.locks);
    let user = User { uid: 1000, name: Text::new("alice") };
    let application = application();
    let argv = ["tool", "--now"].map(OsText::from);
    let computer: ComputerId = "01900000-0000-7000-8000-000000000001".parse().expect("an id");
    let attempt = Attempt { user: &user, computer, application: &application, argv: &argv, nested: false };
    let now = Timestamp::from_millis(1_800_000_000_000);
    let decision = decide(&Holdings { bundle: &bundle, locks, grants: &held }, &attempt, now);
    if let Verdict::Launch { end, .. } = decision.verdict {
        assert!(end > now);
    }
    for reason in &decision.reasons {
        let _ = reason.to_string();
    }
    let without_unreadable =
        decide(&Holdings { bundle: &readable(bundle.clone()), locks, grants: &held }, &attempt, now);
    assert_eq!(without_unreadable.verdict, decision.verdict);
}

fn readable(mut bundle: Bundle) -> Bundle {
    let readable = |rules: &mut Rules| {
        *rules = rules.iter().filter(|listed| matches!(listed, Listed::Rule(_))).cloned().collect();
    };
    bundle.privileged_application_lists.iter_mut().for_each(|list| readable(&mut list.policy.rules));
    bundle.allowlists.iter_mut().for_each(|list| readable(&mut list.policy.rules));
    bundle.blocklists.iter_mut().for_each(|list| readable(&mut list.policy.rules));
    bundle
}

fn application() -> Application {
    Application {
        path: OsText::from("/usr/bin/tool"),
        sha256: Sha256([1; 32]),
        size: 4096,
        owner: 0,
        mode: 0o755,
        lane: Lane::Trusted,
        interpreter: None,
        package: None,
        package_database: true,
        component: None,
    }
}

/// The first bytes of a file: a script's interpreter is named in them, without a line's end.
pub fn shebang(bytes: &[u8]) {
    if let Ok(Some(found)) = script::shebang(bytes) {
        assert!(bytes.starts_with(b"#!"));
        let name = found.interpreter.as_bytes();
        assert!(!name.is_empty() && !name.iter().any(|byte| b" \t\n\0".contains(byte)));
        let head = bytes.get(..script::HEAD).unwrap_or(bytes);
        assert!(head.windows(name.len()).any(|window| window == name));
    }
}

/// A Windows program: what it says of itself, and whether its signature, by whomever, is believed without any trust.
pub fn pe(bytes: &[u8]) {
    let Ok(pe) = windows::pe::Pe::read(bytes) else { return };
    let _ = windows::version::Version::of(&pe);
    let _ = windows::authenticode::claims(&pe);
    let trust = windows::Trust { authorities: &[], revoked: &[], now: Timestamp::from_millis(1 << 40) };
    assert!(windows::authenticode::verify(&pe, &trust).is_err(), "nobody is trusted");
}

/// A Windows Installer package, likewise.
pub fn msi(bytes: &[u8]) {
    let Ok(mut msi) = windows::msi::Msi::read(bytes) else { return };
    let _ = msi.summary();
    let trust = windows::Trust { authorities: &[], revoked: &[], now: Timestamp::from_millis(1 << 40) };
    assert!(msi.verify(&trust).is_err(), "nobody is trusted");
}

/// A whole file that somebody sends: whatever it is, what is told of it is bounded, and nobody vouches for it.
pub fn upload(bytes: &[u8]) {
    let trust = windows::Trust { authorities: &[], revoked: &[], now: Timestamp::from_millis(1 << 40) };
    let Ok(upload) = files::measure(&mut std::io::Cursor::new(bytes), &trust) else { return };
    assert_eq!(upload.size, bytes.len() as u64);
    assert!(upload.programs.len() <= 200 && upload.components.len() <= 200);
    assert!(upload.programs.iter().all(|program| program.path.as_bytes().starts_with(b"/")));
    let vendor = upload.package.as_ref().and_then(|package| package.vendor.as_ref());
    assert!(!vendor.is_some_and(|vendor| vendor.verified), "nobody is trusted");
    assert!(!upload.package.as_ref().is_some_and(|package| package.unmodified), "nobody is trusted");
    survives::<files::Upload>(&serde_json::to_vec(&upload).expect("it can be written"));
}

/// A signature of a program alone, with its time stamp: whatever it claims is read without a panic.
pub fn authenticode(bytes: &[u8]) {
    let _ = windows::authenticode::claims_of(bytes);
}

/// A file in which polkit's actions are defined: every name that is found is a plain one, and stands in it, in order.
pub fn polkit(bytes: &[u8]) {
    let mut rest = bytes;
    for name in actions::actions(bytes) {
        assert!(actions::is_name(name.as_bytes()));
        let at = rest.windows(name.len()).position(|window| window == name.as_bytes());
        rest = &rest[at.expect("it stands in the file, after those before it") + name.len()..];
    }
}

/// A file that says it is an ELF program.
pub fn elf(bytes: &[u8]) {
    let whole = elf::program(bytes);
    let mut pieces = 0usize;
    let in_pieces = elf::read(|offset, length| {
        pieces += 1;
        assert!(length <= 1 << 20, "a piece of at most 1 MiB");
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        Ok::<_, ()>(rest.get(..length).unwrap_or(rest).to_vec())
    });
    assert_eq!(whole.as_ref().ok(), in_pieces.as_ref().ok());
    // Reading must not cost more than the file is worth.
    assert!(pieces < 5_000, "{pieces} pieces");
    if let Ok(Some(interpreter)) = whole.map(|program| program.interpreter) {
        assert!(!interpreter.as_bytes().is_empty());
    }
}

/// What dpkg keeps: a paragraph, an empty line, then diversions, digests and names by turns, all from the same bytes.
pub fn dpkg(bytes: &[u8]) {
    let split = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (paragraph, rest) = bytes.split_at(split);
    let installed = packages::installed(paragraph);
    if let Some(installed) = &installed {
        // It becomes part of a file's name.
        let stem = installed.stem();
        assert!(!stem.contains('/') && !stem.starts_with('.') && !stem.contains('\0'));
        assert!(!installed.version.is_empty() && !installed.package(Some("x")).unmodified);
    }
    let links = vec![(b"/bin".to_vec(), b"/usr/bin".to_vec()), (b"/lib".to_vec(), b"/usr/lib".to_vec())];
    let names = Names::new(links, rest);
    for line in rest.split(|byte| *byte == b'\n').take(100) {
        let _ = packages::configuration_file(paragraph, line);
        if let Some((_, name)) = packages::digest_line(line) {
            assert!(!name.is_empty() && !name.starts_with(b"/"));
        }
        let package = installed.as_ref().map_or("tool", |installed| installed.name.as_str());
        let place = names.place(line, package);
        // Whatever a package recorded is found again at the place where it lies, and nothing is found that lies elsewhere.
        for name in names.recorded(&place, package) {
            assert_eq!(names.place(&name, package), place);
        }
    }
}

/// What apt keeps: a Release, an index, lists of sources.
pub fn apt(bytes: &[u8]) {
    if let Some(release) = lists::signed_release(bytes) {
        assert!(bytes.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----\n"));
        assert!(!release.origin.is_empty());
        assert!(release.indexes.keys().all(|name| name.ends_with("Packages")));
    }
    let _ = lists::release(bytes);
    let mut index = lists::Index::default();
    let found = bytes.split(|byte| *byte == b'\n').filter_map(|line| index.line(line)).count();
    assert!(found <= bytes.len());
    let _ = index.end();
    let text = String::from_utf8_lossy(bytes);
    for name in lists::trusted_blindly(&text).iter().chain(&lists::trusted_blindly_deb822(&text)) {
        assert!(!name.contains('/'));
    }
}

/// A file that says it is rpm's database.
pub fn rpm(bytes: &[u8]) {
    let mut read = 0;
    let opened = database::Database::open(|offset, length| {
        read += length;
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        Ok::<_, ()>(rest.get(..length).unwrap_or(rest).to_vec())
    });
    if let Ok(mut opened) = opened {
        for path in ["/usr/bin/tool", "/usr/share/second/file7", "/tool"] {
            let names = Names::new(Vec::new(), b"");
            if let Ok(Some(owned)) = database::owner(&mut opened, &OsText::from(path), &names) {
                assert!(!owned.package.unmodified);
                assert!(owned.package.vendor.is_none_or(|vendor| !vendor.verified));
            }
        }
    }
    assert!(read <= 128 << 20, "{read} bytes read");
}
