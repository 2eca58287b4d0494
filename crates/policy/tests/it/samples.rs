//! A small world to decide in: two users, two computers, a handful of programs, and lists that are quick to write down.

use std::fmt::Debug;
use std::str::FromStr;

use elevon_policy::application::{
    Application, Distrust, Interpreter, Lane, Package, PackageSystem, Sha256, User, Vendor,
};
use elevon_policy::bounds::Bounds;
use elevon_policy::bundle::{Bundle, Deployed, DeployedTo};
use elevon_policy::decide::{Attempt, HeldGrant, Holdings};
use elevon_policy::grant::{Ends, Grant, GrantedApplication, GrantedArguments, Origin, PolicyReference};
use elevon_policy::group::Member;
use elevon_policy::id::{ComputerId, Version};
use elevon_policy::lists::{
    ApplicationList, AppliesTo, AtExpiry, Confirm, Launches, Nesting, PrivilegedApplicationList, RunsAs,
    Terms, Way,
};
use elevon_policy::pattern::Pattern;
use elevon_policy::rule::{ArgumentPattern, Listed, Outcome, Recognises, Rule};
use elevon_policy::sheet::{Lock, LockedOut};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};

/// The time it is, unless a test says otherwise.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// The n-th identity of a kind.
pub(crate) fn id<I: FromStr<Err: Debug>>(n: u32) -> I {
    format!("01900000-0000-7000-8000-{n:012x}").parse().unwrap()
}

/// The digest of the n-th file.
pub(crate) fn bytes(n: u8) -> Sha256 {
    Sha256([n; 32])
}

pub(crate) fn alice() -> User {
    User { uid: 1000, name: Text::new("alice") }
}

pub(crate) fn bob() -> User {
    User { uid: 1001, name: Text::new("bob") }
}

pub(crate) fn desk() -> ComputerId {
    id(1)
}

pub(crate) fn laptop() -> ComputerId {
    id(2)
}

pub(crate) fn os(words: &[&str]) -> Vec<OsText> {
    words.iter().map(|word| OsText::from(*word)).collect()
}

/// A file on a trusted path.
pub(crate) fn program(path: &str, digest: u8) -> Application {
    Application {
        path: OsText::from(path),
        sha256: bytes(digest),
        size: 4096,
        owner: 0,
        mode: 0o755,
        lane: Lane::Trusted,
        interpreter: None,
        package: None,
        package_database: true,
        component: None,
    }
}

/// The same file where its user can change it.
pub(crate) fn untrusted(application: Application) -> Application {
    let lane = Lane::Untrusted { component: application.path.clone(), because: Distrust::Owner };
    Application { lane, ..application }
}

/// The same file as a script.
pub(crate) fn script(application: Application, interpreter: &str, digest: u8) -> Application {
    let interpreter =
        Interpreter { path: OsText::from(interpreter), sha256: bytes(digest), argument: None, package: None };
    Application { interpreter: Some(interpreter), ..application }
}

/// Someone tries to run something.
#[derive(Debug, Clone)]
pub(crate) struct Try {
    pub(crate) user: User,
    pub(crate) computer: ComputerId,
    pub(crate) application: Application,
    pub(crate) argv: Vec<OsText>,
    pub(crate) now: Timestamp,
    pub(crate) nested: bool,
}

/// Alice, at her desk, now.
pub(crate) fn attempt(application: Application, argv: &[&str]) -> Try {
    Try { user: alice(), computer: desk(), application, argv: os(argv), now: NOW, nested: false }
}

impl Try {
    pub(crate) fn by(self, user: User) -> Self {
        Self { user, ..self }
    }

    pub(crate) fn inside(self) -> Self {
        Self { nested: true, ..self }
    }

    pub(crate) fn on(self, computer: ComputerId) -> Self {
        Self { computer, ..self }
    }

    pub(crate) fn at(self, now: Timestamp) -> Self {
        Self { now, ..self }
    }
}

/// All that a decision is made from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    pub(crate) bundle: Bundle,
    pub(crate) locks: Vec<Lock>,
    pub(crate) grants: Vec<HeldGrant>,
}

impl Policy {
    pub(crate) fn list(self, list: PrivilegedApplicationList) -> Self {
        self.list_for(list, DeployedTo::Everyone)
    }

    pub(crate) fn list_for(mut self, policy: PrivilegedApplicationList, users: DeployedTo) -> Self {
        self.bundle.privileged_application_lists.push(Deployed { policy, users });
        self
    }

    pub(crate) fn allow(mut self, rules: impl IntoIterator<Item = Listed>) -> Self {
        let policy = application_list(90, "allowed", rules);
        self.bundle.allowlists.push(Deployed { policy, users: DeployedTo::Everyone });
        self
    }

    pub(crate) fn block(mut self, rules: impl IntoIterator<Item = Listed>) -> Self {
        let policy = application_list(91, "blocked", rules);
        self.bundle.blocklists.push(Deployed { policy, users: DeployedTo::Everyone });
        self
    }

    pub(crate) fn lock(mut self, over: LockedOut) -> Self {
        self.locks.push(Lock { id: id(95), justification: Text::new("incident"), over });
        self
    }

    pub(crate) fn grant(self, grant: Grant) -> Self {
        self.held(HeldGrant { grant, fixed_end: None, launched: 0 })
    }

    pub(crate) fn held(mut self, held: HeldGrant) -> Self {
        self.grants.push(held);
        self
    }

    pub(crate) fn decide(&self, attempt: &Try) -> elevon_policy::decide::Decision {
        let holdings = Holdings { bundle: &self.bundle, locks: &self.locks, grants: &self.grants };
        let asked = Attempt {
            user: &attempt.user,
            computer: attempt.computer,
            application: &attempt.application,
            argv: &attempt.argv,
            nested: attempt.nested,
        };
        elevon_policy::decide::decide(&holdings, &asked, attempt.now)
    }
}

pub(crate) fn application_list(
    n: u32,
    name: &str,
    rules: impl IntoIterator<Item = Listed>,
) -> ApplicationList {
    ApplicationList {
        id: id(n),
        version: Version::FIRST,
        name: Text::new(name),
        description: Text::default(),
        enabled: true,
        rules: rules.into_iter().collect(),
    }
}

/// The n-th privileged application list.
pub(crate) fn list(
    n: u32,
    elevate: Way,
    rules: impl IntoIterator<Item = Listed>,
) -> PrivilegedApplicationList {
    PrivilegedApplicationList {
        id: id(n),
        version: Version::FIRST,
        name: Text::new(format!("list {n}")),
        description: Text::default(),
        enabled: true,
        elevate,
        applies_to: AppliesTo::SpecificApplications,
        rules: rules.into_iter().collect(),
        terms: Terms::default(),
    }
}

/// The same, for all allowed applications.
pub(crate) fn list_for_allowed(
    n: u32,
    elevate: Way,
    rules: impl IntoIterator<Item = Listed>,
) -> PrivilegedApplicationList {
    PrivilegedApplicationList { applies_to: AppliesTo::AllAllowedApplications, ..list(n, elevate, rules) }
}

pub(crate) fn members(names: &[&str]) -> DeployedTo {
    let members = names.iter().map(|name| Member { name: Text::new(*name), computer: None }).collect();
    DeployedTo::Members { members }
}

pub(crate) fn rule(recognises: Recognises) -> Rule {
    Rule::of(id(70), recognises)
}

pub(crate) fn hash_rule(digest: u8) -> Rule {
    rule(Recognises::FileHash { sha256: bytes(digest), display_name: Text::default() })
}

pub(crate) fn folder_rule(path: &str, with_subfolders: bool) -> Rule {
    rule(Recognises::FolderPath { path: OsText::from(path), with_subfolders })
}

pub(crate) fn hash(digest: u8) -> Listed {
    Listed::Rule(hash_rule(digest))
}

pub(crate) fn folder(path: &str) -> Listed {
    Listed::Rule(folder_rule(path, true))
}

pub(crate) fn deny(rule: Rule) -> Listed {
    Listed::Rule(Rule { outcome: Outcome::Deny, ..rule })
}

pub(crate) fn way(rule: Rule, elevate: Way) -> Listed {
    Listed::Rule(Rule { elevate: Some(elevate), ..rule })
}

pub(crate) fn exactly(rule: Rule, words: &[&str]) -> Listed {
    Listed::Rule(Rule { arguments: ArgumentPattern::Exact { arguments: os(words) }, ..rule })
}

pub(crate) fn beginning(rule: Rule, words: &[&str]) -> Listed {
    Listed::Rule(Rule { arguments: ArgumentPattern::Prefix { arguments: os(words) }, ..rule })
}

pub(crate) fn with_patterns(rule: Rule, patterns: &[&str]) -> Listed {
    let arguments = os(patterns).into_iter().map(Pattern::new).collect();
    Listed::Rule(Rule { arguments: ArgumentPattern::Patterns { arguments }, ..rule })
}

/// A file that a package owns and nobody changed since; its vendor is verified.
pub(crate) fn packaged(application: Application, product: &str, vendor: &str, version: &str) -> Application {
    let package = Package {
        system: PackageSystem::Dpkg,
        name: Text::new(format!("{product}-bin")),
        product: Text::new(product),
        version: Text::new(version),
        vendor: Some(Vendor { name: Text::new(vendor), verified: true }),
        unmodified: true,
    };
    Application { package: Some(package), ..application }
}

pub(crate) fn vendor_rule(vendor: &str, verified: bool) -> Rule {
    rule(Recognises::Vendor { vendor: Text::new(vendor), verified })
}

pub(crate) fn product_rule(product: &str, vendor: &str) -> Rule {
    rule(Recognises::Product { product: Text::new(product), vendor: Text::new(vendor) })
}

pub(crate) fn executable_rule(product: &str, vendor: &str, file_name: &str) -> Rule {
    rule(Recognises::VerifiedExecutable {
        product: Text::new(product),
        vendor: Text::new(vendor),
        file_name: OsText::from(file_name),
    })
}

/// A rule of a kind that this version does not know.
pub(crate) fn unreadable() -> Listed {
    serde_json::from_str(
        r#"{"id":"01900000-0000-7000-8000-000000000046","recognises":{"type":"moon_phase"}}"#,
    )
    .unwrap()
}

/// Alice's grant for these bytes and arguments at her desk, for half an hour from now, under list 1.
pub(crate) fn grant(digest: u8, argv: &[&str]) -> Grant {
    Grant {
        id: id(50),
        version: Version::FIRST,
        origin: Origin::Request { request: id(60) },
        computer: desk(),
        user: alice(),
        application: GrantedApplication::Bytes {
            sha256: bytes(digest),
            path: OsText::from("/usr/bin/tool"),
            interpreter: None,
        },
        arguments: GrantedArguments::Exact { argv: os(argv) },
        runs_as: RunsAs::Root,
        bounds: Bounds::default(),
        not_before: NOW,
        ends: Ends::At { end: in_minutes(30) },
        launches: Launches::Any,
        at_expiry: AtExpiry::default(),
        confirm: Confirm::None,
        nesting: Nesting::Refused,
        policy: PolicyReference { policy: id(1), version: Version::FIRST, rule: Some(id(70)) },
    }
}

pub(crate) fn in_minutes(minutes: u64) -> Timestamp {
    NOW.after(Span::from_mins(minutes))
}
