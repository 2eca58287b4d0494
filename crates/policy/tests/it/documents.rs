//! The shape of the documents that are signed and stored. `tests/golden/` holds it; a change there is a change of what
//! computers and servers of different versions say to each other. `cargo xtask bless` accepts one.

use elevon_policy::application::{Application, Package, PackageSystem, User, Vendor};
use elevon_policy::bounds::{Bounds, Children, Containment, Display, Limits};
use elevon_policy::bundle::{Bundle, Deployed, DeployedTo};
use elevon_policy::event::{
    By, DenyReason, EndReason, Event, Exit, Layers, LimitLayer, Nested, What, Witnessed,
};
use elevon_policy::grant::{Ends, Grant, GrantRecord, GrantedApplication, GrantedArguments, Origin};
use elevon_policy::group::{CustomGroup, Member, Members};
use elevon_policy::id::Version;
use elevon_policy::lint::Code;
use elevon_policy::lists::{AtExpiry, Confirm, Covers, Launches, Nesting, RunsAs, Starts, Terms, Way};
use elevon_policy::request::{Decision, ElevationRequest, LapseReason, RequestRecord, RequestState};
use elevon_policy::rule::{Listed, Recognises, Rule};
use elevon_policy::sheet::{Answer, AnswerOutcome, ChainHead, Lock, LockedOut, Sheet};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Span;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::lives::{asked, pending};
use crate::samples::*;

/// Compares with the file, or rewrites it where that was asked for; and reads it back.
#[track_caller]
fn golden<D: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, document: &D) {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    let written = serde_json::to_string_pretty(document).unwrap() + "\n";
    if std::env::var_os("ELEVON_BLESS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, expected, "{} differs; if that is meant: cargo xtask bless", path.display());
    assert_eq!(serde_json::from_str::<D>(&expected).unwrap(), *document, "it does not read back");
}

fn every_kind_of_rule() -> Vec<Listed> {
    let vendor = || Text::new("Debian");
    let recognised = [
        Recognises::Vendor { vendor: vendor(), verified: true },
        Recognises::Product { product: Text::new("gparted"), vendor: vendor() },
        Recognises::VerifiedExecutable {
            product: Text::new("gparted"),
            vendor: vendor(),
            file_name: OsText::from("gpartedbin"),
        },
        Recognises::FileHash { sha256: bytes(1), display_name: Text::new("tool") },
        Recognises::Clsid { component: Text::new("org.freedesktop.packagekit.package-install") },
        Recognises::FolderPath { path: OsText::new(*b"/opt/\xffodd\\name"), with_subfolders: true },
    ];
    let own_terms = Terms {
        starts: Starts::AtFirstLaunch { within: Span::from_hours(8) },
        arguments: Covers::AnyArguments,
        at_expiry: AtExpiry::Finish,
        launches: Launches::Once,
        self_approval: true,
        runs_as: RunsAs::SameUser,
        bounds: every_bound(),
        nesting: Nesting::Allowed,
        ..Terms::default()
    };
    let mut rules: Vec<Listed> =
        recognised.into_iter().map(|recognises| Listed::Rule(rule(recognises))).collect();
    rules.extend([
        exactly(hash_rule(2), &["update"]),
        beginning(Rule { minimum_version: Some(Text::new("1.2-3")), ..hash_rule(3) }, &["install"]),
        with_patterns(hash_rule(6), &["install", "nginx*"]),
        way(Rule { terms: Some(own_terms), ..hash_rule(4) }, Way::Justification),
        deny(hash_rule(5)),
        unreadable(),
    ]);
    rules
}

fn every_bound() -> Bounds {
    Bounds {
        capabilities: "net_raw, net_admin".parse().expect("both are known"),
        containment: Containment::Contained { writable: os(&["/srv/captures"]) },
        children: Children::Denied,
        limits: Limits { processes: Some(64), memory: Some(256 << 20) },
        display: Display::OfTheUser,
    }
}

fn bundle() -> Bundle {
    let only_here = Member { name: Text::new("bob"), computer: Some(desk()) };
    let users =
        DeployedTo::Members { members: vec![Member { name: Text::new("alice"), computer: None }, only_here] };
    let policy = Policy::default()
        .list_for(list(1, Way::Approval, every_kind_of_rule()), users)
        .list(list_for_allowed(2, Way::Automatic, []))
        .allow([folder("/usr/bin")])
        .block([hash(6)]);
    policy.bundle
}

fn script_of_a_package() -> Application {
    Application {
        package: Some(Package {
            system: PackageSystem::Dpkg,
            name: Text::new("tool-bin"),
            product: Text::new("tool"),
            version: Text::new("1.2-3"),
            vendor: Some(Vendor { name: Text::new("Debian"), verified: true }),
            unmodified: true,
        }),
        ..untrusted(script(program("/opt/tool", 1), "/usr/bin/python3.11", 7))
    }
}

fn every_kind_of_grant() -> Vec<Grant> {
    let latest_start = in_minutes(480);
    vec![
        grant(1, &["tool", "--now"]),
        Grant {
            id: id(51),
            origin: Origin::Policy,
            application: GrantedApplication::Rule { rule: Box::new(folder_rule("/usr/bin", false)) },
            arguments: GrantedArguments::Any,
            ends: Ends::AfterFirstLaunch { duration: Span::from_mins(15), latest_start },
            launches: Launches::Once,
            at_expiry: AtExpiry::Finish,
            runs_as: RunsAs::SameUser,
            bounds: every_bound(),
            confirm: Confirm::OncePerGrant,
            nesting: Nesting::Allowed,
            ..grant(1, &[])
        },
        Grant {
            id: id(52),
            application: GrantedApplication::Component { action: Text::new("org.example.clock.set-time") },
            ..grant(1, &["org.example.clock.set-time"])
        },
    ]
}

fn sheet() -> Sheet {
    let answers = [
        AnswerOutcome::Approved { by: Text::new("carol"), comment: Text::new("fine"), grant: id(50) },
        AnswerOutcome::Declined { by: Text::new("carol"), comment: Text::new("use the package") },
        AnswerOutcome::Cancelled,
        AnswerOutcome::Lapsed { reason: LapseReason::Unanswered },
        AnswerOutcome::Lapsed { reason: LapseReason::PolicyWithdrawn },
    ];
    let locks = [
        LockedOut::Computer,
        LockedOut::User { name: Text::new("mallory") },
        LockedOut::Application { sha256: bytes(9) },
    ];
    let mut sheet = empty_sheet();
    sheet.grants = every_kind_of_grant();
    sheet.locks = locks.map(|over| Lock { id: id(95), justification: Text::new("incident"), over }).to_vec();
    sheet.answers = answers.map(|outcome| Answer { request: id(60), at: NOW, outcome }).to_vec();
    sheet
}

fn events() -> Vec<What> {
    let layers = Layers { cgroup: true, subreaper: true, own_deadline: true, ..Layers::default() };
    let every_layer = Layers {
        pid_namespace: true,
        mount_namespace: true,
        landlock: Some(7),
        system_calls: true,
        no_new_privileges: true,
        capabilities: Some(every_bound().capabilities),
        one_process: true,
        process_limit: Some(LimitLayer::InForce),
        memory_limit: Some(LimitLayer::Absent),
        ..layers
    };
    let policy = grant(1, &[]).policy;
    let name = || Text::new("carol");
    vec![
        What::ComputerStarted { boot: Text::new("boot id"), version: Text::new("0.1.0"), layers },
        What::SheetDelivered {
            version: Version(7),
            bundle: bytes(2),
            grants: vec![id(50)],
            checkpoint: Some(ChainHead { number: 90, digest: bytes(4) }),
        },
        What::DocumentRefused { cause: Text::new("the signature does not fit") },
        What::ServerContradicted {
            chain: Witnessed::Server,
            known: ChainHead { number: 90, digest: bytes(4) },
            told: ChainHead { number: 80, digest: bytes(3) },
        },
        What::RuleNotEvaluated { policy, cause: Text::new("this version does not know this kind of rule") },
        What::RequestMade { request: Box::new(asked()) },
        What::RequestCancelled { request: id(60), user: alice() },
        What::GrantMade { grant: Box::new(grant(1, &[])), justification: Text::new("ticket 4711") },
        What::GrantStarted { grant: id(50), end: in_minutes(30) },
        What::GrantEnded { grant: id(50), user: alice() },
        What::GrantRevocationEnforced { grant: id(50) },
        What::LaunchStarted {
            launch: id(40),
            grant: id(50),
            user: alice(),
            path: OsText::from("/usr/bin/tool"),
            sha256: bytes(1),
            argv: os(&["tool", "--now"]),
            policy,
            end: in_minutes(30),
            runs_as: RunsAs::Root,
            layers,
            login: Some(1000),
            origin: None,
        },
        What::LaunchStarted {
            launch: id(41),
            grant: id(50),
            user: alice(),
            path: OsText::from("/usr/bin/tool"),
            sha256: bytes(1),
            argv: os(&["tool"]),
            policy,
            end: in_minutes(30),
            runs_as: RunsAs::SameUser,
            layers: every_layer,
            login: None,
            origin: Some(Nested { launch: id(40), grant: Some(id(50)), user: alice() }),
        },
        What::LaunchEnded {
            launch: id(40),
            grant: id(50),
            user: alice(),
            reason: EndReason::Exited,
            exit: Some(Exit::Code(7)),
        },
        What::ComponentAuthorized {
            grant: id(52),
            user: alice(),
            component: Text::new("org.example.clock.set-time"),
            process: Some(4711),
            policy,
            end: in_minutes(30),
        },
        What::LaunchRefused {
            user: alice(),
            path: OsText::from("/usr/bin/tool"),
            sha256: Some(bytes(1)),
            argv: os(&["tool"]),
            reason: DenyReason::Blocked,
            policy: Some(policy),
            missing: None,
            origin: None,
        },
        What::LaunchRefused {
            user: alice(),
            path: OsText::from("/usr/bin/tool"),
            sha256: Some(bytes(1)),
            argv: os(&["tool"]),
            reason: DenyReason::LayerMissing,
            policy: Some(policy),
            origin: None,
            missing: Some(Text::new("Landlock of version 6 or later")),
        },
        What::LaunchRefused {
            user: User { uid: 0, name: Text::new("root") },
            path: OsText::default(),
            sha256: None,
            argv: Vec::new(),
            reason: DenyReason::Nested,
            policy: None,
            missing: None,
            origin: Some(Nested { launch: id(40), grant: None, user: alice() }),
        },
        What::ComputerEnrolled { computer: desk(), host_name: Text::new("desk"), token: id(30) },
        What::ComputerRefused { computer: desk(), cause: Text::new("a gap") },
        What::ComputerRevoked { computer: desk(), host_name: Text::new("desk") },
        What::ComputerCertificateRenewed { computer: desk(), ends: in_minutes(60) },
        What::ComputerEventsLost {
            computer: desk(),
            after: ChainHead { number: 40, digest: bytes(3) },
            until: ChainHead { number: 44, digest: bytes(5) },
        },
        What::RequestApproved { request: id(60), grant: Box::new(grant(1, &[])), comment: Text::new("fine") },
        What::RequestDeclined { request: id(60), computer: desk(), user: alice(), comment: Text::new("no") },
        What::RequestLapsed {
            request: id(60),
            computer: desk(),
            user: alice(),
            reason: LapseReason::Unanswered,
        },
        What::GrantExpired { grant: id(50), computer: desk(), user: alice() },
        What::GrantRevoked {
            grant: id(50),
            computer: desk(),
            user: alice(),
            comment: Text::new("done early"),
        },
        What::PolicySaved {
            policy: id(1),
            version: Version(2),
            name: Text::new("tools"),
            acknowledged: vec![Code::EqualsRoot, Code::FreeArguments],
        },
        What::PolicyDeployed {
            policy: id(1),
            version: Version(2),
            name: Text::new("tools"),
            groups: vec![id(20)],
        },
        What::GroupSaved { group: id(20), name: Text::new("desks"), members: 2 },
        What::EnrollmentTokenCreated { token: id(30), expires: in_minutes(60), uses: 1 },
        What::EnrollmentTokenRevoked { token: id(30) },
        What::AccountCreated { account: id(80), name: name(), role: Text::new("approver") },
        What::AccountSignedIn { account: id(80), name: name() },
        What::AccountSignInFailed { name: name() },
        What::AccountSignedOut { account: id(80), name: name() },
        What::ApiTokenCreated { token: id(31), name: Text::new("export"), role: Text::new("auditor") },
        What::ApiTokenRevoked { token: id(31), name: Text::new("export") },
        What::AccountDisabled { account: id(80), name: name() },
        What::AccountEnabled { account: id(80), name: name() },
        What::AccountPasswordChanged { account: id(80), name: name() },
        What::ServerBackedUp { with_keys: true },
        What::ServerRestored { taken: NOW, epoch: 1_000_000_007 },
    ]
}

#[test]
fn a_bundle() {
    golden("bundle", &bundle());
}

#[test]
fn a_sheet() {
    golden("sheet", &sheet());
}

#[test]
fn a_request() {
    golden("request", &ElevationRequest { application: script_of_a_package(), ..asked() });
}

#[test]
fn records() {
    let decision = Decision { by: id(80), name: Text::new("carol"), comment: Text::new("no"), at: NOW };
    golden(
        "request_record",
        &RequestRecord { state: RequestState::Declined, decision: Some(decision), ..pending() },
    );
    golden(
        "grant_record",
        &GrantRecord { delivered_at: Some(NOW), ..GrantRecord::given(grant(1, &["tool"]), NOW) },
    );
}

#[test]
fn groups() {
    let computers = Members::Computers { computers: vec![desk(), laptop()] };
    let users = Members::Users { users: vec![Member { name: Text::new("alice"), computer: None }] };
    let group = |members| CustomGroup { id: id(20), name: Text::new("desks"), members };
    golden("groups", &[group(computers), group(users)].to_vec());
}

#[test]
fn events_of_every_kind() {
    let all: Vec<Event> = events().into_iter().map(|what| Event::new(NOW, what)).collect();
    golden("events", &all);
    for event in &all {
        assert_eq!(serde_json::to_value(event).unwrap()["kind"], event.what.kind());
    }
    // Complete by count: a new kind is pinned here before it is used.
    let mut kinds: Vec<_> = all.iter().map(|event| event.what.kind()).collect();
    kinds.dedup();
    assert_eq!(kinds.len(), 41);
    let from_computer =
        |kind: &&str| all.iter().any(|event| event.what.kind() == *kind && event.what.is_from_computer());
    assert_eq!(kinds.iter().filter(|kind| from_computer(kind)).count(), 15);
}

#[test]
fn events_of_everyone() {
    let everyone = [
        By::Account { account: id(80), name: Text::new("carol") },
        By::ApiToken { token: id(31), name: Text::new("export") },
        By::CommandLine,
    ];
    let declined = || What::RequestDeclined {
        request: id(60),
        computer: desk(),
        user: alice(),
        comment: Text::new("no"),
    };
    let all: Vec<_> =
        everyone.into_iter().map(|by| Event { by: Some(by), ..Event::new(NOW, declined()) }).collect();
    golden("events_by", &all);
}

#[test]
fn words_of_events_and_answers() {
    let words = |value: Value| value.as_str().map(str::to_owned).unwrap();
    for reason in
        [DenyReason::NotListed, DenyReason::LeaseEnded, DenyReason::TooMany, DenyReason::CallerConfined]
    {
        assert_eq!(words(serde_json::to_value(reason).unwrap()), reason.to_string());
    }
    assert_eq!(serde_json::to_value(Exit::Signal(9)).unwrap(), json!({"signal": 9}));
    assert_eq!(serde_json::to_value(EndReason::HungUp).unwrap(), json!("hung_up"));
}

#[test]
fn a_way_to_nest_that_is_not_known_is_no_list() {
    let mut terms = serde_json::to_value(Terms::default()).unwrap();
    assert!(terms.get("nesting").is_none(), "left out where it is refused: earlier versions read the list");
    assert_eq!(serde_json::from_value::<Terms>(terms.clone()).unwrap().nesting, Nesting::Refused);
    for unknown in [json!("sometimes"), json!("Allowed"), json!(true), json!(null)] {
        terms["nesting"] = unknown;
        assert!(serde_json::from_value::<Terms>(terms.clone()).is_err(), "{}", terms["nesting"]);
    }
}

/// A newer server's narrower document must never be read as the wider one that this version knows.
#[test]
fn nothing_unknown_is_passed_over() {
    let policy = Deployed { policy: list(1, Way::Approval, [hash(1)]), users: DeployedTo::Everyone };
    let bundle = Bundle { privileged_application_lists: vec![policy], ..Bundle::default() };
    let sheet = sheet();
    let mut documents = vec![(serde_json::to_value(&bundle).unwrap(), reads::<Bundle> as fn(&Value) -> bool)];
    documents.push((serde_json::to_value(&sheet).unwrap(), reads::<Sheet>));
    documents.push((serde_json::to_value(asked()).unwrap(), reads::<ElevationRequest>));
    documents.push((serde_json::to_value(grant(1, &["x"])).unwrap(), reads::<Grant>));
    for (document, reads) in documents {
        assert!(reads(&document));
        for pointer in objects(&document, String::new()) {
            // What a rule holds makes that rule unreadable, not the document; the rules have their own test.
            if pointer.contains("/rules/") {
                continue;
            }
            let mut changed = document.clone();
            let object = changed.pointer_mut(&pointer).and_then(Value::as_object_mut).unwrap();
            object.insert("except".into(), json!(["root"]));
            assert!(!reads(&changed), "something unknown at {pointer:?} was passed over");
        }
    }
}

fn reads<D: DeserializeOwned>(value: &Value) -> bool {
    serde_json::from_value::<D>(value.clone()).is_ok()
}

/// Where in a document there are objects.
fn objects(value: &Value, at: String) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let below = members.iter().flat_map(|(key, member)| objects(member, format!("{at}/{key}")));
            [at.clone()].into_iter().chain(below.collect::<Vec<_>>()).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(n, item)| objects(item, format!("{at}/{n}"))).collect()
        }
        _ => Vec::new(),
    }
}

fn empty_sheet() -> Sheet {
    Sheet {
        computer: desk(),
        version: Version(7),
        issued: NOW,
        lease_ends: NOW.after(Span::from_days(7)),
        bundle: bytes(2),
        grants: Vec::new(),
        revoking: vec![id(52)],
        locks: Vec::new(),
        answers: Vec::new(),
        stored: ChainHead { number: 41, digest: bytes(3) },
        checkpoint: Some(ChainHead { number: 90, digest: bytes(4) }),
    }
}
