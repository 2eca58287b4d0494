//! Requests that were made here, and what became of them.

use std::io;
use std::sync::Arc;

use elevon_policy::application::{Application, User};
use elevon_policy::grant::Ends;
use elevon_policy::id::RequestId;
use elevon_policy::lists::Terms;
use elevon_policy::request::ElevationRequest;
use elevon_policy::sheet::{Answer, AnswerOutcome};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};

use super::{Holdings, Local, Made};

/// How long an answered request stays to be told of, and a finished grant to be known.
pub(super) const REMEMBERED: Span = Span::from_days(1);

/// How many of a user's justifications are offered again.
const RECENT: usize = 3;

impl Holdings {
    /// A pending request of the same user for the same thing.
    /// `argv` is none where the grant will cover any.
    pub(crate) fn pending_like(
        &self,
        user: &User,
        application: &Application,
        terms: &Terms,
        argv: Option<&[OsText]>,
        now: Timestamp,
    ) -> Option<ElevationRequest> {
        let held = self.held();
        let pending =
            held.local.requests.iter().filter(|made| made.answer.is_none() && made.request.lapses > now);
        pending
            .map(|made| &made.request)
            .find(|request| {
                request.user == *user
                    && request.application.sha256 == application.sha256
                    && request.application.component == application.component
                    && request.runs_as == terms.runs_as
                    && request.bounds == terms.bounds
                    && argv.is_none_or(|argv| request.argv == argv)
            })
            .cloned()
    }

    /// How many requests of a user are pending.
    pub(crate) fn pending_of(&self, uid: u32, now: Timestamp) -> usize {
        let held = self.held();
        let of_user = held.local.requests.iter().filter(|made| made.request.user.uid == uid);
        of_user.filter(|made| made.answer.is_none() && made.request.lapses > now).count()
    }

    /// Remembers a request that was made. It is on record already, so it may have been answered by now.
    pub(crate) fn add_request(&self, request: ElevationRequest) -> io::Result<()> {
        let mut held = self.held();
        let sheet = held.documents.as_ref().map(|documents| Arc::clone(&documents.sheet));
        let answer =
            sheet.and_then(|sheet| sheet.answers.iter().find(|answer| answer.request == request.id).cloned());
        self.change(&mut held, |local| {
            local.remember_justification(request.user.uid, &request.justification);
            local.requests.push(Made { request, answer });
        })
    }

    /// What a user wrote lately, the last first.
    pub(crate) fn justifications(&self, uid: u32) -> Vec<Text> {
        self.held().local.justifications.get(&uid).cloned().unwrap_or_default()
    }

    /// What became of a request; `None` while nobody has decided.
    pub(crate) fn answer(&self, id: RequestId) -> Option<AnswerOutcome> {
        let held = self.held();
        let made = held.local.requests.iter().find(|made| made.request.id == id)?;
        made.answer.as_ref().map(|answer| answer.outcome.clone())
    }

    /// A user takes a pending request back, which `record` puts on record before; `None` where there is none of theirs.
    pub(crate) fn cancel(
        &self,
        id: RequestId,
        uid: u32,
        now: Timestamp,
        record: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Option<ElevationRequest>> {
        let mut held = self.held();
        let theirs =
            |made: &Made| made.request.id == id && made.request.user.uid == uid && made.answer.is_none();
        let Some(place) = held.local.requests.iter().position(theirs) else {
            return Ok(None);
        };
        record()?;
        self.change(&mut held, |local| {
            let made = local.requests.get_mut(place)?;
            made.answer = Some(Answer { request: id, at: now, outcome: AnswerOutcome::Cancelled });
            Some(made.request.clone())
        })
    }

    /// A user's requests: pending, or lately answered.
    pub(crate) fn requests_of(&self, uid: u32) -> Vec<(ElevationRequest, Option<AnswerOutcome>)> {
        let held = self.held();
        let of_user = held.local.requests.iter().filter(|made| made.request.user.uid == uid);
        of_user
            .map(|made| (made.request.clone(), made.answer.as_ref().map(|answer| answer.outcome.clone())))
            .collect()
    }
}

impl Local {
    pub(super) fn take_answers(&mut self, answers: &[Answer]) {
        for answer in answers {
            let made = self.requests.iter_mut().find(|made| made.request.id == answer.request);
            if let Some(made) = made.filter(|made| made.answer.as_ref() != Some(answer)) {
                made.answer = Some(answer.clone());
            }
        }
    }

    /// Nobody is offered an empty one again.
    pub(super) fn remember_justification(&mut self, uid: u32, justification: &Text) {
        if justification.as_untrusted().is_empty() {
            return;
        }
        let recent = self.justifications.entry(uid).or_default();
        recent.retain(|known| known != justification);
        recent.insert(0, justification.clone());
        recent.truncate(RECENT);
    }

    /// Drops what nobody asks about any more.
    pub(super) fn forget(&mut self, now: Timestamp) {
        let since = now.before(REMEMBERED);
        self.requests
            .retain(|made| made.answer.as_ref().map_or(made.request.lapses, |answer| answer.at) > since);
        self.grants.retain(|grant| match grant.ends {
            Ends::At { end } => end > since,
            Ends::AfterFirstLaunch { duration, latest_start } => latest_start.after(duration) > since,
        });
        self.used.retain(|_, used| used.end.max(used.confirmed).is_some_and(|end| end > since));
        self.given_back.retain(|_, until| *until > now);
    }
}
