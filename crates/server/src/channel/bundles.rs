//! Bundles: one for each set of deployments, made and signed once, shared by all computers with the same set.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use elevon_policy::application::Sha256;
use elevon_policy::bundle::{Bundle, Deployed, DeployedTo};
use elevon_policy::decide::{Attempt, Decision, Holdings, decide};
use elevon_policy::group::Member;
use elevon_policy::id::{ComputerId, GroupId, PolicyId, Version};
use elevon_policy::lists::{ApplicationList, PrivilegedApplicationList};
use elevon_policy::request::ElevationRequest;
use elevon_policy::time::Timestamp;
use elevon_wire::signed::{Purpose, Signed};
use sqlx::AnyConnection;

use super::sql;
use crate::app::App;
use crate::error::Error;

/// The present policies, kept until the policy epoch moves on.
#[derive(Debug, Default)]
pub struct Bundles(Mutex<Option<Arc<InForce>>>);

/// Every deployment at one policy epoch.
#[derive(Debug)]
pub struct InForce {
    epoch: u64,
    deployments: Vec<Deployment>,
    made: Mutex<HashMap<Vec<usize>, Arc<Made>>>,
}

#[derive(Debug)]
struct Deployment {
    policy: PolicyId,
    document: Document,
    /// None named means all computers.
    computers: Vec<GroupId>,
    users: DeployedTo,
}

#[derive(Debug)]
enum Document {
    Privileged(PrivilegedApplicationList),
    Allow(ApplicationList),
    Block(ApplicationList),
}

/// A bundle that was made.
#[derive(Debug)]
pub struct Made {
    /// What it says.
    pub bundle: Bundle,
    /// Signed.
    pub signed: Signed,
    /// Digest of what was signed.
    pub digest: Sha256,
}

impl InForce {
    /// The policy epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// So often the policies are read again because they changed meanwhile; each time, somebody deployed something.
const TRIES: usize = 10;

/// The present policies. They are read at most once for each policy epoch.
pub async fn in_force(app: &App, db: &mut AnyConnection) -> Result<Arc<InForce>, Error> {
    let mut epoch = sql::epoch(db).await?;
    let kept = app.bundles.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(kept) = kept.filter(|kept| kept.epoch == epoch) {
        return Ok(kept);
    }
    // Each statement may see another moment: what was read is of one epoch if that is still the same behind it.
    let mut deployments = Err(Error::Conflict("the policies in force keep changing; try again".into()));
    for _ in 0..TRIES {
        let these = read(db).await?;
        let behind = sql::epoch(db).await?;
        if behind == epoch {
            deployments = Ok(these);
            break;
        }
        epoch = behind;
    }
    let read = Arc::new(InForce { epoch, deployments: deployments?, made: Mutex::default() });
    let mut kept = app.bundles.0.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.as_ref().is_none_or(|kept| kept.epoch < epoch) {
        *kept = Some(Arc::clone(&read));
    }
    Ok(read)
}

async fn read(db: &mut AnyConnection) -> Result<Vec<Deployment>, Error> {
    let mut groups: HashMap<PolicyId, (Vec<GroupId>, Option<BTreeSet<Ordered>>)> = HashMap::new();
    for (policy, group, kind, users) in sql::deployed_to(db).await? {
        let (computers, members) = groups.entry(policy).or_default();
        if kind == "computers" {
            computers.push(group);
        } else {
            let users: Vec<Member> = serde_json::from_str(&users).map_err(unreadable)?;
            members.get_or_insert_default().extend(users.into_iter().map(Ordered));
        }
    }
    let mut deployments = Vec::new();
    for sql::Deployed { kind, policy, document } in sql::deployed(db).await? {
        // No group would mean all computers and everyone; nothing is ever deployed so.
        let Some((computers, members)) = groups.remove(&policy) else { continue };
        let users = match members {
            None => DeployedTo::Everyone,
            Some(members) => {
                DeployedTo::Members { members: members.into_iter().map(|Ordered(member)| member).collect() }
            }
        };
        let document = match kind.as_str() {
            "privileged_application_list" => {
                Document::Privileged(serde_json::from_str(&document).map_err(unreadable)?)
            }
            "allowlist" => Document::Allow(serde_json::from_str(&document).map_err(unreadable)?),
            _ => Document::Block(serde_json::from_str(&document).map_err(unreadable)?),
        };
        deployments.push(Deployment { policy, document, computers, users });
    }
    Ok(deployments)
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::internal("reading a deployed policy", error)
}

/// A member in an order that does not depend on how groups were written, so that equal bundles have equal bytes.
#[derive(Debug, PartialEq, Eq)]
struct Ordered(Member);

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.0.name, self.0.computer).cmp(&(&other.0.name, other.0.computer))
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The bundle of a computer: made now, if no computer with the same deployments asked before.
pub async fn of(app: &App, db: &mut AnyConnection, computer: ComputerId) -> Result<Arc<Made>, Error> {
    let in_force = in_force(app, db).await?;
    let groups = sql::groups_of(db, computer).await?;
    let concerned: Vec<usize> = (0..)
        .zip(&in_force.deployments)
        .filter(|(_, it)| it.computers.is_empty() || it.computers.iter().any(|group| groups.contains(group)))
        .map(|(at, _)| at)
        .collect();
    let made = in_force.made.lock().unwrap_or_else(PoisonError::into_inner).get(&concerned).cloned();
    if let Some(made) = made {
        return Ok(made);
    }
    let bundle = in_force.bundle(&concerned);
    let signed = Signed::seal(&app.keys.signing, Purpose::Bundle, &bundle);
    let made = Arc::new(Made { digest: signed.digest(), bundle, signed });
    in_force.made.lock().unwrap_or_else(PoisonError::into_inner).insert(concerned, Arc::clone(&made));
    Ok(made)
}

/// Writes down a bundle that is about to be handed out, so that it is known by its digest what a computer holds.
pub async fn keep(app: &App, made: &Made) -> Result<(), Error> {
    let policies =
        made.bundle.privileged_application_lists.iter().map(|it| (it.policy.id, it.policy.version.0));
    let lists = made.bundle.allowlists.iter().chain(&made.bundle.blocklists);
    let policies: Vec<_> = policies.chain(lists.map(|it| (it.policy.id, it.policy.version.0))).collect();
    let mut tx = app.db.begin().await?;
    sql::keep_bundle(&mut tx, made.digest, &made.signed, &policies, app.now()).await?;
    tx.commit().await
}

impl InForce {
    fn bundle(&self, concerned: &[usize]) -> Bundle {
        let mut bundle = Bundle::default();
        for deployment in concerned.iter().filter_map(|at| self.deployments.get(*at)) {
            let users = deployment.users.clone();
            match &deployment.document {
                Document::Privileged(list) => {
                    bundle.privileged_application_lists.push(Deployed { policy: list.clone(), users });
                }
                Document::Allow(list) => bundle.allowlists.push(Deployed { policy: list.clone(), users }),
                Document::Block(list) => bundle.blocklists.push(Deployed { policy: list.clone(), users }),
            }
        }
        bundle
    }

    /// Which version of a policy is deployed.
    pub fn version(&self, policy: PolicyId) -> Option<Version> {
        self.deployments.iter().find(|it| it.policy == policy).map(|it| match &it.document {
            Document::Privileged(list) => list.version,
            Document::Allow(list) | Document::Block(list) => list.version,
        })
    }
}

/// What the policies in force say to a request. The computer decides; this only refuses or shortens.
pub async fn judge(
    app: &App,
    db: &mut AnyConnection,
    asked: &ElevationRequest,
    now: Timestamp,
) -> Result<Decision, Error> {
    let made = of(app, db, asked.computer).await?;
    let holdings = Holdings { bundle: &made.bundle, locks: &[], grants: &[] };
    let attempt = Attempt {
        user: &asked.user,
        computer: asked.computer,
        application: &asked.application,
        argv: &asked.argv,
        nested: asked.origin.is_some(),
    };
    Ok(decide(&holdings, &attempt, now))
}
