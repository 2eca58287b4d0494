//! The display of the user: what a caller names as it, and a root program must neither open nor follow.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, Stopwatch, until_true};
use elevon_e2e::person::Person;
use elevon_e2e::program::run;
use elevon_policy::text::OsText;
use elevon_wire::conversation::{FromClient, Run};
use serde_json::{Value, json};

use crate::environment::{only_what_is_stated, seen};
use crate::ground::{Ground, Said, asked, json as frame, message};

crate::cases! {
    Shared without_the_setting_nothing_of_a_display_arrives,
    Shared displays_that_are_none_of_this_computer_are_left_out,
    Shared a_key_file_of_the_callers_choice_is_nothing_root_opens,
    Shared a_key_of_another_form_is_no_message,
    Shared sockets_that_are_not_the_users_own_are_left_out,
    Shared what_a_display_needs_is_roots_and_goes_with_the_launch,
}

const KEY: [u8; 16] = *b"sixteen bytes of";

/// An entry of a file of keys (libXau's `AuRead.c`).
fn entry(number: &str) -> Vec<u8> {
    let mut entry = vec![0xff, 0xff];
    for field in [&b""[..], number.as_bytes(), b"MIT-MAGIC-COOKIE-1", &KEY] {
        entry.extend(u16::try_from(field.len()).unwrap_or_default().to_be_bytes());
        entry.extend(field);
    }
    entry
}

/// A client that names these variables and hands over a key, whoever it has it from.
fn says(ground: &Ground, program: &str, variables: &[(&str, &[u8])], key: bool) -> Result<Said> {
    let mut run: Run = asked(ground.path(program), &[]);
    run.environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), OsText::new(*value))).collect();
    run.cookie = key.then(|| serde_json::from_value(json!(KEY))).transpose()?;
    ground.says(&ground.site.alice, &[], &message(&FromClient::Run(Box::new(run))))
}

/// The program ran, and has nothing of a display; somebody was told why.
fn nothing_of_it(said: &Said, told: &str) -> Result<()> {
    only_what_is_stated(&seen(&said.text())?, &[])?;
    let notices: Vec<Value> =
        said.messages().into_iter().filter(|message| message["message"] == "notice").collect();
    let says = |notice: &Value| notice["text"].as_str().is_some_and(|text| text.contains(told));
    ensure!(notices.iter().any(says), "expected to be told “{told}”: {notices:?}");
    Ok(())
}

fn without_the_setting_nothing_of_a_display_arrives(ground: &mut Ground) -> Result<String> {
    let runtime = format!("/run/user/{}", ground.site.alice.uid);
    let named: [(&str, &[u8]); 4] = [
        ("DISPLAY", b":0"),
        ("XAUTHORITY", b"/etc/shadow"),
        ("WAYLAND_DISPLAY", b"wayland-0"),
        ("XDG_RUNTIME_DIR", runtime.as_bytes()),
    ];
    for program in ["free/probe", "capable/probe", "alone/probe"] {
        let said = says(ground, program, &named, true)?;
        only_what_is_stated(&seen(&said.text())?, &[])?;
        ensure!(said.messages().iter().all(|message| message["message"] != "notice"), "{}", said.text());
    }
    ensure!(fs::read_dir(ground.site.tree.join("run/displays"))?.next().is_none(), "something was laid down");
    ground.recorded(&[("launch.started", ""); 3])?;
    Ok("root, the same user and one without children have none of the four".into())
}

fn displays_that_are_none_of_this_computer_are_left_out(ground: &mut Ground) -> Result<String> {
    let values: [&[u8]; 17] = [
        b"",
        b":",
        b"evil.example:0",
        b"127.0.0.1:0",
        b"localhost:10.0",
        b"tcp/evil.example:0",
        b"unix:0",
        b"/tmp/evil:0",
        b":0/../../tmp/evil",
        b":0.0.0",
        b":-1",
        b":99999",
        b":0\n:1",
        b":0\0",
        b":\xff",
        b"$(id):0",
        b":00000000000000000000000",
    ];
    // The last one is nothing but a zero.
    let (zero, none) = values.split_last().context("there are some")?;
    for value in none {
        let said = says(ground, "on-display/probe", &[("DISPLAY", value)], true)?;
        nothing_of_it(&said, "no X display: expected DISPLAY").with_context(|| format!("{value:?}"))?;
    }
    let said = says(ground, "on-display/probe", &[("DISPLAY", zero)], true)?;
    ensure!(seen(&said.text())?["DISPLAY"] == ":0", "{}", said.text());
    // Without a key it would be whatever the server lets root do by itself.
    nothing_of_it(&says(ground, "on-display/probe", &[("DISPLAY", b":0")], false)?, "expected a key")?;
    // The first of two counts, as for any variable.
    let twice: [(&str, &[u8]); 2] = [("DISPLAY", b"evil.example:0"), ("DISPLAY", b":0")];
    nothing_of_it(&says(ground, "on-display/probe", &twice, true)?, "expected DISPLAY")?;
    ground.recorded(&vec![("launch.started", ""); values.len() + 2])?;
    Ok(format!("{} values", none.len()))
}

fn a_key_file_of_the_callers_choice_is_nothing_root_opens(ground: &mut Ground) -> Result<String> {
    let place = |name: &str| ground.home(name);
    let his = ground.site.bob.home.join("keys");
    fs::write(&his, entry("0"))?;
    fs::set_permissions(&his, PermissionsExt::from_mode(0o600))?;
    chown(&his, Some(ground.site.bob.uid), Some(ground.site.bob.gid))?;
    let (pipe, link, shadow, huge) = (place("pipe"), place("link"), place("shadow"), place("huge"));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )?;
    symlink(&his, &link)?;
    symlink("/etc/shadow", &shadow)?;
    fs::write(&huge, entry("0"))?;
    File::options().write(true).open(&huge)?.set_len(1 << 30)?;
    let elsewhere: Vec<PathBuf> =
        ["/etc/shadow", "/dev/zero", "/dev/tty", "/proc/kmsg", "/", "", "/nonexistent"]
            .map(PathBuf::from)
            .into();
    let paths =
        [&elsewhere[..], &[pipe.clone(), link.clone(), shadow.clone(), huge.clone(), his.clone()]].concat();
    let probe = ground.path("on-display/probe");
    for path in &paths {
        let began = Stopwatch::start();
        let mut command = ground.site.elevon(&ground.site.alice, &["run", "--", &probe])?;
        let ran = run(command.env("DISPLAY", ":0").env("XAUTHORITY", path), b"")?.expect(0);
        ensure!(began.elapsed() < Duration::from_secs(5), "{} kept it waiting", path.display());
        only_what_is_stated(&seen(&ran.text())?, &["LANG", "TERM"])?;
        ensure!(ran.err.contains("no X display: expected a key"), "{}: {}", path.display(), ran.err);
    }
    // A client that is none of ours names the file itself: nobody opens it, with a key or without.
    for (name, value) in [("XAUTHORITY", "/etc/shadow"), ("XAUTHORITY", &*pipe.to_string_lossy())] {
        let named: [(&str, &[u8]); 2] = [("DISPLAY", b":0"), (name, value.as_bytes())];
        nothing_of_it(&says(ground, "on-display/probe", &named, false)?, "expected a key")?;
        let said = says(ground, "on-display/probe", &named, true)?;
        let file = seen(&said.text())?.get("XAUTHORITY").cloned().unwrap_or_default();
        let own = ground.site.tree.join("run/displays");
        ensure!(Path::new(&file).starts_with(&own), "{file} is not the elevator's own");
    }
    for path in [pipe, link, shadow, huge, his] {
        fs::remove_file(path)?;
    }
    ground.recorded(&vec![("launch.started", ""); paths.len() + 4])?;
    Ok(format!("{} files that are no key, or none of hers", paths.len()))
}

fn a_key_of_another_form_is_no_message(ground: &mut Ground) -> Result<String> {
    let mut run =
        serde_json::to_value(FromClient::Run(Box::new(asked(ground.path("on-display/probe"), &[]))))?;
    run["environment"] = json!([["DISPLAY", ":0"]]);
    let keys = [
        json!(vec![0; 15]),
        json!(vec![0; 17]),
        json!(vec![256; 16]),
        json!(vec![-1; 16]),
        json!("sixteen bytes of"),
        json!({}),
        json!([]),
    ];
    for key in &keys {
        run["cookie"] = key.clone();
        let said = ground.says(&ground.site.alice, &[], &frame(&run.to_string()))?;
        ensure!(!said.started(), "{key} was taken: {}", said.text());
    }
    ground.nothing_recorded()?;
    Ok(format!("{} forms", keys.len()))
}

/// The user's folder in /run/user, as a log-in makes it; removed when dropped.
struct Runtime(PathBuf);

impl Runtime {
    fn of(person: &Person) -> Result<Self> {
        let folder = Path::new("/run/user").join(person.uid.to_string());
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o700))?;
        chown(&folder, Some(person.uid), Some(person.gid))?;
        Ok(Self(folder))
    }

    /// A socket of this person's in it.
    fn socket(&self, name: &str, person: &Person) -> Result<UnixListener> {
        let path = self.0.join(name);
        let listener = UnixListener::bind(&path)?;
        chown(&path, Some(person.uid), Some(person.gid))?;
        Ok(listener)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sockets_that_are_not_the_users_own_are_left_out(ground: &mut Ground) -> Result<String> {
    let (alice, bob) = (&ground.site.alice, &ground.site.bob);
    let (hers, his) = (Runtime::of(alice)?, Runtime::of(bob)?);
    let _sockets =
        [hers.socket("wayland-0", alice)?, hers.socket("of-bob", bob)?, his.socket("wayland-0", bob)?];
    fs::write(hers.0.join("file"), "")?;
    chown(hers.0.join("file"), Some(alice.uid), Some(alice.gid))?;
    symlink(ground.site.tree.join("run/elevator.sock"), hers.0.join("link"))?;
    symlink(hers.0.join("wayland-0"), hers.0.join("own-link"))?;
    let runtime = hers.0.to_string_lossy().into_owned();
    let names: [&[u8]; 12] = [
        b"file",
        b"link",
        b"own-link",
        b"of-bob",
        b"missing",
        b"",
        b".",
        b"..",
        b"../../elevon/elevator.sock",
        b"/run/dbus/system_bus_socket",
        b"wayland-0/",
        b"wayland-0\0",
    ];
    let mut count = 0;
    for name in names {
        let named: [(&str, &[u8]); 2] = [("WAYLAND_DISPLAY", name), ("XDG_RUNTIME_DIR", runtime.as_bytes())];
        nothing_of_it(&says(ground, "on-display/probe", &named, false)?, "no Wayland display")
            .with_context(|| format!("{:?}", OsText::new(name)))?;
        count += 1;
    }
    let of_bob = his.0.to_string_lossy().into_owned();
    for folder in
        [&of_bob, "/tmp", "", "/run/user/0", &format!("{runtime}/"), &format!("{runtime}/../{}", bob.uid)]
    {
        let named: [(&str, &[u8]); 2] =
            [("WAYLAND_DISPLAY", b"wayland-0"), ("XDG_RUNTIME_DIR", folder.as_bytes())];
        nothing_of_it(&says(ground, "on-display/probe", &named, false)?, "no Wayland display")?;
        count += 1;
    }
    // The folder is anybody's, or somebody else's.
    let named: [(&str, &[u8]); 2] =
        [("WAYLAND_DISPLAY", b"wayland-0"), ("XDG_RUNTIME_DIR", runtime.as_bytes())];
    fs::set_permissions(&hers.0, PermissionsExt::from_mode(0o777))?;
    nothing_of_it(&says(ground, "on-display/probe", &named, false)?, "no Wayland display")?;
    fs::set_permissions(&hers.0, PermissionsExt::from_mode(0o700))?;
    chown(&hers.0, Some(bob.uid), Some(bob.gid))?;
    nothing_of_it(&says(ground, "on-display/probe", &named, false)?, "no Wayland display")?;
    chown(&hers.0, Some(alice.uid), Some(alice.gid))?;

    // Her own is taken. Root is not sent into her folder, where she can lay links.
    let socket = format!("{runtime}/wayland-0");
    let as_root = seen(&says(ground, "on-display/probe", &named, false)?.text())?;
    let has = |seen: &BTreeMap<String, String>, name: &str| seen.get(name).cloned().unwrap_or_default();
    ensure!(has(&as_root, "WAYLAND_DISPLAY") == socket, "{as_root:?}");
    let own = has(&as_root, "XDG_RUNTIME_DIR");
    ensure!(Path::new(&own).starts_with(ground.site.tree.join("run/displays")), "{own}");
    let as_user = seen(&says(ground, "user-on-display/probe", &named, false)?.text())?;
    ensure!(has(&as_user, "WAYLAND_DISPLAY") == socket, "{as_user:?}");
    ensure!(has(&as_user, "XDG_RUNTIME_DIR") == runtime, "{as_user:?}");
    ground.recorded(&vec![("launch.started", ""); count + 4])?;
    Ok(format!("{} names and folders", count + 2))
}

fn what_a_display_needs_is_roots_and_goes_with_the_launch(ground: &mut Ground) -> Result<String> {
    let keys = ground.hers("keys", &[entry("1"), entry("0"), entry("2")].concat())?;
    let folder = ground.site.tree.join("run/displays");
    let look = "ls -ln $XAUTHORITY; od -An -v -tx1 $XAUTHORITY | tr -d ' \\n'; echo; : >$XDG_RUNTIME_DIR/left; read -r line";
    let bash = ground.path("on-display/bash");
    let mut command = ground.site.elevon(&ground.site.alice, &["run", "--", &bash, "-c", look])?;
    command.env("DISPLAY", ":0").env("XAUTHORITY", &keys);
    let logs = ground.site.tree.join("logs");
    let mut running = elevon_e2e::program::Program::start_with(
        "elevon",
        &mut command,
        std::process::Stdio::piped(),
        &logs,
    )?;
    let expected: String = entry("0").iter().map(|byte| format!("{byte:02x}")).collect();
    running.line("the one key", |line| (line == expected).then_some(()))?;
    let launch = fs::read_dir(&folder)?.next().context("a folder of the launch")??.path();
    for (path, mode) in [(folder.clone(), 0o711), (launch.clone(), 0o700), (launch.join("Xauthority"), 0o600)]
    {
        let found = fs::metadata(&path)?;
        ensure!((found.uid(), found.mode() & 0o7777) == (0, mode), "{}: {:o}", path.display(), found.mode());
    }
    until_true("the program to leave a file", SOON, || launch.join("left").exists())?;
    drop(running.input());
    running.exit(SOON)?;
    until_true("the folder to go with the launch", SOON, || !launch.exists())?;

    // As the same user it is read by her, changed by root, and none of bob's.
    let script = "cat $XAUTHORITY >/dev/null && echo read; echo evil 2>/dev/null >>$XAUTHORITY || echo kept; \
                  rm -f $XAUTHORITY 2>/dev/null || echo stays; echo $XAUTHORITY; read -r line";
    let bash = ground.path("user-on-display/bash");
    let mut command = ground.site.elevon(&ground.site.alice, &["run", "--", &bash, "-c", script])?;
    command.env("DISPLAY", ":0").env("XAUTHORITY", &keys);
    let mut running = elevon_e2e::program::Program::start_with(
        "elevon",
        &mut command,
        std::process::Stdio::piped(),
        &logs,
    )?;
    let file = running.line("the name of the file", |line| line.starts_with('/').then(|| line.to_owned()))?;
    ensure!(running.output().starts_with("read\nkept\nstays\n"), "{}", running.log());
    let mut bobs = ground.site.as_user(&ground.site.bob, Path::new("/bin/cat"))?;
    ensure!(run(bobs.arg(&file), b"")?.code() != 0, "bob reads it");
    // Nobody tidies up for a session that was killed; the elevator does.
    let (_, session) = ground.running()?;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(session).context("a session")?,
        rustix::process::Signal::KILL,
    )?;
    until_true("the elevator to remove the folder", SOON, || !Path::new(&file).exists())?;
    running.exit(SOON)?;
    ensure!(fs::read_dir(&folder)?.next().is_none(), "something stayed");
    fs::remove_file(keys)?;
    ground.recorded(&[("launch.started", ""), ("launch.started", ""), ("launch.ended", "session_died")])?;
    Ok("one key, root's; read by its user alone; gone with the launch and with its session".into())
}
