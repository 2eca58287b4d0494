//! *Add from file*: what is sent, measured and offered, over the API and in a list's editor.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{Request, header};
use elevon_policy::text::Text;
use elevon_server::auth::Role;
use elevon_server::{accounts, uploads};
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use serde_json::{Value, json};

use crate::site::{Answer, PASSWORD, Site};

crate::on_both_engines!(
    a_program_is_known_by_its_bytes,
    a_package_offers_what_lasts_first,
    a_package_without_a_vendor_leaves_it_to_whoever_writes_the_rule,
    what_cannot_be_measured_is_refused_with_its_cause,
    only_so_many_files_arrive_at_once,
    only_administrators_send_files_and_only_from_here,
    the_editor_keeps_its_draft_and_takes_the_chosen_rule,
    the_editor_says_beside_the_file_why_it_was_refused,
);

const PROGRAM: &str = "/usr/bin/true";

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kinds(answer: &Value, possible: bool) -> Vec<&str> {
    let offers = answer["offers"].as_array().unwrap().iter();
    let offers = offers.filter(|offer| offer["rules"].as_array().unwrap().is_empty() != possible);
    offers.map(|offer| offer["type"].as_str().unwrap()).collect()
}

fn offer<'a>(answer: &'a Value, kind: &str) -> &'a Value {
    answer["offers"].as_array().unwrap().iter().find(|offer| offer["type"] == kind).unwrap()
}

/// A package as dpkg-deb makes it, with a program, a library, and the definition of a component.
fn deb(control: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let put = |path: &str, mode: u32, content: &[u8]| {
        use std::os::unix::fs::PermissionsExt;
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    put("DEBIAN/control", 0o644, format!("Package: acme-tools\nVersion: 1.2-3\nArchitecture: amd64\nMaintainer: A <a@example.org>\nSource: acme\nDescription: tools\n{control}").as_bytes());
    put("usr/bin/acme", 0o755, &fs::read(PROGRAM).unwrap());
    put("usr/lib/acme/helper", 0o755, b"#!/bin/sh\n");
    put("usr/lib/acme/libacme.so", 0o644, &fs::read(PROGRAM).unwrap());
    put("usr/share/polkit-1/actions/acme.policy", 0o644, b"<action id=\"org.example.acme.repair\"/>");
    put("usr/share/doc/acme/copyright", 0o644, b"free");
    let file = folder.path().join("acme.deb");
    let built = Command::new("dpkg-deb")
        .args(["--build", "--root-owner-group"])
        .args([&root, &file])
        .stdout(Stdio::null())
        .status()
        .expect("dpkg-deb is installed");
    assert!(built.success());
    fs::read(file).unwrap()
}

async fn a_program_is_known_by_its_bytes(site: Site) {
    let token = site.token(Role::Administrator).await;
    let program = fs::read(PROGRAM).unwrap();
    let answer = site.upload(&token, "C:%5Ctools%5C%3Cb%3Etrue", program.clone()).await.ok();
    assert_eq!(answer["name"], "<b>true");
    assert_eq!((&answer["format"], &answer["size"]), (&json!("elf"), &json!(program.len())));
    assert_eq!(kinds(&answer, true), ["file_hash"]);
    assert_eq!(kinds(&answer, false), ["verified_executable", "product", "vendor", "clsid", "folder_path"]);
    let recognises = offer(&answer, "file_hash")["rules"][0]["recognises"].clone();
    let expected = json!({ "type": "file_hash", "sha256": sha256(&program), "display_name": "<b>true" });
    assert_eq!(recognises, expected);
    // What is offered can be saved as it is.
    let list = json!({ "name": "Tools", "enabled": true, "rules": [{ "recognises": recognises }] });
    site.post(&token, "allowlists", list).await.ok();
    let script = site.upload(&token, "x.sh", &b"#!/usr/bin/env -S python3\nprint()\n"[..]).await.ok();
    assert_eq!((&script["format"], &script["interpreter"]), (&json!("script"), &json!("/usr/bin/env")));
    assert!(fs::read_dir(site.state_dir().join("uploads")).unwrap().next().is_none(), "nothing is kept");
}

async fn a_package_offers_what_lasts_first(site: Site) {
    let token = site.token(Role::Administrator).await;
    let answer = site.upload(&token, "acme.deb", deb("Vendor: Acme Inc.\n")).await.ok();
    assert_eq!(answer["package"]["product"], "acme");
    assert_eq!(answer["package"]["vendor"], json!({ "name": "Acme Inc.", "verified": false }));
    let all = ["verified_executable", "product", "vendor", "clsid", "folder_path", "file_hash"];
    assert_eq!(kinds(&answer, true), all);
    let rule = |kind: &str, number: usize| offer(&answer, kind)["rules"][number]["recognises"].clone();
    for (kind, number, expected) in [
        ("verified_executable", 0, json!({ "product": "acme", "vendor": "Acme Inc.", "file_name": "acme" })),
        (
            "verified_executable",
            1,
            json!({ "product": "acme", "vendor": "Acme Inc.", "file_name": "helper" }),
        ),
        ("product", 0, json!({ "product": "acme", "vendor": "Acme Inc." })),
        ("vendor", 0, json!({ "vendor": "Acme Inc.", "verified": false })),
        ("clsid", 0, json!({ "component": "org.example.acme.repair" })),
        ("folder_path", 0, json!({ "path": "/usr/bin", "with_subfolders": false })),
        ("folder_path", 1, json!({ "path": "/usr/lib/acme", "with_subfolders": false })),
        ("file_hash", 0, json!({ "sha256": sha256(&fs::read(PROGRAM).unwrap()), "display_name": "acme" })),
    ] {
        let mut expected = expected;
        expected["type"] = json!(kind);
        assert_eq!(rule(kind, number), expected);
    }
    assert_eq!(rule("file_hash", 2), Value::Null, "a library is no program");
    for kind in ["verified_executable", "product", "vendor"] {
        let sentence = offer(&answer, kind)["sentence"].as_str().unwrap();
        assert!(sentence.contains("No signature stands behind"), "{sentence}");
    }
}

async fn a_package_without_a_vendor_leaves_it_to_whoever_writes_the_rule(site: Site) {
    let token = site.token(Role::Administrator).await;
    let answer = site.upload(&token, "acme.deb", deb("")).await.ok();
    assert_eq!(kinds(&answer, true), ["clsid", "folder_path", "file_hash"]);
    let sentence = offer(&answer, "product")["sentence"].as_str().unwrap();
    assert!(sentence.contains("names no vendor"), "{sentence}");
}

async fn what_cannot_be_measured_is_refused_with_its_cause(site: Site) {
    let token = site.token(Role::Administrator).await;
    let program = fs::read(PROGRAM).unwrap();
    let package = deb("");
    let cases: [(&[u8], &str); 9] = [
        (b"", "it is empty"),
        (b"hello", "neither a program nor a package"),
        (b"#!\n", "interpreter"),
        (&program[..program.len() / 8], "ELF"),
        (&package[..package.len() / 2], "cut short"),
        (b"!<arch>\n", "no Debian package"),
        (&[0xed, 0xab, 0xee, 0xdb, 3, 0, 0, 0], "cut short"),
        (b"MZ", "no Windows program"),
        (&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, 0], "no Windows Installer package"),
    ];
    for (file, told) in cases {
        let answer = site.upload(&token, "x", file.to_vec()).await;
        assert_eq!(answer.json()["field"], "file", "{}", answer.text());
        answer.refused(422, told);
    }
    let request = Request::post("/api/v1/uploads")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_LENGTH, (uploads::LARGEST + 1).to_string())
        .body(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()));
    site.send(request.unwrap()).await.refused(413, "more than 512 MB");
    let broken = stream::iter([Ok(Bytes::from(program)), Err(std::io::Error::other("gone"))]);
    site.upload(&token, "x", Body::from_stream(broken)).await.refused(422, "did not arrive as a whole");
}

fn packed(content: &[u8]) -> Vec<u8> {
    let mut gzip =
        Command::new("gzip").arg("-1c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut into = gzip.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || into.write_all(content).unwrap());
        gzip.wait_with_output().unwrap().stdout
    })
}

/// The header of a file in a tar archive.
fn entry(name: &str, mode: &str, size: u64) -> Vec<u8> {
    let mut header = name.as_bytes().to_vec();
    header.resize(100, 0);
    header.extend(format!("{mode:0>7}\0{0:07}\0{0:07}\0{size:011o}\0{0:011}\0        0", 0).as_bytes());
    header.resize(512, 0);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// A package with a program of 7 GB, all zeros: some 20 MB. gzip may be written piece by piece, so one piece does for all.
fn bomb() -> Vec<u8> {
    const PIECE: usize = 64 << 20;
    let begin = [entry("usr/bin/x", "755", 7 << 30), b"\x7fELF".to_vec()].concat();
    let data = [packed(&begin), packed(&vec![0; PIECE]).repeat((5 << 30) / PIECE)].concat();
    let control = b"Package: x\nVersion: 1\nArchitecture: all\n";
    let mut control = [entry("control", "644", control.len() as u64), control.to_vec()].concat();
    control.resize(2048, 0);
    let members = [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control), ("data.tar.gz", &data)];
    let mut file = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let size = content.len();
        file.extend(format!("{name:<16}{0:<12}{0:<6}{0:<6}{1:<8}{size:<10}`\n", 0, 100_644).as_bytes());
        file.extend(content);
        file.resize(file.len().next_multiple_of(2), b'\n');
    }
    file
}

/// It takes a while, and no database has a part in it.
#[tokio::test]
async fn what_unpacks_without_end_is_given_up() {
    let site = Site::on_sqlite().await;
    let token = site.token(Role::Administrator).await;
    let begun = Instant::now();
    let answer = site.upload(&token, "bomb.deb", bomb()).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let told = answer.text();
    assert!(told.contains("more than 4 GB, unpacked") || told.contains("takes longer than"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(180));
}

async fn only_so_many_files_arrive_at_once(site: Site) {
    let token = site.token(Role::Administrator).await;
    let (going, waiting) = tokio::sync::watch::channel(false);
    let slow = || {
        let mut waiting = waiting.clone();
        let end = stream::once(async move {
            let _ = waiting.wait_for(|gone| *gone).await;
            Err::<Bytes, _>(std::io::Error::other("gone"))
        });
        Body::from_stream(stream::iter([Ok(Bytes::from_static(b"#!"))]).chain(end))
    };
    let mut several: FuturesUnordered<_> = (0..5).map(|_| site.upload(&token, "slow", slow())).collect();
    several.next().await.unwrap().refused(429, "try again in a moment");
    going.send_replace(true);
    while let Some(answer) = several.next().await {
        answer.refused(422, "did not arrive as a whole");
    }
    site.upload(&token, "x", &b"#!/bin/sh\n"[..]).await.ok();
    assert!(fs::read_dir(site.state_dir().join("uploads")).unwrap().next().is_none(), "nothing is left");
}

async fn only_administrators_send_files_and_only_from_here(site: Site) {
    for role in [Role::Approver, Role::Auditor] {
        let token = site.token(role).await;
        site.upload(&token, "x", &b"#!/bin/sh\n"[..]).await.refused(403, "needs the role");
    }
    site.upload("nonsense", "x", &b"#!/bin/sh\n"[..]).await.refused(401, "not signed in");
    let cookie = sign_in(&site).await;
    let sent = multipart(&[("name", "x")], "x", b"#!/bin/sh\n");
    let foreign =
        editor(&cookie, "/allowlists/new/measure", &sent).header(header::ORIGIN, "https://evil.example");
    site.send(foreign.body(Body::from(sent)).unwrap()).await.refused(403, "another site");
}

async fn sign_in(site: &Site) -> String {
    let name = Text::new("ada");
    accounts::create(&site.app, &site.owner(), name.clone(), Role::Administrator, Vec::new(), PASSWORD)
        .await
        .unwrap();
    accounts::sign_in(&site.app, &name, PASSWORD, None).await.unwrap().secret
}

const BOUNDARY: &str = "----between";

fn multipart(fields: &[(&str, &str)], file_name: &str, file: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .as_bytes(),
        );
    }
    body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file_name}\"\r\nContent-Type: image/png\r\n\r\n").as_bytes());
    body.extend(file);
    body.extend(format!("\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"description\"\r\n\r\nafter the file\r\n--{BOUNDARY}--\r\n").as_bytes());
    body
}

fn editor(cookie: &str, path: &str, sent: &[u8]) -> axum::http::request::Builder {
    Request::post(path)
        .header(header::COOKIE, format!("__Host-elevon={cookie}"))
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
        .header(header::CONTENT_LENGTH, sent.len().to_string())
}

async fn measure(site: &Site, cookie: &str, path: &str, sent: Vec<u8>) -> Answer {
    site.send(editor(cookie, path, &sent).body(Body::from(sent)).unwrap()).await
}

/// The value of a hidden field.
fn hidden(page: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let value = page.split_once(&start).unwrap().1.split_once('"').unwrap().0;
    value.replace("&#34;", "\"").replace("&#60;", "<").replace("&#62;", ">").replace("&#38;", "&")
}

async fn the_editor_keeps_its_draft_and_takes_the_chosen_rule(site: Site) {
    let cookie = sign_in(&site).await;
    let draft =
        [("name", "My tools"), ("enabled", "yes"), ("rules.0.type", "vendor"), ("rules.0.vendor", "Debian")];
    let sent = multipart(&draft, "acme<img src=x>.deb", &deb("Origin: Acme\n"));
    let page = measure(&site, &cookie, "/allowlists/new/measure", sent).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let page = page.text();
    for shown in [
        "My tools",
        "after the file",
        "Debian",
        "A Debian package",
        "Verified executable",
        "/usr/lib/acme/helper",
        "nothing vouches for",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(!page.contains("<img"), "a name from outside is text");
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let measured = encode(&hidden(&page, "measured"));
    let fields = format!(
        "name=My+tools&rules.0.type=vendor&rules.0.vendor=Debian&measured={measured}&choice.verified_executable=1&act=choose.verified_executable"
    );
    let page = site.form(Some(&cookie), "/allowlists/new", &fields).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let page = page.text();
    assert_eq!(hidden(&page, "rules.1.type"), "verified_executable");
    assert!(
        page.contains("value=\"helper\"")
            && page.contains("value=\"Acme\"")
            && page.contains("value=\"Debian\"")
    );
    assert!(!page.contains("name=\"measured\""), "the file is done with");
    // A list of another kind, or none at all, is not found.
    let nowhere = "/blocklists/0193b3e2-7c5a-7d10-9c1e-3f2a5b6c7d8e/measure";
    let sent = multipart(&draft, "x", b"#!/bin/sh\n");
    assert_eq!(measure(&site, &cookie, nowhere, sent.clone()).await.status, 404);
    let token = site.token(Role::Administrator).await;
    let list = json!({ "name": "Tools", "enabled": true, "rules": [] });
    let id = site.post(&token, "allowlists", list).await.ok()["id"].as_str().unwrap().to_owned();
    assert_eq!(measure(&site, &cookie, &format!("/blocklists/{id}/measure"), sent.clone()).await.status, 404);
    let page = measure(&site, &cookie, &format!("/allowlists/{id}/measure"), sent).await;
    assert!(page.status == 200 && page.text().contains("A script"), "{}", page.text());
    // What stands in the form can be forged; it is worth what a rule written by hand is, and nothing if it cannot be read.
    let page =
        site.form(Some(&cookie), "/allowlists/new", "name=x&measured=%7B%7D&act=choose.file_hash").await;
    assert!(page.status == 200 && !page.text().contains("rules.0"), "{}", page.text());
}

async fn the_editor_says_beside_the_file_why_it_was_refused(site: Site) {
    let cookie = sign_in(&site).await;
    for (name, file, told) in [
        ("x.txt", &b"hello"[..], "It is neither a program nor a package"),
        ("", b"", "Choose a file first."),
        ("x", b"\x7fELF", "ELF"),
    ] {
        let page = measure(
            &site,
            &cookie,
            "/allowlists/new/measure",
            multipart(&[("name", "My tools")], name, file),
        )
        .await;
        assert_eq!(page.status, 422);
        let page = page.text();
        let beside = page.split_once("id=\"file-wrong\"").unwrap().1.split_once("</p>").unwrap().0;
        assert!(beside.contains(told), "{beside}");
        assert!(page.contains("My tools") && page.contains("after the file"), "the draft is kept");
        assert!(!page.contains("Not saved"));
    }
}

/// The process that measures, on a file of 512 MB that takes it a while, and that takes no room on the disk.
fn measurer(first: &[u8]) -> std::process::Child {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(first).unwrap();
    file.set_len(uploads::LARGEST).unwrap();
    Command::new(env!("CARGO_BIN_EXE_elevon-server"))
        .args(["measure", "1795620287000"])
        .stdin(file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn whoever_measures_has_no_rights_and_little_of_everything() {
    let script = b"#!/bin/sh\n";
    let mut measuring = measurer(script);
    let about =
        |what: &str| fs::read_to_string(format!("/proc/{}/{what}", measuring.id())).unwrap_or_default();
    let begun = Instant::now();
    let status = loop {
        let status = about("status");
        if status.contains("Seccomp:\t2") {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it confines itself: {status}");
    };
    let limits = about("limits");
    for line in ["NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert!(!status.contains("Uid:\t0\t"), "{status}");
    for (name, most) in [
        ("Max cpu time", "60"),
        ("Max file size", "0"),
        ("Max core file size", "0"),
        ("Max processes", "0"),
        ("Max address space", "1073741824"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        let words: Vec<_> = line.trim_start_matches(name).split_whitespace().take(2).collect();
        assert_eq!(words, [most, most], "{line}");
    }
    let mut told = String::new();
    std::io::Read::read_to_string(&mut measuring.stdout.take().unwrap(), &mut told).unwrap();
    assert!(measuring.wait().unwrap().success());
    assert!(told.contains("\"format\":\"script\""), "{told}");
}

#[test]
fn the_largest_file_of_windows_fits_into_its_memory() {
    for (first, told) in [
        (&b"MZ"[..], "no Windows program"),
        (&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1], "no Windows Installer package"),
    ] {
        let answer = measurer(first).wait_with_output().unwrap();
        let answer = String::from_utf8(answer.stdout).unwrap();
        assert!(answer.contains(told), "{answer}");
    }
}
