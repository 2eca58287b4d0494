//! Requests that were made here, and what became of them.

use std::io;
use std::sync::Arc;

use elevon_policy::application::{Application, User};
use elevon_policy::grant::{Grant, GrantedArguments};
use elevon_policy::id::{GrantId, RequestId};
use elevon_policy::lists::Terms;
use elevon_policy::request::ElevationRequest;
use elevon_policy::sheet::{Answer, AnswerOutcome};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};

use super::grants::last;
use super::{Holdings, Local, Made};

/// How long an answered request stays to be told of, and a finished grant to be known.
pub(super) const REMEMBERED: Span = Span::from_days(1);

/// So many requests, and grants that policy alone gave, of one user are remembered, with command lines of so many bytes: all of it
/// is written anew with each change, which everybody waits for.
const MOST_OF_A_USER: usize = 1000;
const MOST_BYTES_OF_A_USER: usize = 4 << 20;

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

    /// Makes room for one more request, or grant that policy alone gives, of this user with this command line; whether there is.
    pub(crate) fn make_room(&self, uid: u32, argv: &[OsText], now: Timestamp) -> io::Result<bool> {
        let mut held = self.held();
        if held.local.has_room(uid, size(argv)) {
            return Ok(true);
        }
        let mut local = held.local.clone();
        let before = (local.requests.len(), local.grants.len());
        let fits = local.make_room(uid, now, size(argv));
        match before == (local.requests.len(), local.grants.len()) {
            true => Ok(fits),
            false => self.change(&mut held, |held| *held = local).map(|()| fits),
        }
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

    /// How much is remembered of a user: how many requests and grants, with command lines of how many bytes.
    fn of_user(&self, uid: u32) -> (usize, usize) {
        let requests = self.requests.iter().filter(|made| made.request.user.uid == uid);
        let grants = self.grants.iter().filter(|grant| grant.user.uid == uid);
        let sizes = requests.map(|made| size(&made.request.argv)).chain(grants.map(size_of_grant));
        sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size))
    }

    /// Whether something so long of a user's can be remembered, too.
    fn has_room(&self, uid: u32, length: usize) -> bool {
        let (count, sum) = self.of_user(uid);
        count < MOST_OF_A_USER && sum + length <= MOST_BYTES_OF_A_USER
    }

    /// Lets go of what is over of a user's, the oldest first, down to half of what may be remembered, so that not each one more has
    /// to look for it. Whether there is room then for something so long.
    fn make_room(&mut self, uid: u32, now: Timestamp, length: usize) -> bool {
        let (mut count, mut sum) = self.of_user(uid);
        let mut goes = |is_over: bool, size: usize| {
            let is_much = count > MOST_OF_A_USER / 2 || sum + length > MOST_BYTES_OF_A_USER / 2;
            if is_over && is_much {
                (count, sum) = (count - 1, sum - size);
            }
            is_over && is_much
        };
        self.requests.retain(|Made { request, answer }| {
            let is_over = request.user.uid == uid && (answer.is_some() || request.lapses <= now);
            !goes(is_over, size(&request.argv))
        });
        self.grants.retain(|grant| !goes(grant.user.uid == uid && last(grant) <= now, size_of_grant(grant)));
        self.has_room(uid, length)
    }

    /// Drops what nobody asks about any more.
    pub(super) fn forget(&mut self, now: Timestamp, sheet: &[Grant]) {
        let since = now.before(REMEMBERED);
        self.requests
            .retain(|made| made.answer.as_ref().map_or(made.request.lapses, |answer| answer.at) > since);
        self.grants.retain(|grant| last(grant) > since);
        // One that the server has not taken in yet could otherwise be used a first time again.
        let is_held = |id: &GrantId| sheet.iter().chain(&self.grants).any(|grant| grant.id == *id);
        self.used
            .retain(|id, used| used.end.max(used.confirmed).is_some_and(|end| end > since) || is_held(id));
        self.given_back.retain(|_, until| *until > now);
        self.taken_back.retain(|_, until| *until > now);
    }
}

fn size(argv: &[OsText]) -> usize {
    argv.iter().map(|argument| argument.as_bytes().len() + 1).sum()
}

fn size_of_grant(grant: &Grant) -> usize {
    match &grant.arguments {
        GrantedArguments::Exact { argv } => size(argv),
        GrantedArguments::Any => 0,
    }
}
