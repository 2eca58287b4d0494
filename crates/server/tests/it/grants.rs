//! A grant from its delivery to its end.

use elevon_policy::event::{EndReason, Exit, What};
use elevon_policy::grant::{Ends, Grant, GrantState, Origin};
use elevon_policy::id::{GrantId, Version};
use elevon_policy::lists::Covers;
use elevon_policy::request::Approval;
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_server::app::chance;
use elevon_server::error::Error;
use elevon_server::{grants, launches, requests, sweep};
use serde_json::json;

use crate::endpoint::{Endpoint, alias};
use crate::site::Site;

crate::on_both_engines!(
    delivery_is_a_time_stamp,
    revoking_waits_for_the_computers_word,
    it_expires_on_time,
    its_user_gives_it_back,
    the_first_launch_fixes_the_end,
    a_grant_that_policy_gave_can_be_revoked,
    launches_are_kept_with_how_they_ended,
);

async fn granted(site: &Site, computer: &mut Endpoint, terms: serde_json::Value) -> Grant {
    let policy = site.policy_with(&[computer], terms).await;
    let id = computer.asks(site, "alice", &policy).await;
    let approval =
        Approval { duration: Span::from_mins(15), covers: Covers::ExactArguments, comment: Text::default() };
    requests::approve(&site.app, &site.approver("carol"), id, Version::FIRST, approval).await.unwrap()
}

async fn state(site: &Site, id: GrantId) -> GrantState {
    grants::find(&site.app, &site.reader(), id).await.unwrap().record.state
}

async fn delivery_is_a_time_stamp(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let grant = granted(&site, &mut computer, json!({})).await;
    let sheet = computer.sheet(&site).await;
    site.later(Span::from_secs(3));
    let delivered = What::SheetDelivered {
        version: sheet.version,
        bundle: sheet.bundle,
        grants: vec![grant.id],
        checkpoint: None,
    };
    computer.report(&site, delivered).await;
    let row = grants::find(&site.app, &site.reader(), grant.id).await.unwrap();
    assert_eq!(row.record.delivered_at, Some(site.now()));
    assert_eq!(row.record.state, GrantState::Active);
}

async fn revoking_waits_for_the_computers_word(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let grant = granted(&site, &mut computer, json!({})).await;
    let by = site.approver("carol");
    let stale = grants::revoke(&site.app, &by, grant.id, Some(Version(9)), Text::default()).await;
    assert!(matches!(stale, Err(Error::Conflict(_))), "{stale:?}");
    let before = computer.sheet(&site).await;
    grants::revoke(&site.app, &by, grant.id, None, Text::new("enough")).await.unwrap();
    let after = computer.sheet(&site).await;
    assert!(after.version > before.version);
    assert!(after.grants.is_empty());
    assert_eq!(after.revoking, [grant.id]);
    // Also past the end it waits for the computer.
    site.later(Span::from_hours(1));
    sweep::once(&site.app).await.unwrap();
    assert_eq!(state(&site, grant.id).await, GrantState::Revoking);
    computer.report(&site, What::GrantRevocationEnforced { grant: grant.id }).await;
    assert_eq!(state(&site, grant.id).await, GrantState::Revoked);
    assert!(computer.sheet(&site).await.revoking.is_empty());
    let again = grants::revoke(&site.app, &by, grant.id, None, Text::default()).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
}

async fn it_expires_on_time(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let grant = granted(&site, &mut computer, json!({})).await;
    site.later(Span::from_millis(15 * 60 * 1000 - 1));
    let next = sweep::once(&site.app).await.unwrap();
    assert_eq!(next, Some(site.now().after(Span::from_millis(1))));
    assert_eq!(state(&site, grant.id).await, GrantState::Active);
    site.later(Span::from_millis(1));
    sweep::once(&site.app).await.unwrap();
    assert_eq!(state(&site, grant.id).await, GrantState::Expired);
}

async fn its_user_gives_it_back(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let grant = granted(&site, &mut computer, json!({})).await;
    computer.report(&site, What::GrantEnded { grant: grant.id, user: alias("alice") }).await;
    assert_eq!(state(&site, grant.id).await, GrantState::Ended);
    assert!(computer.sheet(&site).await.grants.is_empty());
}

async fn the_first_launch_fixes_the_end(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let grant =
        granted(&site, &mut computer, json!({ "starts": { "type": "at_first_launch", "within": "2h" } }))
            .await;
    assert!(matches!(grant.ends, Ends::AfterFirstLaunch { .. }));
    assert_eq!(state(&site, grant.id).await, GrantState::Scheduled);
    site.later(Span::from_hours(1));
    let end = site.now().after(Span::from_mins(15));
    computer.report(&site, What::GrantStarted { grant: grant.id, end }).await;
    let row = grants::find(&site.app, &site.reader(), grant.id).await.unwrap();
    assert_eq!((row.record.state, row.record.end), (GrantState::Active, Some(end)));
    assert_eq!(sweep::once(&site.app).await.unwrap(), Some(end));
}

async fn a_grant_that_policy_gave_can_be_revoked(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let mut grant = granted(&site, &mut computer, json!({})).await;
    grant.id = GrantId::new(site.now(), chance());
    grant.origin = Origin::Policy;
    let made = What::GrantMade { grant: Box::new(grant.clone()), justification: Text::new("because") };
    computer.report(&site, made).await;
    assert_eq!(state(&site, grant.id).await, GrantState::Active);
    assert_eq!(computer.sheet(&site).await.grants.len(), 1, "its own grant it has itself");
    grants::revoke(&site.app, &site.approver("carol"), grant.id, None, Text::default()).await.unwrap();
    assert_eq!(computer.sheet(&site).await.revoking, [grant.id]);
}

async fn launches_are_kept_with_how_they_ended(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let grant = granted(&site, &mut computer, json!({})).await;
    let launch = computer.launches(&site, &grant).await;
    let ended = What::LaunchEnded {
        launch,
        grant: grant.id,
        user: alias("alice"),
        reason: EndReason::Exited,
        exit: Some(Exit::Code(7)),
    };
    computer.report(&site, ended).await;
    let found = launches::of_grant(&site.app, &site.reader(), grant.id).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].id, found[0].reason, found[0].exit),
        (launch, Some(EndReason::Exited), Some(Exit::Code(7)))
    );
}
