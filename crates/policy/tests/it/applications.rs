//! Which packaged applications rules recognise, and what they say of those they nearly do.

use elevon_policy::application::{Application, Interpreter, Package, PackageSystem, Vendor};
use elevon_policy::decide::Verdict;
use elevon_policy::lists::Way;
use elevon_policy::rule::{Finding, Listed, Missing, Rule};
use elevon_policy::text::{OsText, Text};

use crate::samples::*;

fn tool() -> Application {
    packaged(program("/usr/bin/tool", 1), "tool", "Debian", "1.2-3")
}

fn with(change: impl FnOnce(&mut Package)) -> Application {
    let mut application = tool();
    change(application.package.as_mut().unwrap());
    application
}

/// What the rule finds, asked directly and through a decision.
#[track_caller]
fn check(rule: &Rule, application: &Application, expect: &Finding) {
    assert_eq!(rule.recognise(application, &os(&["tool"])), *expect);
    let policy = Policy::default().list(list(1, Way::Automatic, [Listed::Rule(rule.clone())]));
    let decision = policy.decide(&attempt(application.clone(), &["tool"]));
    assert_eq!(matches!(decision.verdict, Verdict::Offered { .. }), *expect == Finding::Matches);
    let told: Vec<_> = decision.reasons.iter().map(|reason| &reason.finding).collect();
    match expect {
        Finding::Differs => assert!(told.is_empty(), "{told:?}"),
        finding => assert_eq!(told, [finding]),
    }
}

fn nearly(missing: Missing) -> Finding {
    Finding::Nearly { missing }
}

#[test]
fn rules_about_packages_recognise_what_a_package_owns() {
    for (rule, matches) in [
        (vendor_rule("Debian", false), true),
        (vendor_rule("Debian", true), true),
        (vendor_rule("debian", false), false),
        (vendor_rule("Debian ", false), false),
        (vendor_rule("", false), false),
        (product_rule("tool", "Debian"), true),
        // The product is the source package, not the binary one.
        (product_rule("tool-bin", "Debian"), false),
        (executable_rule("tool", "Debian", "tool"), true),
        (executable_rule("tool", "Debian", "tools"), false),
        (executable_rule("tool", "Debian", "/usr/bin/tool"), false),
        (executable_rule("other", "Debian", "tool"), false),
    ] {
        check(&rule, &tool(), if matches { &Finding::Matches } else { &Finding::Differs });
    }
    let ubuntu = nearly(Missing::OtherVendor { vendor: Some(Text::new("Debian")) });
    check(&product_rule("tool", "Ubuntu"), &tool(), &ubuntu);
    check(&executable_rule("tool", "Ubuntu", "tool"), &tool(), &ubuntu);
    let nobody = nearly(Missing::OtherVendor { vendor: None });
    check(&product_rule("tool", "Debian"), &with(|package| package.vendor = None), &nobody);
    check(&vendor_rule("Debian", false), &with(|package| package.vendor = None), &Finding::Differs);
}

#[test]
fn what_no_package_owns_is_of_no_vendor_and_no_product() {
    let unowned = program("/usr/local/bin/tool", 1);
    check(&vendor_rule("Debian", false), &unowned, &Finding::Differs);
    check(&product_rule("tool", "Debian"), &unowned, &Finding::Differs);
    check(&executable_rule("tool", "Debian", "tool"), &unowned, &nearly(Missing::Package));
    let copied = untrusted(program("/tmp/tool", 1));
    let lane = copied.lane.clone();
    check(&executable_rule("tool", "Debian", "tool"), &copied, &nearly(Missing::TrustedPath { lane }));
}

/// Package facts are never measured where others can write; were they, they would count for nothing.
#[test]
fn where_others_can_write_a_package_proves_nothing() {
    let planted = untrusted(tool());
    let expected = nearly(Missing::TrustedPath { lane: planted.lane.clone() });
    for rule in [
        vendor_rule("Debian", false),
        product_rule("tool", "Debian"),
        executable_rule("tool", "Debian", "tool"),
    ] {
        check(&rule, &planted, &expected);
    }
}

#[test]
fn a_file_that_was_modified_is_not_its_packages_any_more() {
    let modified = with(|package| package.unmodified = false);
    for rule in [
        vendor_rule("Debian", false),
        product_rule("tool", "Debian"),
        executable_rule("tool", "Debian", "tool"),
    ] {
        check(&rule, &modified, &nearly(Missing::Unmodified));
    }
}

#[test]
fn a_verified_vendor_is_one_that_a_signature_stands_behind() {
    let claimed = with(|package| {
        package.vendor = Some(Vendor { name: Text::new("Debian"), verified: false });
    });
    check(&vendor_rule("Debian", true), &claimed, &nearly(Missing::VerifiedVendor));
    check(&vendor_rule("Debian", false), &claimed, &Finding::Matches);
}

#[test]
fn a_minimum_version_holds_for_every_kind_of_rule() {
    let from = |rule: Rule, minimum: &str| Rule { minimum_version: Some(Text::new(minimum)), ..rule };
    let rules = [
        vendor_rule("Debian", true),
        product_rule("tool", "Debian"),
        hash_rule(1),
        folder_rule("/usr", true),
    ];
    for rule in rules {
        for minimum in ["1.2-3", "1.2", "1.2-2.9", "1.2~rc1", "0:1.2-3"] {
            check(&from(rule.clone(), minimum), &tool(), &Finding::Matches);
        }
        for minimum in ["1.10", "1.2-3+b1", "1:0", "", "later"] {
            let found = Some(Text::new("1.2-3"));
            let missing = Missing::Version { found, minimum: Text::new(minimum) };
            check(&from(rule.clone(), minimum), &tool(), &nearly(missing));
        }
    }
    let unowned = program("/usr/bin/tool", 1);
    let missing = Missing::Version { found: None, minimum: Text::new("1") };
    check(&from(hash_rule(1), "1"), &unowned, &nearly(missing));
    // As rpm compares: a version alone stands for all of its releases.
    let by_rpm = with(|package| {
        package.system = PackageSystem::Rpm;
        package.version = Text::new("1.2^git1-3.fc40");
    });
    check(&from(product_rule("tool", "Debian"), "1.2"), &by_rpm, &Finding::Matches);
    check(&from(product_rule("tool", "Debian"), "1.2^git1"), &by_rpm, &Finding::Matches);
}

/// A "no" is not escaped by modifying the file, by a vendor that proves itself worse, or by way of a script.
#[test]
fn a_no_by_package_holds_for_less() {
    let modified = with(|package| {
        package.unmodified = false;
        package.vendor = Some(Vendor { name: Text::new("Debian"), verified: false });
    });
    let interpreted = Application {
        interpreter: Some(Interpreter {
            path: OsText::from("/usr/bin/tool"),
            sha256: bytes(1),
            argument: None,
            package: tool().package,
        }),
        ..program("/opt/script", 2)
    };
    for application in [tool(), modified, interpreted] {
        for rule in [vendor_rule("Debian", true), product_rule("tool", "Debian")] {
            let policy = Policy::default().list(list(1, Way::Automatic, [folder("/"), hash(1), deny(rule)]));
            let verdict = policy.decide(&attempt(application.clone(), &["tool"])).verdict;
            assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
        }
    }
}

#[test]
fn a_pattern_is_about_one_argument() {
    let policy = Policy::default().list(list(
        1,
        Way::Automatic,
        [with_patterns(hash_rule(1), &["install", "nginx*"])],
    ));
    for (argv, expected) in [
        (&["tool", "install", "nginx"][..], true),
        (&["tool", "install", "nginx-full"], true),
        (&["tool", "install", "nginx -o x"], true),
        (&["tool", "install", "nginx", "-o"], false),
        (&["tool", "install"], false),
        (&["tool", "install nginx"], false),
        (&["tool", "nginx", "install"], false),
        (&["tool"], false),
        (&[], false),
    ] {
        let verdict = policy.decide(&attempt(tool(), argv)).verdict;
        assert_eq!(matches!(verdict, Verdict::Offered { .. }), expected, "{argv:?}");
    }
}
