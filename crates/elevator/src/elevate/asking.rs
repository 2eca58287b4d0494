//! Where someone has to agree: the request, and the waiting for its answer.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use elevon_policy::event::{DenyReason, What};
use elevon_policy::id::RequestId;
use elevon_policy::lists::{Covers, Way};
use elevon_policy::request::{ElevationRequest, LapseReason};
use elevon_policy::sheet::AnswerOutcome;
use elevon_policy::text::OsText;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::conversation::{Asking, FromClient, Refused, ToClient, Wait};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::refusals::{lapsed, nobody_decided, not_enrolled, of_elevon};
use super::{Asked, Attempted, Offered};
use crate::chance;
use crate::connection::{Connection, Lost};
use crate::waiting::Place;

/// More than a person would have waiting at once.
const MOST_PENDING: usize = 20;

impl Attempted<'_> {
    /// Makes the request, or joins the one that is pending, and waits for the decision. Nothing when it was approved.
    pub(super) fn ask(&mut self, line: &mut Connection, offered: &Offered) -> Result<Option<Refused>, Lost> {
        let (request, joined) = match self.pending(offered) {
            Some(pending) => (pending, true),
            None => {
                if self.run.duration.is_none() || self.run.justification.is_none() {
                    self.ask_person(line, offered)?;
                }
                match offered.terms(&self.run, true).and_then(|asked| self.join_or_make(offered, asked)) {
                    Ok(request) => request,
                    Err(refused) => return Ok(Some(refused)),
                }
            }
        };
        let place = self.elevator.waiting.join()?;
        line.send(&ToClient::Pending {
            request: request.id,
            joined,
            lapses: request.lapses,
            policy: offered.offer.name.clone(),
            connected: self.elevator.agents.load(Ordering::Relaxed) > 0,
        })?;
        let until = match self.run.wait {
            Wait::No => return Ok(Some(nobody_decided(request.id))),
            Wait::UntilDecided => request.lapses,
            Wait::AtMost { span } => request.lapses.min(offered.now.after(span)),
        };
        let outcome = self.wait_for_answer(line, &place, request.id, until)?;
        Ok(self.answered(offered, request.id, outcome))
    }

    /// The request of this user for the same thing that waits already.
    fn pending(&self, Offered { application, argv, offer, now }: &Offered) -> Option<ElevationRequest> {
        let argv = (offer.terms.arguments == Covers::ExactArguments).then_some(argv.as_slice());
        let (user, holdings) = (&self.visitor.caller.user, &self.elevator.holdings);
        holdings.pending_like(user, application, &offer.terms, argv, *now)
    }

    /// The request, and whether another run made it meanwhile.
    fn join_or_make(&self, offered: &Offered, asked: Asked) -> Result<(ElevationRequest, bool), Refused> {
        let _turn = self.elevator.asking.lock().unwrap_or_else(PoisonError::into_inner);
        match self.pending(offered) {
            Some(pending) => Ok((pending, true)),
            None => self.make_request(offered, asked).map(|made| (made, false)),
        }
    }

    fn make_request(&self, offered: &Offered, asked: Asked) -> Result<ElevationRequest, Refused> {
        let holdings = &self.elevator.holdings;
        let uid = self.visitor.caller.user.uid;
        self.room_for_one_more(offered)?;
        if holdings.pending_of(uid, offered.now) >= MOST_PENDING {
            return Err(self.too_many(
                &offered.application,
                &offered.argv,
                format!("{MOST_PENDING} of your requests are pending already"),
                "wait for a decision, or take one back with `elevon cancel REQUEST`",
            ));
        }
        let request = self.request(offered, asked)?;
        let recorded = self.elevator.record(What::RequestMade { request: Box::new(request.clone()) });
        recorded.map_err(|error| of_elevon(&error.to_string()))?;
        if let Err(error) = holdings.add_request(request.clone()) {
            // Nobody here could be told what becomes of it; that it could not be kept is what the user hears of.
            let user = request.user.clone();
            let _ = self.elevator.record(What::RequestCancelled { request: request.id, user });
            return Err(of_elevon(&error.to_string()));
        }
        Ok(request)
    }

    fn request(&self, offered: &Offered, asked: Asked) -> Result<ElevationRequest, Refused> {
        let Asked { duration, justification } = asked;
        let Offered { application, argv, offer, now } = offered;
        let directory = rustix::fs::readlinkat(
            rustix::fs::CWD,
            format!("/proc/self/fd/{}", self.directory.as_raw_fd()),
            Vec::new(),
        );
        Ok(ElevationRequest {
            id: RequestId::new(*now, chance::ten_bytes()),
            computer: self.elevator.holdings.computer().ok_or_else(not_enrolled)?,
            user: self.visitor.caller.user.clone(),
            application: application.clone(),
            argv: argv.clone(),
            working_directory: OsText::new(directory.map(CString::into_bytes).unwrap_or_default()),
            runs_as: offer.terms.runs_as,
            bounds: offer.terms.bounds.clone(),
            origin: self.visitor.origin.clone(),
            duration,
            justification,
            policy: offer.policy,
            made: *now,
            lapses: now.after(offer.terms.pending_lifetime),
        })
    }

    /// Asks the client for what is missing.
    pub(super) fn ask_person(&mut self, line: &mut Connection, offered: &Offered) -> Result<(), Lost> {
        let Offered { application, argv, offer, .. } = offered;
        line.send(&ToClient::Asking(Box::new(Asking {
            runs_as: offered.offer.terms.runs_as,
            bounds: offered.offer.terms.bounds.clone(),
            application: application.clone(),
            argv: argv.clone(),
            policy: offer.name.clone(),
            approval: offer.way == Way::Approval,
            durations: offer.terms.durations.clone(),
            justification: offer.terms.justification.clone(),
            recent: self.elevator.holdings.justifications(self.visitor.caller.user.uid),
        })))?;
        loop {
            if let FromClient::Answer { duration, justification } = line.receive()? {
                self.run.duration = Some(duration);
                self.run.justification = Some(justification);
                return Ok(());
            }
        }
    }

    /// Waits until there is an answer, or the time is up; a client that goes away ends the waiting.
    fn wait_for_answer(
        &self,
        line: &mut Connection,
        place: &Place<'_>,
        request: RequestId,
        until: Timestamp,
    ) -> Result<Option<AnswerOutcome>, Lost> {
        loop {
            if let Some(outcome) = self.elevator.holdings.answer(request) {
                return Ok(Some(outcome));
            }
            let left = until.since(self.elevator.clock.for_the_record());
            if left == Span::ZERO {
                return Ok(None);
            }
            let mut ready = [
                PollFd::from_borrowed_fd(line.socket(), PollFlags::IN),
                PollFd::from_borrowed_fd(place.descriptor(), PollFlags::IN),
            ];
            let timeout = Timespec::try_from(left.min(Span::from_hours(1)).std()).ok();
            match poll(&mut ready, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                polled => drop(polled?),
            }
            let [spoke, news] = ready.map(|fd| !fd.revents().is_empty());
            if spoke {
                // Nothing is expected but that it goes away; what it says meanwhile (a resize) is for the session.
                while line.frame_at_hand()?.is_some() {}
            }
            if news {
                place.clear();
            }
        }
    }

    fn answered(
        &self,
        offered: &Offered,
        request: RequestId,
        outcome: Option<AnswerOutcome>,
    ) -> Option<Refused> {
        let told = match outcome {
            Some(AnswerOutcome::Approved { .. }) => return None,
            None => return Some(nobody_decided(request)),
            Some(AnswerOutcome::Declined { by, comment }) => {
                self.record_refusal(Some((&offered.application, &offered.argv)), DenyReason::Declined, None);
                let comment = match comment.as_untrusted().trim() {
                    "" => String::new(),
                    _ => format!(": “{}”", comment.visible()),
                };
                let told =
                    format!("{} declined {}{comment}", by.visible(), offered.application.place().visible());
                let next = format!("ask {}, or ask again with another justification", by.visible());
                return Some(Refused { status: 126, reason: Some(DenyReason::Declined), told, next });
            }
            Some(AnswerOutcome::Lapsed { reason }) => match reason {
                LapseReason::Unanswered => return Some(lapsed(request)),
                LapseReason::PolicyWithdrawn => {
                    "the request lapsed: policy does not let you ask for this any more".to_owned()
                }
            },
            Some(AnswerOutcome::Cancelled) => format!("request {request} was cancelled"),
        };
        let next = "`elevon explain` shows what policy says now".into();
        Some(Refused { status: 126, reason: None, told, next })
    }
}
