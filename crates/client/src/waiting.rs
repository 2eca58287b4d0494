//! The quiet line while a request waits for a decision.

use std::io::{self, IsTerminal};

use elevon_policy::id::RequestId;
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};

use crate::report::{rounded, say, write_error};
use crate::terminal::is_in_front;

/// A request that waits for a decision.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Which.
    pub(crate) request: RequestId,
    since: Timestamp,
    lapses: Timestamp,
    live: bool,
}

impl Waiting {
    /// Says that it waits; on a terminal a second line follows that keeps count.
    pub(crate) fn begin(
        request: RequestId,
        joined: bool,
        lapses: Timestamp,
        policy: &Text,
        now: Timestamp,
    ) -> Self {
        let left = rounded(lapses.since(now));
        let verb = if joined { "is still pending" } else { "is pending" };
        say(&format!("elevon: request {request} {verb} under “{}”; it lapses in {left}", policy.visible()));
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { request, since: now, lapses, live: io::stderr().is_terminal() && !dumb }
    }

    /// Says why it may take longer than usual.
    pub(crate) fn not_connected() {
        say(
            "elevon: elevon-agent is not connected on this computer (`elevon-agent status` says why); the request goes out as soon as it is",
        );
    }

    /// Shows how long it has been; says when to come back, if at all.
    pub(crate) fn count(&self, now: Timestamp) -> Option<Span> {
        if !self.live {
            return None;
        }
        let (waited, left) = (whole_seconds(now.since(self.since)), rounded(self.lapses.since(now)));
        // In the background the terminal is another job's.
        if is_in_front(io::stderr()) {
            write_error(&format!("\r\x1b[K  waiting {waited}, lapses in {left}; Ctrl-C leaves it pending"));
        }
        Some(Span::from_millis(1_000 - now.since(self.since).millis() % 1_000))
    }

    /// Takes the counting line away.
    pub(crate) fn clear(&self) {
        if self.live && is_in_front(io::stderr()) {
            write_error("\r\x1b[K");
        }
    }

    /// Says that nobody waits any more, and how to take the request back.
    pub(crate) fn leave(&self) {
        self.clear();
        let request = self.request;
        say(&format!("elevon: request {request} stays pending; `elevon cancel {request}` takes it back"));
    }
}

fn whole_seconds(span: Span) -> Span {
    Span::from_secs(span.millis() / 1_000)
}
