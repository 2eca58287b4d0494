//! Stopping and going on, under a shell with job control.

use elevon_policy::event::Exit;
use elevon_policy::text::Text;
use elevon_wire::conversation::{FromClient, ToClient};
use rustix::process::{Pid, Signal, kill_process};

use crate::peer::Site;
use crate::screen::{ELEVON, Screen, end_of};

const SIGTSTP: i32 = 20;
const SIGTTIN: i32 = 21;

fn shell(site: &Site, screen: &mut Screen) -> std::process::Child {
    let child = screen.start(&["bash", "--norc", "--noprofile", "-i"]);
    screen
        .type_in(&format!("PS1='rea''dy> '; export ELEVON_SOCKET={}; E={ELEVON}\n", site.socket().display()));
    screen.wait_for("ready> ");
    child
}

#[test]
fn a_stopped_application_stops_the_job_and_goes_on_with_it() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let shell = shell(&site, &mut screen);
    screen.type_in("$E run -- vi\n");
    let (mut peer, _) = site.accept_run();
    peer.start(true);
    peer.data(b"editing");
    screen.wait_for("editing");
    assert!(screen.is_raw());
    screen.type_in("\x1a");
    peer.typed(b"\x1a");
    peer.say(&ToClient::Stopped { signal: SIGTSTP });
    screen.wait_for("Stopped");
    screen.wait_for("ready> ");

    // In the background it neither reads the terminal nor changes its modes, but may write.
    screen.type_in("bg\n");
    assert_eq!(peer.message_but_size(), FromClient::Continue);
    screen.wait_for("ready> ");
    peer.data(b"from behind");
    screen.wait_for("from behind");
    screen.type_in("echo typed to the sh''ell\n");
    screen.wait_for("typed to the shell");

    // The shell tells a running job nothing; it finds out, and takes the terminal.
    screen.type_in("fg\n");
    assert!(matches!(peer.message(), FromClient::Resize(_)));
    peer.data(b"in front");
    screen.wait_for("in front");
    assert!(screen.is_raw());
    screen.type_in("x");
    peer.typed(b"x");
    peer.finish(Exit::Code(3));
    screen.wait_for("ready> ");
    screen.type_in("echo status=$?\n");
    screen.wait_for("status=3");
    screen.type_in("exit\n");
    end_of(shell);
}

#[test]
fn an_application_that_wants_the_terminal_gets_it_when_the_job_is_in_front() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let shell = shell(&site, &mut screen);
    screen.type_in("$E run -- vi\n");
    let (mut peer, _) = site.accept_run();
    peer.start(true);
    peer.say(&ToClient::Stopped { signal: SIGTTIN });
    assert_eq!(peer.message_but_size(), FromClient::Continue);
    peer.finish(Exit::Code(0));
    screen.wait_for("ready> ");

    screen.type_in("$E run -- vi &\n");
    let (mut peer, _) = site.accept_run();
    peer.start(true);
    screen.wait_for("ready> ");
    peer.say(&ToClient::Stopped { signal: SIGTTIN });
    screen.type_in("wait\n");
    screen.wait_for("Stopped");
    screen.wait_for("ready> ");
    screen.type_in("fg\n");
    assert_eq!(peer.message_but_size(), FromClient::Continue);
    peer.finish(Exit::Code(0));
    screen.wait_for("ready> ");
    screen.type_in("exit\n");
    end_of(shell);
}

#[test]
fn an_orphan_is_not_stopped_for_nobody_could_let_it_go_on() {
    let (site, screen) = (Site::new(), Screen::new());
    let socket = site.socket();
    // Leader of its session: its process group is orphaned.
    let child = screen.start(&[ELEVON, "--socket", socket.to_str().expect("text"), "run", "--", "vi"]);
    let (mut peer, _) = site.accept_run();
    peer.start(true);
    peer.say(&ToClient::Stopped { signal: SIGTSTP });
    assert_eq!(peer.message_but_size(), FromClient::Continue);
    peer.finish(Exit::Code(0));
    assert_eq!(end_of(child).code(), Some(0));
}

#[test]
fn stopped_from_outside_it_finds_its_way_back() {
    let (site, screen) = (Site::new(), Screen::new());
    let before = format!("{:?}", screen.modes());
    let socket = site.socket();
    let child = screen.start(&[ELEVON, "--socket", socket.to_str().expect("text"), "run", "--", "vi"]);
    let (mut peer, _) = site.accept_run();
    peer.start(true);
    assert!(matches!(peer.message(), FromClient::Resize(_)));
    kill_process(Pid::from_child(&child), Signal::STOP).expect("sent");
    kill_process(Pid::from_child(&child), Signal::CONT).expect("sent");
    assert_eq!(peer.message_but_size(), FromClient::Continue);
    assert!(screen.is_raw());
    peer.finish(Exit::Code(0));
    assert_eq!(end_of(child).code(), Some(0));
    assert_eq!(format!("{:?}", screen.modes()), before);
}

#[test]
fn a_password_is_typed_in_the_foreground_only() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let shell = shell(&site, &mut screen);
    screen.type_in("$E run -- vi &\n");
    let (mut peer, _) = site.accept_run();
    screen.wait_for("ready> ");
    peer.say(&ToClient::Prompt { text: Text::new("Password: "), secret: true });
    // It stops, as whatever reads the terminal from behind; the shell tells of that before its next prompt.
    loop {
        screen.type_in("jobs\n");
        if screen.wait_for("ready> ").contains("Stopped") {
            break;
        }
    }
    screen.type_in("fg\n");
    screen.wait_for("Password: ");
    screen.type_in("secret\n");
    peer.typed(b"secret");
    peer.finish(Exit::Code(0));
    let seen = screen.wait_for("ready> ");
    assert!(!seen.contains("secret"), "what was typed is seen: {seen}");
    screen.type_in("exit\n");
    end_of(shell);
}
