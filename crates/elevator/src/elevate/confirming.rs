//! Where a list wants to know that the user is there: their own password, before a grant is used.

use elevon_policy::decide::Offer;
use elevon_policy::id::GrantId;
use elevon_policy::lists::Confirm;
use elevon_policy::text::Text;
use elevon_wire::conversation::{self, Refused, ToClient};

use super::Attempted;
use super::refusals::of_elevon;
use crate::connection::{Connection, Lost};
use crate::measure::Measured;
use crate::pam::{NotPresent, Unproven};

impl Attempted<'_> {
    /// Asks for it; nothing once it is proven. The grant is not touched before, so that it is not used up.
    pub(super) fn confirm(
        &self,
        line: &mut Connection,
        measured: &Measured,
        grant: GrantId,
        offer: &Offer,
    ) -> Result<Option<Refused>, Lost> {
        let elevator = self.elevator;
        line.send(&ToClient::Confirm(Box::new(conversation::Confirm {
            application: measured.application.clone(),
            argv: measured.argv.clone(),
            policy: offer.name.clone(),
        })))?;
        line.forget_what_came()?;
        let (user, client) = (&self.visitor.caller.user, self.visitor.speaker);
        if let Err(unproven) = elevator.pam.prove(&elevator.spawner, user, client, line.socket()) {
            return Ok(Some(self.not_confirmed(measured, &unproven, offer)));
        }
        // Polkit cannot ask later: what is confirmed for a component is confirmed for its grant.
        let once = elevator.holdings.to_confirm(grant, offer.terms.confirm) == Confirm::OncePerGrant;
        if (once || self.run.component)
            && let Err(error) = elevator.holdings.confirmed(grant)
        {
            return Ok(Some(of_elevon(&error.to_string())));
        }
        Ok(None)
    }

    fn not_confirmed(&self, measured: &Measured, unproven: &Unproven, offer: &Offer) -> Refused {
        if let Unproven::NotPresent(NotPresent::Failed { cause }) = unproven {
            eprintln!("elevon-elevator: PAM could not ask for a password: {}", Text::new(cause).visible());
        }
        let said = unproven.sentences(&self.visitor.caller.user.name);
        self.not_elevated(measured, unproven.deny_reason(), Some(offer.policy), said)
    }
}
