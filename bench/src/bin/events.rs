//! How many events a server stores durably each second. It starts behind HTTP and TLS: from the parsed body of an agent's
//! request to the commit, signatures, chains and what follows from each event included.

use anyhow::Result;
use clap::Parser;
use elevon_bench::clock;
use elevon_bench::site::{Reports, open};
use elevon_server::db::Db;
use elevon_wire::channel::EVENTS_AT_ONCE;

/// Events stored durably each second, in batches as agents send them.
#[derive(Parser)]
struct Events {
    /// How many events each engine stores
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// How many computers send them, at once
    #[arg(long, default_value_t = 16)]
    computers: usize,
    /// How often each engine is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A PostgreSQL database to measure as well; ELEVON_BENCH_POSTGRES_URL names it too
    #[arg(long)]
    postgres: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let bench = Events::parse();
    println!(
        "{} events of {} computers, {EVENTS_AT_ONCE} at once; signatures, chains and effects included, without HTTP and TLS",
        bench.events, bench.computers
    );
    let folder = tempfile::tempdir()?;
    measure("SQLite", &bench, Db::sqlite_url(folder.path())).await?;
    let postgres = bench.postgres.clone().or_else(|| std::env::var("ELEVON_BENCH_POSTGRES_URL").ok());
    if let Some(url) = postgres {
        measure("PostgreSQL", &bench, url).await?;
    }
    Ok(())
}

async fn measure(engine: &str, bench: &Events, url: String) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let app = open(folder.path(), url).await?;
    for _ in 0..bench.rounds {
        let each = bench.events / bench.computers;
        let reports = Reports::prepare(&app, bench.computers, each).await?;
        let watch = clock::now();
        reports.store(&app).await?;
        let stored = each * bench.computers;
        println!(
            "{engine:10}  stored durably  {:>9.0} events/s",
            stored as f64 / watch.elapsed().as_secs_f64()
        );
    }
    app.db.close().await;
    Ok(())
}
