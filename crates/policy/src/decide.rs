//! Whether a user may run an application elevated, how, and why: one function, on the computer and on the server.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::application::{Application, Lane, Package, User, Vendor};
use crate::bundle::{Bundle, Deployed};
use crate::event::DenyReason;
use crate::grant::{Grant, Origin, PolicyReference};
use crate::id::{ComputerId, GrantId, PolicyId, Version};
use crate::lists::{ApplicationList, AppliesTo, Launches, Nesting, PrivilegedApplicationList, Terms, Way};
use crate::rule::{Finding, Listed, Missing, Outcome, Rule, Specificity};
use crate::rules::Features;
use crate::sheet::Lock;
use crate::text::{OsText, Text};
use crate::time::Timestamp;

/// What someone tries to run.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Who.
    pub user: &'a User,
    /// Where.
    pub computer: ComputerId,
    /// What, as measured.
    pub application: &'a Application,
    /// With which arguments, the program's own name first.
    pub argv: &'a [OsText],
    /// Whether a program that runs elevated itself tries to.
    pub nested: bool,
}

/// What the decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Holdings<'a> {
    /// The policies.
    pub bundle: &'a Bundle,
    /// The locks.
    pub locks: &'a [Lock],
    /// The grants in hand; empty where only policy is asked.
    pub grants: &'a [HeldGrant],
}

/// A grant in hand, and how far it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldGrant {
    /// The grant.
    pub grant: Grant,
    /// The end its first launch fixed.
    pub fixed_end: Option<Timestamp>,
    /// How often it was launched.
    pub launched: u64,
}

/// The verdict, and what led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Every policy that had something to say, those that nearly matched among them.
    pub reasons: Vec<Reason>,
}

/// What may happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
#[must_use]
pub enum Verdict {
    /// A grant in hand covers it.
    Launch {
        /// The grant.
        grant: GrantId,
        /// Its end, were it launched now.
        end: Timestamp,
        /// What the policy in force says besides.
        offer: Offer,
    },
    /// Policy offers a way.
    Offered {
        /// The way and its terms.
        offer: Offer,
    },
    /// No.
    Refused {
        /// Why.
        refusal: Refusal,
    },
}

/// The way to elevate that the deciding policy offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The list and the rule.
    pub policy: PolicyReference,
    /// The list's name.
    pub name: Text,
    /// How; never `off`.
    pub way: Way,
    /// How narrow the match was.
    pub specificity: Specificity,
    /// What a grant is worth.
    pub terms: Terms,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Refusal {
    /// A lock.
    Locked {
        /// Why it was set.
        justification: Text,
    },
    /// A blocklist.
    Blocked {
        /// The list's name.
        name: Text,
        /// The list and rule.
        policy: PolicyReference,
    },
    /// A rule that denies.
    Denied {
        /// The list's name.
        name: Text,
        /// The list and rule.
        policy: PolicyReference,
    },
    /// The deciding list or rule says off.
    Off {
        /// The list's name.
        name: Text,
        /// The list and rule.
        policy: PolicyReference,
    },
    /// The deciding list keeps what it elevates to less than root may do, and nothing of a component runs that could be.
    NotKept {
        /// The list's name.
        name: Text,
        /// The list and rule.
        policy: PolicyReference,
    },
    /// A program that runs elevated itself asks, and the deciding list does not let it.
    Nested {
        /// The list's name.
        name: Text,
        /// The list and rule.
        policy: PolicyReference,
    },
    /// No list that is deployed to this user and computer recognises it.
    NotListed,
}

impl Refusal {
    /// The machine's word for it.
    pub fn deny_reason(&self) -> DenyReason {
        match self {
            Self::Locked { .. } => DenyReason::Locked,
            Self::Blocked { .. } => DenyReason::Blocked,
            Self::Denied { .. } => DenyReason::Denied,
            Self::Off { .. } => DenyReason::Off,
            Self::NotKept { .. } => DenyReason::LayerMissing,
            Self::Nested { .. } => DenyReason::Nested,
            Self::NotListed => DenyReason::NotListed,
        }
    }

    /// The policy that says so.
    pub fn policy(&self) -> Option<PolicyReference> {
        match self {
            Self::Blocked { policy, .. }
            | Self::Denied { policy, .. }
            | Self::Off { policy, .. }
            | Self::NotKept { policy, .. }
            | Self::Nested { policy, .. } => Some(*policy),
            Self::Locked { .. } | Self::NotListed => None,
        }
    }

    /// What the user can do.
    pub fn next(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "ask an administrator to lift the lock",
            Self::Blocked { .. } | Self::Denied { .. } => {
                "nothing else can allow it; ask an administrator whether that list should have it"
            }
            Self::NotKept { .. } => {
                "an administrator can give the component a rule of its own, that runs as root and in full"
            }
            Self::Off { .. } => "ask an administrator to turn elevation on for it in that list",
            Self::Nested { .. } => {
                "start it from a session that is not elevated, or run the program directly; an administrator can allow nesting in that list"
            }
            Self::NotListed => {
                "`elevon explain` shows what was looked at; an administrator can add it to a privileged application list"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { justification } => {
                write!(f, "an administrator locked it: {}", justification.visible())
            }
            Self::Blocked { name, .. } => write!(f, "the blocklist “{}” blocks it", name.visible()),
            Self::Denied { name, .. } => write!(f, "a rule of “{}” denies it", name.visible()),
            Self::Off { name, .. } => write!(f, "“{}” has elevation turned off for it", name.visible()),
            Self::NotKept { name, .. } => write!(
                f,
                "“{}” keeps what it elevates to less than root may do, which nothing can do with a component",
                name.visible()
            ),
            Self::Nested { name, .. } => {
                write!(
                    f,
                    "the program that asks runs elevated itself, and “{}” does not let it",
                    name.visible()
                )
            }
            Self::NotListed => f.write_str("no privileged application list for you on this computer has it"),
        }
    }
}

/// What one policy had to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Which kind of list.
    pub list: ListKind,
    /// Its name.
    pub name: Text,
    /// Which, and which rule of it.
    pub policy: PolicyReference,
    /// Which kind of rule; nothing of one that this version cannot read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specificity: Option<Specificity>,
    /// What the rule found.
    pub finding: Finding,
    /// What follows from it.
    pub consequence: Consequence,
}

/// The kinds of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListKind {
    /// A privileged application list.
    PrivilegedApplicationList,
    /// An allowlist.
    Allowlist,
    /// A blocklist.
    Blocklist,
}

impl ListKind {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrivilegedApplicationList => "privileged application list",
            Self::Allowlist => "allowlist",
            Self::Blocklist => "blocklist",
        }
    }
}

/// What a rule that matched leads to, and one that nearly did would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Consequence {
    /// It may be elevated this way.
    Elevate {
        /// How.
        way: Way,
    },
    /// It counts as allowed.
    Allow,
    /// It is refused.
    Refuse,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} “{}”", self.list.name(), self.name.visible())?;
        let rule = match self.specificity.and_then(Specificity::rule) {
            Some(kind) => format!("a rule by {kind}"),
            None => "a rule".to_owned(),
        };
        match &self.finding {
            Finding::Matches if self.policy.rule.is_none() => {
                f.write_str(" has it among all allowed applications")?
            }
            Finding::Matches => write!(f, " has {rule} that matches")?,
            Finding::Differs => write!(f, " has {rule} about something else")?,
            Finding::Nearly { missing } if self.policy.rule.is_none() => {
                write!(f, " nearly has it: {missing}")?
            }
            Finding::Nearly { missing } => write!(f, " has {rule} that nearly matches: {missing}")?,
            Finding::CannotEvaluate { needs } => {
                return write!(f, " has {rule} that matches nothing: {}", needs.sentence());
            }
        }
        match self.consequence {
            Consequence::Elevate { way } => write!(f, " ({way})"),
            Consequence::Allow => f.write_str(" (allowed)"),
            Consequence::Refuse => f.write_str(" (refused)"),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrustedPath { lane: Lane::Untrusted { component, because } } => write!(
                f,
                "{} {}, so where the file lies says nothing about it; only its SHA-256 would",
                component.visible(),
                because.sentence()
            ),
            Self::TrustedPath { lane: Lane::Trusted } => f.write_str("the path is not trusted"),
            Self::SubFolders => f.write_str("the rule leaves out folders below it"),
            Self::OtherBytes => f.write_str("the name is the same, the bytes are not"),
            Self::Arguments => f.write_str("the rule is about other arguments"),
            Self::NotAllowed => {
                f.write_str("it is about allowed applications, and no allowlist has this one")
            }
            Self::Package => f.write_str("the name is the same, but no package owns the file"),
            Self::OtherVendor { vendor: Some(vendor) } => {
                write!(f, "the product is the same, but its vendor is {}", vendor.visible())
            }
            Self::OtherVendor { vendor: None } => {
                f.write_str("the product is the same, but nothing says who its vendor is")
            }
            Self::VerifiedVendor => f.write_str("no signature stands behind the vendor's name"),
            Self::Unmodified => {
                f.write_str("the file is not, or not provably, the one that its package recorded")
            }
            Self::Signature => f.write_str("no signature that holds is over this very file"),
            Self::Version { found: Some(found), minimum } => {
                write!(f, "it is version {}, the rule wants {} at least", found.visible(), minimum.visible())
            }
            Self::Version { found: None, minimum } => {
                write!(
                    f,
                    "no package says which version it is, the rule wants {} at least",
                    minimum.visible()
                )
            }
        }
    }
}

/// Decides. A lock, a blocklist and a `deny` beat everything; then the narrowest rule wins, among equals the stricter
/// way; then a grant in hand that covers the attempt makes it run. Without an offer no grant helps: policy that was
/// withdrawn stops new launches. A grant that policy alone gave serves only while that very policy still gives it. Whoever runs
/// elevated itself needs a list that allows nesting, and a grant that was given so.
pub fn decide(holdings: &Holdings<'_>, attempt: &Attempt<'_>, now: Timestamp) -> Decision {
    let mut reasons = Vec::new();
    let verdict = match offer(holdings, attempt, &mut reasons) {
        Err(refusal) => Verdict::Refused { refusal },
        Ok(offer) => match covering(holdings.grants, attempt, &offer, now) {
            Some((grant, end)) => Verdict::Launch { grant, end, offer },
            None => Verdict::Offered { offer },
        },
    };
    Decision { verdict, reasons }
}

fn offer(
    holdings: &Holdings<'_>,
    attempt: &Attempt<'_>,
    reasons: &mut Vec<Reason>,
) -> Result<Offer, Refusal> {
    let refusal = refusals(holdings, attempt, reasons);
    let offers = offers(holdings.bundle, attempt, reasons);
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let best = offers.into_iter().max_by_key(|offer| {
        let Terms { runs_as, bounds, durations, nesting, .. } = &offer.terms;
        let rights = (bounds.is_contained(), !runs_as.is_root(), bounds.strictness());
        let longest = Reverse(durations.maximum);
        (offer.specificity, offer.way, rights, *nesting, longest, Reverse(offer.policy.policy))
    });
    match best {
        Some(Offer { way: Way::Off, name, policy, .. }) => Err(Refusal::Off { name, policy }),
        Some(Offer { terms, name, policy, .. })
            if attempt.application.component.is_some() && is_kept(&terms) =>
        {
            Err(Refusal::NotKept { name, policy })
        }
        Some(Offer { terms, name, policy, .. }) if attempt.nested && terms.nesting.is_refused() => {
            Err(Refusal::Nested { name, policy })
        }
        Some(offer) => Ok(offer),
        None => Err(Refusal::NotListed),
    }
}

/// Whether what runs would be kept to less than root may do: of a component nothing runs that could be.
fn is_kept(terms: &Terms) -> bool {
    !terms.runs_as.is_root() || !terms.bounds.is_none()
}

/// What beats everything else: locks, blocklists, rules that deny.
fn refusals(holdings: &Holdings<'_>, attempt: &Attempt<'_>, reasons: &mut Vec<Reason>) -> Option<Refusal> {
    let faces = faces(attempt.application);
    let features = Features::of(&faces);
    let lock =
        holdings.locks.iter().find(|lock| faces.iter().any(|face| lock.stops(attempt.user, face.sha256)));
    let locked = lock.map(|lock| Refusal::Locked { justification: lock.justification.clone() });
    let mut blocked = None;
    for list in in_force(&holdings.bundle.blocklists, attempt, |list| list.enabled) {
        let source = Source::of_list(ListKind::Blocklist, list);
        if let Some(policy) = source
            .matching(list.rules.about(&features), &faces, Consequence::Refuse, attempt, reasons)
            .first()
        {
            blocked = blocked.or(Some(Refusal::Blocked { name: list.name.clone(), policy: *policy }));
        }
    }
    let mut denied = None;
    for list in in_force(&holdings.bundle.privileged_application_lists, attempt, |list| list.enabled) {
        let deny = list.rules.about(&features).filter(|listed| outcome(listed) == Some(Outcome::Deny));
        let source = Source::of_privileged(list);
        if let Some(policy) = source.matching(deny, &faces, Consequence::Refuse, attempt, reasons).first() {
            denied = denied.or(Some(Refusal::Denied { name: list.name.clone(), policy: *policy }));
        }
    }
    locked.or(blocked).or(denied)
}

/// What a rule that refuses looks at. A "yes" needs a path that nobody else can change, and a package that nobody changed
/// since; a "no" does not: it stands in a folder as well as out of it. And whoever runs a script runs its interpreter, so a
/// "no" to that is a "no" to both.
fn faces(application: &Application) -> Vec<Application> {
    let believed = |package: &Option<Package>| {
        package.clone().map(|package| Package {
            vendor: package.vendor.map(|vendor| Vendor { verified: true, ..vendor }),
            unmodified: true,
            ..package
        })
    };
    let package = believed(&application.package);
    let file = Application { lane: Lane::Trusted, package, ..application.clone() };
    let interpreter = application.interpreter.as_ref().map(|interpreter| Application {
        path: interpreter.path.clone(),
        sha256: interpreter.sha256,
        interpreter: None,
        package: believed(&interpreter.package),
        ..file.clone()
    });
    [file].into_iter().chain(interpreter).collect()
}

/// Every way that some list offers.
fn offers(bundle: &Bundle, attempt: &Attempt<'_>, reasons: &mut Vec<Reason>) -> Vec<Offer> {
    let application = std::slice::from_ref(attempt.application);
    let features = Features::of(application);
    let mut allowed = false;
    for list in in_force(&bundle.allowlists, attempt, |list| list.enabled) {
        let source = Source::of_list(ListKind::Allowlist, list);
        allowed |= !source
            .matching(list.rules.about(&features), application, Consequence::Allow, attempt, reasons)
            .is_empty();
    }
    let mut offers = Vec::new();
    for list in in_force(&bundle.privileged_application_lists, attempt, |list| list.enabled) {
        let source = Source::of_privileged(list);
        if list.applies_to == AppliesTo::AllAllowedApplications {
            let consequence = Consequence::Elevate { way: list.elevate };
            let all = Some(Specificity::AllAllowed);
            if !allowed {
                let finding = Finding::Nearly { missing: Missing::NotAllowed };
                reasons.push(source.reason(None, all, finding, consequence));
                continue;
            }
            reasons.push(source.reason(None, all, Finding::Matches, consequence));
            offers.push(source.offer(None, list));
        }
        for listed in list.rules.about(&features).filter(|listed| outcome(listed) != Some(Outcome::Deny)) {
            let way = readable(listed).and_then(|rule| rule.elevate).unwrap_or(list.elevate);
            let matched =
                source.matching([listed], application, Consequence::Elevate { way }, attempt, reasons);
            if let (Some(rule), false) = (readable(listed), matched.is_empty()) {
                offers.push(source.offer(Some(rule), list));
            }
        }
    }
    offers
}

/// The grant in hand that covers the attempt and lasts longest.
fn covering(
    grants: &[HeldGrant],
    attempt: &Attempt<'_>,
    offer: &Offer,
    now: Timestamp,
) -> Option<(GrantId, Timestamp)> {
    grants
        .iter()
        .filter(|held| held.grant.covers(attempt.user, attempt.computer, attempt.application, attempt.argv))
        .filter(|held| held.grant.runs_as == offer.terms.runs_as)
        .filter(|held| held.grant.bounds.is_within(&offer.terms.bounds))
        .filter(|held| !attempt.nested || held.grant.nesting == Nesting::Allowed)
        .filter(|held| held.grant.origin != Origin::Policy || held.grant.policy == offer.policy)
        .filter(|held| held.grant.launches == Launches::Any || held.launched == 0)
        .filter_map(|held| Some((held.grant.id, held.grant.end_when_launched(held.fixed_end, now)?)))
        .max_by_key(|(_, end)| *end)
}

fn in_force<'a, T>(
    lists: &'a [Deployed<T>],
    attempt: &'a Attempt<'_>,
    enabled: impl Fn(&T) -> bool + 'a,
) -> impl Iterator<Item = &'a T> {
    lists
        .iter()
        .filter(|deployed| deployed.users.includes(attempt.user, attempt.computer))
        .map(|deployed| &deployed.policy)
        .filter(move |policy| enabled(policy))
}

fn readable(listed: &Listed) -> Option<&Rule> {
    match listed {
        Listed::Rule(rule) => Some(rule),
        Listed::Unreadable(_) => None,
    }
}

fn outcome(listed: &Listed) -> Option<Outcome> {
    readable(listed).map(|rule| rule.outcome)
}

/// The list that speaks.
struct Source<'a> {
    kind: ListKind,
    id: PolicyId,
    version: Version,
    name: &'a Text,
}

impl<'a> Source<'a> {
    fn of_list(kind: ListKind, list: &'a ApplicationList) -> Self {
        Self { kind, id: list.id, version: list.version, name: &list.name }
    }

    fn of_privileged(list: &'a PrivilegedApplicationList) -> Self {
        Self {
            kind: ListKind::PrivilegedApplicationList,
            id: list.id,
            version: list.version,
            name: &list.name,
        }
    }

    /// The rules that match any of these files; whatever the others found out about the first is noted, unless they are
    /// about something else.
    fn matching<'r>(
        &self,
        rules: impl IntoIterator<Item = &'r Listed>,
        files: &[Application],
        consequence: Consequence,
        attempt: &Attempt<'_>,
        reasons: &mut Vec<Reason>,
    ) -> Vec<PolicyReference> {
        let mut matched = Vec::new();
        for listed in rules {
            let mut findings = files.iter().map(|file| listed.recognise(file, attempt.argv));
            let first = findings.next().unwrap_or(Finding::Differs);
            let finding = findings.find(|finding| *finding == Finding::Matches).unwrap_or(first);
            if finding == Finding::Differs {
                continue;
            }
            let rule = readable(listed);
            let specificity = rule.map(|rule| rule.recognises.specificity());
            let reason = self.reason(rule, specificity, finding, consequence);
            if reason.finding == Finding::Matches {
                matched.push(reason.policy);
            }
            reasons.push(reason);
        }
        matched
    }

    fn reason(
        &self,
        rule: Option<&Rule>,
        specificity: Option<Specificity>,
        finding: Finding,
        consequence: Consequence,
    ) -> Reason {
        Reason {
            list: self.kind,
            name: self.name.clone(),
            policy: self.reference(rule),
            specificity,
            finding,
            consequence,
        }
    }

    fn offer(&self, rule: Option<&Rule>, list: &PrivilegedApplicationList) -> Offer {
        Offer {
            policy: self.reference(rule),
            name: self.name.clone(),
            way: rule.and_then(|rule| rule.elevate).unwrap_or(list.elevate),
            specificity: rule.map_or(Specificity::AllAllowed, |rule| rule.recognises.specificity()),
            terms: rule.and_then(|rule| rule.terms.clone()).unwrap_or_else(|| list.terms.clone()),
        }
    }

    fn reference(&self, rule: Option<&Rule>) -> PolicyReference {
        PolicyReference { policy: self.id, version: self.version, rule: rule.map(|rule| rule.id) }
    }
}
