//! The vocabulary of the audit trail: one record for each thing that happened, on a computer or on the server.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::application::{Sha256, User};
use crate::capability::Capabilities;
use crate::grant::{Grant, GrantedApplication, Origin, PolicyReference};
use crate::id::{AccountId, ComputerId, GrantId, GroupId, LaunchId, PolicyId, RequestId, TokenId, Version};
use crate::lint;
use crate::lists::RunsAs;
use crate::request::{ElevationRequest, LapseReason};
use crate::sheet::ChainHead;
use crate::text::{OsText, Text};
use crate::time::Timestamp;

/// One record of the audit trail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the clock of whoever recorded it.
    pub at: Timestamp,
    /// Who did it, where someone did it on the server; nobody stands for a computer, or for the server itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

impl Event {
    /// What nobody on the server did: a computer's event, or one of the server itself.
    pub fn new(at: Timestamp, what: What) -> Self {
        Self { at, by: None, what }
    }
}

/// Who did something on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum By {
    /// Someone who was signed in.
    Account {
        /// The account.
        account: AccountId,
        /// Its name then.
        name: Text,
    },
    /// Whoever holds an API token.
    ApiToken {
        /// The token's identity.
        token: TokenId,
        /// Its name then.
        name: Text,
    },
    /// Someone at the server's own command line.
    CommandLine,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data")]
pub enum What {
    // ---- recorded by a computer, signed with its event key ----
    /// The elevator came up.
    #[serde(rename = "computer.started")]
    ComputerStarted {
        /// The kernel's boot id.
        boot: Text,
        /// The version of the elevator.
        version: Text,
        /// Which layers end a process tree here.
        layers: Layers,
    },
    /// A sheet was verified and stored.
    #[serde(rename = "sheet.delivered")]
    SheetDelivered {
        /// Its version.
        version: Version,
        /// The digest of the bundle in force with it.
        bundle: Sha256,
        /// The grants on it.
        grants: Vec<GrantId>,
        /// What the sheet said of the server's own chain; this computer is its witness.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checkpoint: Option<ChainHead>,
    },
    /// A document was not accepted; what was held stays in force.
    #[serde(rename = "document.refused")]
    DocumentRefused {
        /// Which and why.
        cause: Text,
    },
    /// A sheet says less of a chain than is known here, or something else: the server lost events, was set back, or its
    /// history was written anew. The sheet is in force all the same; a restored server is to be believed.
    #[serde(rename = "server.contradicted")]
    ServerContradicted {
        /// Which chain.
        chain: Witnessed,
        /// What is known here.
        known: ChainHead,
        /// What the sheet says.
        told: ChainHead,
    },
    /// A rule cannot be evaluated here, and matches nothing.
    #[serde(rename = "rule.not_evaluated")]
    RuleNotEvaluated {
        /// The rule.
        policy: PolicyReference,
        /// What would be needed.
        cause: Text,
    },
    /// A user asks.
    #[serde(rename = "request.made")]
    RequestMade {
        /// What for.
        request: Box<ElevationRequest>,
    },
    /// A user takes it back.
    #[serde(rename = "request.cancelled")]
    RequestCancelled {
        /// The request.
        request: RequestId,
        /// Who.
        user: User,
    },
    /// Policy let a user elevate without asking; the elevator made this grant.
    #[serde(rename = "grant.made")]
    GrantMade {
        /// The grant.
        grant: Box<Grant>,
        /// What the user wrote, where policy wants that.
        justification: Text,
    },
    /// The first launch fixed the end.
    #[serde(rename = "grant.started")]
    GrantStarted {
        /// The grant.
        grant: GrantId,
        /// Its end.
        end: Timestamp,
    },
    /// A user gives a grant back.
    #[serde(rename = "grant.ended")]
    GrantEnded {
        /// The grant.
        grant: GrantId,
        /// Who.
        user: User,
    },
    /// A revoked grant is out of force here, and nothing runs under it any more.
    #[serde(rename = "grant.revocation_enforced")]
    GrantRevocationEnforced {
        /// The grant.
        grant: GrantId,
    },
    /// An application is about to run elevated; recorded before it starts.
    #[serde(rename = "launch.started")]
    LaunchStarted {
        /// The launch.
        launch: LaunchId,
        /// Under which grant.
        grant: GrantId,
        /// Who.
        user: User,
        /// What.
        path: OsText,
        /// Its bytes.
        sha256: Sha256,
        /// With which arguments.
        argv: Vec<OsText>,
        /// Under which policy.
        policy: PolicyReference,
        /// Until when.
        end: Timestamp,
        /// With which rights.
        #[serde(default, skip_serializing_if = "RunsAs::is_root")]
        runs_as: RunsAs,
        /// Which layers hold it, and will end it.
        layers: Layers,
        /// The log-in that its user came by, which the kernel keeps for it (`loginuid`), where they came by one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        login: Option<u32>,
        /// The launch that it is started from inside of, and ends with, where a program that runs elevated itself asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Nested>,
    },
    /// It is over: nothing of its process tree runs any more.
    #[serde(rename = "launch.ended")]
    LaunchEnded {
        /// The launch.
        launch: LaunchId,
        /// Under which grant.
        grant: GrantId,
        /// Who.
        user: User,
        /// What ended it.
        reason: EndReason,
        /// How the application itself ended, where it did.
        exit: Option<Exit>,
    },
    /// polkit is about to be told that a user may do something; recorded before it is told.
    #[serde(rename = "component.authorized")]
    ComponentAuthorized {
        /// Under which grant.
        grant: GrantId,
        /// Who.
        user: User,
        /// The action.
        component: Text,
        /// The process that wanted to do it, as polkit says.
        process: Option<u32>,
        /// Under which policy.
        policy: PolicyReference,
        /// Until when the grant is good.
        end: Timestamp,
    },
    /// Something was not elevated.
    #[serde(rename = "launch.refused")]
    LaunchRefused {
        /// Who.
        user: User,
        /// What, as far as it was known.
        path: OsText,
        /// Its bytes, where they were measured.
        sha256: Option<Sha256>,
        /// With which arguments.
        argv: Vec<OsText>,
        /// Why.
        reason: DenyReason,
        /// Under which policy.
        policy: Option<PolicyReference>,
        /// The layer that policy demands and that cannot be had.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missing: Option<Text>,
        /// Where it came from, where that runs elevated itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Nested>,
    },

    // ---- recorded by the server ----
    /// A computer was enrolled.
    #[serde(rename = "computer.enrolled")]
    ComputerEnrolled {
        /// The computer.
        computer: ComputerId,
        /// What it calls itself.
        host_name: Text,
        /// With which token.
        token: TokenId,
    },
    /// Something that a computer sent was refused: nothing of it was stored.
    #[serde(rename = "computer.refused")]
    ComputerRefused {
        /// The computer, by its certificate.
        computer: ComputerId,
        /// What, and why.
        cause: Text,
    },
    /// A computer may not speak to the server any more.
    #[serde(rename = "computer.revoked")]
    ComputerRevoked {
        /// The computer.
        computer: ComputerId,
        /// What it called itself.
        host_name: Text,
    },
    /// A computer's agent got a new certificate before the old one ended.
    #[serde(rename = "computer.certificate_renewed")]
    ComputerCertificateRenewed {
        /// The computer.
        computer: ComputerId,
        /// When the new one ends.
        ends: Timestamp,
    },
    /// Events of a computer that the server had stored are gone: it was restored from a backup, and the computer goes on
    /// behind them.
    #[serde(rename = "computer.events_lost")]
    ComputerEventsLost {
        /// The computer.
        computer: ComputerId,
        /// The last event before those that are gone.
        after: ChainHead,
        /// The last of those that are gone.
        until: ChainHead,
    },
    /// Someone agreed.
    #[serde(rename = "request.approved")]
    RequestApproved {
        /// The request.
        request: RequestId,
        /// The right that results.
        grant: Box<Grant>,
        /// What they wrote.
        comment: Text,
    },
    /// Someone did not agree.
    #[serde(rename = "request.declined")]
    RequestDeclined {
        /// The request.
        request: RequestId,
        /// On which computer.
        computer: ComputerId,
        /// Whose.
        user: User,
        /// What they wrote.
        comment: Text,
    },
    /// Nobody decided, or nobody may any more.
    #[serde(rename = "request.lapsed")]
    RequestLapsed {
        /// The request.
        request: RequestId,
        /// On which computer.
        computer: ComputerId,
        /// Whose.
        user: User,
        /// Why.
        reason: LapseReason,
    },
    /// A grant's time ran out.
    #[serde(rename = "grant.expired")]
    GrantExpired {
        /// The grant.
        grant: GrantId,
        /// On which computer.
        computer: ComputerId,
        /// Whose.
        user: User,
    },
    /// An administrator takes a grant back.
    #[serde(rename = "grant.revoked")]
    GrantRevoked {
        /// The grant.
        grant: GrantId,
        /// On which computer.
        computer: ComputerId,
        /// Whose.
        user: User,
        /// Why.
        comment: Text,
    },
    /// A list was saved as a new version.
    #[serde(rename = "policy.saved")]
    PolicySaved {
        /// The list.
        policy: PolicyId,
        /// Its version now.
        version: Version,
        /// Its name.
        name: Text,
        /// What its rules were warned of, and whoever saved it took upon themselves.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        acknowledged: Vec<lint::Code>,
    },
    /// A version was deployed, or the deployment ended.
    #[serde(rename = "policy.deployed")]
    PolicyDeployed {
        /// The list.
        policy: PolicyId,
        /// The version.
        version: Version,
        /// Its name.
        name: Text,
        /// To which custom groups; empty when it was withdrawn.
        groups: Vec<GroupId>,
    },
    /// A custom group was saved.
    #[serde(rename = "group.saved")]
    GroupSaved {
        /// The group.
        group: GroupId,
        /// Its name.
        name: Text,
        /// How many members it has now.
        members: u64,
    },
    /// An enrollment token was made.
    #[serde(rename = "enrollment_token.created")]
    EnrollmentTokenCreated {
        /// The token's identity; never its secret.
        token: TokenId,
        /// Until when it can be used.
        expires: Timestamp,
        /// How often.
        uses: u64,
    },
    /// An enrollment token enrolls no more computers.
    #[serde(rename = "enrollment_token.revoked")]
    EnrollmentTokenRevoked {
        /// The token's identity.
        token: TokenId,
    },
    /// An account was made.
    #[serde(rename = "account.created")]
    AccountCreated {
        /// The account.
        account: AccountId,
        /// Its name.
        name: Text,
        /// Its role.
        role: Text,
    },
    /// Someone signed in.
    #[serde(rename = "account.signed_in")]
    AccountSignedIn {
        /// The account.
        account: AccountId,
        /// Its name.
        name: Text,
    },
    /// Someone could not sign in.
    #[serde(rename = "account.sign_in_failed")]
    AccountSignInFailed {
        /// The name that was given.
        name: Text,
    },
    /// Someone signed out.
    #[serde(rename = "account.signed_out")]
    AccountSignedOut {
        /// The account.
        account: AccountId,
        /// Its name.
        name: Text,
    },
    /// An API token was made.
    #[serde(rename = "api_token.created")]
    ApiTokenCreated {
        /// The token's identity; never its secret.
        token: TokenId,
        /// Its name.
        name: Text,
        /// Its role.
        role: Text,
    },
    /// An API token opens nothing any more.
    #[serde(rename = "api_token.revoked")]
    ApiTokenRevoked {
        /// The token's identity.
        token: TokenId,
        /// Its name.
        name: Text,
    },
    /// An account may not sign in any more; its sessions ended.
    #[serde(rename = "account.disabled")]
    AccountDisabled {
        /// The account.
        account: AccountId,
        /// Its name.
        name: Text,
    },
    /// An account may sign in again.
    #[serde(rename = "account.enabled")]
    AccountEnabled {
        /// The account.
        account: AccountId,
        /// Its name.
        name: Text,
    },
    /// An account has another password; its sessions ended.
    #[serde(rename = "account.password_changed")]
    AccountPasswordChanged {
        /// The account.
        account: AccountId,
        /// Its name.
        name: Text,
    },
    /// The database was copied.
    #[serde(rename = "server.backed_up")]
    ServerBackedUp {
        /// Whether the keys went along, under a passphrase.
        with_keys: bool,
    },
    /// The database is a copy that was taken earlier; what happened in between is gone from it.
    #[serde(rename = "server.restored")]
    ServerRestored {
        /// When the copy was taken.
        taken: Timestamp,
        /// The policy epoch from now on: beyond every sheet that was signed before.
        epoch: u64,
    },
}

impl What {
    /// The word for it, as in the documents and the report.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ComputerStarted { .. } => "computer.started",
            Self::SheetDelivered { .. } => "sheet.delivered",
            Self::DocumentRefused { .. } => "document.refused",
            Self::ServerContradicted { .. } => "server.contradicted",
            Self::RuleNotEvaluated { .. } => "rule.not_evaluated",
            Self::RequestMade { .. } => "request.made",
            Self::RequestCancelled { .. } => "request.cancelled",
            Self::GrantMade { .. } => "grant.made",
            Self::GrantStarted { .. } => "grant.started",
            Self::GrantEnded { .. } => "grant.ended",
            Self::GrantRevocationEnforced { .. } => "grant.revocation_enforced",
            Self::LaunchStarted { .. } => "launch.started",
            Self::LaunchEnded { .. } => "launch.ended",
            Self::ComponentAuthorized { .. } => "component.authorized",
            Self::LaunchRefused { .. } => "launch.refused",
            Self::ComputerEnrolled { .. } => "computer.enrolled",
            Self::ComputerRefused { .. } => "computer.refused",
            Self::ComputerRevoked { .. } => "computer.revoked",
            Self::ComputerCertificateRenewed { .. } => "computer.certificate_renewed",
            Self::ComputerEventsLost { .. } => "computer.events_lost",
            Self::RequestApproved { .. } => "request.approved",
            Self::RequestDeclined { .. } => "request.declined",
            Self::RequestLapsed { .. } => "request.lapsed",
            Self::GrantExpired { .. } => "grant.expired",
            Self::GrantRevoked { .. } => "grant.revoked",
            Self::PolicySaved { .. } => "policy.saved",
            Self::PolicyDeployed { .. } => "policy.deployed",
            Self::GroupSaved { .. } => "group.saved",
            Self::EnrollmentTokenCreated { .. } => "enrollment_token.created",
            Self::EnrollmentTokenRevoked { .. } => "enrollment_token.revoked",
            Self::AccountCreated { .. } => "account.created",
            Self::AccountSignedIn { .. } => "account.signed_in",
            Self::AccountSignInFailed { .. } => "account.sign_in_failed",
            Self::AccountSignedOut { .. } => "account.signed_out",
            Self::ApiTokenCreated { .. } => "api_token.created",
            Self::ApiTokenRevoked { .. } => "api_token.revoked",
            Self::AccountDisabled { .. } => "account.disabled",
            Self::AccountEnabled { .. } => "account.enabled",
            Self::AccountPasswordChanged { .. } => "account.password_changed",
            Self::ServerBackedUp { .. } => "server.backed_up",
            Self::ServerRestored { .. } => "server.restored",
        }
    }

    /// Whether a computer may record this; the server refuses anything else from one.
    pub fn is_from_computer(&self) -> bool {
        matches!(
            self,
            Self::ComputerStarted { .. }
                | Self::SheetDelivered { .. }
                | Self::DocumentRefused { .. }
                | Self::ServerContradicted { .. }
                | Self::RuleNotEvaluated { .. }
                | Self::RequestMade { .. }
                | Self::RequestCancelled { .. }
                | Self::GrantMade { .. }
                | Self::GrantStarted { .. }
                | Self::GrantEnded { .. }
                | Self::GrantRevocationEnforced { .. }
                | Self::LaunchStarted { .. }
                | Self::LaunchEnded { .. }
                | Self::ComponentAuthorized { .. }
                | Self::LaunchRefused { .. }
        )
    }

    /// Whom and what it is about, for filters and links.
    pub fn subjects(&self) -> Subjects {
        let mut about = Subjects::default();
        match self {
            Self::RequestMade { request } => {
                about.request = Some(request.id);
                about.user = Some(request.user.name.clone());
                about.application = Some(request.application.place());
                about.policy = Some(request.policy.policy);
            }
            Self::RequestCancelled { request, user } => {
                about.request = Some(*request);
                about.user = Some(user.name.clone());
            }
            Self::GrantMade { grant, .. } => about.grant(grant),
            Self::RequestApproved { request, grant, .. } => {
                about.grant(grant);
                about.request = Some(*request);
            }
            Self::GrantStarted { grant, .. } | Self::GrantRevocationEnforced { grant } => {
                about.grant = Some(*grant)
            }
            Self::GrantEnded { grant, user } => {
                about.grant = Some(*grant);
                about.user = Some(user.name.clone());
            }
            Self::LaunchStarted { launch, grant, user, path, policy, .. } => {
                about.launch = Some(*launch);
                about.grant = Some(*grant);
                about.user = Some(user.name.clone());
                about.application = Some(path.clone());
                about.policy = Some(policy.policy);
            }
            Self::LaunchEnded { launch, grant, user, .. } => {
                about.launch = Some(*launch);
                about.grant = Some(*grant);
                about.user = Some(user.name.clone());
            }
            Self::LaunchRefused { user, path, policy, .. } => {
                about.user = Some(user.name.clone());
                about.application = Some(path.clone());
                about.policy = policy.map(|policy| policy.policy);
            }
            Self::RequestDeclined { request, computer, user, .. }
            | Self::RequestLapsed { request, computer, user, .. } => {
                about.request = Some(*request);
                about.computer = Some(*computer);
                about.user = Some(user.name.clone());
            }
            Self::ComponentAuthorized { grant, user, component, policy, .. } => {
                about.grant = Some(*grant);
                about.user = Some(user.name.clone());
                about.application = Some(OsText::from(component.as_untrusted()));
                about.policy = Some(policy.policy);
            }
            Self::GrantExpired { grant, computer, user }
            | Self::GrantRevoked { grant, computer, user, .. } => {
                about.grant = Some(*grant);
                about.computer = Some(*computer);
                about.user = Some(user.name.clone());
            }
            Self::ComputerEnrolled { computer, .. }
            | Self::ComputerRefused { computer, .. }
            | Self::ComputerRevoked { computer, .. }
            | Self::ComputerCertificateRenewed { computer, .. }
            | Self::ComputerEventsLost { computer, .. } => about.computer = Some(*computer),
            Self::RuleNotEvaluated { policy, .. } => about.policy = Some(policy.policy),
            Self::PolicySaved { policy, .. } | Self::PolicyDeployed { policy, .. } => {
                about.policy = Some(*policy)
            }
            Self::ComputerStarted { .. }
            | Self::SheetDelivered { .. }
            | Self::DocumentRefused { .. }
            | Self::ServerContradicted { .. }
            | Self::GroupSaved { .. }
            | Self::EnrollmentTokenCreated { .. }
            | Self::EnrollmentTokenRevoked { .. }
            | Self::AccountCreated { .. }
            | Self::AccountSignedIn { .. }
            | Self::AccountSignInFailed { .. }
            | Self::AccountSignedOut { .. }
            | Self::ApiTokenCreated { .. }
            | Self::ApiTokenRevoked { .. }
            | Self::AccountDisabled { .. }
            | Self::AccountEnabled { .. }
            | Self::AccountPasswordChanged { .. }
            | Self::ServerBackedUp { .. }
            | Self::ServerRestored { .. } => {}
        }
        about
    }
}

/// Whom and what an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subjects {
    /// The computer, where the event itself names one.
    pub computer: Option<ComputerId>,
    /// The operating-system user's name.
    pub user: Option<Text>,
    /// The application's path.
    pub application: Option<OsText>,
    /// The list.
    pub policy: Option<PolicyId>,
    /// The request.
    pub request: Option<RequestId>,
    /// The grant.
    pub grant: Option<GrantId>,
    /// The launch.
    pub launch: Option<LaunchId>,
}

impl Subjects {
    fn grant(&mut self, grant: &Grant) {
        self.grant = Some(grant.id);
        self.computer = Some(grant.computer);
        self.user = Some(grant.user.name.clone());
        self.policy = Some(grant.policy.policy);
        match &grant.application {
            GrantedApplication::Bytes { path, .. } => self.application = Some(path.clone()),
            GrantedApplication::Component { action } => {
                self.application = Some(OsText::from(action.as_untrusted()));
            }
            GrantedApplication::Rule { .. } => {}
        }
        if let Origin::Request { request } = grant.origin {
            self.request = Some(request);
        }
    }
}

/// A chain that a computer and the server are witnesses of for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witnessed {
    /// The computer's own events, as far as the server says it has stored them.
    Computer,
    /// The server's events, as far as its last checkpoint goes.
    Server,
}

/// The launch that something came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nested {
    /// The launch.
    pub launch: LaunchId,
    /// The grant that it runs under; nothing in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// Its user.
    pub user: User,
}

/// The layers that hold a process tree, and end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// An own cgroup (v2), killed until it reports empty.
    pub cgroup: bool,
    /// The session is the child-subreaper and sweeps what is re-parented to it.
    pub subreaper: bool,
    /// The session keeps the deadline itself, whatever becomes of the elevator.
    pub own_deadline: bool,
    /// An own PID namespace, whose first process takes everything with it.
    pub pid_namespace: bool,
    /// An own mount namespace, read-only but for what it may write to, without service sockets and devices.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mount_namespace: bool,
    /// Landlock, by the version of its interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock: Option<u32>,
    /// The filter of system calls of a contained program.
    #[serde(default, skip_serializing_if = "is_false")]
    pub system_calls: bool,
    /// Nothing it executes gains a right by that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// It has these capabilities at most; without a word, all that root has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// It starts no other program: the session admits one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub one_process: bool,
    /// The limit on processes, where policy has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_limit: Option<LimitLayer>,
    /// The limit on memory, where policy has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<LimitLayer>,
}

/// What became of a limit that policy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitLayer {
    /// A cgroup keeps it.
    InForce,
    /// The computer has no controller for it.
    Absent,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// What ended a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The application ended by itself.
    Exited,
    /// The grant's time ran out.
    Expired,
    /// Its user gave the grant back.
    Ended,
    /// An administrator took the grant back.
    Revoked,
    /// A lock, a blocklist or a rule that denies came.
    Locked,
    /// The launch that it was started from inside of is over, or is being ended.
    OriginEnded,
    /// The user's side of the terminal went away.
    HungUp,
    /// The session that watched over it died.
    SessionDied,
    /// The computer was started anew.
    Rebooted,
    /// It could not be started.
    Failed,
}

impl EndReason {
    /// As the end of the sentence "it was ended: …".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Exited => "it ended by itself",
            Self::Expired => "the time granted ran out",
            Self::Ended => "you gave the grant back",
            Self::Revoked => "an administrator revoked the grant",
            Self::Locked => "an administrator locked or blocked it",
            Self::OriginEnded => "the elevated program that it was started from has ended",
            Self::HungUp => "the terminal went away",
            Self::SessionDied => "the session that watched over it died",
            Self::Rebooted => "the computer was started anew",
            Self::Failed => "it could not be started",
        }
    }
}

/// How an application ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Why something was not elevated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenyReason {
    /// No list has it.
    NotListed,
    /// A blocklist has it.
    Blocked,
    /// A rule denies it.
    Denied,
    /// The way to elevate is off.
    Off,
    /// A lock.
    Locked,
    /// The grant ended, or the bytes changed, between the decision and the start.
    Changed,
    /// An administrator declined.
    Declined,
    /// It is no program that can be executed.
    NotExecutable,
    /// Its interpreter cannot be believed.
    UntrustedInterpreter,
    /// The caller is more confined than the elevator, or in other namespaces.
    CallerConfined,
    /// The caller is itself elevated.
    Nested,
    /// The caller could not be identified.
    CallerUnknown,
    /// The computer is not enrolled.
    NotEnrolled,
    /// Policy in hand is too old to be relied on.
    LeaseEnded,
    /// What time it is cannot be relied on.
    TimeUnknown,
    /// More than one user may ask for at once.
    TooMany,
    /// The user's account is locked.
    AccountLocked,
    /// The user's account has expired.
    AccountExpired,
    /// The user's password has expired.
    PasswordExpired,
    /// PAM does not admit the user now.
    AccountRefused,
    /// PAM could not be asked, or its answer cannot be relied on.
    PamFailed,
    /// A layer that policy demands cannot be had.
    LayerMissing,
    /// The password that should show who is there was wrong.
    PasswordWrong,
    /// Nobody showed to be there.
    NotConfirmed,
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotListed => "not_listed",
            Self::Blocked => "blocked",
            Self::Denied => "denied",
            Self::Off => "off",
            Self::Locked => "locked",
            Self::Changed => "changed",
            Self::Declined => "declined",
            Self::NotExecutable => "not_executable",
            Self::UntrustedInterpreter => "untrusted_interpreter",
            Self::CallerConfined => "caller_confined",
            Self::Nested => "nested",
            Self::CallerUnknown => "caller_unknown",
            Self::NotEnrolled => "not_enrolled",
            Self::LeaseEnded => "lease_ended",
            Self::TimeUnknown => "time_unknown",
            Self::TooMany => "too_many",
            Self::AccountLocked => "account_locked",
            Self::AccountExpired => "account_expired",
            Self::PasswordExpired => "password_expired",
            Self::AccountRefused => "account_refused",
            Self::PamFailed => "pam_failed",
            Self::LayerMissing => "layer_missing",
            Self::PasswordWrong => "password_wrong",
            Self::NotConfirmed => "not_confirmed",
        })
    }
}
