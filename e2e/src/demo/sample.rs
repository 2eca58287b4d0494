//! What the demo sets up: names that are nice to read where they are free, and a policy that shows every answer there is.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result};
use elevon_policy::lists::{AtExpiry, Durations, Terms, Way};
use elevon_policy::rule::Rule;
use elevon_policy::text::Text;
use elevon_policy::time::Span;

use crate::person::Person;
use crate::policy::{application_list, folder, hash_of, privileged};
use crate::site::{Layout, Site, free_port};

/// The privileged application list.
pub(super) const LIST: &str = "System tools";

/// The blocklist.
pub(super) const BLOCKLIST: &str = "Never elevated";

/// Names and ports that are free, and a password of its own; on the embedded database, or on this one.
fn layout(database_url: Option<&str>) -> Result<Layout> {
    let pid = std::process::id();
    let name = |wish: &str| {
        let wishes = [wish.to_owned(), format!("{wish}-demo")];
        wishes.into_iter().find(|name| Person::is_free(name)).unwrap_or_else(|| format!("{wish}-{pid}"))
    };
    let port = |wish: u16| match TcpListener::bind(("127.0.0.1", wish)) {
        Ok(_) => Ok(wish),
        Err(_) => free_port(),
    };
    Ok(Layout {
        directory: format!("elevon-demo-{pid}"),
        alice: name("alice"),
        bob: name("bob"),
        agent: name("elevon"),
        ports: (port(8443)?, port(8444)?),
        agents_through: None,
        database_url: database_url.map(str::to_owned),
        agent_certificate_life: None,
        password: password()?,
    })
}

/// Easy to read and to type; 75 bits.
fn password() -> Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut chance = [0; 15];
    File::open("/dev/urandom")?.read_exact(&mut chance)?;
    let letter = |byte: &u8| char::from(LETTERS[usize::from(byte % 32)]);
    let groups: Vec<String> = chance.chunks(5).map(|group| group.iter().map(letter).collect()).collect();
    Ok(groups.join("-"))
}

/// Starts everything and deploys the sample policies.
pub(super) fn start(database_url: Option<&str>) -> Result<Site> {
    let site = Site::start_as(layout(database_url)?)?;
    let list = privileged(LIST, rules(&site)?)?;
    site.deploy(&elevon_policy::lists::PrivilegedApplicationList {
        description: Text::new("What people at this computer may run as root, and how they come by it."),
        terms: terms(),
        ..list
    })?;
    let blocked = ["/usr/bin/su", "/usr/bin/passwd"].map(Path::new);
    let blocked =
        blocked.iter().filter(|path| path.exists()).map(|path| hash_of(path)).collect::<Result<_>>()?;
    site.deploy_list("blocklists", &application_list(BLOCKLIST, blocked)?)?;
    profile(&site)?;
    Ok(site)
}

/// Someone has to agree for what lies in the system's folders; `uptime` just runs, and `df` runs with a justification.
fn rules(site: &Site) -> Result<Vec<Rule>> {
    let mut rules = vec![folder(Path::new("/usr/bin"), false)?, folder(Path::new("/usr/sbin"), false)?];
    rules.push(folder(&site.programs.join("tools"), false)?);
    for (program, way) in [("/usr/bin/uptime", Way::Automatic), ("/usr/bin/df", Way::Justification)] {
        if let Ok(rule) = hash_of(Path::new(program)) {
            rules.push(Rule { elevate: Some(way), ..rule });
        }
    }
    Ok(rules)
}

fn terms() -> Terms {
    let choices = vec![Span::from_mins(1), Span::from_mins(5), Span::from_mins(15)];
    Terms {
        durations: Durations { choices, default: Span::from_mins(5), maximum: Span::from_mins(30) },
        at_expiry: AtExpiry::Terminate { warning: Span::from_secs(15), grace: Span::from_secs(2) },
        ..Terms::default()
    }
}

/// So that `su - alice` finds `elevon`, and `elevon` its elevator.
fn profile(site: &Site) -> Result<()> {
    let bin = site.programs.join("bin");
    let profile = format!(
        "export PATH={}:$PATH\nexport ELEVON_SOCKET={}\nPS1='\\u$ '\n",
        bin.display(),
        site.socket().display()
    );
    for person in [&site.alice, &site.bob] {
        fs::write(person.home.join(".profile"), &profile).context("write the demo users' profile")?;
    }
    Ok(())
}
