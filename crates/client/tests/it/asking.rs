//! Questions, answers, and waiting for a decision.

use elevon_policy::application::{Application, Lane, Sha256};
use elevon_policy::bounds::Bounds;
use elevon_policy::event::{DenyReason, Exit};
use elevon_policy::id::RequestId;
use elevon_policy::lists::{Durations, JustificationNeeded, RunsAs};
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::conversation::{Asking, FromClient, Refused, ToClient, Wait};

use crate::peer::Site;
use crate::screen::{ELEVON, Screen, end_of};

pub(crate) fn question() -> Asking {
    Asking {
        runs_as: RunsAs::Root,
        bounds: Bounds::default(),
        application: Application {
            path: "/opt/tool".into(),
            sha256: Sha256([0xab; 32]),
            size: 1,
            owner: 0,
            mode: 0o755,
            lane: Lane::Trusted,
            interpreter: None,
            package: None,
            package_database: true,
            component: None,
        },
        argv: vec!["tool".into(), "--all".into(), "a\u{1b}[31mb".into()],
        policy: Text::new("Tools"),
        approval: true,
        durations: Durations::default(),
        justification: JustificationNeeded::default(),
        recent: vec![Text::new("update the\u{202e} tool")],
    }
}

fn pending() -> (RequestId, ToClient) {
    let request = RequestId::new(Timestamp::from_millis(1_700_000_000_000), [7; 10]);
    let lapses = Timestamp::from_millis(i64::MAX / 2);
    let policy = Text::new("Tools");
    (request, ToClient::Pending { request, joined: false, lapses, policy, connected: true })
}

fn start(site: &Site, screen: &Screen, options: &[&str]) -> std::process::Child {
    let socket = site.socket();
    let line =
        [&[ELEVON, "--socket", socket.to_str().expect("text"), "run"], options, &["--", "tool"]].concat();
    screen.start(&line)
}

#[test]
fn a_person_sees_what_would_run_and_answers() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let child = start(&site, &screen, &[]);
    let (mut peer, _) = site.accept_run();
    peer.say(&ToClient::Asking(Box::new(question())));
    let seen = screen.wait_for("up to 1h\x1b[0m\r\n  > ");
    for part in [
        "tool\x1b[0m needs someone's approval",
        "/opt/tool",
        "ababab…abab",
        r"--all 'a\x1b[31mb'",
        "Tools",
        "2) 30m (Enter)",
    ] {
        assert!(seen.contains(part), "expected “{part}” in {seen}");
    }
    screen.type_in("2h\n");
    screen.wait_for("the policy takes at most 1h\r\n  > ");
    screen.type_in("1\n");
    let seen = screen.wait_for("new text\x1b[0m\r\n  > ");
    assert!(seen.contains(r"1) update the\xe2\x80\xae tool"), "{seen}");
    screen.type_in("no\n");
    screen.wait_for("at least 4 characters\r\n  > ");
    screen.type_in("  to mend it \n");
    let answer = FromClient::Answer { duration: Span::from_mins(15), justification: Text::new("to mend it") };
    assert_eq!(peer.message(), answer);
    peer.finish(Exit::Code(0));
    assert_eq!(end_of(child).code(), Some(0));
}

#[test]
fn enter_takes_the_default_and_a_number_a_recent_justification() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let child = start(&site, &screen, &[]);
    let (mut peer, _) = site.accept_run();
    peer.say(&ToClient::Asking(Box::new(question())));
    screen.wait_for("  > ");
    screen.type_in("\n");
    screen.wait_for("new text\x1b[0m\r\n  > ");
    screen.type_in("1\n");
    let recent = question().recent.remove(0);
    assert_eq!(peer.message(), FromClient::Answer { duration: Span::from_mins(30), justification: recent });
    peer.finish(Exit::Code(0));
    assert_eq!(end_of(child).code(), Some(0));
}

#[test]
fn only_what_is_missing_is_asked() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let child = start(&site, &screen, &["--for", "5m"]);
    let (mut peer, run) = site.accept_run();
    assert_eq!(run.duration, Some(Span::from_mins(5)));
    peer.say(&ToClient::Asking(Box::new(question())));
    let seen = screen.wait_for("  > ");
    assert!(!seen.contains("For how long?"), "{seen}");
    screen.type_in("because\n");
    let answer = FromClient::Answer { duration: Span::from_mins(5), justification: Text::new("because") };
    assert_eq!(peer.message(), answer);
    peer.finish(Exit::Code(0));
    assert_eq!(end_of(child).code(), Some(0));
}

#[test]
fn nothing_is_asked_for_without_an_answer() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let child = start(&site, &screen, &[]);
    let (mut peer, _) = site.accept_run();
    peer.say(&ToClient::Asking(Box::new(question())));
    screen.wait_for("  > ");
    screen.type_in("\x04");
    peer.gone();
    screen.wait_for("nothing was asked for and nothing runs");
    assert_eq!(end_of(child).code(), Some(125));
}

#[test]
fn leaving_while_waiting_leaves_the_request_and_says_so() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let child = start(&site, &screen, &[]);
    let (mut peer, _) = site.accept_run();
    let (request, message) = pending();
    peer.say(&message);
    screen.wait_for(&format!("elevon: request {request} is pending under “Tools”; it lapses in "));
    screen.wait_for("waiting 1s, lapses in ");
    screen.type_in("\x03");
    peer.gone();
    screen.wait_for(&format!(
        "elevon: request {request} stays pending; `elevon cancel {request}` takes it back"
    ));
    assert_eq!(end_of(child).code(), Some(130));
}

#[test]
fn a_decision_ends_the_waiting() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let child = start(&site, &screen, &[]);
    let (mut peer, _) = site.accept_run();
    peer.say(&pending().1);
    screen.wait_for("Ctrl-C leaves it pending");
    peer.start(true);
    peer.data(b"here");
    assert!(screen.wait_for("here").ends_with("\r\x1b[Khere"), "the line is taken away");
    peer.finish(Exit::Code(0));
    assert_eq!(end_of(child).code(), Some(0));

    let child = start(&site, &screen, &[]);
    let (mut peer, _) = site.accept_run();
    peer.say(&pending().1);
    screen.wait_for("Ctrl-C leaves it pending");
    let reason = Some(DenyReason::Declined);
    let (told, next) = ("bob declined it: not today".to_owned(), "ask bob".to_owned());
    peer.say(&ToClient::Refused(Refused { status: 126, reason, told, next }));
    screen.wait_for("\r\x1b[Kelevon: bob declined it: not today; ask bob\r\n");
    assert_eq!(end_of(child).code(), Some(126));
}

#[test]
fn not_waiting_leaves_at_once() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let child = start(&site, &screen, &["--no-wait"]);
    let (mut peer, run) = site.accept_run();
    assert_eq!(run.wait, Wait::No);
    let (request, message) = pending();
    peer.say(&message);
    screen.wait_for(&format!("`elevon cancel {request}` takes it back"));
    assert_eq!(end_of(child).code(), Some(124));
}

#[test]
fn a_password_is_asked_for_at_the_terminal_whatever_standard_error_is() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let socket = site.socket();
    let line = [ELEVON, "--socket", socket.to_str().expect("text"), "run", "--", "id"];
    let child = screen.start_with(&line, |command| {
        command.stdin(screen.stdio()).stdout(screen.stdio()).stderr(std::process::Stdio::null());
    });
    let (mut peer, _) = site.accept_run();
    peer.say(&ToClient::Prompt { text: Text::new("Password: "), secret: true });
    screen.wait_for("Password: ");
    screen.type_in("open sesame\n");
    peer.typed(b"open sesame");
    peer.finish(Exit::Code(0));
    assert_eq!(end_of(child).code(), Some(0));
}

#[test]
fn an_elevator_that_waits_for_no_password_any_more_is_heard() {
    let (site, mut screen) = (Site::new(), Screen::new());
    let socket = site.socket();
    let child = screen.start(&[ELEVON, "--socket", socket.to_str().expect("text"), "run", "--", "id"]);
    let (mut peer, _) = site.accept_run();
    peer.say(&ToClient::Prompt { text: Text::new("Password: "), secret: true });
    screen.wait_for("Password: ");
    let refused = Refused { status: 126, reason: None, told: "too late".into(), next: "try again".into() };
    peer.say(&ToClient::Refused(refused));
    drop(peer);
    screen.wait_for("elevon: too late; try again");
    assert_eq!(end_of(child).code(), Some(126));
}
