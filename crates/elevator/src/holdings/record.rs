//! What is on record and not on file: the elevator ended between the two. The event comes first, so that nothing is held of
//! which nobody ever heard; whatever the record tells of beyond that is made up for at the next start.

use std::io;

use elevon_policy::event::{Event, What};
use elevon_policy::sheet::{Answer, AnswerOutcome};
use elevon_policy::time::Timestamp;

use super::grants::GIVEN_BACK;
use super::requests::REMEMBERED;
use super::{Holdings, Local, Made, Used};

impl Holdings {
    /// Puts on file what these events tell of and no file does. What is older than what is remembered was on file, and is
    /// forgotten by now.
    pub(crate) fn make_up_for(&self, events: &[Event], now: Timestamp) -> io::Result<()> {
        let mut held = self.held();
        let mut local = held.local.clone();
        let since = now.before(REMEMBERED);
        events.iter().filter(|event| event.at > since).for_each(|event| local.hear_of(event));
        if local == held.local {
            return Ok(());
        }
        self.change(&mut held, |before| *before = local)
    }
}

impl Local {
    fn hear_of(&mut self, event: &Event) {
        match &event.what {
            What::RequestMade { request }
                if self.requests.iter().all(|made| made.request.id != request.id) =>
            {
                self.requests.push(Made { request: (**request).clone(), answer: None });
            }
            What::RequestCancelled { request, .. } => {
                let outcome = AnswerOutcome::Cancelled;
                let mut requests = self.requests.iter_mut();
                if let Some(made) = requests.find(|made| made.request.id == *request && made.answer.is_none())
                {
                    made.answer = Some(Answer { request: *request, at: event.at, outcome });
                }
            }
            What::GrantMade { grant, .. } if self.grants.iter().all(|known| known.id != grant.id) => {
                self.grants.push((**grant).clone());
            }
            What::GrantStarted { grant, end } => {
                let used = self.used.entry(*grant).or_default();
                if used.end.is_none() {
                    *used = Used { end: Some(*end), launched: 1, ..*used };
                }
            }
            What::GrantEnded { grant, .. } => {
                self.given_back.entry(*grant).or_insert_with(|| event.at.after(GIVEN_BACK));
            }
            _ => {}
        }
    }
}
