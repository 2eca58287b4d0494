//! The application has the client's own descriptors.

use std::process::{Child, Command, Stdio};

use elevon_policy::event::Exit;
use elevon_wire::conversation::{FromClient, ToClient};
use rustix::process::{Pid, Signal, kill_process};

use crate::peer::Site;
use crate::screen::{ELEVON, end_of};

fn start(site: &Site, arguments: &[&str]) -> Child {
    Command::new(ELEVON)
        .args(arguments)
        .env("ELEVON_SOCKET", site.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("elevon starts")
}

fn error_of(child: &mut Child) -> String {
    std::io::read_to_string(child.stderr.take().expect("piped")).expect("text")
}

#[test]
fn signals_are_passed_on() {
    let site = Site::new();
    let child = start(&site, &["run", "sleep", "1"]);
    let (mut peer, run) = site.accept_run();
    assert_eq!(run.window, None);
    peer.start(false);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::USR2] {
        kill_process(Pid::from_child(&child), signal).expect("sent");
        assert_eq!(peer.message(), FromClient::Signal { number: signal.as_raw() });
    }
    peer.finish(Exit::Code(300));
    assert_eq!(end_of(child).code(), Some(300 & 0xff));
}

#[test]
fn what_was_ignored_stays_ignored() {
    let site = Site::new();
    let child = Command::new("nohup")
        .args([ELEVON, "run", "sleep", "1"])
        .env("ELEVON_SOCKET", site.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nohup starts");
    let (mut peer, _) = site.accept_run();
    peer.start(false);
    kill_process(Pid::from_child(&child), Signal::HUP).expect("sent");
    kill_process(Pid::from_child(&child), Signal::USR1).expect("sent");
    assert_eq!(peer.message(), FromClient::Signal { number: Signal::USR1.as_raw() });
    peer.finish(Exit::Code(0));
    assert_eq!(end_of(child).code(), Some(0));
}

#[test]
fn closed_descriptors_are_no_trouble() {
    let site = Site::new();
    let line = format!("exec {ELEVON} run -- id <&- >&- 2>&-");
    let child =
        Command::new("sh").args(["-c", &line]).env("ELEVON_SOCKET", site.socket()).spawn().expect("sh");
    let (mut peer, _) = site.accept_run();
    peer.start(false);
    peer.finish(Exit::Code(5));
    assert_eq!(end_of(child).code(), Some(5));
}

#[test]
fn a_directory_without_a_name_is_no_trouble() {
    let site = Site::new();
    let line = format!("d=$(mktemp -d) && cd $d && rmdir $d && exec {ELEVON} run -- id");
    let child =
        Command::new("sh").args(["-c", &line]).env("ELEVON_SOCKET", site.socket()).spawn().expect("sh");
    let (mut peer, _) = site.accept_run();
    peer.finish(Exit::Code(0));
    assert_eq!(end_of(child).code(), Some(0));
}

#[test]
fn without_a_terminal_the_missing_options_are_named() {
    let site = Site::new();
    for (options, named) in [
        (&[][..], "give --for and --justification"),
        (&["--for", "5m"], "give --justification"),
        (&["--justification", "because"], "give --for"),
    ] {
        let mut child = start(&site, &[&["run"], options, &["--", "tool"]].concat());
        let (mut peer, _) = site.accept_run();
        peer.say(&ToClient::Asking(Box::new(crate::asking::question())));
        peer.gone();
        let told = error_of(&mut child);
        assert!(told.trim_end().ends_with(named), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert_eq!(end_of(child).code(), Some(125));
    }
}

#[test]
fn nobody_there() {
    let mut child = Command::new(ELEVON)
        .args(["--socket", "/nonexistent/s", "run", "id"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("elevon starts");
    assert!(error_of(&mut child).starts_with("elevon: Elevon is not running here: /nonexistent/s"));
    assert_eq!(end_of(child).code(), Some(125));
}

#[test]
fn usage() {
    let site = Site::new();
    for (arguments, page) in [
        (&["nope"][..], "elevon"),
        (&[], "elevon"),
        (&["run"], "elevon run"),
        (&["run", "--nope", "id"], "elevon run"),
        (&["status", "x"], "elevon status"),
    ] {
        let mut child = start(&site, arguments);
        let told = error_of(&mut child);
        assert!(told.trim_end().ends_with(&format!("; `{page} --help` shows how it is used")), "{told}");
        assert_eq!(end_of(child).code(), Some(125));
    }
}
