//! A request from its making to its decision.

use elevon_policy::event::What;
use elevon_policy::grant::{Ends, GrantedArguments};
use elevon_policy::id::Version;
use elevon_policy::lists::Covers;
use elevon_policy::request::{Approval, LapseReason, RequestState};
use elevon_policy::sheet::AnswerOutcome;
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_server::auth::Role;
use elevon_server::error::Error;
use elevon_server::{requests, sweep};
use serde_json::json;

use crate::endpoint::{Endpoint, alias};
use crate::site::Site;

crate::on_both_engines!(
    a_computer_that_asks_without_end_buries_nobody,
    a_computer_that_asks_and_takes_back_is_stopped,
    approving_gives_a_grant_that_the_computer_gets,
    of_two_decisions_at_once_one_counts,
    nobody_decides_for_their_own_user,
    declining_tells_who_and_why,
    its_user_takes_it_back,
    unanswered_it_lapses,
    what_policy_refuses_lapses_at_once,
    withdrawing_a_policy_lets_what_it_asked_lapse,
    an_approval_is_capped_by_the_policy_in_force,
    a_stale_look_does_not_decide,
    pending_and_active_lists_go_on_where_they_stopped,
);

fn approval(minutes: u64) -> Approval {
    Approval {
        duration: Span::from_mins(minutes),
        covers: Covers::ExactArguments,
        comment: Text::new("go ahead"),
    }
}

async fn approving_gives_a_grant_that_the_computer_gets(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;

    let token = site.token(Role::Approver).await;
    let pending = site.get(&token, "requests").await.ok();
    assert_eq!(pending["items"][0]["asked"]["id"], id.to_string());
    assert_eq!(pending["items"][0]["host_name"], "web1");
    assert_eq!(pending["items"][0]["policy_name"], "System tools");

    let body = json!({ "seen": 1, "duration": "15m", "comment": "go ahead" });
    let grant = site.post(&token, &format!("requests/{id}/approve"), body).await.ok();
    assert_eq!(grant["ends"]["end"], site.now().after(Span::from_mins(15)).millis());

    let sheet = computer.sheet(&site).await;
    let [granted] = sheet.grants.as_slice() else { panic!("{sheet:?}") };
    assert_eq!(granted.id.to_string(), grant["id"].as_str().unwrap());
    assert_eq!(granted.user, alias("alice"));
    assert!(matches!(&granted.arguments, GrantedArguments::Exact { argv } if argv.len() == 2));
    assert!(matches!(granted.ends, Ends::At { .. }));
    let [answer] = sheet.answers.as_slice() else { panic!("{sheet:?}") };
    assert!(
        matches!(&answer.outcome, AnswerOutcome::Approved { comment, .. } if *comment == Text::new("go ahead"))
    );
    let events = site.get(&token, &format!("events?request={id}")).await.ok();
    let kinds: Vec<_> = events["items"].as_array().unwrap().iter().map(|row| &row["event"]["kind"]).collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    assert!(kinds.contains(&&json!("request.made")) && kinds.contains(&&json!("request.approved")));
}

async fn of_two_decisions_at_once_one_counts(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let decide = |name: &'static str| {
        let (app, by) = (site.app.clone(), site.approver(name));
        tokio::spawn(async move {
            if name == "erin" {
                requests::decline(&app, &by, id, Version::FIRST, Text::default()).await.map(|_| ())
            } else {
                requests::approve(&app, &by, id, Version::FIRST, approval(5)).await.map(|_| ())
            }
        })
    };
    let tasks = ["carol", "dave", "erin", "frank"].map(decide);
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => won += 1,
            Err(Error::Conflict(sentence)) => assert!(!sentence.is_empty()),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
    assert!(computer.sheet(&site).await.grants.len() <= 1);
}

async fn nobody_decides_for_their_own_user(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let alice = site.approver("alice");
    let refused = requests::approve(&site.app, &alice, id, Version::FIRST, approval(5)).await;
    assert!(matches!(refused, Err(Error::Forbidden(_))), "{refused:?}");
    let refused = requests::decline(&site.app, &alice, id, Version::FIRST, Text::default()).await;
    assert!(matches!(refused, Err(Error::Forbidden(_))), "{refused:?}");
    let row = requests::find(&site.app, &site.reader(), id).await.unwrap();
    assert_eq!(row.record.state, RequestState::Pending);
}

async fn declining_tells_who_and_why(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let before = computer.sheet(&site).await.version;
    let by = site.approver("carol");
    requests::decline(&site.app, &by, id, Version::FIRST, Text::new("not today")).await.unwrap();
    let sheet = computer.sheet(&site).await;
    assert!(sheet.version > before);
    assert_eq!(
        sheet.answers[0].outcome,
        AnswerOutcome::Declined { by: Text::new("carol"), comment: Text::new("not today") }
    );
    site.later(Span::from_hours(25));
    assert!(computer.sheet(&site).await.answers.is_empty());
}

async fn its_user_takes_it_back(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    computer.report(&site, What::RequestCancelled { request: id, user: alias("alice") }).await;
    let row = requests::find(&site.app, &site.reader(), id).await.unwrap();
    assert_eq!(row.record.state, RequestState::Cancelled);
    let late = requests::approve(&site.app, &site.approver("carol"), id, Version(2), approval(5)).await;
    assert!(matches!(late, Err(Error::Conflict(_))), "{late:?}");
}

async fn unanswered_it_lapses(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy_with(&[&computer], json!({ "pending_lifetime": "10m" })).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let deadline = sweep::once(&site.app).await.unwrap();
    assert_eq!(
        deadline,
        Some(site.now().after(Span::from_mins(10))),
        "the policy's lifetime is shorter than asked"
    );
    site.later(Span::from_mins(10));
    assert_eq!(sweep::once(&site.app).await.unwrap(), None);
    // A second server that does the same finds it done.
    assert_eq!(sweep::once(&site.app).await.unwrap(), None);
    let row = requests::find(&site.app, &site.reader(), id).await.unwrap();
    assert_eq!(
        (row.record.state, row.record.lapse_reason),
        (RequestState::Lapsed, Some(LapseReason::Unanswered))
    );
    assert_eq!(
        computer.sheet(&site).await.answers[0].outcome,
        AnswerOutcome::Lapsed { reason: LapseReason::Unanswered }
    );
}

async fn what_policy_refuses_lapses_at_once(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let other = Endpoint::enroll(&site, "web2").await;
    let policy = site.policy(&[&other]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let row = requests::find(&site.app, &site.reader(), id).await.unwrap();
    assert_eq!(row.record.lapse_reason, Some(LapseReason::PolicyWithdrawn));
    let answers = computer.sheet(&site).await.answers;
    assert_eq!(answers[0].outcome, AnswerOutcome::Lapsed { reason: LapseReason::PolicyWithdrawn });
}

async fn withdrawing_a_policy_lets_what_it_asked_lapse(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let token = site.token(Role::Administrator).await;
    site.post(&token, &format!("privileged-application-lists/{policy}/withdraw"), json!({})).await.ok();
    let row = requests::find(&site.app, &site.reader(), id).await.unwrap();
    assert_eq!(row.record.lapse_reason, Some(LapseReason::PolicyWithdrawn));
}

async fn an_approval_is_capped_by_the_policy_in_force(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let token = site.token(Role::Administrator).await;
    let mut shorter = crate::site::sbin(
        "System tools",
        json!({
            "durations": { "choices": [], "default": "5m", "maximum": "5m" },
        }),
    );
    shorter["version"] = json!(1);
    site.put(&token, &format!("privileged-application-lists/{policy}"), shorter).await.ok();
    let group = site.get(&token, "groups").await.ok()["items"][0]["id"].clone();
    let deploy = json!({ "version": 2, "groups": [group] });
    site.post(&token, &format!("privileged-application-lists/{policy}/deploy"), deploy).await.ok();

    let longer =
        requests::approve(&site.app, &site.approver("carol"), id, Version::FIRST, approval(60)).await;
    assert!(matches!(longer, Err(Error::Invalid { field: Some("duration"), .. })), "{longer:?}");
    let grant = requests::approve(&site.app, &site.approver("carol"), id, Version::FIRST, approval(30))
        .await
        .unwrap();
    assert_eq!(grant.ends, Ends::At { end: site.now().after(Span::from_mins(5)) });
    assert_eq!(grant.policy.version, Version(2));
}

async fn a_stale_look_does_not_decide(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let id = computer.asks(&site, "alice", &policy).await;
    let token = site.token(Role::Approver).await;
    let body = json!({ "seen": 7, "duration": "15m" });
    site.post(&token, &format!("requests/{id}/approve"), body).await.refused(409, "look at it again");
    let body = json!({ "seen": 1, "duration": "soon" });
    site.post(&token, &format!("requests/{id}/approve"), body).await.refused(422, "duration");
    let answer = site.get(&token, "requests/nonsense").await;
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    answer.refused(400, "Cannot parse `id`");
    site.put(&token, "requests", json!({})).await.refused(405, "takes GET");
    site.get(&token, "nothing").await.refused(404, "no such address");
}

async fn a_computer_that_asks_without_end_buries_nobody(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let mut other = Endpoint::enroll(&site, "web2").await;
    let policy = site.policy(&[&computer, &other]).await;
    let mut records = Vec::new();
    for _ in 0..130 {
        let request = computer.request(&site, "alice", &policy);
        records.push(computer.record(&site, What::RequestMade { request: Box::new(request) }));
    }
    computer.send(&site, &records).await.ok();
    other.asks(&site, "bob", &policy).await;
    let pending = requests::count_pending(&site.app, &site.reader()).await.unwrap();
    assert_eq!(pending, 101);
    assert_eq!(computer.sheet(&site).await.answers.len(), 30);
}

async fn a_computer_that_asks_and_takes_back_is_stopped(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let mut last = None;
    for _ in 0..11 {
        let mut records = Vec::new();
        for _ in 0..100 {
            let request = computer.request(&site, "alice", &policy);
            let id = request.id;
            records.push(computer.record(&site, What::RequestMade { request: Box::new(request) }));
            let user = alias("alice");
            records.push(computer.record(&site, What::RequestCancelled { request: id, user }));
            last = Some(id);
        }
        computer.send(&site, &records).await.ok();
        site.later(Span::from_mins(1));
    }
    let row = requests::find(&site.app, &site.reader(), last.unwrap()).await.unwrap();
    assert_eq!(row.record.lapse_reason, Some(LapseReason::Unanswered));
    let token = site.token(Role::Auditor).await;
    let lapsed = site.get(&token, "events?kind=request.lapsed").await.ok();
    assert!(!lapsed["items"].as_array().unwrap().is_empty());
    let answers = computer.sheet(&site).await.answers;
    assert_eq!(answers.len(), 200);
    assert!(answers.iter().any(|answer| Some(answer.request) == last), "the latest stand on it");
    // A day later it may ask again.
    site.later(Span::from_hours(24));
    let id = computer.asks(&site, "alice", &policy).await;
    let row = requests::find(&site.app, &site.reader(), id).await.unwrap();
    assert_eq!(row.record.state, RequestState::Pending);
}

async fn pending_and_active_lists_go_on_where_they_stopped(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    let mut asked = Vec::new();
    for _ in 0..99 {
        // Many at the same time.
        asked.push(computer.asks(&site, "alice", &policy).await.to_string());
    }
    let token = site.token(Role::Auditor).await;
    let mut sorted = asked.clone();
    sorted.sort();
    assert_eq!(all(&site, &token, "requests?which=pending", "/asked/id").await, sorted);

    let approval = || Approval {
        duration: Span::from_mins(5),
        covers: Covers::ExactArguments,
        comment: Text::default(),
    };
    let mut grants = Vec::new();
    for id in &asked[..60] {
        let by = site.approver("carol");
        let approved =
            requests::approve(&site.app, &by, id.parse().unwrap(), Version::FIRST, approval()).await.unwrap();
        grants.push(approved.id.to_string());
    }
    grants.sort();
    assert_eq!(all(&site, &token, "grants?which=active", "/grant/id").await, grants);
    assert_eq!(all(&site, &token, "requests?which=pending", "/asked/id").await.len(), 39);
    site.get(&token, "grants?cursor=nonsense").await.refused(422, "cursor");
}

/// What stands at this place of every item of a list, whose parts are read one after the other.
async fn all(site: &Site, token: &str, path: &str, place: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let part = site.get(token, &format!("{path}&cursor={cursor}")).await.ok();
        let items = part["items"].as_array().unwrap();
        assert!(items.len() <= 50, "{}", items.len());
        found.extend(items.iter().map(|item| item.pointer(place).unwrap().as_str().unwrap().to_owned()));
        match part["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return found,
        }
    }
}
