//! Messages between the client (`elevon`) and the elevator on the users' socket.
//!
//! With [`FromClient::Run`] come four descriptors: the working directory (O_PATH), standard input, output and error; with
//! [`FromClient::Explain`] only the first. After [`ToClient::Starting`] the session speaks instead of the elevator, on
//! the same connection; with a terminal, data frames carry its bytes both ways. Before that there is one kind of data frame
//! only: what a user answers to [`ToClient::Prompt`], read by the process that asks PAM and by nobody else.

use std::fmt;
use std::marker::PhantomData;

use elevon_policy::application::Application;
use elevon_policy::bounds::Bounds;
use elevon_policy::decide::Decision;
use elevon_policy::event::{DenyReason, EndReason, Exit};
use elevon_policy::id::{GrantId, LaunchId, RequestId};
use elevon_policy::lists::{Durations, JustificationNeeded, RunsAs};
use elevon_policy::sheet::AnswerOutcome;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::display::Cookie;

/// From the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromClient {
    /// Run this elevated.
    Run(Box<Run>),
    /// What would happen, and why; answered by [`ToClient::Explained`].
    Explain {
        /// As typed.
        command: OsText,
        /// As typed.
        #[serde(deserialize_with = "at_most::<_, _, MOST_ARGUMENTS>")]
        arguments: Vec<OsText>,
        /// Whether the command is no program, but the name of a component.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        component: bool,
    },
    /// Whether a grant lets a user do what a component stands for: polkit's rule asks, before it says yes by itself. Answered
    /// by [`ToClient::Authorization`], to polkit's own user and to root alone.
    Authorize {
        /// The name of the user who wants to.
        user: Text,
        /// The action.
        component: Text,
        /// The process that wants to, for the record.
        process: Option<u32>,
    },
    /// My requests, grants and launches; answered by [`ToClient::Status`].
    Status,
    /// Take a request back; answered by [`ToClient::Done`].
    Cancel {
        /// Which.
        request: RequestId,
    },
    /// Give a grant back; what runs under it ends; answered by [`ToClient::Done`].
    End {
        /// Which.
        grant: GrantId,
    },
    /// Answers [`ToClient::Asking`].
    Answer {
        /// For how long.
        duration: Span,
        /// Why.
        justification: Text,
    },
    /// The terminal has another size now.
    Resize(WindowSize),
    /// Pass this signal on to the application.
    Signal {
        /// Its number.
        number: i32,
    },
    /// The client was stopped and goes on.
    Continue,
}

/// More arguments than a command line has that is not refused as too long.
const MOST_ARGUMENTS: usize = 256 << 10;

/// More variables than there are that may matter.
const MOST_VARIABLES: usize = 256;

/// No more than an honest client sends: empty elements take far more room in memory than in a message.
fn at_most<'de, D, T, const MOST: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let (few, more) = from.deserialize_seq(First::<T>(MOST, PhantomData))?;
    if more { Err(D::Error::custom(format_args!("there are more than {MOST} elements"))) } else { Ok(few) }
}

/// The first ones, where the others would be left out anyway.
fn first<'de, D, T, const MOST: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_seq(First::<T>(MOST, PhantomData)).map(|(few, _)| few)
}

/// Reads the first elements of a sequence, and whether there are more.
struct First<T>(usize, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for First<T> {
    type Value = (Vec<T>, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut few = Vec::new();
        while few.len() < self.0 {
            match elements.next_element()? {
                Some(element) => few.push(element),
                None => return Ok((few, false)),
            }
        }
        let mut more = false;
        while elements.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok((few, more))
    }
}

/// What to run, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// As typed.
    pub command: OsText,
    /// As typed.
    #[serde(deserialize_with = "at_most::<_, _, MOST_ARGUMENTS>")]
    pub arguments: Vec<OsText>,
    /// `--component`: the command is no program, but the name of a component. Nothing starts; a grant lets the user do what
    /// polkit asks about under that name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub component: bool,
    /// `--for`.
    pub duration: Option<Span>,
    /// `--justification`.
    pub justification: Option<Text>,
    /// `--as`: so, or not at all. What policy says decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_as: Option<RunsAs>,
    /// `--wait`, `--no-wait`.
    pub wait: Wait,
    /// The few variables that may matter: TERM, LANG, LC_*, TZ; and DISPLAY, WAYLAND_DISPLAY, XDG_RUNTIME_DIR, which count
    /// only where policy lets the program get to the user's display. The elevator checks them, and takes no others.
    #[serde(deserialize_with = "first::<_, _, MOST_VARIABLES>")]
    pub environment: Vec<(String, OsText)>,
    /// The key to the display that DISPLAY says. The client has read it, with the user's own rights: the elevator opens no
    /// file that a user names here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
    /// The size of the terminal, where there is one.
    pub window: Option<WindowSize>,
    /// The umask to run with.
    pub umask: u32,
}

/// How long to wait for a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Wait {
    /// Until someone decides or the request lapses.
    UntilDecided,
    /// At most this long.
    AtMost {
        /// From the request on.
        span: Span,
    },
    /// Not at all.
    No,
}

/// The size of a terminal, in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// To the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToClient {
    /// Duration or justification are still needed; answered by [`FromClient::Answer`].
    Asking(Box<Asking>),
    /// The user is to show that they are there, by their own password: prompts follow.
    Confirm(Box<Confirm>),
    /// PAM wants an answer; it comes as one data frame of the bytes that were typed, at most [`LONGEST_ANSWER`] of them.
    Prompt {
        /// In PAM's own words.
        text: Text,
        /// Whether nobody may see what is typed.
        secret: bool,
    },
    /// Something to know before the application starts: what PAM tells, or why there will be no display.
    Notice {
        /// In PAM's own words, or in the elevator's.
        text: Text,
    },
    /// A request waits for a decision.
    Pending {
        /// Which.
        request: RequestId,
        /// Whether it was there before.
        joined: bool,
        /// Until when someone may decide.
        lapses: Timestamp,
        /// The policy that says to ask.
        policy: Text,
        /// Whether the agent is connected, so that the request is on its way.
        connected: bool,
    },
    /// The application starts now.
    Starting {
        /// The launch.
        launch: LaunchId,
        /// The grant.
        grant: GrantId,
        /// When nothing runs any more.
        end: Timestamp,
        /// Whether the terminal is relayed: data frames follow, and the client's own goes into raw mode.
        terminal: bool,
    },
    /// A component was granted: nothing starts, and polkit says yes to this user from now on.
    Granted {
        /// The grant.
        grant: GrantId,
        /// The action.
        component: Text,
        /// Polkit is not told yes any more from then on.
        end: Timestamp,
        /// Whether it is good for one time only.
        once: bool,
    },
    /// Whether a grant lets that user do that.
    Authorization {
        /// Yes, and it is recorded; otherwise nothing is, and polkit decides as it would without Elevon.
        granted: bool,
    },
    /// The end is near.
    Warning {
        /// This far.
        left: Span,
        /// What will end it.
        reason: EndReason,
    },
    /// The application was stopped by this signal; the client stops too, and sends [`FromClient::Continue`] after.
    Stopped {
        /// Its number.
        signal: i32,
    },
    /// It is over.
    Finished {
        /// How the application itself ended.
        exit: Exit,
        /// What ended it.
        reason: EndReason,
    },
    /// It was not started.
    Refused(Refused),
    /// What would happen, and why.
    Explained(Box<Explained>),
    /// My requests, grants and launches.
    Status(Box<Status>),
    /// It was done.
    Done {
        /// What, in one line.
        told: String,
    },
}

/// What the elevator still needs to know, and all that a person needs to see before answering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    /// What would run.
    pub application: Application,
    /// With which arguments.
    pub argv: Vec<OsText>,
    /// As whom it would run.
    pub runs_as: RunsAs,
    /// What it would be kept to.
    pub bounds: Bounds,
    /// The policy that says so.
    pub policy: Text,
    /// Whether someone has to agree, or writing it down is enough.
    pub approval: bool,
    /// The durations to choose from.
    pub durations: Durations,
    /// What to write.
    pub justification: JustificationNeeded,
    /// What this user wrote lately.
    pub recent: Vec<Text>,
}

/// Longest answer to [`ToClient::Prompt`], in bytes: PAM takes no longer one.
pub const LONGEST_ANSWER: usize = 511;

/// What a user confirms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// What would run.
    pub application: Application,
    /// With which arguments.
    pub argv: Vec<OsText>,
    /// The policy that says so.
    pub policy: Text,
}

/// Why something was not started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The client's exit status: 124 to 127.
    pub status: u8,
    /// The machine's word, where it is a refusal.
    pub reason: Option<DenyReason>,
    /// In one line: what was refused, and by which policy.
    pub told: String,
    /// What the user can do.
    pub next: String,
}

/// What would happen, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explained {
    /// As measured.
    pub application: Application,
    /// With which arguments.
    pub argv: Vec<OsText>,
    /// What would be decided.
    pub decision: Decision,
}

/// A user's requests, grants and launches on this computer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Whether the agent is connected to the elevator.
    pub agent_connected: bool,
    /// By the elevator's clock.
    pub now: Timestamp,
    /// Pending ones, and those lately decided.
    pub requests: Vec<RequestStatus>,
    /// Those in force.
    pub grants: Vec<GrantStatus>,
    /// Those that run.
    pub launches: Vec<LaunchStatus>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestStatus {
    /// Which.
    pub request: RequestId,
    /// What it is for.
    pub path: OsText,
    /// With which arguments.
    pub argv: Vec<OsText>,
    /// When it was made.
    pub made: Timestamp,
    /// When it lapses.
    pub lapses: Timestamp,
    /// What became of it; none while it is pending.
    pub outcome: Option<AnswerOutcome>,
}

/// One grant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantStatus {
    /// Which.
    pub grant: GrantId,
    /// What it is for, where it is for one file.
    pub path: Option<OsText>,
    /// With which arguments; none for any.
    pub argv: Option<Vec<OsText>>,
    /// Its end; none before its first launch.
    pub end: Option<Timestamp>,
}

/// One launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchStatus {
    /// Which.
    pub launch: LaunchId,
    /// Under which grant.
    pub grant: GrantId,
    /// What runs.
    pub path: OsText,
    /// Since when.
    pub started: Timestamp,
    /// Until when.
    pub end: Timestamp,
}
