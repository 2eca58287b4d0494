//! What the pages' tests are rendered from.

use elevon_policy::application::{Application, Distrust, Lane, Sha256, User};
use elevon_policy::bounds::Bounds;
use elevon_policy::event::By;
use elevon_policy::grant::PolicyReference;
use elevon_policy::id::{AccountId, ComputerId, PolicyId, RequestId, Version};
use elevon_policy::lists::RunsAs;
use elevon_policy::request::{Decider, ElevationRequest, RequestRecord};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};

use super::frame::{Frame, Place};
use crate::auth::{Actor, Reader, Role};
use crate::requests::Row;

/// 2026-11-25 15:24:47 UTC
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_620_287_000);

/// The frame as `name` with this role sees it.
pub(crate) fn frame(name: &str, role: Role) -> Frame {
    let account = AccountId::new(NOW, [1; 10]);
    let name = Text::new(name);
    let actor = Actor {
        by: By::Account { account, name: name.clone() },
        role,
        decider: Decider { account, name, os_users: Vec::new() },
    };
    let reader = Reader::of(actor).expect("every role reads");
    Frame { reader, place: Place::Access, pending: 1, flash: None, now: NOW }
}

/// A program that only root can change.
pub(crate) fn application(path: &str) -> Application {
    Application {
        path: path.into(),
        sha256: Sha256([7; 32]),
        size: 1_234_567,
        owner: 0,
        mode: 0o755,
        lane: Lane::Trusted,
        interpreter: None,
        package: None,
        package_database: true,
        component: None,
    }
}

/// The same where others can change it.
pub(crate) fn user_writable(path: &str) -> Application {
    let lane = Lane::Untrusted { component: "/home/bob/bin".into(), because: Distrust::Owner };
    Application { lane, owner: 1003, ..application(path) }
}

/// A pending request of bob's on ws-2214, made two minutes ago.
pub(crate) fn request(application: Application, argv: &[&str], justification: &str) -> Row {
    let made = NOW.before(Span::from_mins(2));
    let asked = ElevationRequest {
        id: RequestId::new(made, [2; 10]),
        computer: ComputerId::new(NOW, [3; 10]),
        user: User { uid: 1003, name: Text::new("bob") },
        application,
        argv: argv.iter().map(|argument| OsText::from(*argument)).collect(),
        working_directory: "/home/bob".into(),
        runs_as: RunsAs::Root,
        bounds: Bounds::default(),
        origin: None,
        duration: Span::from_mins(15),
        justification: Text::new(justification),
        policy: PolicyReference { policy: PolicyId::new(NOW, [4; 10]), version: Version(7), rule: None },
        made,
        lapses: made.after(Span::from_hours(24)),
    };
    Row {
        record: RequestRecord::arrived(asked, made),
        host_name: Text::new("ws-2214"),
        last_seen: Some(NOW.before(Span::from_secs(5))),
        policy_name: Text::new("Developer tools"),
        grant: None,
    }
}
