//! What became of each policy that had a say, and what the user can do.

use elevon_policy::advice::{Over, Standing, ToDo, to_do};
use elevon_policy::decide::Decision;
use elevon_policy::lists::Way;
use elevon_policy::rule::Specificity;
use elevon_policy::sheet::LockedOut;

use crate::samples::*;

fn tool() -> Try {
    attempt(program("/usr/bin/tool", 1), &["tool", "--now"])
}

fn standings(decision: &Decision) -> Vec<Standing> {
    decision.reasons.iter().map(|reason| decision.standing(reason)).collect()
}

fn told(policy: &Policy, attempt: &Try) -> (String, Option<String>) {
    match to_do(&policy.decide(attempt), &attempt.application) {
        ToDo::Run => ("run".into(), None),
        ToDo::Told { sentence, pass_on } => (sentence, pass_on),
    }
}

#[test]
fn the_narrowest_rule_decides_and_says_so_of_the_others() {
    let policy = Policy::default()
        .list(list(1, Way::Automatic, [folder("/usr")]))
        .list(list(2, Way::Approval, [hash(1)]))
        .list(list(3, Way::Automatic, [hash(1)]))
        .list(list_for_allowed(4, Way::Automatic, []))
        .list(list(5, Way::Approval, [folder("/opt")]))
        .allow([hash(1)]);
    let decision = policy.decide(&tool());
    let expected = [
        Standing::Allows,
        Standing::Overruled { by: Over::Narrower },
        Standing::Decides,
        Standing::Overruled { by: Over::Stricter },
        Standing::Overruled { by: Over::Narrower },
    ];
    assert_eq!(standings(&decision), expected, "{:#?}", decision.reasons);
    assert_eq!(decision.reasons.get(2).and_then(|reason| reason.specificity), Some(Specificity::FileHash));
    assert_eq!(told(&policy, &tool()).0, "run");
}

#[test]
fn what_beats_everything_is_named_as_what_beat_it() {
    let allowed = Policy::default().list(list(1, Way::Automatic, [hash(1)]));
    let cases = [
        (allowed.clone().block([hash(1)]), Over::Blocklist, "No other list can allow it"),
        (
            allowed.clone().list(list(2, Way::Automatic, [deny(folder_rule("/usr", true))])),
            Over::Deny,
            "No other rule can allow it",
        ),
        (allowed.lock(LockedOut::Computer), Over::Lock, "Nothing helps while the lock is there"),
    ];
    for (policy, over, next) in cases {
        let standings = standings(&policy.decide(&tool()));
        assert!(standings.contains(&Standing::Overruled { by: over }), "{over:?} among {standings:?}");
        let (sentence, pass_on) = told(&policy, &tool());
        assert!(sentence.starts_with(next) && pass_on.is_none(), "{sentence}");
    }
}

#[test]
fn a_list_that_is_off_decides_over_what_is_wider() {
    let policy = Policy::default()
        .list(list(1, Way::Off, [hash(1)]))
        .list(list(2, Way::Automatic, [hash(1)]))
        .list(list(3, Way::Automatic, [folder("/usr")]));
    let expected = [
        Standing::Decides,
        Standing::Overruled { by: Over::Stricter },
        Standing::Overruled { by: Over::Narrower },
    ];
    assert_eq!(standings(&policy.decide(&tool())), expected);
    assert!(told(&policy, &tool()).0.contains("turn elevation on"));
}

/// A blocklist that nearly matched is no reason to ask anybody for anything.
#[test]
fn what_to_do_follows_from_the_rule_that_allows_and_came_closest() {
    let policy = Policy::default().list(list(1, Way::Approval, [folder("/usr/bin")])).list(list_for_allowed(
        2,
        Way::Approval,
        [],
    ));
    let theirs = attempt(untrusted(program("/usr/bin/tool", 1)), &["tool"]);
    let (sentence, pass_on) = told(&policy, &theirs);
    assert!(sentence.contains("/usr/bin/tool does not belong to root"), "{sentence}");
    assert_eq!(pass_on, Some("01".repeat(32)));
    let blocked = Policy::default().block([exactly(hash_rule(1), &["--never"])]);
    assert!(told(&blocked, &tool()).0.starts_with("Ask an administrator to add it"));
}
