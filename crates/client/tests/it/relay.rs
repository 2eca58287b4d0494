//! The application has a terminal of its own.

use elevon_policy::event::{EndReason, Exit};
use elevon_policy::time::Span;
use elevon_wire::conversation::{FromClient, ToClient, WindowSize};
use rustix::process::{Pid, Signal, kill_process};

use crate::peer::{Peer, Site};
use crate::screen::{ELEVON, Screen, end_of};

fn start(site: &Site, screen: &Screen) -> (std::process::Child, Peer) {
    let socket = site.socket();
    let child = screen.start(&[ELEVON, "--socket", socket.to_str().expect("text"), "run", "--", "vi", "x y"]);
    let (peer, _) = site.accept_run();
    (child, peer)
}

#[test]
fn the_terminal_is_raw_meanwhile_and_as_before_afterwards() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let before = format!("{:?}", screen.modes());
    let socket = site.socket();
    let child = screen.start(&[ELEVON, "--socket", socket.to_str().expect("text"), "run", "--", "vi", "x y"]);
    let (mut peer, run) = site.accept_run();
    assert_eq!(run.window, Some(WindowSize { rows: 24, columns: 80 }));
    assert_eq!(run.arguments, ["x y".into()]);
    assert!(!screen.is_raw(), "nothing runs yet");
    peer.start(true);
    assert_eq!(peer.message(), FromClient::Resize(WindowSize { rows: 24, columns: 80 }));
    peer.data(b"hello\n");
    screen.wait_for("hello\n");
    assert!(screen.is_raw());
    screen.type_in("a\x03\x1a\x04é");
    peer.typed("a\x03\x1a\x04é".as_bytes());
    screen.resize(50, 132);
    assert_eq!(peer.message(), FromClient::Resize(WindowSize { rows: 50, columns: 132 }));
    peer.data(b"bye");
    peer.finish(Exit::Code(7));
    screen.wait_for("bye");
    assert_eq!(end_of(child).code(), Some(7));
    assert_eq!(format!("{:?}", screen.modes()), before);
}

#[test]
fn signals_are_passed_on_and_the_end_by_one_is_told() {
    let (site, screen) = (Site::new(), Screen::new());
    let (child, mut peer) = start(&site, &screen);
    peer.start(true);
    assert!(matches!(peer.message(), FromClient::Resize(_)));
    for signal in
        [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TSTP]
    {
        kill_process(Pid::from_child(&child), signal).expect("sent");
        assert_eq!(peer.message(), FromClient::Signal { number: signal.as_raw() });
    }
    assert!(screen.is_raw());
    peer.finish(Exit::Signal(15));
    assert_eq!(end_of(child).code(), Some(128 + 15));
    assert!(!screen.is_raw());
}

#[test]
fn a_lost_connection_leaves_the_terminal_as_it_was() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let (child, mut peer) = start(&site, &screen);
    peer.start(true);
    peer.data(b"on");
    screen.wait_for("on");
    assert!(screen.is_raw());
    drop(peer);
    screen.wait_for("elevon: the elevator closed the connection");
    assert_eq!(end_of(child).code(), Some(125));
    assert!(!screen.is_raw());
}

#[test]
fn a_terminal_that_hangs_up_ends_the_conversation() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let (child, mut peer) = start(&site, &screen);
    peer.start(true);
    peer.data(b"on");
    screen.wait_for("on");
    screen.hang_up();
    peer.gone();
    assert_eq!(end_of(child).code(), Some(128 + 1));
}

#[test]
fn a_slow_terminal_gets_every_byte_in_order() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let (child, mut peer) = start(&site, &screen);
    peer.start(true);
    let sent: Vec<u8> = (0..1_000_000u32).map(|at| b'a' + (at % 23) as u8).collect();
    let expected = sent.clone();
    let sender = std::thread::spawn(move || {
        sent.chunks(50_000).for_each(|piece| peer.data(piece));
        peer.finish(Exit::Code(7));
        // It is gone now: a good part waits for the terminal yet.
    });
    let (first, rest) = expected.split_at(expected.len() - 300_000);
    assert!(screen.read_exact(first.len()) == first, "every byte, in order");
    sender.join().expect("all sent");
    assert!(screen.read_exact(rest.len()) == rest, "every byte, in order");
    assert_eq!(end_of(child).code(), Some(7));
}

#[test]
fn a_warning_stands_on_its_own_line() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let (child, mut peer) = start(&site, &screen);
    peer.start(true);
    peer.data(b"$ ");
    peer.say(&ToClient::Warning { left: Span::from_secs(60), reason: EndReason::Expired });
    let seen = screen.wait_for("longer\r\n");
    assert_eq!(
        seen,
        "$ \r\nelevon: this application ends in 1m: its time runs out; save your work, and ask again if you need longer\r\n"
    );
    peer.say(&ToClient::Finished { exit: Exit::Signal(9), reason: EndReason::Expired });
    screen.wait_for("elevon: the application was ended: the time granted ran out\r\n");
    assert_eq!(end_of(child).code(), Some(128 + 9));
}

#[test]
fn with_output_in_a_file_the_terminal_still_translates_line_ends() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let socket = site.socket();
    let line = [ELEVON, "--socket", socket.to_str().expect("text"), "run", "--", "vi"];
    let child = screen.start_with(&line, |command| {
        command.stdin(screen.stdio()).stdout(std::process::Stdio::null()).stderr(screen.stdio());
    });
    let (mut peer, _) = site.accept_run();
    peer.start(true);
    peer.data(b"asked\n");
    screen.wait_for("asked\r\n");
    assert!(screen.is_raw() && screen.translates_line_ends());
    screen.type_in("yes\r");
    peer.typed(b"yes\r");
    peer.finish(Exit::Code(0));
    assert_eq!(end_of(child).code(), Some(0));
}
