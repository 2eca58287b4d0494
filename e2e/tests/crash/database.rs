//! A database that is locked by someone else, and one that goes away and comes back.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use elevon_e2e::clock::{SOON, throughout, until};
use elevon_e2e::corpus::Case;
use elevon_e2e::postgres;
use elevon_e2e::program::must;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::ground::{Ground, Kind, postgres_turn};
use crate::steps::{Step, ends_well};
use crate::story::Story;

/// The steps at which the server writes.
const WRITES: [Step; 4] = [Step::Request, Step::Decision, Step::RevocationDecision, Step::Upload];

pub(crate) fn cases() -> Vec<Case<Ground>> {
    let locked = WRITES.map(|step| {
        case(step, "SQLite locked", Kind::Sqlite, |ground, act| {
            let lock = Locked::take(&ground.site.tree.join("server"))?;
            act(ground)?;
            drop(lock);
            Ok(())
        })
    });
    let stopped = WRITES.map(|step| {
        case(step, "PostgreSQL stopped and back", Kind::Postgres, |ground, act| {
            let cluster = Cluster::find()?;
            cluster.control(&["stop", "--mode=immediate"])?;
            let acted = act(ground);
            cluster.control(&["start"])?;
            acted
        })
    });
    locked.into_iter().chain(stopped).collect()
}

type Act<'a> = &'a mut dyn FnMut(&mut Ground) -> Result<()>;

fn case(step: Step, what: &str, kind: Kind, around: fn(&mut Ground, Act<'_>) -> Result<()>) -> Case<Ground> {
    Case {
        title: format!("{} · {what}", step.name()),
        kind,
        alone: false,
        act: Box::new(move |ground| {
            // Others stand on the same cluster.
            let _turn = (kind == Kind::Postgres).then(postgres_turn);
            let mut story = step.story(ground);
            match step {
                Step::Decision | Step::Upload => story.is_asked(ground)?,
                Step::RevocationDecision => story.is_run(ground)?,
                _ => {}
            }
            around(ground, &mut |ground| meanwhile(ground, step, &mut story))?;
            let then = step.goes_on(ground, &mut story)?;
            let events = ends_well(ground, &mut story)?;
            Ok(format!("{then}; {events} events"))
        }),
    }
}

/// What people do, and what does not come of it for a while.
fn meanwhile(ground: &mut Ground, step: Step, story: &mut Story) -> Result<()> {
    match step {
        Step::RevocationDecision => story.revoke(ground)?,
        Step::Request => {
            story.ask(ground)?;
            until("the request to be on record", SOON, || story.request())?;
        }
        _ => story.approve(ground)?,
    }
    throughout("nothing changes", Duration::from_millis(500), || match step {
        Step::RevocationDecision => !story.is_over(),
        _ => story.waits(),
    })
}

/// The lock that whoever writes to an SQLite database takes (the byte 120 of its `-shm` file; see «WAL-Index File Format» in
/// SQLite's documentation).
struct Locked {
    _file: File,
}

impl Locked {
    fn take(server: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(server.join("elevon.db-shm"))?;
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 120,
            l_len: 1,
            l_pid: 0,
        };
        until("the database's lock", SOON, || Ok(fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).ok()))?;
        Ok(Self { _file: file })
    }
}

/// The PostgreSQL that the tests were given.
struct Cluster {
    data: PathBuf,
    programs: PathBuf,
}

impl Cluster {
    fn find() -> Result<Self> {
        let url = postgres::given().context("ELEVON_TEST_POSTGRES_URL names a PostgreSQL")?;
        let ask = "select current_setting('data_directory')";
        let data =
            must(Command::new("psql").args([&url, "--no-align", "--tuples-only", "--command", ask]), b"")?;
        let data = PathBuf::from(data.trim());
        let pid = fs::read_to_string(data.join("postmaster.pid"))?;
        let pid = pid.lines().next().context("the number of its process")?;
        let program = fs::read_link(format!("/proc/{pid}/exe"))?;
        Ok(Self { programs: program.parent().context("a folder")?.to_owned(), data })
    }

    /// It remembers how it was started.
    fn control(&self, verb: &[&str]) -> Result<()> {
        let owner = fs::metadata(&self.data)?;
        let options = fs::read_to_string(self.data.join("postmaster.opts"))?;
        let (_, options) = options.split_once(' ').unwrap_or_default();
        let mut control = Command::new(self.programs.join("pg_ctl"));
        control
            .uid(owner.uid())
            .gid(owner.gid())
            .current_dir(&self.data)
            .args(verb)
            .arg("--silent")
            .arg("-D");
        control.arg(&self.data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if verb == ["start"] {
            control.arg("-o").arg(options.replace('"', "'")).arg("-l").arg(self.data.join("again.log"));
        }
        let status = control.status()?;
        anyhow::ensure!(status.success(), "pg_ctl {verb:?} ended with {status}");
        Ok(())
    }
}
