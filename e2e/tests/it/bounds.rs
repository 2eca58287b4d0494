//! From a setting in a list's editor to a program that is kept to it, and to what the record says of that.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, until_true};
use elevon_e2e::program::{Program, run};
use elevon_e2e::site::Site;
use elevon_policy::lists::{AppliesTo, PrivilegedApplicationList, Way};
use serde_json::{Value, json};

use elevon_e2e::policy::{folder, privileged};

/// `elevon …` as alice, from a folder that contained programs see.
fn from_the_root(site: &Site, arguments: &[&str]) -> Result<std::process::Command> {
    let mut command = site.elevon(&site.alice, arguments)?;
    command.current_dir("/");
    Ok(command)
}

/// Saves a list with these settings in its editor, and deploys it as it was deployed before.
pub(crate) fn edited(site: &Site, id: &str, settings: &[(&str, &str)]) -> Result<()> {
    let mut administrator = site.signed_in("administrator")?;
    let page = administrator.open(&format!("/privileged-application-lists/{id}"))?;
    let mut form = page.form_to(&format!("/privileged-application-lists/{id}"))?;
    for (name, value) in settings {
        form = form.set(&format!("terms.{name}"), value)?;
    }
    administrator.must_submit(form)?;
    let stored = site.api.read(&format!("privileged-application-lists/{id}"))?;
    let version = stored["document"]["version"].clone();
    let groups: Vec<Value> = site.api.list("groups")?.into_iter().map(|group| group["id"].clone()).collect();
    let deploy = format!("privileged-application-lists/{id}/deploy");
    site.api.post(&deploy, &json!({ "version": version, "groups": groups }))?;
    Ok(())
}

#[test]
fn a_setting_in_the_editor_is_what_the_program_is_kept_to() -> Result<()> {
    let site = Site::start()?;
    let data = site.programs.join("data");
    fs::create_dir(&data)?;
    let tools = site.programs.join("tools");
    fs::create_dir(&tools)?;
    fs::copy("/usr/bin/bash", tools.join("bash"))?;
    let bash = tools.join("bash").to_string_lossy().into_owned();
    let list: PrivilegedApplicationList = privileged("Kept tools", vec![folder(&tools, false)?])?;
    ensure!(list.elevate == Way::Approval && list.applies_to == AppliesTo::SpecificApplications);
    let id = site.deploy(&list)?;
    let settings = [
        ("containment", "contained"),
        ("writable", &*data.to_string_lossy()),
        ("capabilities", "net_raw"),
        ("children", "denied"),
        ("processes", "20"),
    ];
    site.account("administrator", "administrator")?;
    site.account("auditor", "auditor")?;
    edited(&site, &id, &settings)?;
    let explained =
        || run(&mut from_the_root(&site, &["explain", "--", &bash]).unwrap(), b"").unwrap().text();
    until_true("the computer to have it", SOON, || {
        explained().contains("root, contained, without child processes")
    })
    .with_context(explained)?;
    let told = explained();
    for words in [
        &*data.to_string_lossy(),
        "What it reads, and the network, are not limited",
        "net_raw",
        "20 processes",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }

    // Who said as whom it is to run has nothing else run.
    let asks = ["run", "--for", "5m", "--justification", "to see it kept", "--"];
    let script = format!(
        "echo kept >{0}/told; echo out >/etc/elevon-was-here; /bin/true; echo went on",
        data.display()
    );
    let otherwise = [&["run", "--as", "self"], &asks[1..], &[&bash, "-c", &script]].concat();
    run(&mut from_the_root(&site, &otherwise)?, b"")?.expect(125).says("not what --as says");
    let mut command =
        from_the_root(&site, &[&["run", "--as", "root"], &asks[1..], &[&bash, "-c", &script]].concat())?;
    let mut asking = Program::start("elevon", &mut command, &site.tree.join("logs"))?;

    // Whoever decides reads what it is kept to.
    let request = site.api.pending("bash").with_context(|| asking.log())?;
    let mut approver = site.signed_in("approver")?;
    let page = approver.open(&format!("/requests/{request}"))?.text();
    assert!(page.contains("as root, contained, without child processes"), "{page}");
    assert!(page.contains("Of root’s capabilities") || page.contains("net_raw"), "{page}");
    assert!(!page.contains("Equals root"), "{page}");
    approver.approve(&request, None, "go ahead")?;
    let ran = asking.exit(SOON)?;
    assert!(ran.err.contains("fork: Operation not permitted"), "{}{}", ran.text(), ran.err);
    assert_eq!(fs::read_to_string(data.join("told"))?, "kept\n");
    assert!(!Path::new("/etc/elevon-was-here").exists());

    // The record says which layers held it, and the report tells.
    let started = site.api.event("launch.started", |_| true)?;
    let layers = |name: &str| started.data["layers"][name].clone();
    for layer in ["pid_namespace", "mount_namespace", "system_calls", "no_new_privileges", "one_process"] {
        assert_eq!(layers(layer), true, "{layer}: {}", started.data);
    }
    assert!(layers("landlock").as_u64() >= Some(6), "{}", started.data);
    assert_eq!(layers("capabilities"), json!(["net_raw"]));
    assert!(!layers("process_limit").is_null(), "{}", started.data);
    let report = site.signed_in("auditor")?.open("/events?kind=launch.started")?.text();
    for words in ["ran bash as root, contained", "mount namespace", "one process only", "Landlock"] {
        assert!(report.contains(words), "{words}: {report}");
    }
    Ok(())
}
