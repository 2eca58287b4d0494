//! The two lives: every step that exists, and that no other does; who may decide, and how long a grant gets.

use elevon_policy::bounds::Bounds;
use elevon_policy::decide::{Offer, Verdict};
use elevon_policy::grant::{Ends, GrantRecord, GrantState, GrantedArguments, IllegalStep};
use elevon_policy::group::Member;
use elevon_policy::id::Version;
use elevon_policy::lists::{Covers, Durations, RunsAs, Starts, Terms, Way};
use elevon_policy::request::{
    Approval, Decider, DecisionRefused, ElevationRequest, LapseReason, RequestRecord, RequestState,
};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};

use crate::samples::*;

pub(crate) fn asked() -> ElevationRequest {
    ElevationRequest {
        id: id(60),
        computer: desk(),
        user: alice(),
        application: program("/usr/bin/tool", 1),
        argv: os(&["tool", "--now"]),
        working_directory: OsText::from("/home/alice"),
        runs_as: RunsAs::Root,
        bounds: Bounds::default(),
        origin: None,
        duration: Span::from_mins(30),
        justification: Text::new("ticket 4711"),
        policy: grant(1, &[]).policy,
        made: NOW,
        lapses: NOW.after(Span::from_hours(24)),
    }
}

pub(crate) fn pending() -> RequestRecord {
    RequestRecord::arrived(asked(), NOW)
}

pub(crate) fn carol() -> Decider {
    Decider { account: id(80), name: Text::new("carol"), os_users: Vec::new() }
}

pub(crate) fn offer(terms: Terms) -> Offer {
    let mut policy = list(1, Way::Approval, [hash(1)]);
    policy.terms = terms;
    match Policy::default().list(policy).decide(&attempt(program("/usr/bin/tool", 1), &["tool"])).verdict {
        Verdict::Offered { offer } => offer,
        other => panic!("expected an offer, got {other:?}"),
    }
}

pub(crate) fn for_minutes(minutes: u64) -> Approval {
    Approval {
        duration: Span::from_mins(minutes),
        covers: Covers::ExactArguments,
        comment: Text::new("fine"),
    }
}

/// The table of contract, written out once more: a step is legal here if and only if it is legal there.
#[test]
fn every_step_of_a_request_that_is_not_in_the_table_is_refused() {
    use RequestState::*;
    let legal = [(Pending, Approved), (Pending, Declined), (Pending, Cancelled), (Pending, Lapsed)];
    for from in RequestState::ALL {
        for to in RequestState::ALL {
            assert_eq!(from.may_become(to), legal.contains(&(from, to)), "{from} → {to}");
        }
    }
}

#[test]
fn every_step_of_a_grant_that_is_not_in_the_table_is_refused() {
    use GrantState::*;
    let legal = [
        (Scheduled, Active),
        (Scheduled, Revoking),
        (Scheduled, Ended),
        (Scheduled, Expired),
        (Scheduled, Failed),
        (Active, Revoking),
        (Active, Ended),
        (Active, Expired),
        (Active, Failed),
        (Revoking, Revoked),
    ];
    for from in GrantState::ALL {
        for to in GrantState::ALL {
            let expected = legal.contains(&(from, to));
            assert_eq!(from.may_become(to), expected, "{from} → {to}");
            let before = GrantRecord { state: from, ..GrantRecord::given(grant(1, &[]), NOW) };
            match before.clone().step(to, in_minutes(1)) {
                Ok(after) => {
                    assert!(expected);
                    assert_eq!((after.state, after.version, after.since), (to, Version(2), in_minutes(1)));
                    assert_eq!(after.grant, before.grant);
                }
                Err(refused) => {
                    assert!(!expected);
                    assert_eq!(refused, IllegalStep { from: from.word(), to: to.word() });
                }
            }
        }
    }
}

#[test]
fn whatever_is_over_stays_as_it_is() {
    for state in RequestState::ALL.into_iter().filter(|state| *state != RequestState::Pending) {
        let over = RequestRecord { state, ..pending() };
        let again =
            |result: Result<_, DecisionRefused>| assert!(matches!(result, Err(DecisionRefused::Illegal(_))));
        again(
            over.clone()
                .approve(&carol(), Version::FIRST, for_minutes(5), &offer(Terms::default()), id(50), NOW)
                .map(|_| ()),
        );
        again(over.clone().decline(&carol(), Version::FIRST, false, &Text::default(), NOW).map(|_| ()));
        assert!(over.clone().cancel(NOW).is_err());
        assert!(over.lapse(LapseReason::Unanswered, NOW).is_err());
    }
}

#[test]
fn states_read_as_they_are_written() {
    for state in RequestState::ALL {
        assert_eq!(state.word().parse(), Ok(state));
        assert_eq!(serde_json::to_value(state).unwrap(), state.word());
    }
    for state in GrantState::ALL {
        assert_eq!(state.word().parse(), Ok(state));
        assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        assert_eq!(state.in_force(), matches!(state.word(), "scheduled" | "active"));
    }
    assert!("Pending".parse::<RequestState>().is_err());
}

#[test]
fn an_approval_makes_a_grant_for_exactly_what_was_asked() {
    let later = in_minutes(3);
    let (decided, grant) = pending()
        .approve(&carol(), Version::FIRST, for_minutes(20), &offer(Terms::default()), id(50), later)
        .unwrap();
    assert_eq!((decided.state, decided.version, decided.since), (RequestState::Approved, Version(2), later));
    let decision = decided.decision.unwrap();
    assert_eq!((decision.by, decision.name, decision.at), (id(80), Text::new("carol"), later));
    assert!(grant.covers(&alice(), desk(), &program("/usr/bin/tool", 1), &os(&["tool", "--now"])));
    assert_eq!(grant.arguments, GrantedArguments::Exact { argv: os(&["tool", "--now"]) });
    assert_eq!(grant.ends, Ends::At { end: in_minutes(23) });
    assert_eq!(GrantRecord::given(grant.clone(), later).state, GrantState::Active);
    // A computer whose clock is behind the server's by less than the request is old has it in force at once.
    assert_eq!(grant.end_when_launched(None, later.before(Span::from_secs(2))), Some(in_minutes(23)));
}

#[test]
fn an_approval_is_refused_when() {
    let refused = |record: RequestRecord, seen, approval, terms: Terms, by: &Decider, now| {
        record.approve(by, seen, approval, &offer(terms), id(50), now).map(|_| ()).unwrap_err()
    };
    let one = Version::FIRST;
    let terms = Terms::default;
    let longer = refused(pending(), one, for_minutes(31), terms(), &carol(), NOW);
    assert_eq!(longer, DecisionRefused::LongerThanAsked { asked: Span::from_mins(30) });
    assert_eq!(refused(pending(), one, for_minutes(0), terms(), &carol(), NOW), DecisionRefused::NoTime);
    assert_eq!(
        refused(pending(), Version(2), for_minutes(5), terms(), &carol(), NOW),
        DecisionRefused::Changed
    );
    let end = asked().lapses;
    assert_eq!(refused(pending(), one, for_minutes(5), terms(), &carol(), end), DecisionRefused::TooLate);
    let wider = Approval { covers: Covers::AnyArguments, ..for_minutes(5) };
    assert_eq!(refused(pending(), one, wider, terms(), &carol(), NOW), DecisionRefused::WiderThanPolicy);
}

#[test]
fn nobody_decides_for_themselves_unless_policy_says_so() {
    let account = |name: &str, os_users: &[(&str, Option<u32>)]| Decider {
        account: id(81),
        name: Text::new(name),
        os_users: os_users
            .iter()
            .map(|(name, computer)| Member { name: Text::new(*name), computer: computer.map(id) })
            .collect(),
    };
    let cases = [
        (account("alice", &[]), true, "the same name"),
        (account("Alice", &[]), true, "of the same name but for case, which names of accounts ignore"),
        (account("alice@corp.example", &[]), true, "the same name in a directory"),
        (account("CORP\\alice", &[]), true, "as another kind of directory writes it"),
        (account("carol@alice", &[]), false, "somebody else in a domain of that name"),
        (account("a.smith", &[("alice@corp.example", None)]), true, "tied in a directory"),
        (account("a.smith", &[("alice", None)]), true, "tied everywhere"),
        (account("a.smith", &[("ALICE", Some(1))]), true, "tied on this computer, written otherwise"),
        (account("a.smith", &[("alice", Some(1))]), true, "tied on this computer"),
        (account("a.smith", &[("alice", Some(2))]), false, "tied on another computer"),
        (account("alice", &[("alice-admin", None)]), false, "tied to someone else, though of the same name"),
        (account("carol", &[]), false, "somebody else"),
    ];
    let on_their_own = Terms { self_approval: true, ..Terms::default() };
    for (by, own, what) in cases {
        let approve = |terms| {
            pending().approve(&by, Version::FIRST, for_minutes(5), &offer(terms), id(50), NOW).map(|_| ())
        };
        let decline =
            |allowed| pending().decline(&by, Version::FIRST, allowed, &Text::default(), NOW).map(|_| ());
        let expected = if own { Err(DecisionRefused::OwnRequest) } else { Ok(()) };
        assert_eq!(approve(Terms::default()), expected, "{what}");
        assert_eq!(decline(false), expected, "{what}");
        assert_eq!(approve(on_their_own.clone()), Ok(()), "{what}");
        assert_eq!(decline(true), Ok(()), "{what}");
    }
}

#[test]
fn policy_in_force_at_the_decision_caps_the_grant() {
    let durations = Durations { maximum: Span::from_mins(10), ..Durations::default() };
    let shorter = Terms { durations, ..Terms::default() };
    let (_, grant) =
        pending().approve(&carol(), Version::FIRST, for_minutes(30), &offer(shorter), id(50), NOW).unwrap();
    assert_eq!(grant.ends, Ends::At { end: in_minutes(10) });
}

#[test]
fn at_first_launch_the_duration_and_the_latest_start_are_signed() {
    let starts = Starts::AtFirstLaunch { within: Span::from_hours(8) };
    let terms = Terms { starts, ..Terms::default() };
    let (_, grant) =
        pending().approve(&carol(), Version::FIRST, for_minutes(20), &offer(terms), id(50), NOW).unwrap();
    let latest_start = NOW.after(Span::from_hours(8));
    assert_eq!(grant.ends, Ends::AfterFirstLaunch { duration: Span::from_mins(20), latest_start });
    let record = GrantRecord::given(grant, NOW);
    assert_eq!((record.state, record.end), (GrantState::Scheduled, None));
    // Nobody may call it expired while a launch that came in time could still run unreported.
    assert_eq!(record.runs_out(), latest_start.after(Span::from_mins(20)));
}

#[test]
fn a_grant_that_starts_later_is_scheduled() {
    let later = elevon_policy::grant::Grant { not_before: in_minutes(5), ..grant(1, &[]) };
    let record = GrantRecord::given(later, NOW);
    assert_eq!((record.state, record.end), (GrantState::Scheduled, Some(in_minutes(30))));
    assert_eq!(record.runs_out(), in_minutes(30));
    assert_eq!(
        GrantRecord { end: Some(Timestamp::from_millis(7)), ..record }.runs_out(),
        Timestamp::from_millis(7)
    );
}
