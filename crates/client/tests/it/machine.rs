//! Answers that are read by people or machines.

use std::process::{Command, Output, Stdio};

use elevon_policy::id::RequestId;
use elevon_policy::time::Timestamp;
use elevon_wire::conversation::{FromClient, RequestStatus, Status, ToClient};

use crate::peer::Site;
use crate::screen::ELEVON;

fn request() -> RequestId {
    RequestId::new(Timestamp::from_millis(1_700_000_000_000), [7; 10])
}

fn status() -> ToClient {
    let now = Timestamp::from_millis(1_700_000_060_000);
    let request = RequestStatus {
        request: request(),
        path: "/opt/tool".into(),
        argv: vec!["tool".into()],
        made: Timestamp::from_millis(1_700_000_000_000),
        lapses: Timestamp::from_millis(1_700_003_660_000),
        outcome: None,
    };
    let (grants, launches) = Default::default();
    ToClient::Status(Box::new(Status {
        agent_connected: true,
        now,
        requests: vec![request],
        grants,
        launches,
    }))
}

/// Runs elevon; each connection gets the next of these answers.
fn answered(arguments: &[&str], answers: &[(FromClient, ToClient)]) -> Output {
    let site = Site::new();
    let child = Command::new(ELEVON)
        .args(arguments)
        .env("ELEVON_SOCKET", site.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("elevon starts");
    for (question, answer) in answers {
        let mut peer = site.accept();
        assert_eq!(peer.message(), *question);
        peer.say(answer);
    }
    child.wait_with_output().expect("it ends")
}

#[test]
fn status_for_people_and_for_machines() {
    let output = answered(&["status"], &[(FromClient::Status, status())]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text, "Requests\n  018bcfe5-6800  pending  /opt/tool  asked 1m ago, lapses in 1h\n");

    let output = answered(&["status", "--json"], &[(FromClient::Status, status())]);
    let read: Status = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(ToClient::Status(Box::new(read)), status());
}

#[test]
fn a_request_is_taken_back_by_the_beginning_of_its_id() {
    let cancel = FromClient::Cancel { request: request() };
    let done = ToClient::Done { told: "it is cancelled".into() };
    let output = answered(&["cancel", "018b"], &[(FromClient::Status, status()), (cancel, done)]);
    assert_eq!(output.stdout, b"it is cancelled\n");
    assert!(output.status.success());

    let output = answered(&["end", "018b"], &[(FromClient::Status, status())]);
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(
        told,
        "elevon: no grant of yours on this computer has an id that begins with “018b”; `elevon status` shows them\n"
    );
    assert_eq!(output.status.code(), Some(125));
}
