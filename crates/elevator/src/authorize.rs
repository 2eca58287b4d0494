//! polkit asks whether a grant lets a user do what a component stands for. It is the one question about another user than
//! the one who asks, so only polkit's own user and root may ask it; it elevates nothing, so the asker may be confined, as
//! polkit is under systemd. A no changes nothing: polkit goes on as it would without Elevon.

use elevon_policy::application::User;
use elevon_policy::decide::{Attempt, Verdict};
use elevon_policy::event::What;
use elevon_policy::grant::GrantedApplication;
use elevon_policy::text::{OsText, Text};

use crate::caller::Stranger;
use crate::elevator::Elevator;
use crate::measure::component;

/// The account that polkit runs under, everywhere.
const POLKIT: &str = "polkitd";

/// Whether a process of this user may ask about others.
pub(crate) fn may_ask(uid: u32) -> bool {
    uid == 0 || uzers::get_user_by_name(POLKIT).is_some_and(|polkit| polkit.uid() == uid)
}

/// Whether this question alone is answered to a process that is not spoken with otherwise.
pub(crate) fn may_ask_all_the_same(uid: u32, stranger: &Stranger) -> bool {
    matches!(stranger, Stranger::Confined(_)) && may_ask(uid)
}

/// Whether a grant in hand lets this user do that now. A yes is on record before it is given.
pub(crate) fn authorize(elevator: &Elevator, name: &Text, action: &Text, process: Option<u32>) -> bool {
    // The elevator resolves users: a grant is good for number and name together.
    let Some(account) = uzers::get_user_by_name(name.as_untrusted()) else { return false };
    let user = User { uid: account.uid(), name: name.clone() };
    let Ok(now) = elevator.clock.now() else { return false };
    // polkit asks at every turn of a desktop: hardly ever is there anything to look at.
    let may_cover = |application: &GrantedApplication| match application {
        GrantedApplication::Component { action: granted } => granted == action,
        GrantedApplication::Rule { .. } => true,
        GrantedApplication::Bytes { .. } => false,
    };
    let grants = elevator.holdings.grants_of(user.uid, now);
    if !grants.iter().any(|(grant, _)| may_cover(&grant.application)) {
        return false;
    }
    let Some(computer) = elevator.holdings.computer() else { return false };
    // Answered while the component is looked up.
    let mut account = elevator.pam.ask(&elevator.spawner, &user);
    let Ok(measured) = component::component(&OsText::from(action.as_untrusted()), &elevator.known) else {
        return false;
    };
    let attempt = Attempt {
        user: &user,
        computer,
        application: &measured.application,
        argv: &measured.argv,
        nested: false,
    };
    let Ok(decision) = elevator.holdings.decide(&attempt, now) else { return false };
    let Verdict::Launch { grant, offer, .. } = decision.verdict else { return false };
    // polkit's own conversation is not ours: who has to confirm did so with `elevon run --component`, or gets no yes.
    if !elevator.holdings.has_confirmed(grant, offer.terms.confirm) {
        return false;
    }
    if account.answer().is_err() {
        return false;
    }
    let Ok(taken) = elevator.take(grant, now) else { return false };
    let authorized = What::ComponentAuthorized {
        grant,
        user,
        component: action.clone(),
        process,
        policy: offer.policy,
        end: taken.end,
    };
    match elevator.record(authorized) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("elevon-elevator: polkit is not told yes, because it could not be recorded: {error}");
            false
        }
    }
}
