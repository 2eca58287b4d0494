//! What holds whatever the policy, the attempt and the time are.

use elevon_policy::application::{Application, Lane, Package, PackageSystem, Vendor};
use elevon_policy::bundle::{Bundle, DeployedTo};
use elevon_policy::decide::{HeldGrant, Verdict};
use elevon_policy::event::DenyReason;
use elevon_policy::grant::{Ends, Grant, GrantRecord, Origin};
use elevon_policy::id::Version;
use elevon_policy::lists::{Covers, Durations, Launches, PrivilegedApplicationList, Starts, Terms, Way};
use elevon_policy::request::{Approval, ElevationRequest, RequestRecord};
use elevon_policy::rule::{Finding, Listed, Rule, Specificity};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use crate::lives::{asked, carol, offer};
use crate::samples::*;

fn ways() -> impl Strategy<Value = Way> {
    prop::sample::select(vec![Way::Automatic, Way::Justification, Way::Approval, Way::Off])
}

fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["tool", "Debian", "other"])
}

/// Rules about a few files, packages and folders, so that many of them match.
fn rules() -> impl Strategy<Value = Rule> {
    let recognised = prop_oneof![
        (1u8..4).prop_map(hash_rule),
        (prop::sample::select(vec!["/", "/usr", "/usr/bin", "/opt"]), any::<bool>())
            .prop_map(|(path, below)| folder_rule(path, below)),
        (names(), any::<bool>()).prop_map(|(vendor, verified)| vendor_rule(vendor, verified)),
        (names(), names()).prop_map(|(product, vendor)| product_rule(product, vendor)),
        (names(), names(), names())
            .prop_map(|(product, vendor, name)| executable_rule(product, vendor, name)),
    ];
    let arguments = prop::option::of(vec(prop::sample::select(vec!["a", "b"]), 0..3));
    (recognised, prop::option::of(ways()), arguments, any::<bool>()).prop_map(
        |(rule, elevate, arguments, exact)| {
            let rule = Rule { elevate, ..rule };
            let listed = match arguments {
                Some(words) if exact => exactly(rule, &words),
                Some(words) => beginning(rule, &words),
                None => Listed::Rule(rule),
            };
            match listed {
                Listed::Rule(rule) => rule,
                Listed::Unreadable(_) => unreachable!("it was written here"),
            }
        },
    )
}

fn listed() -> impl Strategy<Value = Listed> {
    prop_oneof![
        8 => rules().prop_map(Listed::Rule),
        1 => rules().prop_map(deny),
        1 => Just(unreadable()),
    ]
}

fn lists() -> impl Strategy<Value = (PrivilegedApplicationList, DeployedTo)> {
    let users = prop_oneof![
        Just(DeployedTo::Everyone),
        vec(prop::sample::select(vec!["alice", "bob"]), 0..2).prop_map(|names| members(&names)),
    ];
    (1u32..20, ways(), vec(listed(), 0..5), any::<bool>(), prop::bool::weighted(0.9), users).prop_map(
        |(n, way, rules, for_allowed, enabled, users)| {
            let made = if for_allowed { list_for_allowed(n, way, rules) } else { list(n, way, rules) };
            (PrivilegedApplicationList { enabled, ..made }, users)
        },
    )
}

fn times() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => (0u64..10_000_000).prop_map(|millis| NOW.after(Span::from_millis(millis))),
        1 => any::<i64>().prop_map(Timestamp::from_millis),
    ]
}

fn spans() -> impl Strategy<Value = Span> {
    prop_oneof![8 => 0u64..10_000_000, 1 => any::<u64>()].prop_map(Span::from_millis)
}

fn ends() -> impl Strategy<Value = Ends> {
    prop_oneof![
        times().prop_map(|end| Ends::At { end }),
        (spans(), times())
            .prop_map(|(duration, latest_start)| Ends::AfterFirstLaunch { duration, latest_start }),
    ]
}

fn held() -> impl Strategy<Value = HeldGrant> {
    let ways_to_hold =
        (1u8..4, ends(), times(), prop::option::of(times()), 0u64..3, any::<bool>(), any::<bool>());
    ways_to_hold.prop_map(|(digest, ends, not_before, fixed_end, launched, once, local)| HeldGrant {
        grant: Grant {
            ends,
            not_before,
            launches: if once { Launches::Once } else { Launches::Any },
            origin: if local { Origin::Policy } else { Origin::Request { request: id(60) } },
            ..grant(digest, &["x", "a"])
        },
        fixed_end,
        launched,
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let grants = vec(held(), 0..4);
    (vec(lists(), 0..5), vec(listed(), 0..3), vec(listed(), 0..2), grants).prop_map(
        |(lists, allow, block, grants)| {
            let policy = Policy::default().allow(allow).block(block);
            let policy = lists.into_iter().fold(policy, |policy, (list, users)| policy.list_for(list, users));
            grants.into_iter().fold(policy, Policy::held)
        },
    )
}

/// A package, and whether there is a database at all.
fn packages() -> impl Strategy<Value = (Option<Package>, bool)> {
    let package = (names(), prop::option::of((names(), any::<bool>())), any::<bool>()).prop_map(
        |(product, vendor, unmodified)| Package {
            system: PackageSystem::Dpkg,
            name: Text::new(product),
            product: Text::new(product),
            version: Text::new("1.0"),
            vendor: vendor.map(|(name, verified)| Vendor { name: Text::new(name), verified }),
            unmodified,
        },
    );
    prop_oneof![package.prop_map(|package| (Some(package), true)), Just((None, true)), Just((None, false))]
}

fn attempts() -> impl Strategy<Value = Try> {
    let path = prop::sample::select(vec!["/usr/bin/x", "/opt/x", "/home/alice/x"]);
    let arguments = vec(prop::sample::select(vec!["a", "b"]), 0..3);
    let path = prop_oneof![path, Just("/usr/bin/tool")];
    (path, 1u8..5, arguments, any::<bool>(), any::<bool>(), times(), packages()).prop_map(
        |(path, digest, arguments, trusted, by_alice, now, (package, package_database))| {
            let file = Application { package, package_database, ..program(path, digest) };
            let argv: Vec<_> = ["x"].into_iter().chain(arguments).collect();
            let attempt = attempt(if trusted { file } else { untrusted(file) }, &argv).at(now);
            if by_alice { attempt } else { attempt.by(bob()) }
        },
    )
}

fn is_refused(policy: &Policy, attempt: &Try) -> bool {
    matches!(policy.decide(attempt).verdict, Verdict::Refused { .. })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_grant_outlives_its_end(policy in policies(), attempt in attempts()) {
        if let Verdict::Launch { grant, end, .. } = policy.decide(&attempt).verdict {
            prop_assert!(attempt.now < end);
            let within = policy.grants.iter().filter(|held| held.grant.id == grant).any(|held| {
                held.grant.not_before <= attempt.now && match (held.grant.ends, held.fixed_end) {
                    (Ends::At { end: said }, _) => end <= said,
                    (Ends::AfterFirstLaunch { .. }, Some(fixed)) => end <= fixed,
                    (Ends::AfterFirstLaunch { duration, latest_start }, None) => {
                        attempt.now < latest_start && end <= attempt.now.after(duration)
                    }
                }
            });
            prop_assert!(within);
        }
    }

    #[test]
    fn a_grant_record_is_never_past_its_end_before_it_runs_out(ends in ends(), fixed in prop::option::of(times()), now in times()) {
        let grant = Grant { ends, not_before: Timestamp::from_millis(i64::MIN), ..grant(1, &[]) };
        if let Some(end) = grant.end_when_launched(None, now) {
            let record = GrantRecord::given(grant, NOW);
            prop_assert!(end <= record.runs_out());
            prop_assert_eq!(GrantRecord { end: fixed, ..record.clone() }.runs_out(), fixed.unwrap_or(record.runs_out()));
        }
    }

    #[test]
    fn a_deny_is_never_outvoted(policy in policies(), attempt in attempts(), at in 0usize..5) {
        let [digest, ..] = attempt.application.sha256.0;
        let mut denied = policy.clone().list(list(30, Way::Automatic, [deny(hash_rule(digest))]));
        let lists = &mut denied.bundle.privileged_application_lists;
        let place = at % lists.len();
        let last = lists.len() - 1;
        lists.swap(place, last);
        prop_assert!(is_refused(&denied, &attempt));
        prop_assert!(is_refused(&policy.block([hash(digest)]), &attempt));
    }

    #[test]
    fn an_unknown_rule_matches_nothing(policy in policies(), attempt in attempts()) {
        let before = policy.decide(&attempt).verdict;
        let mut with = policy.clone().allow([unreadable()]).block([unreadable()]);
        for deployed in &mut with.bundle.privileged_application_lists {
            let rules = &mut deployed.policy.rules;
            *rules = std::iter::once(unreadable()).chain(rules.iter().cloned()).collect();
        }
        prop_assert_eq!(with.decide(&attempt).verdict, before);
        let mut alone = Policy { bundle: Bundle::default(), ..policy };
        alone = alone.list(list(1, Way::Automatic, [unreadable()]));
        let decision = alone.decide(&attempt);
        let refused = matches!(&decision.verdict, Verdict::Refused { refusal } if refusal.deny_reason() == DenyReason::NotListed);
        prop_assert!(refused);
        let reported = decision.reasons.iter().any(|reason| matches!(reason.finding, Finding::CannotEvaluate { .. }));
        prop_assert!(reported);
    }

    /// The index leaves out nothing that has something to say.
    #[test]
    fn every_rule_that_has_something_to_say_says_it(rules in vec(listed(), 0..12), attempt in attempts()) {
        let each = rules.iter().map(|rule| rule.recognise(&attempt.application, &attempt.argv));
        let expected: Vec<_> = each.filter(|finding| *finding != Finding::Differs).collect();
        let policy = Policy { bundle: Bundle::default(), ..Policy::default() }.allow(rules);
        let told: Vec<_> = policy.decide(&attempt).reasons.into_iter().map(|reason| reason.finding).collect();
        prop_assert_eq!(told, expected);
    }

    /// Whatever vendor, product and name are allowed, a file that no package owns unmodified is let through by none of them.
    #[test]
    fn rules_about_packages_let_through_only_what_a_package_recorded(
        rules in vec(rules(), 0..8), attempt in attempts(),
    ) {
        let about_packages = rules.into_iter().filter(|rule| {
            let by = rule.recognises.specificity();
            Specificity::Vendor <= by && by < Specificity::FileHash
        });
        let policy = Policy::default().list(list(1, Way::Automatic, about_packages.map(Listed::Rule)));
        let recorded = attempt.application.package.as_ref().is_some_and(|package| package.unmodified);
        if !recorded || attempt.application.lane != Lane::Trusted {
            prop_assert!(is_refused(&policy, &attempt));
        }
    }

    #[test]
    fn whatever_a_rule_says_besides_what_is_known_it_matches_nothing(rule in rules(), key in "[a-z_]{1,12}", place in 0usize..3) {
        let mut value = serde_json::to_value(&rule).unwrap();
        let object = match place {
            0 => value.as_object_mut(),
            1 => value["recognises"].as_object_mut(),
            _ => value["arguments"].as_object_mut(),
        }.unwrap();
        prop_assume!(!object.contains_key(&key) && !["type", "minimum_version", "elevate", "terms", "display_name"].contains(&key.as_str()));
        object.insert(key, json!(["root"]));
        let read: Listed = serde_json::from_value(value).unwrap();
        prop_assert!(matches!(read, Listed::Unreadable(_)), "{read:?}");
    }

    #[test]
    fn the_order_of_lists_decides_nothing(policy in policies(), attempt in attempts()) {
        let mut turned = policy.clone();
        turned.bundle.privileged_application_lists.reverse();
        let way = |policy: &Policy| match policy.decide(&attempt).verdict {
            Verdict::Refused { refusal } => Err(refusal.deny_reason()),
            Verdict::Offered { offer } | Verdict::Launch { offer, .. } => Ok((offer.way, offer.specificity)),
        };
        prop_assert_eq!(way(&turned), way(&policy));
    }

    #[test]
    fn a_folder_never_lets_through_what_others_can_change(policy in policies(), attempt in attempts()) {
        let planted = Try { application: untrusted(program("/opt/x", 9)), ..attempt };
        let only_folders = Policy { grants: Vec::new(), ..policy };
        prop_assert!(is_refused(&only_folders, &planted));
    }

    #[test]
    fn an_approval_never_lengthens(
        wanted in spans(), agreed in spans(), maximum in spans(), within in prop::option::of(spans()), now in times(),
    ) {
        let asked = ElevationRequest { duration: wanted, made: NOW, lapses: Timestamp::from_millis(i64::MAX), ..asked() };
        let durations = Durations { maximum, ..Durations::default() };
        let starts = within.map_or(Starts::AtApproval, |within| Starts::AtFirstLaunch { within });
        let offer = offer(Terms { durations, starts, ..Terms::default() });
        let approval = Approval { duration: agreed, covers: Covers::ExactArguments, comment: Text::default() };
        let decided = RequestRecord::arrived(asked, NOW).approve(&carol(), Version::FIRST, approval, &offer, id(50), now);
        match decided {
            Ok((_, grant)) => {
                prop_assert!(agreed <= wanted && agreed >= Span::from_secs(1));
                let longest = agreed.min(maximum);
                match grant.ends {
                    Ends::At { end } => prop_assert!(end <= now.after(longest)),
                    Ends::AfterFirstLaunch { duration, latest_start } => {
                        prop_assert!(duration <= longest);
                        prop_assert_eq!(Some(latest_start), within.map(|within| now.after(within)));
                    }
                }
                prop_assert!(grant.not_before <= now);
            }
            Err(_) => prop_assert!(agreed > wanted || agreed < Span::from_secs(1) || now.millis() == i64::MAX),
        }
    }

    #[test]
    fn text_from_outside_shows_no_control_and_stays_distinct(one in any::<Vec<u8>>(), other in any::<Vec<u8>>()) {
        let (one, other) = (OsText::new(one), OsText::new(other));
        let shown = one.visible().to_string();
        prop_assert!(!shown.chars().any(char::is_control));
        prop_assert_eq!(OsText::parse(&shown), Ok(one.clone()));
        prop_assert_eq!(one == other, shown == other.visible().to_string());
        prop_assert!(!one.cell().to_string().starts_with(['=', '+', '-', '@']));
    }

    #[test]
    fn spans_read_as_they_are_written(millis in any::<u64>()) {
        let span = Span::from_millis(millis);
        prop_assert_eq!(span.to_string().parse(), Ok(span));
    }
}
