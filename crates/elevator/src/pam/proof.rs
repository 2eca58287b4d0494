//! The elevator's side of a proof of presence: how often it may be tried, how long it may take, and what came of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::PoisonError;

use elevon_policy::application::User;
use elevon_policy::event::DenyReason;
use elevon_policy::text::Text;
use elevon_policy::time::Span;

use super::questions::{Progress, Question};
use super::{NotPresent, Pam};
use crate::clock::Uptime;
use crate::connection::Speaker;
use crate::spawner::Spawner;

/// How long a person may take for one answer.
const PERSON: Span = Span::from_mins(2);

/// How long modules may take between two answers; they slow down whoever answered wrong.
const MODULES: Span = Span::from_secs(30);

/// So many commands of one user may ask for the password at once.
const AT_ONCE: usize = 3;

/// So many wrong passwords of one user within [`WITHIN`], and none is asked for until that is over.
const MOST_WRONG: usize = 9;

/// See [`MOST_WRONG`].
const WITHIN: Span = Span::from_mins(10);

/// One user's proofs.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    under_way: usize,
    /// When passwords were wrong.
    wrong: Vec<Uptime>,
}

impl Proofs {
    fn begin(&mut self, now: Uptime) -> bool {
        let since = now.before(WITHIN);
        self.wrong.retain(|at| *at > since);
        let may = self.under_way < AT_ONCE && self.wrong.len() < MOST_WRONG;
        self.under_way += usize::from(may);
        may
    }

    fn end(&mut self, wrong: u32, now: Uptime) {
        self.under_way = self.under_way.saturating_sub(1);
        self.wrong.extend((0..wrong).map(|_| now));
    }
}

/// Why nobody is taken to be there.
#[derive(Debug)]
pub(crate) enum Unproven {
    /// It was tried too often, or is being tried at too many places.
    TooOften,
    /// It was tried.
    NotPresent(NotPresent),
}

impl Pam {
    /// Has PAM ask whoever sits at the client of this conversation. Waits until it is over.
    pub(crate) fn prove(
        &self,
        spawner: &Spawner,
        user: &User,
        client: Speaker,
        conversation: BorrowedFd<'_>,
    ) -> Result<(), Unproven> {
        if !self.proofs(|proofs| proofs.entry(user.uid).or_default().begin(Uptime::now())) {
            return Err(Unproven::TooOften);
        }
        let mut answers = 0;
        let proven = self.asked_for(spawner, user, client, conversation, &mut answers);
        let proven = proven.unwrap_or_else(|error| {
            Err(NotPresent::Failed {
                cause: format!("the process of its modules ended without an answer: {error}"),
            })
        });
        let wrong = match &proven {
            Err(NotPresent::Wrong { tries }) => *tries,
            // What was answered before it was given up has proven nobody's presence.
            Err(NotPresent::NoAnswer) => answers,
            _ => 0,
        };
        self.proofs(|proofs| proofs.entry(user.uid).or_default().end(wrong, Uptime::now()));
        proven.map_err(Unproven::NotPresent)
    }

    fn asked_for(
        &self,
        spawner: &Spawner,
        user: &User,
        client: Speaker,
        conversation: BorrowedFd<'_>,
        answers: &mut u32,
    ) -> io::Result<Result<(), NotPresent>> {
        let mut process = self.process(spawner)?;
        let question = Question::Presence { user: user.name.clone(), client };
        process.line.send_with(&question, &[conversation.as_fd()]).map_err(io::Error::other)?;
        let (mut waits, mut by) = (false, Uptime::now().after(MODULES));
        loop {
            if !process.answers(by)? {
                process.end();
                return Ok(Err(match waits {
                    true => NotPresent::NoAnswer,
                    false => {
                        NotPresent::Failed { cause: format!("its modules did not answer within {MODULES}") }
                    }
                }));
            }
            match process.line.receive::<Progress>().map_err(io::Error::other)? {
                Progress::Waits => (waits, by) = (true, Uptime::now().after(PERSON)),
                Progress::Works => {
                    *answers += u32::from(waits);
                    (waits, by) = (false, Uptime::now().after(MODULES));
                }
                Progress::Over(proven) => return Ok(proven),
            }
        }
    }

    fn proofs<T>(&self, act: impl FnOnce(&mut std::collections::HashMap<u32, Proofs>) -> T) -> T {
        act(&mut self.proofs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Unproven {
    /// The machine's word for it.
    pub(crate) fn deny_reason(&self) -> DenyReason {
        match self {
            Self::TooOften => DenyReason::TooMany,
            Self::NotPresent(NotPresent::Wrong { .. }) => DenyReason::PasswordWrong,
            Self::NotPresent(NotPresent::NoAnswer) => DenyReason::NotConfirmed,
            Self::NotPresent(NotPresent::Refused { .. }) => DenyReason::AccountRefused,
            Self::NotPresent(NotPresent::Failed { .. }) => DenyReason::PamFailed,
        }
    }

    /// What is told to this user, and what they can do.
    pub(crate) fn sentences(&self, user: &Text) -> (String, String) {
        let name = user.visible();
        let again = || "start it again".to_owned();
        match self {
            Self::TooOften => (
                format!("the password of {name} was wrong too often, or is asked for elsewhere already"),
                "wait ten minutes, then start it again".into(),
            ),
            Self::NotPresent(NotPresent::Wrong { tries: 1 }) => {
                (format!("the password of {name} was wrong"), again())
            }
            Self::NotPresent(NotPresent::Wrong { tries }) => {
                (format!("the password of {name} was wrong {tries} times"), again())
            }
            Self::NotPresent(NotPresent::NoAnswer) => {
                (format!("the password of {name} was not given"), again())
            }
            Self::NotPresent(NotPresent::Refused { told }) => (
                format!("PAM does not admit {name} now: {}", told.visible()),
                "ask an administrator, who sees why in the system's log".into(),
            ),
            Self::NotPresent(NotPresent::Failed { cause }) => (
                format!("PAM could not ask for the password of {name}: {}", Text::new(cause).visible()),
                "ask an administrator to look at `elevon-elevator doctor`".into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_passwords_are_counted_for_ten_minutes() {
        let start = Uptime::now();
        let mut proofs = Proofs::default();
        for round in 0..3 {
            assert!(proofs.begin(start), "{round}");
            proofs.end(3, start);
        }
        assert!(!proofs.begin(start.after(Span::from_mins(9))));
        assert!(proofs.begin(start.after(Span::from_mins(11))));
    }

    #[test]
    fn only_a_few_are_asked_at_once() {
        let start = Uptime::now();
        let mut proofs = Proofs::default();
        assert_eq!([0; 4].map(|_| proofs.begin(start)), [true, true, true, false]);
        proofs.end(0, start);
        assert!(proofs.begin(start));
    }
}
