//! Where policy alone gives a grant: for a justification, or for the asking.

use elevon_policy::event::What;
use elevon_policy::grant::{Ends, Grant, GrantedApplication, GrantedArguments, Origin};
use elevon_policy::id::{GrantId, Version};
use elevon_policy::lists::{Covers, Way};
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_wire::conversation::Refused;

use super::refusals::{not_enrolled, of_elevon};
use super::{Attempted, Offered};
use crate::chance;
use crate::connection::{Connection, Lost};

impl Attempted<'_> {
    /// Makes the grant that policy alone gives.
    pub(super) fn grant(
        &mut self,
        line: &mut Connection,
        offered: &Offered,
    ) -> Result<Option<Refused>, Lost> {
        let needs_justification = offered.offer.way == Way::Justification;
        if needs_justification && self.run.justification.is_none() {
            self.ask_person(line, offered)?;
        }
        let asked = match offered.terms(&self.run, needs_justification) {
            Ok(asked) => asked,
            Err(refused) => return Ok(Some(refused)),
        };
        if let Err(refused) = self.room_for_one_more(offered) {
            return Ok(Some(refused));
        }
        let grant = self.local_grant(offered, asked.duration);
        Ok(self.keep_grant(grant, asked.justification).err())
    }

    /// What is in force and pending of one user is bounded: everybody's is written with each change.
    pub(super) fn room_for_one_more(&self, offered: &Offered) -> Result<(), Refused> {
        let uid = self.visitor.caller.user.uid;
        match self.elevator.holdings.make_room(uid, &offered.argv, offered.now) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.too_many(
                &offered.application,
                &offered.argv,
                "as many of your requests are pending, and grants in force, as this computer keeps".into(),
                "wait until some of them have ended, or give some back: `elevon status` lists them",
            )),
            Err(error) => Err(of_elevon(&error.to_string())),
        }
    }

    fn local_grant(
        &self,
        Offered { application, argv, offer, now }: &Offered,
        duration: Span,
    ) -> Option<Grant> {
        Some(Grant {
            id: GrantId::new(*now, chance::ten_bytes()),
            version: Version::FIRST,
            origin: Origin::Policy,
            computer: self.elevator.holdings.computer()?,
            user: self.visitor.caller.user.clone(),
            application: GrantedApplication::of(application),
            arguments: match offer.terms.arguments {
                Covers::ExactArguments => GrantedArguments::Exact { argv: argv.clone() },
                Covers::AnyArguments => GrantedArguments::Any,
            },
            runs_as: offer.terms.runs_as,
            bounds: offer.terms.bounds.clone(),
            not_before: *now,
            ends: Ends::At { end: now.after(duration) },
            launches: offer.terms.launches,
            at_expiry: offer.terms.at_expiry,
            confirm: offer.terms.confirm,
            nesting: offer.terms.nesting,
            policy: offer.policy,
        })
    }

    fn keep_grant(&self, grant: Option<Grant>, justification: Text) -> Result<(), Refused> {
        let grant = grant.ok_or_else(not_enrolled)?;
        let made = What::GrantMade { grant: Box::new(grant.clone()), justification: justification.clone() };
        self.elevator.record(made).map_err(|error| of_elevon(&error.to_string()))?;
        let kept = self.elevator.holdings.add_grant(grant, &justification);
        kept.map_err(|error| of_elevon(&error.to_string()))
    }
}
