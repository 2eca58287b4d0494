//! Whether it is really the user who sits there: PAM asks for their password, the client's terminal answers, and what was typed
//! goes from the client's socket into this process and nowhere else.

use std::cell::Cell;
use std::ffi::CString;

use elevon_policy::text::Text;
use elevon_wire::conversation::{LONGEST_ANSWER, ToClient};
use elevon_wire::frame::MESSAGE_LIMIT;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::account::{AUTHENTICATION_FAILED, PERMISSION_DENIED, TOO_MANY_TRIES, USER_UNKNOWN};
use super::questions::Progress;
use crate::connection::{Connection, Speaker};
use crate::syscall::pam::{Begun, Code, Style};

/// How often a password may be wrong in one run.
pub(super) const TRIES: u32 = 3;

/// More messages than a log-in has.
const MOST_MESSAGES: u32 = 24;

/// Longer than a prompt is, in bytes.
const LONGEST_PROMPT: usize = 300;

/// Why a presence is not proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotPresent {
    /// So many wrong answers were given; no others.
    Wrong {
        /// At least one.
        tries: u32,
    },
    /// Nobody answered, or the client went away.
    NoAnswer,
    /// A module says no without asking, perhaps in these words.
    Refused {
        /// What it said, or what PAM calls its answer.
        told: Text,
    },
    /// PAM could not be asked, or its answer cannot be relied on.
    Failed {
        /// Why.
        cause: String,
    },
}

/// What has been said so far.
#[derive(Default)]
struct Said {
    messages: Cell<u32>,
    answers: Cell<u32>,
    /// The client is gone, or says what it should not.
    given_up: Cell<bool>,
    /// The last thing a module told.
    notice: Cell<Option<String>>,
}

/// Has PAM ask the person, `TRIES` times at most.
pub(super) fn prove(
    begun: Begun<'_>,
    user: &Text,
    client: Speaker,
    line: &mut Connection,
) -> Result<(), NotPresent> {
    let failed = |cause: &str| NotPresent::Failed { cause: cause.to_owned() };
    let socket =
        line.take_descriptors().pop().ok_or_else(|| failed("the client's conversation is missing"))?;
    let mut person = Connection::new(socket, MESSAGE_LIMIT, Some(client));
    let name = CString::new(user.as_untrusted()).map_err(|_| failed("its name has a NUL in it"))?;
    let said = Said::default();
    let answers = |style: Style, text: &[u8]| said.pass_on(line, &mut person, style, text);
    let mut attempt = begun.about(&name, Box::new(answers)).map_err(|cause| failed(&cause))?;
    for _ in 0..TRIES {
        let before = said.answers.get();
        let answered = attempt.authenticate();
        if attempt.user().as_deref() != Some(name.to_bytes()) {
            return Err(failed("a module changed whom it is about"));
        }
        match answered {
            Ok(()) if said.answers.get() > 0 => return Ok(()),
            // A stack that asks nothing proves nobody's presence.
            Ok(()) => {
                return Err(failed(
                    "its service admits everybody without an answer; its auth stage should ask for a password",
                ));
            }
            Err(_) if said.given_up.get() => break,
            Err(AUTHENTICATION_FAILED | PERMISSION_DENIED | USER_UNKNOWN) if said.answers.get() > before => {}
            Err(TOO_MANY_TRIES) if said.answers.get() > 0 => break,
            Err(code @ (AUTHENTICATION_FAILED | PERMISSION_DENIED | USER_UNKNOWN | TOO_MANY_TRIES)) => {
                let told = said.notice.take().unwrap_or_else(|| attempt.sentence(code));
                return Err(NotPresent::Refused { told: Text::new(told) });
            }
            Err(code @ Code(_)) => return Err(failed(&attempt.sentence(code))),
        }
    }
    // The last one was not given where the client went away while it was asked for.
    match said.answers.get() {
        0 => Err(NotPresent::NoAnswer),
        tries => Err(NotPresent::Wrong { tries }),
    }
}

impl Said {
    /// A prompt to the person, and their answer back.
    fn pass_on(
        &self,
        line: &Connection,
        person: &mut Connection,
        style: Style,
        text: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        self.messages.set(self.messages.get() + 1);
        if self.messages.get() > MOST_MESSAGES {
            return None;
        }
        let text = String::from_utf8_lossy(text.get(..LONGEST_PROMPT).unwrap_or(text)).into_owned();
        let answered = match style {
            Style::Error | Style::Information => {
                self.notice.set(Some(text.trim().to_owned()).filter(|text| !text.is_empty()));
                person.send(&ToClient::Notice { text: Text::new(text) }).ok().map(|()| Zeroizing::default())
            }
            Style::Secret | Style::Open => self.ask(line, person, Text::new(text), style == Style::Secret),
        };
        self.given_up.set(answered.is_none());
        answered
    }

    /// Nothing where the client is gone, or says what it should not.
    fn ask(
        &self,
        line: &Connection,
        person: &mut Connection,
        text: Text,
        secret: bool,
    ) -> Option<Zeroizing<Vec<u8>>> {
        line.send(&Progress::Waits).ok()?;
        person.send(&ToClient::Prompt { text, secret }).ok()?;
        let answer = person.receive_secret(LONGEST_ANSWER).ok()?;
        line.send(&Progress::Works).ok()?;
        self.answers.set(self.answers.get() + 1);
        // What is too long, or would end earlier for PAM than for the user, is as wrong as any other; PAM is told something that
        // no password is, so that it takes its time.
        Some(answer.filter(|answer| !answer.contains(&0)).unwrap_or_else(|| Zeroizing::new(vec![0xff; 8])))
    }
}
