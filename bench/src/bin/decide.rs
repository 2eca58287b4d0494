//! How long a decision takes, by the number of rules, for each kind and for all of them mixed.

use elevon_bench::{head, time};
use elevon_policy::application::{Application, Lane, Package, PackageSystem, Sha256, User, Vendor};
use elevon_policy::bundle::{Bundle, Deployed, DeployedTo};
use elevon_policy::decide::{Attempt, Holdings, decide};
use elevon_policy::id::{ComputerId, PolicyId, RuleId, Version};
use elevon_policy::lists::{AppliesTo, PrivilegedApplicationList, Terms, Way};
use elevon_policy::rule::{Finding, Listed, Recognises, Rule};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

type Kind = fn(u32) -> Recognises;

const KINDS: [(&str, Kind); 6] = [
    ("hash", |n| Recognises::FileHash { sha256: digest(n), display_name: Text::new(format!("tool{n}")) }),
    ("verified executable", |n| Recognises::VerifiedExecutable {
        product: Text::new(format!("product{n}")),
        vendor: Text::new("Debian"),
        file_name: OsText::from(format!("tool{n}").as_str()),
    }),
    ("product", |n| Recognises::Product {
        product: Text::new(format!("product{n}")),
        vendor: Text::new("Debian"),
    }),
    ("vendor", |n| Recognises::Vendor { vendor: Text::new(format!("vendor{n}")), verified: n % 2 == 0 }),
    ("component", |n| Recognises::Clsid { component: Text::new(format!("org.example.component{n}")) }),
    ("folder", |n| Recognises::FolderPath {
        path: OsText::from(format!("/opt/vendor{n}/bin").as_str()),
        with_subfolders: n % 2 == 0,
    }),
];

fn main() {
    let mut kinds: Vec<(&str, Vec<Kind>)> = KINDS.iter().map(|(name, kind)| (*name, vec![*kind])).collect();
    kinds.push(("mixed", KINDS.iter().map(|(_, kind)| *kind).collect()));
    println!("{}", head("decide, by rules in force"));
    for (name, kinds) in &kinds {
        for count in [100, 1_000, 10_000] {
            let bundle = bundle(kinds, count);
            let attempts: Vec<Application> = (0..64).map(|n| application(n * count / 64)).collect();
            let spread = time(20_000, |number| deciding(&bundle, &attempts, number));
            println!("{:44} {spread}", format!("{name}, {count} rules"));
        }
    }
    println!("\n{}", head("the same without an index: every rule asked"));
    for count in [100, 1_000, 10_000] {
        let mixed: Vec<Kind> = KINDS.iter().map(|(_, kind)| *kind).collect();
        let bundle = bundle(&mixed, count);
        let application = application(count / 2);
        let spread = time(500, |_| asking_each(&bundle, &application));
        println!("{:44} {spread}", format!("mixed, {count} rules"));
    }
}

fn deciding(bundle: &Bundle, applications: &[Application], number: usize) -> usize {
    let user = User { uid: 1000, name: Text::new("alice") };
    let argv = [OsText::from("tool"), OsText::from("--now")];
    let application = applications.get(number % applications.len()).expect("there are some");
    let computer: ComputerId = "01900000-0000-7000-8000-000000000001".parse().expect("an id");
    let attempt = Attempt { user: &user, computer, application, argv: &argv, nested: false };
    decide(&Holdings { bundle, locks: &[], grants: &[] }, &attempt, NOW).reasons.len()
}

/// Twice, as a decision looks at a list twice: for what denies, and for what allows.
fn asking_each(bundle: &Bundle, application: &Application) -> usize {
    let argv = [OsText::from("tool"), OsText::from("--now")];
    let rules = bundle.privileged_application_lists.iter().flat_map(|list| list.policy.rules.iter());
    let found = rules.flat_map(|rule| [rule, rule]).map(|rule| rule.recognise(application, &argv));
    found.filter(|finding| *finding == Finding::Matches).count()
}

/// Four lists, which share the rules.
fn bundle(kinds: &[Kind], count: u32) -> Bundle {
    let rules = |part: u32| -> Vec<Listed> {
        let numbers = (0..count).filter(|n| n % 4 == part);
        let kind = |n: u32| kinds.get(usize::try_from(n / 4).unwrap_or(0) % kinds.len());
        numbers.filter_map(|n| Some(Listed::Rule(rule(n, kind(n)?(n))))).collect()
    };
    let list = |part: u32| Deployed {
        users: DeployedTo::Everyone,
        policy: PrivilegedApplicationList {
            id: PolicyId::new(NOW, [0; 10]),
            version: Version::FIRST,
            name: Text::new(format!("list {part}")),
            description: Text::default(),
            enabled: true,
            elevate: Way::Approval,
            applies_to: AppliesTo::SpecificApplications,
            rules: rules(part).into(),
            terms: Terms::default(),
        },
    };
    Bundle { privileged_application_lists: (0..4).map(list).collect(), ..Bundle::default() }
}

fn rule(n: u32, recognises: Recognises) -> Rule {
    let [a, b, c, d] = n.to_be_bytes();
    Rule::of(RuleId::new(NOW, [a, b, c, d, 0, 0, 0, 0, 0, 0]), recognises)
}

fn digest(n: u32) -> Sha256 {
    let mut digest = [7; 32];
    digest[..4].copy_from_slice(&n.to_be_bytes());
    Sha256(digest)
}

/// One that each kind of rule with its number matches.
fn application(n: u32) -> Application {
    Application {
        path: OsText::from(format!("/opt/vendor{n}/bin/tool{n}").as_str()),
        sha256: digest(n),
        size: 4096,
        owner: 0,
        mode: 0o755,
        lane: Lane::Trusted,
        interpreter: None,
        package: Some(Package {
            system: PackageSystem::Dpkg,
            name: Text::new(format!("package{n}")),
            product: Text::new(format!("product{n}")),
            version: Text::new("1.2-3"),
            vendor: Some(Vendor {
                name: Text::new(if n.is_multiple_of(2) { "Debian".into() } else { format!("vendor{n}") }),
                verified: true,
            }),
            unmodified: true,
        }),
        package_database: true,
        component: None,
    }
}
