//! Components: what polkit asks about, and no rule about programs ever is.

use elevon_policy::application::{Application, Component};
use elevon_policy::bounds::Bounds;
use elevon_policy::decide::Verdict;
use elevon_policy::event::DenyReason;
use elevon_policy::grant::{Grant, GrantedApplication};
use elevon_policy::lists::{RunsAs, Way};
use elevon_policy::risk::{self, Kind, Risk};
use elevon_policy::rule::{Evaluates, Finding, Listed, Missing, Needs, Recognises, Rule};
use elevon_policy::text::Text;

use crate::samples::*;

const SET_TIME: &str = "org.example.clock.set-time";
const SET_ZONE: &str = "org.example.clock.set-zone";
const SERVICE: &str = "org.example.Clock";

/// An action, as measured by the file that defines it.
fn component(action: &str) -> Application {
    let component = Component { action: Text::new(action), services: vec![Text::new(SERVICE)] };
    let defined_by = program("/usr/share/polkit-1/actions/org.example.clock.policy", 1);
    Application { component: Some(component), ..packaged(defined_by, "clock", "Debian", "1.2-3") }
}

fn component_rule(name: &str) -> Rule {
    rule(Recognises::Clsid { component: Text::new(name) })
}

fn listed(rule: Rule) -> Policy {
    Policy::default().list(list(1, Way::Approval, [Listed::Rule(rule)]))
}

fn offers(policy: &Policy, application: &Application) -> bool {
    let name = application.name();
    let attempt = attempt(application.clone(), &[&name.visible().to_string()]);
    matches!(policy.decide(&attempt).verdict, Verdict::Offered { .. })
}

#[test]
fn an_action_is_known_by_its_name_and_by_the_name_of_its_service() {
    for (name, action, expected) in [
        (SET_TIME, SET_TIME, true),
        (SET_TIME, SET_ZONE, false),
        (SERVICE, SET_TIME, true),
        (SERVICE, SET_ZONE, true),
        ("org.example.clock", SET_TIME, false),
        ("ORG.EXAMPLE.CLOCK.SET-TIME", SET_TIME, false),
        ("", SET_TIME, false),
    ] {
        assert_eq!(
            offers(&listed(component_rule(name)), &component(action)),
            expected,
            "{name} for {action}"
        );
    }
}

#[test]
fn no_rule_about_programs_is_about_a_component() {
    let rules = [
        hash_rule(1),
        folder_rule("/usr/share", true),
        folder_rule("/", true),
        vendor_rule("Debian", false),
        product_rule("clock", "Debian"),
        executable_rule("clock", "Debian", "org.example.clock.policy"),
        executable_rule("clock", "Debian", SET_TIME),
    ];
    for rule in rules {
        assert_eq!(rule.recognise(&component(SET_TIME), &os(&[SET_TIME])), Finding::Differs, "{rule:?}");
        assert!(!offers(&listed(rule), &component(SET_TIME)));
    }
    let named_alike = program("/usr/bin/org.example.clock.set-time", 1);
    assert!(!offers(&listed(component_rule(SET_TIME)), &named_alike));
}

#[test]
fn a_definition_that_others_can_change_defines_nothing() {
    let open = untrusted(component(SET_TIME));
    let finding = component_rule(SET_TIME).recognise(&open, &os(&[SET_TIME]));
    assert_eq!(finding, Finding::Nearly { missing: Missing::TrustedPath { lane: open.lane.clone() } });
    assert!(!offers(&listed(component_rule(SET_TIME)), &open));
}

#[test]
fn lists_decide_about_components_as_about_programs() {
    let attempt = attempt(component(SET_TIME), &[SET_TIME]);
    let policy = listed(component_rule(SET_TIME));
    let refused = |policy: &Policy| match policy.decide(&attempt).verdict {
        Verdict::Refused { refusal } => refusal.deny_reason(),
        other => panic!("expected a refusal, got {other:?}"),
    };
    let rule = || Listed::Rule(component_rule(SERVICE));
    assert_eq!(refused(&policy.clone().block([rule()])), DenyReason::Blocked);
    assert_eq!(
        refused(&policy.list(list(2, Way::Approval, [deny(component_rule(SET_TIME))]))),
        DenyReason::Denied
    );
    let allowed = Policy::default().list(list_for_allowed(1, Way::Approval, [])).allow([rule()]);
    assert!(matches!(allowed.decide(&attempt).verdict, Verdict::Offered { .. }));
    let old = Rule { minimum_version: Some(Text::new("2.0")), ..component_rule(SET_TIME) };
    assert_eq!(refused(&listed(old)), DenyReason::NotListed);
}

#[test]
fn a_grant_is_for_one_action_of_one_user() {
    let granted =
        Grant { application: GrantedApplication::of(&component(SET_TIME)), ..grant(1, &[SET_TIME]) };
    let policy = listed(component_rule(SERVICE)).grant(granted);
    let attempt = attempt(component(SET_TIME), &[SET_TIME]);
    assert!(matches!(policy.decide(&attempt).verdict, Verdict::Launch { .. }));
    let others = [
        attempt.clone().by(bob()),
        attempt.clone().on(laptop()),
        attempt.clone().at(in_minutes(31)),
        crate::samples::attempt(component(SET_ZONE), &[SET_ZONE]),
    ];
    for other in others {
        assert!(!matches!(policy.decide(&other).verdict, Verdict::Launch { .. }), "{other:?}");
    }
    // What a grant for the bytes of a program is good for is a program, also where the digest is that of the definition.
    let of_bytes = listed(component_rule(SERVICE)).grant(grant(1, &[SET_TIME]));
    assert!(matches!(of_bytes.decide(&attempt).verdict, Verdict::Offered { .. }));
}

#[test]
fn without_polkit_such_a_rule_is_reported() {
    let rule = Listed::Rule(component_rule(SET_TIME));
    let with = |components| Evaluates { packages: true, components };
    assert_eq!(rule.not_evaluated(with(false)), Some(Needs::Components));
    assert_eq!(rule.not_evaluated(with(true)), None);
}

#[test]
fn an_action_that_equals_root_is_told_of() {
    let kind = |action| match risk::of_application(&component(action), RunsAs::Root, &Bounds::default())
        .as_slice()
    {
        [Risk::EqualsRoot { kind }] => Some(*kind),
        _ => None,
    };
    assert_eq!(kind("org.freedesktop.policykit.exec"), Some(Kind::Launcher));
    assert_eq!(kind("org.freedesktop.systemd1.manage-units"), Some(Kind::ServiceManager));
    assert_eq!(kind(SET_TIME), None);
    assert_eq!(kind("bash"), None);
}
