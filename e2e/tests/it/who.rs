//! Who may do what: users among themselves, accounts, and the two daemons.

use std::fs;

use anyhow::{Context, Result};
use elevon_e2e::clock::{SOON, until};
use elevon_e2e::form::Form;
use elevon_e2e::program::run;

use crate::scene::Scene;

#[test]
fn a_grant_is_of_no_use_to_another_user() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let good = good.to_str().unwrap();
    let (mut waiting, request) = scene.ask("30m", &[good])?;
    scene.approver.approve(&request, None, "")?;
    waiting.exit(SOON)?.expect(0);
    let asks = ["run", "--for", "30m", "--justification", "me too", "--no-wait", "--", good];
    let ran = run(&mut scene.site.elevon(&scene.site.bob, &asks)?, b"")?.expect(124);
    assert!(ran.out.is_empty(), "{}", ran.text());
    // Nor does bob see it.
    let status = run(&mut scene.site.elevon(&scene.site.bob, &["status", "--json"])?, b"")?.expect(0);
    assert!(!status.text().contains(&request), "{}", status.text());
    Ok(())
}

#[test]
fn a_user_for_whom_nothing_is_deployed_is_refused() -> Result<()> {
    let scene = Scene::set()?;
    let good = scene.site.install("free", "good")?;
    let mut command = scene.site.elevon(&scene.site.agent_user, &["run", "--", good.to_str().unwrap()])?;
    let ran = run(&mut command, b"")?.expect(126);
    assert!(ran.out.is_empty(), "{}", ran.text());
    let refused = scene.site.api.event("launch.refused", |_| true)?;
    assert_eq!(refused.text("/reason"), "not_listed");
    assert_eq!(refused.text("/user/name"), scene.site.agent_user.name);
    Ok(())
}

/// An account with the name of the operating-system user counts as the same person.
#[test]
fn nobody_decides_for_themselves() -> Result<()> {
    let scene = Scene::set()?;
    scene.site.account(&scene.site.alice.name, "approver")?;
    let good = scene.site.install("asked", "good")?;
    let (mut waiting, request) = scene.ask("30m", &[good.to_str().unwrap()])?;
    let mut herself = scene.site.signed_in(&scene.site.alice.name)?;
    let page = herself.open(&format!("/requests/{request}"))?;
    let form = page.form_to("/approve");
    // Whether or not the page offers it: the server does not take it.
    let form = form.unwrap_or_else(|_| {
        Form::posting(
            &format!("/requests/{request}/approve"),
            &[("seen", "1"), ("duration", "30m"), ("covers", "exact_arguments"), ("comment", "")],
        )
    });
    let answer = herself.submit(form)?;
    assert!(answer.status >= 400, "alice approved her own request: {}", answer.text());
    scene.site.api.request_is(&request, "pending")?;
    assert!(waiting.ended()?.is_none(), "{}", waiting.log());
    waiting.kill()
}

/// The same request, approved by two at once, is decided once.
#[test]
fn two_approvers_at_once_yield_one_outcome() -> Result<()> {
    let mut scene = Scene::set()?;
    scene.site.account("second", "approver")?;
    let mut second = scene.site.signed_in("second")?;
    let good = scene.site.install("asked", "good")?;
    let (mut waiting, request) = scene.ask("30m", &[good.to_str().unwrap()])?;
    let late = second.open(&format!("/requests/{request}"))?.form_to("/decline")?.set("comment", "no")?;
    scene.approver.approve(&request, None, "yes")?;
    let answer = second.submit(late)?;
    assert_eq!(answer.status, 409, "{}", answer.text());
    waiting.exit(SOON)?.expect(0);
    scene.site.api.request_is(&request, "approved")?;
    Ok(())
}

#[test]
fn the_agent_runs_without_any_capability() -> Result<()> {
    let scene = Scene::set()?;
    let agent = scene.site.agent.as_ref().context("the agent runs")?.pid();
    let status = fs::read_to_string(format!("/proc/{}/status", agent.as_raw_nonzero()))?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set} of the agent");
    }
    let uid = scene.site.agent_user.uid.to_string();
    assert!(field("Uid:").split_whitespace().all(|own| own == uid), "{}", field("Uid:"));
    Ok(())
}

/// Everything that the elevator and its children do with sockets, from the start through a whole story to the end.
#[test]
fn the_elevator_opens_no_network_socket() -> Result<()> {
    let mut scene = Scene::set()?;
    scene.site.elevator.take().context("it runs")?.stop()?;
    let trace = scene.site.tree.join("trace");
    // -D: the elevator stays our own child, and strace lets go of it at the end.
    let traced = "trace=socket,socketpair,connect,bind";
    let strace = ["strace", "-D", "-f", "-q", "-e", traced, "-o", trace.to_str().unwrap()];
    let mut strace = scene.site.elevator_command_under(&strace, &["run"])?;
    scene.site.start_elevator_as(&mut strace)?;
    let mut stubborn = scene.stubborn("30m", &[])?;
    scene.approver.revoke(&stubborn.grant, "")?;
    stubborn.run.exit(SOON)?;
    scene.site.api.grant_is(&stubborn.grant, "revoked")?;
    scene.elevated(&["true"], b"")?.expect(0);
    scene.site.elevator.take().context("it runs")?.stop()?;
    let seen = until("the trace to be complete", SOON, || {
        let text = fs::read_to_string(&trace)?;
        Ok(text.lines().last().is_some_and(|line| line.contains("+++ exited")).then_some(text))
    })?;
    let sockets: Vec<&str> = seen
        .lines()
        .filter(|line| line.contains("socket(") || line.contains("connect(") || line.contains("bind("))
        .collect();
    assert!(
        sockets.iter().any(|line| line.contains("bind(")),
        "the trace shows the elevator's own socket:\n{seen}"
    );
    // PAM's processes tell the kernel's own audit what its modules answered.
    let local = ["AF_UNIX", "NETLINK_AUDIT", "resumed"];
    for line in sockets {
        assert!(local.iter().any(|word| line.contains(word)), "the elevator touched the network: {line}");
    }
    scene.site.start_elevator()
}
