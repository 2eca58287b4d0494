//! Programs with windows: a real X server with a key to it, real X programs, and a setting in a list's editor between them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, until_true};
use elevon_e2e::policy::{folder, privileged};
use elevon_e2e::program::{Program, Ran, run};
use elevon_e2e::site::Site;
use elevon_policy::bounds::{Bounds, Display};
use elevon_policy::lists::{PrivilegedApplicationList, RunsAs, Terms, Way};
use elevon_policy::rule::Rule;

use crate::bounds::edited;

const KEY: [u8; 16] = *b"a key of sixteen";

/// alice's X server, which lets nobody in without the key.
struct Server {
    /// Such as `:99`.
    display: String,
    program: Program,
}

/// Killed, it would leave its socket behind.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.program.stop();
    }
}

/// An entry of a file of keys (libXau's `AuRead.c`): 256 is the family of this computer's name, 65535 that of any address.
fn entry(family: u16, address: &[u8], number: &str, key: &[u8]) -> Vec<u8> {
    let mut entry = family.to_be_bytes().to_vec();
    for field in [address, number.as_bytes(), b"MIT-MAGIC-COOKIE-1", key] {
        entry.extend(u16::try_from(field.len()).unwrap_or_default().to_be_bytes());
        entry.extend(field);
    }
    entry
}

fn hers(site: &Site, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = site.alice.home.join(name);
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    chown(&path, Some(site.alice.uid), Some(site.alice.gid))?;
    Ok(path)
}

/// Starts one, and puts the key to it where X programs look for it: among others that are for something else.
fn x_server(site: &Site) -> Result<Server> {
    // As it is after each boot; the server could make it, but as alice's.
    let sockets = Path::new("/tmp/.X11-unix");
    if fs::create_dir(sockets).is_ok() {
        fs::set_permissions(sockets, PermissionsExt::from_mode(0o1777))?;
    }
    let keys = hers(site, "server-keys", &entry(65535, b"", "", &KEY))?;
    let mut command = site.as_user(&site.alice, Path::new("/usr/bin/Xvfb"))?;
    command.args(["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp", "-auth"]).arg(keys);
    let mut program = Program::start("Xvfb", &mut command, &site.tree.join("logs"))?;
    let number: u16 = program.line("the number of its display", |line| line.trim().parse().ok())?;
    let (own, other) = (number.to_string(), (number + 1).to_string());
    let here = rustix::system::uname().nodename().to_bytes().to_vec();
    let keys = [
        entry(256, b"elsewhere", &own, b"key of elsewhere"),
        entry(256, &here, &other, b"key of the other"),
        entry(256, &here, &own, &KEY),
    ];
    hers(site, ".Xauthority", &keys.concat())?;
    Ok(Server { display: format!(":{number}"), program })
}

impl Server {
    /// This as alice, with her display.
    fn with(&self, mut command: std::process::Command) -> Result<Ran> {
        run(command.env("DISPLAY", &self.display), b"")
    }

    /// `elevon run -- …` as alice, on her display.
    fn elevated(&self, site: &Site, command: &[&str]) -> Result<Ran> {
        self.with(site.elevon(&site.alice, &[&["run", "--"], command].concat())?)
    }

    /// The windows that alice sees there.
    fn windows(&self, site: &Site) -> Result<String> {
        let mut command = site.as_user(&site.alice, Path::new("/usr/bin/xwininfo"))?;
        command.args(["-root", "-tree"]);
        Ok(self.with(command)?.expect(0).text())
    }
}

/// Real X programs in a folder of the site's, such as `windows/xev`.
fn x_programs(site: &Site, into: &str) -> Result<PathBuf> {
    let folder = site.programs.join(into);
    fs::create_dir(&folder)?;
    for program in ["xdpyinfo", "xev"] {
        fs::copy(Path::new("/usr/bin").join(program), folder.join(program))?;
    }
    Ok(folder)
}

#[test]
fn a_program_with_windows_gets_to_its_users_display_where_the_list_says_so() -> Result<()> {
    let site = Site::start()?;
    site.account("administrator", "administrator")?;
    let server = x_server(&site)?;
    let tools = x_programs(&site, "windows")?;
    let path = |name: &str| tools.join(name).to_string_lossy().into_owned();
    let (xdpyinfo, xev) = (path("xdpyinfo"), path("xev"));
    let list: PrivilegedApplicationList = PrivilegedApplicationList {
        elevate: Way::Automatic,
        ..privileged("Programs with windows", vec![folder(&tools, false)?])?
    };
    let id = site.deploy(&list)?;

    // alice herself gets there; root does not, neither by itself nor where it is told which display.
    server.with(site.as_user(&site.alice, &tools.join("xdpyinfo"))?)?.expect(0);
    let explained =
        || run(&mut site.elevon(&site.alice, &["explain", "--", &xdpyinfo]).unwrap(), b"").unwrap().text();
    until_true("the computer to have the list", SOON, || explained().contains("Runs as root"))?;
    server.elevated(&site, &[&xdpyinfo])?.expect(1).says("unable to open display \"\"");
    let refused = server.elevated(&site, &[&xdpyinfo, "-display", &server.display])?.expect(1);
    let refused = refused.says("unable to open display");
    ensure!(refused.err.contains("Authorization required"), "the X server refuses it: {}", refused.err);

    edited(&site, &id, &[("display", "of_the_user")])?;
    until_true("the computer to have it", SOON, || explained().contains("root, on the user's display"))
        .with_context(explained)?;
    ensure!(explained().contains("type into them"), "{}", explained());
    let editor =
        site.signed_in("administrator")?.open(&format!("/privileged-application-lists/{id}"))?.text();
    ensure!(editor.contains("Wider than it looks") && editor.contains("type into them"), "{editor}");

    server
        .elevated(&site, &[&xdpyinfo])?
        .expect(0)
        .prints(&format!("name of display:    {}", server.display));
    ensure!(!server.windows(&site)?.contains("Event Tester"));
    let mut command = site.elevon(&site.alice, &["run", "--", &xev])?;
    let mut running =
        Program::start("elevon", command.env("DISPLAY", &server.display), &site.tree.join("logs"))?;
    until_true("its window to show", SOON, || server.windows(&site).unwrap().contains("Event Tester"))
        .with_context(|| running.log())?;
    let started = site.api.event("launch.started", |event| event.text("/path") == xev)?;
    ensure!(started.data["runs_as"].is_null() || started.data["runs_as"] == "root", "{}", started.data);
    let own = site.tree.join("run/displays").join(started.text("/launch"));
    ensure!(own.join("Xauthority").exists(), "{} is not there", own.display());
    running.signal(rustix::process::Signal::TERM)?;
    running.exit(SOON)?;
    until_true("its window to go", SOON, || !server.windows(&site).unwrap().contains("Event Tester"))?;
    until_true("its key to go", SOON, || !own.exists())?;

    // Where there is nothing to be on, it is told and runs without.
    let mut without = site.elevon(&site.alice, &["run", "--", &xdpyinfo])?;
    let told = run(without.env("DISPLAY", "elsewhere:0"), b"")?.expect(1);
    told.says("elevon: no X display: expected DISPLAY to name one of this computer")
        .says("unable to open display \"\"");
    Ok(())
}

#[test]
fn a_program_of_the_same_user_has_a_key_of_its_own_too() -> Result<()> {
    let site = Site::start()?;
    let server = x_server(&site)?;
    let tools = x_programs(&site, "windows")?;
    let xdpyinfo = tools.join("xdpyinfo").to_string_lossy().into_owned();
    let bounds =
        Bounds { display: Display::OfTheUser, capabilities: "net_raw".parse()?, ..Bounds::default() };
    let terms = Terms { runs_as: RunsAs::SameUser, bounds, ..Terms::default() };
    let rule = Rule { elevate: Some(Way::Automatic), terms: Some(terms), ..folder(&tools, false)? };
    site.deploy(&privileged("Programs with windows", vec![rule])?)?;
    let explained =
        || run(&mut site.elevon(&site.alice, &["explain", "--", &xdpyinfo]).unwrap(), b"").unwrap().text();
    until_true("the computer to have the list", SOON, || explained().contains("on the user's display"))
        .with_context(explained)?;
    // The client looks where XAUTHORITY says, and else at home, where there is none now.
    fs::rename(site.alice.home.join(".Xauthority"), site.alice.home.join("keys"))?;
    let mut command = site.elevon(&site.alice, &["run", "--", &xdpyinfo])?;
    command.env("DISPLAY", &server.display).env("XAUTHORITY", site.alice.home.join("keys"));
    run(&mut command, b"")?.expect(0).prints(&format!("name of display:    {}", server.display));
    server.elevated(&site, &[&xdpyinfo])?.expect(1).says("no X display: expected a key");
    Ok(())
}
