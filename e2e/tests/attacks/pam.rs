//! Accounts that may not be used any more, and modules that misbehave.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, until, until_true};
use elevon_e2e::person::Person;
use elevon_e2e::process::{children, gone, kill, name, running};
use elevon_e2e::program::must;
use elevon_e2e::site::PAM_SERVICE;

use crate::ground::Ground;

crate::cases! {
    Shared a_locked_account_elevates_nothing,
    Shared an_expired_account_elevates_nothing,
    Shared an_expired_password_elevates_nothing,
    Shared an_account_locked_after_it_was_approved_starts_nothing,
    Shared what_policy_refuses_is_refused_for_that,
    Shared a_module_that_says_no_is_obeyed,
    Shared hours_that_are_over_are_over,
    Shared a_module_that_changes_the_user_is_not_believed,
    Shared a_module_that_changes_the_environment_changes_nothing,
    Shared a_module_that_changes_its_process_changes_nothing_else,
    Shared a_module_that_crashes_or_ends_admits_nobody,
    Shared a_module_that_hangs_costs_ten_seconds,
    Shared a_module_that_talks_or_asks_without_end_admits_nobody,
    Shared a_modules_words_are_shown_and_not_obeyed,
    Shared a_service_that_is_not_there_admits_nobody,
    Shared a_service_that_others_could_change_admits_nobody,
    Shared a_module_of_the_users_own_admits_nobody,
    Shared a_killed_helper_is_made_again,
    Shared who_waits_for_a_person_holds_no_process_of_pam,
    Shared a_replaced_module_is_the_one_that_is_asked,
    Shared what_appears_beside_a_service_counts_at_once,
}

/// Puts a service in place, plays, and puts the usual one back.
pub(crate) fn with_service<T>(
    ground: &mut Ground,
    lines: &str,
    play: impl FnOnce(&mut Ground) -> Result<T>,
) -> Result<T> {
    ground.site.pam_service(lines)?;
    let played = play(ground);
    ground.site.pam_service(PAM_SERVICE)?;
    played
}

/// The rig's own module; this makes it.
pub(crate) fn hostile(ground: &Ground) -> Result<PathBuf> {
    let module = ground.site.programs.join("pam_hostile.so");
    if !module.exists() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/hostile.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-o"]).arg(&module).args([source, "-l:libpam.so.0"]);
        must(&mut compile, b"").context("compile the module")?;
    }
    Ok(module)
}

/// A service whose account stage is the rig's module with these arguments.
fn misbehaving(ground: &Ground, arguments: &str) -> Result<String> {
    Ok(format!("account required {} {arguments}\naccount required pam_unix.so\n", hostile(ground)?.display()))
}

/// What good would do at once is refused with these words, and for this reason.
fn refused(ground: &mut Ground, told: &str, reason: &str) -> Result<String> {
    let ran = ground.elevated(&[&ground.path("free/good")])?.expect(126).says(told);
    ensure!(ran.out.is_empty(), "it printed {}", ran.text());
    ground.recorded(&[("launch.refused", reason)])?;
    Ok(ran.err.trim().lines().next().unwrap_or_default().to_owned())
}

fn admitted(ground: &mut Ground) -> Result<()> {
    ground.elevated(&[&ground.path("free/good")])?.expect(0).prints("good");
    ground.recorded(&[("launch.started", "")])
}

fn administer(person: &Person, command: &[&str]) -> Result<()> {
    person.administer(Command::new(command[0]).args(&command[1..]).arg(&person.name))
}

fn a_locked_account_elevates_nothing(ground: &mut Ground) -> Result<String> {
    ground.site.alice.set_password("not a good one")?;
    admitted(ground)?;
    administer(&ground.site.alice, &["passwd", "--quiet", "--lock"])?;
    let seen = refused(ground, "is locked on this computer", "account_locked");
    administer(&ground.site.alice, &["passwd", "--quiet", "--unlock"])?;
    let seen = seen?;
    admitted(ground)?;
    administer(&ground.site.alice, &["usermod", "--lock"])?;
    let again = refused(ground, "passwd -u", "account_locked");
    administer(&ground.site.alice, &["usermod", "--unlock"])?;
    again?;
    admitted(ground)?;
    Ok(seen)
}

fn an_expired_account_elevates_nothing(ground: &mut Ground) -> Result<String> {
    administer(&ground.site.alice, &["usermod", "--expiredate", "2001-01-01"])?;
    let seen = refused(ground, "has expired on this computer", "account_expired");
    administer(&ground.site.alice, &["usermod", "--expiredate", ""])?;
    admitted(ground)?;
    seen
}

fn an_expired_password_elevates_nothing(ground: &mut Ground) -> Result<String> {
    ground.site.alice.set_password("not a good one")?;
    administer(&ground.site.alice, &["chage", "--lastday", "0"])?;
    let seen = refused(ground, "change it with `passwd`", "password_expired");
    administer(&ground.site.alice, &["chage", "--lastday", "-1"])?;
    admitted(ground)?;
    seen
}

/// Whoever waited is asked about again.
fn an_account_locked_after_it_was_approved_starts_nothing(ground: &mut Ground) -> Result<String> {
    let probe = of_its_own(ground, "locked")?;
    let mut waits = ground.site.alice_asks("5m", &[&probe])?;
    let request = ground.site.api.pending(&probe)?;
    administer(&ground.site.alice, &["usermod", "--expiredate", "2001-01-01"])?;
    ground.approver.approve(&request, None, "")?;
    let ran = waits.exit(SOON);
    administer(&ground.site.alice, &["usermod", "--expiredate", ""])?;
    ran?.expect(126).says("has expired");
    ground.recorded(&[("launch.refused", "account_expired")])?;
    Ok("approved, and refused at the start".into())
}

/// PAM is no oracle, and no excuse: what is on no list is not listed, whatever the account.
fn what_policy_refuses_is_refused_for_that(ground: &mut Ground) -> Result<String> {
    administer(&ground.site.alice, &["usermod", "--expiredate", "2001-01-01"])?;
    let ran = ground.elevated(&[&ground.path("unlisted/evil"), &ground.mark()]);
    administer(&ground.site.alice, &["usermod", "--expiredate", ""])?;
    ran?.expect(126);
    ground.recorded(&[("launch.refused", "not_listed")])?;
    Ok("refused, not_listed".into())
}

fn a_module_that_says_no_is_obeyed(ground: &mut Ground) -> Result<String> {
    let list = ground.site.programs.join("kept-out");
    fs::write(&list, format!("{}\n", ground.site.alice.name))?;
    let closed = ground.site.programs.join("closed");
    fs::write(&closed, "Closed until nine.\n")?;
    let services = [
        ("account required pam_deny.so\n".to_owned(), "PAM does not admit"),
        (
            format!(
                "account required pam_listfile.so item=user sense=deny onerr=fail file={}\n",
                list.display()
            ),
            "not admit",
        ),
        (format!("account required pam_nologin.so file={}\n", closed.display()), "Closed until nine."),
        ("account required pam_succeed_if.so quiet uid < 1\n".to_owned(), "not admit"),
    ];
    for (service, told) in &services {
        with_service(ground, service, |ground| refused(ground, told, "account_refused"))?;
    }
    admitted(ground)?;
    Ok(format!("{} modules of the system's", services.len()))
}

fn hours_that_are_over_are_over(ground: &mut Ground) -> Result<String> {
    let hours = ground.site.programs.join("time.conf");
    let service = format!("account required pam_time.so conffile={}\n", hours.display());
    fs::write(&hours, format!("elevon;*;{};!Al0000-2400\n", ground.site.alice.name))?;
    let seen = with_service(ground, &service, |ground| refused(ground, "not admit", "account_refused"))?;
    fs::write(&hours, format!("elevon;*;{};Al0000-2400\n", ground.site.alice.name))?;
    with_service(ground, &service, admitted)?;
    Ok(seen)
}

fn a_module_that_changes_the_user_is_not_believed(ground: &mut Ground) -> Result<String> {
    let mut seen = String::new();
    for user in ["root", "", "nobody", &ground.site.bob.name.clone()] {
        let service = misbehaving(ground, &format!("user={user}"))?;
        seen = with_service(ground, &service, |ground| refused(ground, "could not be asked", "pam_failed"))?;
    }
    Ok(seen)
}

fn a_module_that_changes_the_environment_changes_nothing(ground: &mut Ground) -> Result<String> {
    let service = misbehaving(ground, "environment")?;
    with_service(ground, &service, |ground| {
        let ran = ground.elevated(&[&ground.path("free/probe")])?.expect(0);
        ensure!(!ran.text().contains("LD_PRELOAD") && !ran.text().contains("PATH=/tmp"), "{}", ran.text());
        ground.recorded(&[("launch.started", "")])
    })?;
    Ok("the program's environment is the elevator's own making".into())
}

fn a_module_that_changes_its_process_changes_nothing_else(ground: &mut Ground) -> Result<String> {
    let service = misbehaving(ground, "identity")?;
    with_service(ground, &service, |ground| {
        let ran = ground.elevated(&[&ground.path("free/good")])?;
        // As nobody it may not read what the next module needs; whatever comes of it, the next attempt is as any other.
        ensure!([0, 126].contains(&ran.code()), "{}", ran.err);
        let kind =
            if ran.code() == 0 { ("launch.started", "") } else { ("launch.refused", "account_refused") };
        ground.recorded(&[kind]).or_else(|_| ground.recorded(&[("launch.refused", "pam_failed")]))
    })?;
    admitted(ground)?;
    Ok("one process, one attempt".into())
}

fn a_module_that_crashes_or_ends_admits_nobody(ground: &mut Ground) -> Result<String> {
    for way in ["crash", "exit", "close"] {
        let service = misbehaving(ground, way)?;
        with_service(ground, &service, |ground| refused(ground, "ended without an answer", "pam_failed"))
            .with_context(|| way.to_owned())?;
    }
    admitted(ground)?;
    Ok("crashed, ended, hung up".into())
}

/// `pam_exec` waits for what it starts; what it started goes with it.
fn a_module_that_hangs_costs_ten_seconds(ground: &mut Ground) -> Result<String> {
    let service = "account required pam_exec.so /bin/sleep 4711\n";
    let seen =
        with_service(ground, service, |ground| refused(ground, "did not answer within 10s", "pam_failed"))?;
    until_true("what the module started to be gone", SOON, || running("/bin/sleep 4711").is_empty())?;
    admitted(ground)?;
    Ok(seen)
}

fn a_module_that_talks_or_asks_without_end_admits_nobody(ground: &mut Ground) -> Result<String> {
    for way in ["flood", "ask", "ask-for-ever", "many"] {
        let service = misbehaving(ground, way)?;
        with_service(ground, &service, |ground| refused(ground, "PAM", "pam_failed")).context(way)?;
    }
    Ok("given up".into())
}

fn a_modules_words_are_shown_and_not_obeyed(ground: &mut Ground) -> Result<String> {
    let service = misbehaving(ground, "escapes")?;
    with_service(ground, &service, |ground| {
        let told = refused(ground, "owned", "account_refused")?;
        ensure!(!told.contains('\u{1b}') && !told.contains('\u{7}'), "{told:?}");
        Ok(told)
    })
}

fn a_service_that_is_not_there_admits_nobody(ground: &mut Ground) -> Result<String> {
    let path = ground.site.pam_dir().join("elevon");
    fs::remove_file(&path)?;
    let seen = refused(ground, "there is no PAM service", "pam_failed");
    let doctor = elevon_e2e::program::run(&mut ground.site.elevator_command(&["doctor"])?, b"")?;
    ground.site.pam_service(PAM_SERVICE)?;
    ensure!(doctor.code() == 1 && doctor.text().contains("packaging/pam/elevon"), "{}", doctor.text());
    // Nor is the fallback of PAM itself asked.
    fs::rename(&path, ground.site.pam_dir().join("other"))?;
    let other = refused(ground, "there is no PAM service", "pam_failed");
    fs::remove_file(ground.site.pam_dir().join("other"))?;
    ground.site.pam_service(PAM_SERVICE)?;
    other?;
    admitted(ground)?;
    seen
}

fn a_service_that_others_could_change_admits_nobody(ground: &mut Ground) -> Result<String> {
    let (folder, alice) = (ground.site.pam_dir(), ground.site.alice.uid);
    let path = folder.join("elevon");
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, PermissionsExt::from_mode(mode));
    mode(&path, 0o666)?;
    let seen = refused(ground, "can be written to by others", "pam_failed");
    mode(&path, 0o644)?;
    let seen = seen?;
    mode(&folder, 0o777)?;
    let in_folder = refused(ground, "can be written to by others", "pam_failed");
    mode(&folder, 0o755)?;
    in_folder?;
    chown(&path, Some(alice), None)?;
    let owned = refused(ground, "does not belong to root", "pam_failed");
    chown(&path, Some(0), None)?;
    owned?;
    // By way of a file that it includes, and by way of a link.
    fs::write(folder.join("more"), "account required pam_permit.so\n")?;
    mode(&folder.join("more"), 0o666)?;
    for line in ["@include more\n", "account include more\n", "account substack more\n"] {
        with_service(ground, line, |ground| refused(ground, "more: can be written to", "pam_failed"))?;
    }
    fs::remove_file(folder.join("more"))?;
    let hers = ground.hers("service", b"account required pam_permit.so\n")?;
    fs::remove_file(&path)?;
    symlink(&hers, &path)?;
    let linked = refused(ground, "so PAM would do what others say", "pam_failed");
    fs::remove_file(&path)?;
    ground.site.pam_service(PAM_SERVICE)?;
    linked?;
    admitted(ground)?;
    Ok(seen)
}

fn a_module_of_the_users_own_admits_nobody(ground: &mut Ground) -> Result<String> {
    let hers = ground.hers("pam_hers.so", &fs::read(hostile(ground)?)?)?;
    let service = format!("account required {hers}\n");
    with_service(ground, &service, |ground| refused(ground, "so PAM would do what others say", "pam_failed"))
}

fn helper(ground: &Ground) -> Result<i32> {
    let spawner =
        ground.elevator_pid().and_then(|pid| children(pid).first().copied()).context("the spawner")?;
    until("the helper", SOON, || Ok(children(spawner).into_iter().find(|pid| name(*pid) == "elevon-pam")))
}

fn a_killed_helper_is_made_again(ground: &mut Ground) -> Result<String> {
    admitted(ground)?;
    for round in 0..3 {
        let helper = helper(ground)?;
        kill(helper);
        gone(helper, SOON)?;
        admitted(ground).with_context(|| format!("round {round}"))?;
    }
    Ok("three times".into())
}

/// One process is ready for the next question; those who wait, however many, have none.
fn who_waits_for_a_person_holds_no_process_of_pam(ground: &mut Ground) -> Result<String> {
    let helper = helper(ground)?;
    let mut waiting = Vec::new();
    for number in 0..5 {
        let program = of_its_own(ground, &format!("waits-{number}"))?;
        let client = ground.site.alice_asks("5m", &[&program])?;
        waiting.push((client, ground.site.api.pending(&program)?));
    }
    until_true("one process of the helper's to be there", SOON, || children(helper).len() == 1)?;
    for (mut client, request) in waiting {
        ground.approver.decline(&request, "not now")?;
        client.exit(SOON)?;
    }
    Ok("five waited, and one process was ready".into())
}

/// A program that somebody has to agree to, whose bytes no other case was granted.
fn of_its_own(ground: &Ground, mark: &str) -> Result<String> {
    let probe = ground.install("asked", "probe")?;
    let bytes = [fs::read(&probe)?, mark.as_bytes().to_vec()].concat();
    let probe = format!("{probe}-{mark}");
    fs::write(&probe, bytes)?;
    fs::set_permissions(&probe, PermissionsExt::from_mode(0o755))?;
    Ok(probe)
}

/// What is warm must not outlive what is on the disk.
fn a_replaced_module_is_the_one_that_is_asked(ground: &mut Ground) -> Result<String> {
    let security = pam_modules()?;
    let module = ground.site.programs.join("pam_replaced.so");
    fs::copy(security.join("pam_permit.so"), &module)?;
    let service = format!("account required {}\n", module.display());
    with_service(ground, &service, |ground| {
        // What is loaded ahead is seen to be old with the launch after the next.
        for _ in 0..3 {
            admitted(ground)?;
        }
        let new = ground.site.programs.join("pam_replaced.new");
        fs::copy(security.join("pam_deny.so"), &new)?;
        fs::rename(&new, &module)?;
        let ran = ground.elevated(&[&ground.path("free/good")])?;
        ground.recorded(&[if ran.code() == 0 {
            ("launch.started", "")
        } else {
            ("launch.refused", "account_refused")
        }])?;
        refused(ground, "not admit", "account_refused")
    })
}

/// A stage of which the service says nothing is the fallback's, whenever that came to be there: a process that waits for a question
/// has read both before.
fn what_appears_beside_a_service_counts_at_once(ground: &mut Ground) -> Result<String> {
    let other = ground.site.pam_dir().join("other");
    let played = with_service(ground, "auth required pam_unix.so\n", |ground| {
        fs::write(&other, "account required pam_permit.so\n")?;
        admitted(ground)?;
        fs::remove_file(&other)?;
        let nothing = refused(ground, "PAM", "account_refused")?;
        fs::write(&other, "account required pam_permit.so\n")?;
        admitted(ground)?;
        fs::write(&other, "account required pam_deny.so\n")?;
        refused(ground, "not admit", "account_refused")?;
        Ok(nothing)
    });
    fs::remove_file(&other)?;
    played
}

fn pam_modules() -> Result<PathBuf> {
    let places = [
        "/lib/x86_64-linux-gnu/security",
        "/lib/aarch64-linux-gnu/security",
        "/usr/lib64/security",
        "/usr/lib/security",
    ];
    places
        .into_iter()
        .map(PathBuf::from)
        .find(|place| place.join("pam_permit.so").exists())
        .context("PAM's modules")
}
