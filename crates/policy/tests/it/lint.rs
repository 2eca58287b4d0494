//! What an administrator is warned of before a list is saved.

use elevon_policy::bounds::{Bounds, Containment, Display};
use elevon_policy::lint::{Code, of_allowlist, of_privileged, of_rule};
use elevon_policy::lists::{Confirm, Covers, PrivilegedApplicationList, RunsAs, Terms, Way};
use elevon_policy::rule::{Listed, Outcome, Recognises, Rule};
use elevon_policy::text::Text;

use crate::samples::*;

fn codes(rule: &Rule, terms: &Terms) -> Vec<Code> {
    of_rule(rule, terms).into_iter().map(|warning| warning.code).collect()
}

/// Somebody has to be there.
fn confirmed() -> Terms {
    Terms { confirm: Confirm::OncePerGrant, ..Terms::default() }
}

fn named(name: &str) -> Rule {
    rule(Recognises::FileHash { sha256: bytes(1), display_name: Text::new(name) })
}

#[test]
fn rules_that_let_through_more_than_they_seem_to_are_told() {
    use Code::{AllOfVendor, EqualsRoot, FreeArguments, HoldsShells, UnverifiedVendor, WritableFolder};
    let cases = [
        (named("tcpdump"), &[][..]),
        (named("/usr/bin/vim.basic"), &[EqualsRoot]),
        (executable_rule("bash", "Debian", "bash"), &[EqualsRoot]),
        (executable_rule("util-linux", "Debian", "findmnt"), &[]),
        (product_rule("docker", "Docker"), &[EqualsRoot]),
        (product_rule("gparted", "Debian"), &[]),
        (vendor_rule("Debian", true), &[AllOfVendor]),
        (vendor_rule("Debian", false), &[AllOfVendor, UnverifiedVendor]),
        (folder_rule("/opt/acme", true), &[]),
        (folder_rule("/usr/bin", false), &[HoldsShells]),
        (folder_rule("/usr/bin/", true), &[HoldsShells]),
        (folder_rule("/usr", true), &[HoldsShells]),
        (folder_rule("/usr", false), &[]),
        (folder_rule("/usr/binary", true), &[]),
        (folder_rule("/", true), &[HoldsShells, WritableFolder]),
        (folder_rule("/home/alice/bin", false), &[WritableFolder]),
        (folder_rule("/var", true), &[WritableFolder]),
        (folder_rule("/var", false), &[]),
        (folder_rule("/tmpfiles", true), &[]),
    ];
    for (rule, expected) in cases {
        assert_eq!(codes(&rule, &confirmed()), expected, "{:?}", rule.recognises);
        let denies = Rule { outcome: Outcome::Deny, ..rule };
        assert!(codes(&denies, &confirmed()).is_empty());
    }
    let any = Terms { arguments: Covers::AnyArguments, ..confirmed() };
    assert_eq!(codes(&named("bash"), &any), [EqualsRoot, FreeArguments]);
    assert_eq!(codes(&named("tcpdump"), &any), [FreeArguments]);
    for (listed, terms, expected) in [
        (beginning(named("apt-get"), &["install"]), confirmed(), &[EqualsRoot, FreeArguments][..]),
        (with_patterns(named("apt-get"), &["install", "nginx*"]), any.clone(), &[EqualsRoot]),
        (exactly(named("apt-get"), &["update"]), any, &[EqualsRoot]),
    ] {
        let Listed::Rule(rule) = listed else { unreachable!("it was written here") };
        assert_eq!(codes(&rule, &terms), expected);
    }
}

#[test]
fn what_equals_root_should_be_confirmed() {
    let free = Terms::default();
    for rule in [named("bash"), folder_rule("/usr/bin", false), vendor_rule("Debian", true)] {
        assert!(codes(&rule, &free).contains(&Code::Unconfirmed), "{:?}", rule.recognises);
        assert!(!codes(&rule, &confirmed()).contains(&Code::Unconfirmed), "{:?}", rule.recognises);
    }
    assert_eq!(codes(&named("tcpdump"), &free), []);
    assert!(!Code::Unconfirmed.is_grave());
}

#[test]
fn a_display_is_shared_with_whatever_else_is_on_it() {
    let bounds = Bounds { display: Display::OfTheUser, ..Bounds::default() };
    let shown = Terms { bounds, ..confirmed() };
    assert_eq!(codes(&named("partition-editor"), &shown), [Code::SharedDisplay]);
    assert_eq!(codes(&named("bash"), &shown), [Code::EqualsRoot, Code::SharedDisplay]);
    assert!(of_rule(&named("partition-editor"), &shown)[0].to_string().contains("type into"));
    let Listed::Rule(denied) = deny(named("partition-editor")) else { unreachable!("it was written here") };
    assert_eq!(codes(&denied, &shown), []);
}

#[test]
fn warnings_name_their_rule_and_read_alone() {
    let rules = || [Listed::Rule(named("tcpdump")), unreadable(), folder("/usr"), deny(named("bash"))];
    let warnings =
        of_privileged(&PrivilegedApplicationList { terms: confirmed(), ..list(1, Way::Approval, rules()) });
    assert_eq!(
        warnings.iter().map(|(at, warning)| (*at, warning.code)).collect::<Vec<_>>(),
        [(2, Code::HoldsShells)]
    );
    assert_eq!(of_allowlist(&application_list(2, "allowed", rules())), warnings);
    for (_, warning) in warnings {
        let sentence = warning.to_string();
        assert!(sentence.contains("/usr") && sentence.ends_with('.'), "{sentence}");
        assert!(warning.code.is_grave());
    }
    // What came from outside is shown as it is everywhere.
    let vendor = of_rule(&vendor_rule("\u{202e}evil", true), &Terms::default());
    assert!(vendor.iter().all(|warning| !warning.to_string().contains('\u{202e}')));
}

#[test]
fn what_is_kept_to_less_than_root_does_not_equal_root() {
    use Code::{DecisiveFolder, EqualsRoot, HoldsShells, RootCapability};
    let contained = |folders: &[&str]| Terms {
        bounds: Bounds { containment: Containment::Contained { writable: os(folders) }, ..Bounds::default() },
        ..confirmed()
    };
    let as_user = |capabilities: &str| Terms {
        runs_as: RunsAs::SameUser,
        bounds: Bounds { capabilities: capabilities.parse().expect("known"), ..Bounds::default() },
        ..confirmed()
    };
    let shells = folder_rule("/usr/bin", false);
    assert_eq!(codes(&named("bash"), &contained(&["/srv/out"])), []);
    assert_eq!(codes(&shells, &contained(&[])), []);
    assert_eq!(codes(&named("tool"), &contained(&["/etc/cron.d"])), [DecisiveFolder]);
    assert_eq!(codes(&named("bash"), &as_user("net_raw")), []);
    assert_eq!(codes(&named("bash"), &as_user("net_raw, setuid")), [EqualsRoot, RootCapability]);
    assert_eq!(codes(&shells, &as_user("dac_override")), [RootCapability, HoldsShells]);
    let both = Terms {
        bounds: Bounds { capabilities: "setuid".parse().expect("known"), ..contained(&[]).bounds },
        ..contained(&[])
    };
    assert_eq!(codes(&named("tool"), &both), []);
    assert!([DecisiveFolder, RootCapability].into_iter().all(Code::is_grave));
}
