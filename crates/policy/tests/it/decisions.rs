//! Who may run what, and why not.

use elevon_policy::application::{Application, User};
use elevon_policy::bundle::DeployedTo;
use elevon_policy::decide::{HeldGrant, Verdict};
use elevon_policy::event::DenyReason;
use elevon_policy::grant::{Ends, Grant, GrantedApplication, GrantedArguments, Origin};
use elevon_policy::group::Member;
use elevon_policy::id::Version;
use elevon_policy::lists::{Durations, Launches, Nesting, PrivilegedApplicationList, Terms, Way};
use elevon_policy::rule::{Finding, Listed, Missing, Needs, Recognises, Rule, Specificity};
use elevon_policy::sheet::LockedOut;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};

use crate::samples::*;

/// What should come out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expect {
    Offered(Way, Specificity),
    Refused(DenyReason),
    /// Runs now, until then.
    Runs(Timestamp),
}
use Expect::{Offered, Refused, Runs};

#[track_caller]
fn check(policy: &Policy, attempt: &Try, expect: Expect) {
    let decision = policy.decide(attempt);
    let found = match &decision.verdict {
        Verdict::Launch { end, .. } => Runs(*end),
        Verdict::Offered { offer } => Offered(offer.way, offer.specificity),
        Verdict::Refused { refusal } => Refused(refusal.deny_reason()),
    };
    assert_eq!(found, expect, "{:#?}", decision.reasons.iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[track_caller]
fn check_reason(policy: &Policy, attempt: &Try, finding: &Finding) {
    let decision = policy.decide(attempt);
    let findings: Vec<_> = decision.reasons.iter().map(|reason| &reason.finding).collect();
    assert!(findings.contains(&finding), "expected {finding:?} among {findings:?}");
}

fn tool() -> Try {
    attempt(program("/usr/bin/tool", 1), &["tool", "--now"])
}

fn asks_for_tool() -> Policy {
    Policy::default().list(list(1, Way::Approval, [hash(1)]))
}

const BY_HASH: Expect = Offered(Way::Approval, Specificity::FileHash);

#[test]
fn what_no_list_has_is_refused() {
    check(&Policy::default(), &tool(), Refused(DenyReason::NotListed));
    check(&asks_for_tool(), &attempt(program("/usr/bin/tool", 2), &["tool"]), Refused(DenyReason::NotListed));
    check(&asks_for_tool(), &tool(), BY_HASH);
}

#[test]
fn a_blocklist_beats_everything() {
    let everything = Policy::default()
        .list(list(1, Way::Automatic, [hash(1)]))
        .list(list_for_allowed(2, Way::Automatic, []))
        .allow([hash(1)])
        .grant(grant(1, &["tool", "--now"]));
    check(&everything, &tool(), Runs(in_minutes(30)));
    check(&everything.clone().block([hash(1)]), &tool(), Refused(DenyReason::Blocked));
    check(&everything.clone().block([folder("/usr")]), &tool(), Refused(DenyReason::Blocked));
    check(&everything.block([hash(2), folder("/opt")]), &tool(), Runs(in_minutes(30)));
}

#[test]
fn a_deny_beats_what_is_more_specific() {
    let policy = asks_for_tool().grant(grant(1, &["tool", "--now"]));
    let denied = list(2, Way::Automatic, [deny(folder_rule("/usr", true))]);
    check(&policy.clone().list(denied.clone()), &tool(), Refused(DenyReason::Denied));
    check(&policy.clone().list(off(denied.clone())), &tool(), Runs(in_minutes(30)));
    let for_allowed = list_for_allowed(2, Way::Automatic, [deny(hash_rule(1))]);
    check(&policy.list(for_allowed), &tool(), Refused(DenyReason::Denied));
}

fn off(list: PrivilegedApplicationList) -> PrivilegedApplicationList {
    PrivilegedApplicationList { enabled: false, ..list }
}

#[test]
fn a_lock_beats_everything() {
    let policy =
        Policy::default().list(list(1, Way::Automatic, [hash(1)])).grant(grant(1, &["tool", "--now"]));
    let locks = [
        LockedOut::Computer,
        LockedOut::User { name: Text::new("alice") },
        LockedOut::Application { sha256: bytes(1) },
    ];
    for over in locks {
        check(&policy.clone().lock(over), &tool(), Refused(DenyReason::Locked));
    }
    check(&policy.clone().lock(LockedOut::User { name: Text::new("bob") }), &tool(), Runs(in_minutes(30)));
    check(&policy.lock(LockedOut::Application { sha256: bytes(2) }), &tool(), Runs(in_minutes(30)));
}

/// A "no" to an interpreter that a script could walk around would be no "no".
#[test]
fn a_refused_interpreter_refuses_its_scripts() {
    let python =
        |digest| attempt(script(program("/opt/clean.py", 1), "/usr/bin/python3", digest), &["clean.py"]);
    let policy = asks_for_tool();
    check(&policy, &python(7), BY_HASH);
    check(&policy.clone().block([hash(7)]), &python(7), Refused(DenyReason::Blocked));
    check(&policy.clone().block([folder("/usr/bin")]), &python(7), Refused(DenyReason::Blocked));
    check(
        &policy.clone().list(list(2, Way::Off, [deny(hash_rule(7))])),
        &python(7),
        Refused(DenyReason::Denied),
    );
    check(
        &policy.clone().lock(LockedOut::Application { sha256: bytes(7) }),
        &python(7),
        Refused(DenyReason::Locked),
    );
    check(&policy.block([hash(7)]), &python(8), BY_HASH);
    // A "yes" to the interpreter, on the other hand, says nothing about the script.
    check(
        &Policy::default().list(list(1, Way::Automatic, [hash(7)])),
        &python(7),
        Refused(DenyReason::NotListed),
    );
}

#[test]
fn the_most_specific_rule_wins() {
    let by_folder = list(1, Way::Off, [folder("/usr/bin")]);
    let by_hash = list(2, Way::Justification, [hash(1)]);
    let allowed = list_for_allowed(3, Way::Automatic, []);
    let policy = Policy::default().list(by_folder).list(allowed).allow([hash(1)]);
    check(&policy, &tool(), Refused(DenyReason::Off));
    check(&policy.list(by_hash), &tool(), Offered(Way::Justification, Specificity::FileHash));
}

#[test]
fn among_equals_the_stricter_way_wins_in_any_order() {
    let ways = [Way::Automatic, Way::Justification, Way::Approval];
    for one in ways {
        for other in ways {
            let policy = Policy::default().list(list(1, one, [hash(1)])).list(list(2, other, [hash(1)]));
            check(&policy, &tool(), Offered(one.max(other), Specificity::FileHash));
        }
    }
    let off_as_well = asks_for_tool().list(list(2, Way::Off, [hash(1)]));
    check(&off_as_well, &tool(), Refused(DenyReason::Off));
}

#[test]
fn a_rule_has_its_own_way_and_terms() {
    let mut own = hash_rule(1);
    let durations = Durations { maximum: Span::from_mins(5), ..Durations::default() };
    own.terms = Some(Terms { durations, ..Terms::default() });
    let policy = Policy::default().list(list(1, Way::Off, [way(own, Way::Automatic), folder("/usr")]));
    check(&policy, &tool(), Offered(Way::Automatic, Specificity::FileHash));
    let Verdict::Offered { offer } = policy.decide(&tool()).verdict else { panic!("offered") };
    assert_eq!(offer.terms.durations.maximum, Span::from_mins(5));
    check(&policy, &attempt(program("/usr/bin/other", 2), &["other"]), Refused(DenyReason::Off));
}

#[test]
fn all_allowed_applications_are_those_of_an_allowlist() {
    let policy = Policy::default().list(list_for_allowed(1, Way::Automatic, []));
    check(&policy, &tool(), Refused(DenyReason::NotListed));
    check_reason(&policy, &tool(), &Finding::Nearly { missing: Missing::NotAllowed });
    let allowed = Offered(Way::Automatic, Specificity::AllAllowed);
    check(&policy.clone().allow([hash(1)]), &tool(), allowed);
    check(&policy.clone().allow([folder("/usr/bin")]), &tool(), allowed);
    check(&policy.clone().allow([hash(2)]), &tool(), Refused(DenyReason::NotListed));
    check(&policy.allow([hash(1)]).block([hash(1)]), &tool(), Refused(DenyReason::Blocked));
    // An allowlist alone elevates nothing.
    check(&Policy::default().allow([hash(1)]), &tool(), Refused(DenyReason::NotListed));
}

/// Its rules say more about allowed applications; they do not add to them.
#[test]
fn a_list_for_allowed_applications_does_not_allow() {
    let policy =
        Policy::default().list(list_for_allowed(1, Way::Automatic, [way(hash_rule(1), Way::Approval)]));
    check(&policy, &tool(), Refused(DenyReason::NotListed));
    check(&policy.allow([folder("/usr/bin")]), &tool(), BY_HASH);
}

#[test]
fn a_disabled_list_says_nothing() {
    let policy = Policy::default().list(off(list(1, Way::Automatic, [hash(1)])));
    check(&policy, &tool(), Refused(DenyReason::NotListed));
    let mut blocked = asks_for_tool().block([hash(1)]);
    blocked.bundle.blocklists[0].policy.enabled = false;
    check(&blocked, &tool(), BY_HASH);
    let mut allowed = Policy::default().list(list_for_allowed(1, Way::Automatic, [])).allow([hash(1)]);
    allowed.bundle.allowlists[0].policy.enabled = false;
    check(&allowed, &tool(), Refused(DenyReason::NotListed));
}

#[test]
fn a_list_is_for_the_users_it_is_deployed_to() {
    let policy = Policy::default().list_for(list(1, Way::Approval, [hash(1)]), members(&["alice", "carol"]));
    check(&policy, &tool(), BY_HASH);
    check(&policy, &tool().by(bob()), Refused(DenyReason::NotListed));
    let nobody = Policy::default().list_for(list(1, Way::Approval, [hash(1)]), members(&[]));
    check(&nobody, &tool(), Refused(DenyReason::NotListed));
    let only_here = Member { name: Text::new("alice"), computer: Some(desk()) };
    let users = DeployedTo::Members { members: vec![only_here] };
    let policy = Policy::default().list_for(list(1, Way::Approval, [hash(1)]), users.clone());
    check(&policy, &tool(), BY_HASH);
    check(&policy, &tool().on(laptop()), Refused(DenyReason::NotListed));
    let mut blocked = asks_for_tool().block([hash(1)]);
    blocked.bundle.blocklists[0].users = users;
    check(&blocked, &tool(), Refused(DenyReason::Blocked));
    check(&blocked, &tool().by(bob()), BY_HASH);
}

#[test]
fn an_unreadable_rule_matches_nothing_and_is_reported() {
    let policy = Policy::default()
        .list(list(1, Way::Automatic, [unreadable()]))
        .list(list_for_allowed(2, Way::Automatic, []))
        .allow([unreadable()])
        .block([unreadable()]);
    check(&policy, &tool(), Refused(DenyReason::NotListed));
    let reported = policy.decide(&tool()).reasons;
    let cannot = Finding::CannotEvaluate { needs: Needs::NewerVersion };
    assert_eq!(reported.iter().filter(|reason| reason.finding == cannot).count(), 3);
}

#[test]
fn what_cannot_be_evaluated_matches_nothing_and_is_reported() {
    let vendor = Text::new("Debian");
    let product = Text::new("tool");
    let rules = [
        (Recognises::Vendor { vendor: vendor.clone(), verified: false }, Needs::PackageFacts),
        (Recognises::Product { product: product.clone(), vendor: vendor.clone() }, Needs::PackageFacts),
        (
            Recognises::VerifiedExecutable { product, vendor, file_name: OsText::from("tool") },
            Needs::PackageFacts,
        ),
        (Recognises::FolderPath { path: OsText::from(""), with_subfolders: true }, Needs::AbsolutePath),
        (
            Recognises::FolderPath { path: OsText::from("usr/bin"), with_subfolders: true },
            Needs::AbsolutePath,
        ),
    ];
    let without_packages =
        attempt(Application { package_database: false, ..program("/usr/bin/tool", 1) }, &["tool", "--now"]);
    for (recognises, needs) in rules {
        let policy = Policy::default().list(list(1, Way::Automatic, [Listed::Rule(rule(recognises))]));
        check(&policy, &without_packages, Refused(DenyReason::NotListed));
        check_reason(&policy, &without_packages, &Finding::CannotEvaluate { needs });
    }
    let from_version = Rule { minimum_version: Some(Text::new("2.0")), ..hash_rule(1) };
    let policy = Policy::default().list(list(1, Way::Automatic, [Listed::Rule(from_version)]));
    check(&policy, &without_packages, Refused(DenyReason::NotListed));
    check_reason(&policy, &without_packages, &Finding::CannotEvaluate { needs: Needs::PackageFacts });
}

/// A component is no program.
#[test]
fn a_component_is_about_something_else_than_a_program() {
    let component = Listed::Rule(rule(Recognises::Clsid { component: Text::new("org.example.tool") }));
    let decision = Policy::default().list(list(1, Way::Automatic, [component])).decide(&tool());
    assert!(decision.reasons.is_empty());
}

#[test]
fn a_folder_has_what_lies_in_it() {
    let in_folder = |path: &str, with_subfolders, file: &str| {
        let rule = Listed::Rule(folder_rule(path, with_subfolders));
        let policy = Policy::default().list(list(1, Way::Automatic, [rule]));
        match policy.decide(&attempt(program(file, 1), &["x"])).verdict {
            Verdict::Offered { .. } => true,
            Verdict::Refused { .. } => false,
            Verdict::Launch { .. } => unreachable!("there is no grant"),
        }
    };
    for (path, with_subfolders, file, expected) in [
        ("/usr/bin", false, "/usr/bin/tool", true),
        ("/usr/bin/", false, "/usr/bin/tool", true),
        ("/usr/bin", false, "/usr/bin/sub/tool", false),
        ("/usr/bin", true, "/usr/bin/sub/tool", true),
        ("/usr/bin", true, "/usr/binary/tool", false),
        ("/usr/bin", true, "/usr/bin", false),
        ("/usr/bin", true, "/usr/tool", false),
        ("/", true, "/usr/bin/tool", true),
        ("/", false, "/tool", true),
        ("/", false, "/usr/tool", false),
        ("//", true, "/usr/tool", false),
        ("/usr/../opt", true, "/opt/tool", false),
    ] {
        assert_eq!(
            in_folder(path, with_subfolders, file),
            expected,
            "{file} in {path}, below it: {with_subfolders}"
        );
    }
}

#[test]
fn a_folder_allows_nothing_that_others_can_change_but_refuses_it() {
    let planted = attempt(untrusted(program("/opt/tools/tool", 1)), &["tool"]);
    let policy = Policy::default().list(list(1, Way::Automatic, [folder("/opt/tools")]));
    check(
        &policy,
        &attempt(program("/opt/tools/tool", 1), &["tool"]),
        Offered(Way::Automatic, Specificity::FolderPath),
    );
    check(&policy, &planted, Refused(DenyReason::NotListed));
    let missing = Missing::TrustedPath { lane: planted.application.lane.clone() };
    check_reason(&policy, &planted, &Finding::Nearly { missing });
    // Its bytes count wherever they lie.
    check(&asks_for_tool(), &planted, BY_HASH);
    check(&asks_for_tool().block([folder("/opt")]), &planted, Refused(DenyReason::Blocked));
    let denied = list(2, Way::Approval, [deny(folder_rule("/opt", true))]);
    check(&asks_for_tool().list(denied), &planted, Refused(DenyReason::Denied));
}

#[test]
fn explain_tells_what_nearly_matched() {
    let named = rule(Recognises::FileHash { sha256: bytes(9), display_name: Text::new("tool") });
    let cases = [
        (Listed::Rule(named), Missing::OtherBytes),
        (Listed::Rule(folder_rule("/usr", false)), Missing::SubFolders),
        (exactly(hash_rule(1), &["--later"]), Missing::Arguments),
    ];
    for (listed, missing) in cases {
        let policy = Policy::default().list(list(1, Way::Automatic, [listed]));
        check(&policy, &tool(), Refused(DenyReason::NotListed));
        check_reason(&policy, &tool(), &Finding::Nearly { missing });
    }
}

#[test]
fn arguments_are_exact_or_a_beginning() {
    let exact = Policy::default().list(list(1, Way::Approval, [exactly(hash_rule(1), &["a", "b"])]));
    let beginning = Policy::default().list(list(1, Way::Approval, [beginning(hash_rule(1), &["a", "b"])]));
    let run = |argv: &[&str]| attempt(program("/usr/bin/tool", 1), argv);
    for (argv, by_exact, by_beginning) in [
        (&["tool", "a", "b"][..], true, true),
        (&["other", "a", "b"], true, true),
        (&["tool", "a", "b", "c"], false, true),
        (&["tool", "a"], false, false),
        (&["tool", "b", "a"], false, false),
        (&["tool", "a b"], false, false),
        (&["tool", "a", "bb"], false, false),
        (&["tool", "", "a", "b"], false, false),
        (&["a", "b"], false, false),
        (&[], false, false),
    ] {
        let expect = |matches| if matches { BY_HASH } else { Refused(DenyReason::NotListed) };
        check(&exact, &run(argv), expect(by_exact));
        check(&beginning, &run(argv), expect(by_beginning));
    }
}

#[test]
fn a_grant_covers_its_user_computer_bytes_and_arguments() {
    let policy = asks_for_tool().grant(grant(1, &["tool", "--now"]));
    check(&policy, &tool(), Runs(in_minutes(30)));
    let renumbered = User { uid: 4242, ..alice() };
    let renamed = User { name: Text::new("alicia"), ..alice() };
    for (what, other) in [
        ("another user", tool().by(bob())),
        ("the number of another", tool().by(renumbered)),
        ("the name of another", tool().by(renamed)),
        ("another computer", tool().on(laptop())),
        ("more arguments", attempt(program("/usr/bin/tool", 1), &["tool", "--now", "--all"])),
        ("fewer arguments", attempt(program("/usr/bin/tool", 1), &["tool"])),
        ("another name for itself", attempt(program("/usr/bin/tool", 1), &["loot", "--now"])),
        ("an interpreter where there was none", {
            attempt(script(program("/usr/bin/tool", 1), "/bin/sh", 3), &["tool", "--now"])
        }),
    ] {
        println!("{what}");
        check(&policy, &other, BY_HASH);
    }
    check(&policy, &attempt(program("/usr/bin/tool", 2), &["tool", "--now"]), Refused(DenyReason::NotListed));
    // The path decides nothing: the bytes are the application.
    check(
        &policy,
        &attempt(untrusted(program("/home/alice/t", 1)), &["tool", "--now"]),
        Runs(in_minutes(30)),
    );
}

#[test]
fn a_grant_for_a_script_covers_the_interpreter_too() {
    let application = GrantedApplication::Bytes {
        sha256: bytes(1),
        path: OsText::from("/opt/clean.py"),
        interpreter: Some(bytes(7)),
    };
    let policy = asks_for_tool().grant(Grant { application, ..grant(1, &["clean.py"]) });
    let python =
        |digest| attempt(script(program("/opt/clean.py", 1), "/usr/bin/python3", digest), &["clean.py"]);
    check(&policy, &python(7), Runs(in_minutes(30)));
    check(&policy, &python(8), BY_HASH);
    check(&policy, &attempt(program("/opt/clean.py", 1), &["clean.py"]), BY_HASH);
}

#[test]
fn a_grant_may_cover_any_arguments_or_what_a_rule_recognises() {
    let policy = Policy::default().list(list(1, Way::Approval, [folder("/usr/bin")]));
    let any = Grant { arguments: GrantedArguments::Any, ..grant(1, &[]) };
    check(&policy.clone().grant(any.clone()), &tool(), Runs(in_minutes(30)));
    let widened = GrantedApplication::Rule { rule: Box::new(folder_rule("/usr/bin", false)) };
    let policy = policy.grant(Grant { application: widened, ..any });
    check(&policy, &attempt(program("/usr/bin/any", 9), &["any"]), Runs(in_minutes(30)));
    check(
        &asks_for_tool().grant(Grant {
            application: GrantedApplication::Rule { rule: Box::new(folder_rule("/usr/bin", false)) },
            arguments: GrantedArguments::Any,
            ..grant(1, &[])
        }),
        &attempt(untrusted(program("/usr/bin/tool", 1)), &["tool"]),
        BY_HASH,
    );
}

#[test]
fn a_grant_ends_when_it_was_said_to() {
    let policy = asks_for_tool().grant(grant(1, &["tool", "--now"]));
    let a_moment = Span::from_millis(1);
    check(&policy, &tool().at(NOW.before(a_moment)), BY_HASH);
    check(&policy, &tool().at(in_minutes(30).before(a_moment)), Runs(in_minutes(30)));
    check(&policy, &tool().at(in_minutes(30)), BY_HASH);
    check(&policy, &tool().at(Timestamp::from_millis(i64::MAX)), BY_HASH);
    check(&policy, &tool().at(Timestamp::from_millis(i64::MIN)), BY_HASH);
}

#[test]
fn of_several_grants_the_longest_is_used() {
    let shorter = Grant { id: id(51), ends: Ends::At { end: in_minutes(5) }, ..grant(1, &["tool", "--now"]) };
    let over = Grant { id: id(52), ends: Ends::At { end: NOW }, ..grant(1, &["tool", "--now"]) };
    let policy = asks_for_tool().grant(shorter).grant(grant(1, &["tool", "--now"])).grant(over);
    check(&policy, &tool(), Runs(in_minutes(30)));
}

#[test]
fn the_first_launch_fixes_the_end_and_must_come_in_time() {
    let ends = Ends::AfterFirstLaunch { duration: Span::from_mins(10), latest_start: in_minutes(60) };
    let held = |fixed_end| HeldGrant {
        grant: Grant { ends, ..grant(1, &["tool", "--now"]) },
        fixed_end,
        launched: u64::from(fixed_end.is_some()),
    };
    let waiting = asks_for_tool().held(held(None));
    check(&waiting, &tool(), Runs(in_minutes(10)));
    check(&waiting, &tool().at(in_minutes(59)), Runs(in_minutes(69)));
    check(&waiting, &tool().at(in_minutes(60)), BY_HASH);
    let started = asks_for_tool().held(held(Some(in_minutes(69))));
    check(&started, &tool().at(in_minutes(61)), Runs(in_minutes(69)));
    check(&started, &tool().at(in_minutes(69)), BY_HASH);
}

#[test]
fn a_grant_for_one_launch_is_used_up_by_it() {
    let once = Grant { launches: Launches::Once, ..grant(1, &["tool", "--now"]) };
    let held = |launched| HeldGrant { grant: once.clone(), fixed_end: None, launched };
    check(&asks_for_tool().held(held(0)), &tool(), Runs(in_minutes(30)));
    check(&asks_for_tool().held(held(1)), &tool(), BY_HASH);
    check(&asks_for_tool().held(held(u64::MAX)), &tool(), BY_HASH);
}

#[test]
fn a_withdrawn_policy_stops_new_launches() {
    let granted = grant(1, &["tool", "--now"]);
    check(&Policy::default().grant(granted.clone()), &tool(), Refused(DenyReason::NotListed));
    let turned_off = Policy::default().list(list(1, Way::Off, [hash(1)]));
    check(&turned_off.grant(granted), &tool(), Refused(DenyReason::Off));
}

/// Otherwise a policy made stricter would go on being answered by what the laxer one gave.
#[test]
fn a_grant_that_policy_alone_gave_serves_only_under_that_policy() {
    let local = Grant { origin: Origin::Policy, ..grant(1, &["tool", "--now"]) };
    let automatic = list(1, Way::Automatic, [hash(1)]);
    check(&Policy::default().list(automatic.clone()).grant(local.clone()), &tool(), Runs(in_minutes(30)));
    let stricter =
        PrivilegedApplicationList { version: Version(2), elevate: Way::Approval, ..automatic.clone() };
    check(&Policy::default().list(stricter).grant(local.clone()), &tool(), BY_HASH);
    let joined = Policy::default().list(automatic).list(list(2, Way::Approval, [hash(1)]));
    check(&joined.grant(local), &tool(), BY_HASH);
}

/// Found by fuzzing: it was unreadable as it came, and a rule like any other once it was stored and read again.
#[test]
fn a_rule_with_a_key_twice_reads_the_same_after_it_was_stored() {
    let rule = serde_json::to_string(&hash_rule(1)).unwrap();
    let twice = rule.replacen(r#""outcome":"allow""#, r#""outcome":"deny","outcome":"allow""#, 1);
    assert_ne!(rule, twice);
    let read: Listed = serde_json::from_str(&twice).unwrap();
    let again: Listed = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
    assert_eq!(again, read);
}

fn nesting(n: u32, nesting: Nesting) -> PrivilegedApplicationList {
    let mut policy = list(n, Way::Approval, [hash(1)]);
    policy.terms.nesting = nesting;
    policy
}

#[test]
fn from_inside_only_a_list_that_allows_it_offers_anything() {
    let inside = tool().inside();
    check(&asks_for_tool(), &inside, Refused(DenyReason::Nested));
    let allowed = Policy::default().list(nesting(1, Nesting::Allowed));
    check(&allowed, &inside, BY_HASH);
    check(&allowed, &tool(), BY_HASH);
    // Another list says nothing for the one that decides, and among equals the stricter decides.
    let other = list_for_allowed(2, Way::Automatic, []);
    let other =
        PrivilegedApplicationList { terms: Terms { nesting: Nesting::Allowed, ..other.terms }, ..other };
    let policy = Policy::default().list(nesting(1, Nesting::Refused)).list(other).allow([hash(1)]);
    check(&policy, &inside, Refused(DenyReason::Nested));
    for lists in [[Nesting::Allowed, Nesting::Refused], [Nesting::Refused, Nesting::Allowed]] {
        let [first, second] = lists;
        let policy = Policy::default().list(nesting(1, first)).list(nesting(2, second));
        check(&policy, &inside, Refused(DenyReason::Nested));
    }
    // What beats everything is told first.
    check(&allowed.block([hash(1)]), &inside, Refused(DenyReason::Blocked));
}

#[test]
fn from_inside_only_a_grant_that_was_given_so_helps() {
    let inside = tool().inside();
    let outside = grant(1, &["tool", "--now"]);
    let allowed = Policy::default().list(nesting(1, Nesting::Allowed));
    let held = allowed.clone().grant(outside.clone());
    check(&held, &tool(), Runs(in_minutes(30)));
    check(&held, &inside, BY_HASH);
    let given = Grant { nesting: Nesting::Allowed, ..outside };
    check(&allowed.grant(given.clone()), &inside, Runs(in_minutes(30)));
    // Withdrawn since.
    check(&asks_for_tool().grant(given), &inside, Refused(DenyReason::Nested));
}
