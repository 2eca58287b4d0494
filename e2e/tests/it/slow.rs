//! A line to the server that is slow, and does not break off.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use elevon_e2e::clock::{Stopwatch, until};
use elevon_e2e::policy::{folder, privileged};
use elevon_e2e::proxy::{Proxy, Weather};
use elevon_e2e::site::{Layout, Site, free_port};
use elevon_policy::lists::Way;
use elevon_policy::rule::Rule;

/// Lists, and rules in each, that take longer to come than an exchange may take to begin.
const LISTS: usize = 3;
const RULES: usize = 450;

#[test]
fn a_large_bundle_arrives_over_a_slow_line() -> Result<()> {
    let (mut layout, through) = (Layout::unique()?, free_port()?);
    layout.agents_through = Some(through);
    let line = Proxy::between(through, layout.ports.1)?;
    let mut site = Site::start_as(layout)?;
    let good = site.install("free", "good")?.to_string_lossy().into_owned();
    site.agent.take().context("it runs")?.stop()?;
    let free = Rule { elevate: Some(Way::Automatic), ..folder(&site.programs.join("free"), false)? };
    for list in 0..LISTS {
        let mut rules = vec![free.clone()];
        for rule in 0..RULES {
            let level = |level| format!("{list}-{rule:03}-{level:02}-{}", "x".repeat(200));
            rules.push(folder(&PathBuf::from("/opt").join((0..15).map(level).collect::<PathBuf>()), false)?);
        }
        site.deploy(&privileged(&format!("Long list {list}"), rules)?)?;
    }
    line.turn(Weather::Slow);
    let watch = Stopwatch::start();
    site.start_agent()?;
    until("the list to be on the computer", Duration::from_secs(120), || {
        Ok((site.alice_runs(&["run", "--", &good])?.code() == 0).then_some(()))
    })
    .with_context(|| site.log())?;
    assert!(watch.elapsed() > Duration::from_secs(31), "the list is not long enough: {:?}", watch.elapsed());
    let said = site.agent.as_ref().map(|agent| agent.errors()).unwrap_or_default();
    assert!(!said.contains("cannot reach"), "{said}");
    line.turn(Weather::Fair);
    Ok(())
}
