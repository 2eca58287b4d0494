//! What an application is kept to, where lists, requests and grants meet.

use elevon_policy::application::Component;
use elevon_policy::bounds::{Bounds, Children, Containment, Display, Limits};
use elevon_policy::decide::{Offer, Verdict};
use elevon_policy::event::DenyReason;
use elevon_policy::grant::Grant;
use elevon_policy::id::Version;
use elevon_policy::lists::{Covers, RunsAs, Terms, Way};
use elevon_policy::request::{Approval, Decider, DecisionRefused, ElevationRequest, RequestRecord};
use elevon_policy::rule::{Listed, Recognises, Rule, Specificity};
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use proptest::prelude::*;

use crate::lives::{asked, pending};
use crate::samples::*;

fn contained(folders: &[&str]) -> Bounds {
    Bounds { containment: Containment::Contained { writable: os(folders) }, ..Bounds::default() }
}

fn as_user() -> Terms {
    let bounds = Bounds { capabilities: "net_raw".parse().unwrap(), ..Bounds::default() };
    Terms { runs_as: RunsAs::SameUser, bounds, ..Terms::default() }
}

fn kept_to(bounds: Bounds) -> Terms {
    Terms { bounds, ..Terms::default() }
}

fn under(terms: Terms) -> Listed {
    Listed::Rule(Rule { terms: Some(terms), ..hash_rule(1) })
}

fn tool() -> Try {
    attempt(program("/usr/bin/tool", 1), &["tool", "--now"])
}

fn offered(policy: &Policy) -> Terms {
    match policy.decide(&tool()).verdict {
        Verdict::Offered { offer } | Verdict::Launch { offer, .. } => offer.terms,
        Verdict::Refused { refusal } => panic!("{refusal}"),
    }
}

#[test]
fn among_equals_the_one_that_keeps_it_to_less_wins() {
    let alone = kept_to(Bounds { children: Children::Denied, ..Bounds::default() });
    // From the widest to the strictest.
    let order = [
        kept_to(Bounds { display: Display::OfTheUser, ..Bounds::default() }),
        Terms::default(),
        alone,
        as_user(),
        kept_to(contained(&["/srv/a", "/srv/b"])),
        kept_to(contained(&[])),
    ];
    for (wider, stricter) in order.iter().zip(order.iter().skip(1)) {
        for (first, second) in [(wider, stricter), (stricter, wider)] {
            let policy = Policy::default().list(list(1, Way::Approval, [under(first.clone())])).list(list(
                2,
                Way::Approval,
                [under(second.clone())],
            ));
            assert_eq!(offered(&policy), *stricter);
        }
    }
    // The way to elevate comes first.
    let policy = Policy::default().list(list(1, Way::Approval, [under(Terms::default())])).list(list(
        2,
        Way::Automatic,
        [under(kept_to(contained(&[])))],
    ));
    assert_eq!(offered(&policy), Terms::default());
}

#[test]
fn a_grant_serves_only_within_what_policy_keeps_it_to_now() {
    let runs = |granted: Bounds, terms: Terms| {
        let grant = Grant { runs_as: terms.runs_as, bounds: granted, ..grant(1, &["tool", "--now"]) };
        let policy = Policy::default().list(list(1, Way::Approval, [under(terms)])).grant(grant);
        matches!(policy.decide(&tool()).verdict, Verdict::Launch { .. })
    };
    assert!(runs(Bounds::default(), Terms::default()));
    assert!(runs(contained(&[]), Terms::default()));
    assert!(runs(contained(&["/srv/a/b"]), kept_to(contained(&["/srv/a"]))));
    assert!(!runs(Bounds::default(), kept_to(contained(&["/srv/a"]))));
    assert!(!runs(contained(&["/srv"]), kept_to(contained(&["/srv/a"]))));
    let other = Grant { bounds: as_user().bounds, ..grant(1, &["tool", "--now"]) };
    let policy = Policy::default().list(list(1, Way::Approval, [under(as_user())])).grant(other);
    assert!(matches!(policy.decide(&tool()).verdict, Verdict::Offered { .. }), "as root is not as the user");
}

#[test]
fn nothing_keeps_a_component_to_less() {
    let action = "org.example.clock.set-time";
    let component = Component { action: Text::new(action), services: Vec::new() };
    let defined = program("/usr/share/polkit-1/actions/clock.policy", 9);
    let attempt =
        attempt(elevon_policy::application::Application { component: Some(component), ..defined }, &[action]);
    let recognises = Recognises::Clsid { component: Text::new(action) };
    for terms in [
        kept_to(contained(&[])),
        as_user(),
        kept_to(Bounds { children: Children::Denied, ..Bounds::default() }),
    ] {
        let listed = Listed::Rule(Rule { terms: Some(terms), ..rule(recognises.clone()) });
        let policy = Policy::default().list(list(1, Way::Automatic, [listed]));
        match policy.decide(&attempt).verdict {
            Verdict::Refused { refusal } => assert_eq!(refusal.deny_reason(), DenyReason::LayerMissing),
            verdict => panic!("{verdict:?}"),
        }
    }
}

/// The bounds of the grant that results when this was asked for, and policy says this by now.
fn approved(asked_for: Bounds, terms: Terms) -> Result<Bounds, DecisionRefused> {
    let record = RequestRecord { asked: ElevationRequest { bounds: asked_for, ..asked() }, ..pending() };
    let carol = Decider { account: id(80), name: Text::new("carol"), os_users: Vec::new() };
    let approval =
        Approval { duration: Span::from_mins(5), covers: Covers::ExactArguments, comment: Text::default() };
    let offer = Offer {
        policy: grant(1, &[]).policy,
        name: Text::new("list 1"),
        way: Way::Approval,
        specificity: Specificity::FileHash,
        terms,
    };
    record.approve(&carol, Version::FIRST, approval, &offer, id(50), NOW).map(|(_, grant)| grant.bounds)
}

#[test]
fn an_approval_exceeds_neither_what_was_asked_nor_what_policy_says_now() {
    let approve = approved;
    let (some, fewer) = (contained(&["/srv/a"]), contained(&[]));
    assert_eq!(approve(Bounds::default(), kept_to(some.clone())), Ok(some.clone()), "policy became stricter");
    assert_eq!(approve(some.clone(), Terms::default()), Ok(some.clone()), "policy became laxer");
    assert_eq!(approve(some.clone(), kept_to(fewer.clone())), Ok(fewer));
    let others = contained(&["/srv/b"]);
    assert_eq!(approve(some, kept_to(others)), Err(DecisionRefused::OtherRights));
    assert_eq!(approve(Bounds::default(), as_user()), Err(DecisionRefused::OtherRights));
}

fn any_bounds() -> impl Strategy<Value = Bounds> {
    let folders =
        prop::collection::vec(prop::sample::select(vec!["/srv", "/srv/a", "/srv/a/b", "/var/lib/t"]), 0..3);
    let numbers = || prop::option::of(1u32..4);
    (prop::option::of(folders), 0u8..8, any::<bool>(), numbers(), numbers(), any::<bool>()).prop_map(
        |(folders, capabilities, denied, processes, memory, shown)| Bounds {
            capabilities: ["chown", "kill", "net_raw"]
                .iter()
                .enumerate()
                .filter(|(bit, _)| capabilities & (1 << bit) != 0)
                .map(|(_, name)| *name)
                .collect::<Vec<_>>()
                .join(",")
                .parse()
                .unwrap(),
            containment: folders
                .map_or(Containment::Full, |folders| Containment::Contained { writable: os(&folders) }),
            children: if denied { Children::Denied } else { Children::Allowed },
            limits: Limits { processes, memory: memory.map(u64::from) },
            display: if shown { Display::OfTheUser } else { Display::None },
        },
    )
}

proptest! {
    /// Else a grant could serve under a list by way of another that neither the one nor the other would let it.
    #[test]
    fn within_goes_on_from_one_to_the_next(one in any_bounds(), two in any_bounds(), three in any_bounds()) {
        prop_assert!(one.is_within(&one));
        if one.is_within(&two) && two.is_within(&three) {
            prop_assert!(one.is_within(&three), "{one:?} {two:?} {three:?}");
        }
    }

    /// What an approval gives is never more than what was asked for, or than what policy says.
    #[test]
    fn an_approval_never_widens(asked_for in any_bounds(), offered in any_bounds()) {
        if let Ok(given) = approved(asked_for.clone(), kept_to(offered.clone())) {
            prop_assert!(given.is_within(&asked_for) && given.is_within(&offered));
        }
    }
}
