//! The real polkit on a D-Bus of its own, with Elevon's rule as it is shipped. It lives in a mount namespace, as under
//! systemd, so that the rule lies nowhere but there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::clock::{SOON, until_true};
use crate::person::Person;
use crate::program::{Program, Ran, must, run};
use crate::site::Site;

/// Elevon's rule.
const RULE: &str = include_str!("../../packaging/polkit/49-elevon.rules");

/// Where distributions put the daemon.
const DAEMONS: [&str; 3] =
    ["/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd", "/usr/libexec/polkit-1/polkitd"];

/// Where setuid programs such as `pkexec` look for the system's D-Bus, whatever their environment says.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// A D-Bus and a polkit that runs on it.
#[derive(Debug)]
pub struct Polkit {
    // Dropped, and so ended, in this order.
    daemon: Program,
    _bus: Program,
    _socket: Socket,
    address: String,
}

/// A socket that is taken away with what listened on it.
#[derive(Debug)]
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Polkit {
    /// Starts both, and waits until polkit answers.
    pub fn start(site: &Site) -> Result<Self> {
        Self::start_on(site, site.tree.join("polkit/bus"), None)
    }

    /// The same on the system's D-Bus, where this computer runs none, with another rule.
    pub fn of_the_system(site: &Site, rule: &str) -> Result<Self> {
        let socket = PathBuf::from(SYSTEM_BUS);
        ensure!(UnixStream::connect(&socket).is_err(), "a D-Bus listens on {SYSTEM_BUS} already");
        fs::create_dir_all("/run/dbus")?;
        Self::start_on(site, socket, Some(rule))
    }

    fn start_on(site: &Site, socket: PathBuf, more: Option<&str>) -> Result<Self> {
        let folder = site.tree.join("polkit");
        let rules = folder.join("rules.d");
        fs::create_dir_all(&rules)?;
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o755))?;
        let configuration = folder.join("bus.conf");
        fs::write(&configuration, bus_configuration(&socket))?;
        let logs = site.tree.join("logs");
        let mut bus = Command::new("dbus-daemon");
        bus.arg(format!("--config-file={}", configuration.display())).args(["--nofork", "--nopidfile"]);
        let bus = Program::start("dbus-daemon", &mut bus, &logs)?;
        until_true("the D-Bus to listen", SOON, || UnixStream::connect(&socket).is_ok())
            .with_context(|| bus.log())?;

        let (uid, gid) = account()?;
        fs::write(rules.join("49-elevon.rules"), rule(site)?)?;
        if let Some(more) = more {
            fs::write(rules.join("48-more.rules"), more)?;
        }
        chown(&rules, Some(uid), Some(gid))?;
        let address = format!("unix:path={}", socket.display());
        let daemon = DAEMONS.iter().find(|path| Path::new(path).exists()).context("polkitd is installed")?;
        let mut polkit = Command::new("unshare");
        polkit.args(["--mount", "--propagation", "private", "--", "sh", "-c"]);
        polkit.arg(r#"mount --bind "$1" /etc/polkit-1/rules.d && exec "$0" --no-debug"#);
        polkit.arg(daemon).arg(&rules).env("DBUS_SYSTEM_BUS_ADDRESS", &address);
        let daemon = Program::start("polkitd", &mut polkit, &logs)?;
        let polkit = Self { daemon, _bus: bus, _socket: Socket(socket), address };
        until_true("polkit to answer", SOON, || {
            polkit.asked(site, &site.alice, NOBODYS).is_ok_and(|ran| !ran.err.contains("Error"))
        })
        .with_context(|| polkit.daemon.log())?;
        Ok(polkit)
    }

    /// `pkcheck` as this user, about itself.
    pub fn asked(&self, site: &Site, person: &Person, action: &str) -> Result<Ran> {
        let mut sh = site.as_user(person, Path::new("/bin/sh"))?;
        sh.args(["-c", r#"exec pkcheck --action-id "$0" --process $$"#, action]);
        run(sh.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address), b"")
    }

    /// Whether this user may do that.
    pub fn allows(&self, site: &Site, person: &Person, action: &str) -> Result<bool> {
        let ran = self.asked(site, person, action)?;
        ensure!(!ran.err.contains("Error"), "pkcheck said {}; {}", ran.err, self.daemon.log());
        Ok(ran.code() == 0)
    }
}

/// An action that is asked about only to hear whether polkit answers.
const NOBODYS: &str = "org.freedesktop.hostname1.get-product-uuid";

fn bus_configuration(socket: &Path) -> String {
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"#,
        socket.display()
    )
}

/// The rule as it is shipped, but for where the client and the elevator are in this site.
fn rule(site: &Site) -> Result<String> {
    let ours = |path: PathBuf| format!("\"{}\"", path.display());
    let shipped = "\"/usr/local/bin/elevon\",";
    ensure!(RULE.contains(shipped), "the rule that is shipped starts {shipped}");
    let here = format!("{}, \"--socket\", {},", ours(site.client()), ours(site.socket()));
    Ok(RULE.replace(shipped, &here))
}

fn account() -> Result<(u32, u32)> {
    let number = |option| -> Result<u32> {
        Ok(must(Command::new("id").args([option, "polkitd"]), b"")?.trim().parse()?)
    };
    Ok((number("-u")?, number("-g")?))
}
