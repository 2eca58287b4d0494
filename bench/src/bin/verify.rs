//! How many events `audit verify` checks each second, beside what anyone would use to see whether a file was changed:
//! `sha256sum` over the same records, which tells neither who wrote them nor whether one is missing.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use elevon_bench::clock;
use elevon_bench::site::{Reports, open};
use elevon_server::app::App;
use elevon_server::audit::verify::{Depth, verify};
use elevon_server::audit::{self, Origin};
use elevon_server::db::Db;

/// `audit verify` over many honest events.
#[derive(Parser)]
struct Verify {
    /// How many events there are
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// How many computers recorded them
    #[arg(long, default_value_t = 16)]
    computers: usize,
    /// How often it is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Keep the events in this folder, or take those that are there
    #[arg(long)]
    folder: Option<PathBuf>,
    /// A PostgreSQL database to measure as well; ELEVON_BENCH_POSTGRES_URL names it too
    #[arg(long)]
    postgres: Option<String>,
}

/// So many events of each computer are prepared in memory at a time.
const AT_A_TIME: usize = 10_000;

#[tokio::main]
async fn main() -> Result<()> {
    let bench = Verify::parse();
    let temporary = tempfile::tempdir()?;
    let folder = bench.folder.clone().unwrap_or_else(|| temporary.path().join("sqlite"));
    let app = open(&folder, Db::sqlite_url(&folder)).await?;
    measure("SQLite", &bench, &app).await?;
    beside(&bench, &app, &temporary.path().join("records")).await?;
    app.db.close().await;
    let postgres = bench.postgres.clone().or_else(|| std::env::var("ELEVON_BENCH_POSTGRES_URL").ok());
    if let Some(url) = postgres {
        let app = open(&temporary.path().join("postgres"), url).await?;
        measure("PostgreSQL", &bench, &app).await?;
        app.db.close().await;
    }
    Ok(())
}

async fn measure(engine: &str, bench: &Verify, app: &App) -> Result<()> {
    let each = bench.events / bench.computers;
    let mut there = check(app).await? as usize / bench.computers;
    while there < each {
        let more = (each - there).min(AT_A_TIME);
        Reports::prepare(app, bench.computers, more).await?.store(app).await?;
        audit::checkpoints::now(app).await?;
        there += more;
    }
    for _ in 0..bench.rounds {
        let watch = clock::now();
        let events = check(app).await?;
        tell(&format!("{engine}  audit verify"), events, watch);
    }
    Ok(())
}

async fn check(app: &App) -> Result<u64> {
    let verified = verify(app, Depth::Chains).await?.map_err(|found| anyhow::anyhow!("{found}"))?;
    Ok(verified.events)
}

/// The same records in one file, and `sha256sum` over it; the file is in memory by then, as the database is.
async fn beside(bench: &Verify, app: &App, file: &Path) -> Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(file).context("make a file of all records")?);
    let mut db = app.db.read().await?;
    let mut events = 0;
    for (origin, _) in audit::sql::chains(&mut db).await? {
        events += copy(&mut db, origin, &mut out).await?;
    }
    out.flush()?;
    for _ in 0..bench.rounds {
        let watch = clock::now();
        let ended = Command::new("sha256sum").arg(file).stdout(Stdio::null()).status();
        ensure!(ended.context("start sha256sum")?.success(), "sha256sum failed");
        tell("sha256sum of the same records", events, watch);
    }
    Ok(())
}

async fn copy(db: &mut sqlx::AnyConnection, origin: Origin, out: &mut impl Write) -> Result<u64> {
    let mut after = 0;
    loop {
        let kept = audit::sql::kept(db, origin, after, 1000).await?;
        let Some(last) = kept.last() else { return Ok(after) };
        after = last.number;
        for row in &kept {
            writeln!(out, "{}", row.body)?;
        }
    }
}

fn tell(what: &str, events: u64, watch: clock::Start) {
    println!(
        "{what:32}  {events:>9} events  {:>9.0} events/s",
        events as f64 / watch.elapsed().as_secs_f64()
    );
}
