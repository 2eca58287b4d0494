//! Certificates that end, and are renewed before.

use std::time::Duration;

use anyhow::Result;
use elevon_e2e::clock::{now, until};
use elevon_e2e::policy::{folder, privileged};
use elevon_e2e::site::{Layout, Site};
use elevon_policy::lists::Way;
use elevon_policy::rule::Rule;

#[test]
fn an_agents_certificate_is_renewed_before_it_ends_and_nothing_stands_still() -> Result<()> {
    let mut layout = Layout::unique()?;
    layout.agent_certificate_life = Some("9s".into());
    let mut site = Site::start_as(layout)?;
    let enrolled = now();
    let free = site.programs.join("free");
    let good = site.install("free", "good")?;
    site.deploy(&privileged(
        "Tools",
        vec![Rule { elevate: Some(Way::Automatic), ..folder(&free, false)? }],
    )?)?;
    let good = good.to_string_lossy().into_owned();
    let renewed = |wanted: usize| {
        until("certificates to be renewed", Duration::from_secs(60), || {
            let kinds = site.api.kinds()?;
            let counted = kinds.iter().filter(|kind| *kind == "computer.certificate_renewed").count();
            Ok((counted >= wanted).then_some(()))
        })
    };
    renewed(2)?;
    assert!(now().since(enrolled).millis() > 9_000, "the first certificate has not ended yet");
    // What the computer records still arrives, and what is decided still reaches it.
    site.alice_runs(&["run", "--", &good])?.expect(0).prints("good uid=0");
    site.api.event("launch.ended", |event| event.text("/user/name") == site.alice.name)?;
    let known = site.agent.as_ref().map(|agent| agent.errors()).unwrap_or_default();
    assert!(!known.contains("refuses this computer"), "{known}");

    // It starts again with what was renewed.
    if let Some(mut agent) = site.agent.take() {
        agent.stop()?.expect(0);
    }
    site.start_agent()?;
    site.alice_runs(&["run", "--", &good])?.expect(0);
    let launches = || anyhow::Ok(site.api.kinds()?.iter().filter(|kind| *kind == "launch.ended").count());
    until("the second launch to be told", Duration::from_secs(20), || Ok((launches()? == 2).then_some(())))?;
    Ok(())
}
