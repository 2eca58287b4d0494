//! Every message, with everything in it.

use std::fmt::Debug;

use elevon_policy::application::{Application, Interpreter, Lane, Sha256};
use elevon_policy::bounds::Bounds;
use elevon_policy::bundle::Bundle;
use elevon_policy::decide::{Attempt, Holdings, decide};
use elevon_policy::event::{DenyReason, EndReason, Exit};
use elevon_policy::lists::{Durations, JustificationNeeded, RunsAs};
use elevon_policy::sheet::{AnswerOutcome, ChainHead};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::channel::{
    Enroll, Enrolled, Events, State, StateQuestion, Stored, TimeQuestion, TimeStatement,
};
use elevon_wire::conversation::{
    Asking, Confirm, Explained, FromClient, GrantStatus, LaunchStatus, Refused, RequestStatus, Run, Status,
    ToClient, Wait, WindowSize,
};
use elevon_wire::frame::{Decoder, Frame, MESSAGE_LIMIT, Malformed};
use elevon_wire::signed::{PublicKey, Purpose, Signed};
use elevon_wire::token::EnrollmentToken;
use elevon_wire::uplink::{FromAgent, Holds, ToAgent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{golden, held};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn id<I: std::str::FromStr<Err: Debug>>(n: u32) -> I {
    format!("01900000-0000-7000-8000-{n:012x}").parse().unwrap()
}

fn os(words: &[&str]) -> Vec<OsText> {
    words.iter().map(|word| OsText::from(*word)).collect()
}

fn signed(purpose: Purpose) -> Signed {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    Signed::seal(&key, purpose, &TimeStatement { nonce: 42, at: NOW })
}

fn application() -> Application {
    Application {
        path: OsText::new(*b"/opt/\xffodd"),
        sha256: Sha256([1; 32]),
        size: 4096,
        owner: 0,
        mode: 0o755,
        lane: Lane::Trusted,
        interpreter: Some(Interpreter {
            path: OsText::from("/usr/bin/dash"),
            sha256: Sha256([2; 32]),
            argument: Some(OsText::from("-e")),
            package: None,
        }),
        package: None,
        package_database: true,
        component: None,
    }
}

/// Pins the messages, and sends each through a frame.
#[track_caller]
fn pin<M: Serialize + DeserializeOwned>(name: &str, messages: &[M]) {
    golden(name, &messages);
    let stored: Vec<Value> = serde_json::from_value(held(name)).unwrap();
    let mut decoder = Decoder::new(MESSAGE_LIMIT);
    for (message, stored) in messages.iter().zip(stored) {
        decoder.push(&Frame::message(message).encode());
        let arrived: M = decoder.next_frame().unwrap().unwrap().parse().unwrap();
        assert_eq!(serde_json::to_value(&arrived).unwrap(), stored);
        let read: M = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), stored);
    }
}

#[test]
fn from_the_client() {
    let run = |wait| {
        FromClient::Run(Box::new(Run {
            command: OsText::from("./tool"),
            arguments: os(&["--now"]),
            component: false,
            duration: Some(Span::from_mins(30)),
            justification: Some(Text::new("ticket 4711")),
            runs_as: None,
            wait,
            environment: vec![("TERM".into(), OsText::from("xterm"))],
            cookie: (wait == Wait::No)
                .then(|| serde_json::from_value(serde_json::json!(vec![7; 16])).unwrap()),
            window: Some(WindowSize { rows: 24, columns: 80 }),
            umask: 0o022,
        }))
    };
    pin(
        "from_client",
        &[
            run(Wait::UntilDecided),
            run(Wait::AtMost { span: Span::from_mins(5) }),
            run(Wait::No),
            FromClient::Explain {
                command: OsText::from("tool"),
                arguments: os(&["--now"]),
                component: false,
            },
            FromClient::Explain {
                command: OsText::from("org.example.act"),
                arguments: vec![],
                component: true,
            },
            FromClient::Authorize {
                user: Text::new("alice"),
                component: Text::new("org.example.act"),
                process: Some(4711),
            },
            FromClient::Status,
            FromClient::Cancel { request: id(60) },
            FromClient::End { grant: id(50) },
            FromClient::Answer { duration: Span::from_mins(15), justification: Text::new("because") },
            FromClient::Resize(WindowSize { rows: 50, columns: 200 }),
            FromClient::Signal { number: 15 },
            FromClient::Continue,
        ],
    );
}

/// Two bytes of a message are some thirty of memory: more words than a command line has are refused, and more variables than
/// matter left out.
#[test]
fn empty_words_without_end_are_not_kept() {
    let parsed = |arguments: usize, variables: usize| -> Result<FromClient, serde_json::Error> {
        serde_json::from_value(json!({
            "message": "run", "command": "./tool", "arguments": vec![""; arguments],
            "environment": vec![("LC_X", ""); variables], "umask": 18, "wait": { "type": "no" },
        }))
    };
    let FromClient::Run(run) = parsed(256 << 10, 1_000).unwrap() else { panic!("it is one") };
    assert_eq!((run.arguments.len(), run.environment.len()), (256 << 10, 256));
    let refused = parsed((256 << 10) + 1, 0).unwrap_err().to_string();
    assert!(refused.contains("more than 262144"), "{refused}");
}

#[test]
fn to_the_client() {
    let bundle = Bundle::default();
    let holdings = Holdings { bundle: &bundle, locks: &[], grants: &[] };
    let user = elevon_policy::application::User { uid: 1000, name: Text::new("alice") };
    let (application, argv) = (application(), os(&["tool"]));
    let attempt =
        Attempt { user: &user, computer: id(1), application: &application, argv: &argv, nested: false };
    let decision = decide(&holdings, &attempt, NOW);
    let status = Status {
        agent_connected: true,
        now: NOW,
        requests: vec![RequestStatus {
            request: id(60),
            path: OsText::from("/usr/bin/tool"),
            argv: os(&["tool"]),
            made: NOW,
            lapses: NOW.after(Span::from_hours(24)),
            outcome: Some(AnswerOutcome::Declined { by: Text::new("carol"), comment: Text::new("no") }),
        }],
        grants: vec![GrantStatus {
            grant: id(50),
            path: Some(OsText::from("/usr/bin/tool")),
            argv: Some(os(&["tool"])),
            end: Some(NOW),
        }],
        launches: vec![LaunchStatus {
            launch: id(40),
            grant: id(50),
            path: OsText::from("/usr/bin/tool"),
            started: NOW,
            end: NOW,
        }],
    };
    pin(
        "to_client",
        &[
            ToClient::Asking(Box::new(Asking {
                runs_as: RunsAs::SameUser,
                bounds: Bounds { capabilities: "net_raw".parse().expect("known"), ..Bounds::default() },
                application: application.clone(),
                argv: argv.clone(),
                policy: Text::new("tools"),
                approval: true,
                durations: Durations::default(),
                justification: JustificationNeeded::default(),
                recent: vec![Text::new("ticket 4711")],
            })),
            ToClient::Confirm(Box::new(Confirm {
                application: application.clone(),
                argv: argv.clone(),
                policy: Text::new("tools"),
            })),
            ToClient::Prompt { text: Text::new("Password: "), secret: true },
            ToClient::Notice { text: Text::new("2 tries left") },
            ToClient::Pending {
                request: id(60),
                joined: false,
                lapses: NOW,
                policy: Text::new("tools"),
                connected: true,
            },
            ToClient::Starting { launch: id(40), grant: id(50), end: NOW, terminal: true },
            ToClient::Granted {
                grant: id(50),
                component: Text::new("org.example.act"),
                end: NOW,
                once: false,
            },
            ToClient::Authorization { granted: true },
            ToClient::Warning { left: Span::from_mins(1), reason: EndReason::Expired },
            ToClient::Stopped { signal: 20 },
            ToClient::Finished { exit: Exit::Code(7), reason: EndReason::Exited },
            ToClient::Finished { exit: Exit::Signal(9), reason: EndReason::Revoked },
            ToClient::Refused(Refused {
                status: 126,
                reason: Some(DenyReason::NotListed),
                told: "no list has it".into(),
                next: "ask an administrator".into(),
            }),
            ToClient::Explained(Box::new(Explained { application, argv, decision })),
            ToClient::Status(Box::new(status)),
            ToClient::Done { told: "the request is cancelled".into() },
        ],
    );
}

#[test]
fn from_and_to_the_agent() {
    pin(
        "from_agent",
        &[
            FromAgent::Hello,
            FromAgent::State { sheet: Box::new(signed(Purpose::Sheet)), bundle: None },
            FromAgent::State {
                sheet: Box::new(signed(Purpose::Sheet)),
                bundle: Some(Box::new(signed(Purpose::Bundle))),
            },
            FromAgent::Time { statement: Box::new(signed(Purpose::Time)) },
            FromAgent::Events { after: 41 },
        ],
    );
    pin(
        "to_agent",
        &[
            ToAgent::Holds(Holds {
                computer: Some(id(1)),
                sheet: 7,
                bundle: Some(Sha256([2; 32])),
                stored: 40,
                recorded: 41,
            }),
            ToAgent::Refused { cause: "the signature does not fit".into() },
            ToAgent::Ask { question: TimeQuestion { nonce: u64::MAX } },
            ToAgent::Events { records: vec![signed(Purpose::Event)] },
            ToAgent::Recorded { number: 42 },
        ],
    );
}

#[test]
fn between_agent_and_server() {
    let key = PublicKey::of(&ed25519_dalek::SigningKey::from_bytes(&[7; 32]));
    let head = ChainHead { number: 41, digest: Sha256([3; 32]) };
    let enroll = Enroll {
        secret: "secret".into(),
        certificate_request: "-----BEGIN CERTIFICATE REQUEST-----".into(),
        event_key: key,
        host_name: Text::new("desk"),
        operating_system: Text::new("Debian GNU/Linux 12 (bookworm)"),
    };
    let enrolled = Enrolled {
        computer: id(1),
        certificate: "-----BEGIN CERTIFICATE-----".into(),
        ca: "-----BEGIN CERTIFICATE-----".into(),
        server_key: key,
    };
    pin("enroll", &[enroll]);
    pin("enrolled", &[enrolled]);
    pin("state", &[State { sheet: signed(Purpose::Sheet), bundle: Some(signed(Purpose::Bundle)) }]);
    pin("state_question", &[StateQuestion { after: 7, bundle: Some(Sha256([2; 32])), wait: 55 }]);
    pin("uploaded_events", &[Events { records: vec![signed(Purpose::Event)] }]);
    pin("stored", &[Stored { head }]);
}

#[test]
fn an_enrollment_token() {
    let token = EnrollmentToken {
        address: "server.example:8444".into(),
        ca_fingerprint: Sha256([7; 32]),
        secret: "s3cret".into(),
    };
    golden("enrollment_token", &json!(token.reveal()));
    let stored = held("enrollment_token");
    assert_eq!(stored.as_str().unwrap().parse(), Ok(token));
}

#[test]
fn a_message_with_something_unknown_is_refused() {
    let read = |json: &str| {
        Frame { kind: elevon_wire::frame::Kind::Message, payload: json.into() }.parse::<FromClient>()
    };
    assert!(read(r#"{"message":"status"}"#).is_ok());
    for json in [
        r#"{"message":"become_root"}"#,
        r#"{"message":"signal","number":15,"to":1}"#,
        r#"{"message":"signal","number":4294967296}"#,
        r#"{"message":"cancel","request":"../../etc/passwd"}"#,
        r#"{"message":"status"} {"message":"status"}"#,
        "[]",
        "",
    ] {
        assert!(matches!(read(json), Err(Malformed::Json(_))), "{json}");
    }
    assert_eq!(Frame::data(b"x").parse::<FromClient>(), Err(Malformed::Unexpected));
}

/// 16,000 empty frames in one read once cost a move of the rest of the buffer each.
#[test]
fn many_tiny_frames_arrive_in_order() {
    let mut decoder = Decoder::new(16);
    let bytes: Vec<u8> = (0..16_000u32).flat_map(|n| Frame::data(&n.to_be_bytes()).encode()).collect();
    let mut arrived = 0u32;
    for piece in bytes.chunks(65_521) {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame().unwrap() {
            assert_eq!(frame.payload, arrived.to_be_bytes());
            arrived += 1;
        }
    }
    assert_eq!(arrived, 16_000);
    assert!(!decoder.is_midway());
}
