//! The trail: chained, whole, and safe to take away.

use elevon_policy::application::Sha256;
use elevon_policy::event::{Layers, What, Witnessed};
use elevon_policy::grant::PolicyReference;
use elevon_policy::id::{GrantId, LaunchId, PolicyId, Version};
use elevon_policy::lists::RunsAs;
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Span;
use elevon_server::app::chance;
use elevon_server::audit::Origin;
use elevon_server::audit::checkpoints;
use elevon_server::audit::verify::{Depth, Verified, verify};
use elevon_server::auth::Role;
use elevon_server::db::Engine;
use elevon_wire::chain::{self, Record};

use crate::endpoint::{Endpoint, alias};
use crate::site::Site;

crate::on_both_engines!(
    an_edited_row_is_found_and_named,
    a_column_beside_a_record_is_found_and_named,
    a_name_with_control_characters_is_no_harm,
    a_deleted_row_is_found_and_named,
    a_cut_tail_is_found,
    a_recomputed_chain_is_found,
    what_one_computer_alone_says_breaks_nothing,
    what_several_computers_say_is_found,
    an_old_backup_in_its_place_is_found,
    a_line_cut_off_in_the_file_does_no_harm,
    a_foreign_signature_is_found,
    the_report_goes_on_where_it_stopped,
    filters_narrow_the_report,
    the_report_of_one_user_reads_only_their_events,
    the_csv_is_harmless_to_a_spreadsheet,
);

async fn some_events(site: &Site) -> Endpoint {
    let mut computer = Endpoint::enroll(site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    for user in ["alice", "bob", "carol"] {
        computer.asks(site, user, &policy).await;
    }
    assert_eq!(verify(&site.app, Depth::Chains).await.unwrap().unwrap().chains, 2);
    computer
}

async fn holds(site: &Site) -> Verified {
    verify(&site.app, Depth::Chains).await.unwrap().unwrap()
}

/// The chain, the number and the cause of the first bad row.
async fn found(site: &Site) -> (String, u64, String) {
    let tampered = verify(&site.app, Depth::Chains).await.unwrap().unwrap_err();
    (tampered.origin.to_string(), tampered.number, tampered.cause)
}

async fn an_edited_row_is_found_and_named(site: Site) {
    let computer = some_events(&site).await;
    let group = "select number from events where kind = 'group.saved'";
    let number: i64 = {
        let mut db = site.app.db.read().await.unwrap();
        sqlx::query_scalar(group).fetch_one(&mut *db).await.unwrap()
    };
    run(&site, "update events set body = replace(body, 'Fleet', 'Fleed') where kind = 'group.saved'").await;
    let (origin, at, cause) = found(&site).await;
    assert_eq!((origin.as_str(), at), ("server", number as u64), "{cause}");
    run(&site, "update events set body = replace(body, 'Fleed', 'Fleet') where chain = 'server'").await;
    holds(&site).await;

    run(&site, "update events set kind = 'request.lost' where chain <> 'server' and number = 2").await;
    let (origin, at, cause) = found(&site).await;
    assert_eq!((origin, at), (computer.id.to_string(), 2), "{cause}");
    assert!(cause.contains("columns"), "{cause}");
    run(&site, "update events set kind = 'request.made' where chain <> 'server' and number = 2").await;

    // The very last event, which none follows.
    run(&site, "update events set body = replace(body, '\"signature\":\"', '\"signature\":\"A') where chain <> 'server' and number = 3").await;
    let (origin, at, _) = found(&site).await;
    assert_eq!((origin, at), (computer.id.to_string(), 3));
}

/// The report is filtered by them, and no signature covers them.
async fn a_column_beside_a_record_is_found_and_named(site: Site) {
    let mut computer = some_events(&site).await;
    let policy = PolicyId::new(site.now(), chance());
    computer
        .report(
            &site,
            What::LaunchStarted {
                launch: LaunchId::new(site.now(), chance()),
                grant: GrantId::new(site.now(), chance()),
                user: alias("alice"),
                path: OsText::from("/usr/sbin/tool"),
                sha256: Sha256([7; 32]),
                argv: vec![OsText::from("tool")],
                policy: PolicyReference { policy, version: Version::FIRST, rule: None },
                end: site.now().after(Span::from_mins(10)),
                runs_as: RunsAs::Root,
                layers: Layers { cgroup: true, subreaper: true, own_deadline: true, ..Layers::default() },
                login: None,
                origin: None,
            },
        )
        .await;
    let launch = computer.head.number;
    holds(&site).await;
    let chain = computer.id.to_string();
    // A request is read as a whole, of a launch only a part.
    for (number, columns) in [
        (2, ["account", "computer_id", "user_name", "application", "policy_id", "request_id"].as_slice()),
        (
            launch,
            &["account", "user_name", "application", "policy_id", "request_id", "grant_id", "launch_id"],
        ),
    ] {
        for column in columns {
            let this = format!("where chain = '{chain}' and number = {number}");
            let old: Option<String> = {
                let mut db = site.app.db.read().await.unwrap();
                let sql = format!("select {column} from events {this}");
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *db).await.unwrap()
            };
            for new in ["'mallory'", "null", "'\u{1f}'"] {
                if old.is_none() && new == "null" {
                    continue;
                }
                run(&site, &format!("update events set {column} = {new} {this}")).await;
                let (origin, at, cause) = found(&site).await;
                assert_eq!((origin.as_str(), at), (chain.as_str(), number), "{cause}");
                assert!(cause.contains(&format!("its column {column} says")), "{cause}");
            }
            let old = old.map_or("null".to_owned(), |old| format!("'{old}'"));
            run(&site, &format!("update events set {column} = {old} {this}")).await;
        }
    }
    holds(&site).await;
    run(&site, "update events set account = 'mallory' where chain = 'server' and kind = 'policy.deployed'")
        .await;
    let (origin, _, cause) = found(&site).await;
    assert_eq!(origin, "server");
    assert!(cause.contains("its column account says “mallory”, its record “administrator token”"), "{cause}");
}

async fn a_name_with_control_characters_is_no_harm(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    let policy = site.policy(&[&computer]).await;
    for user in ["al\nice", "b\u{1f}ob", "c\\a\"rol\r"] {
        computer.asks(&site, user, &policy).await;
    }
    assert_eq!(holds(&site).await.chains, 2);
    run(&site, "update events set user_name = 'alice' where chain <> 'server' and number = 1").await;
    let (origin, at, cause) = found(&site).await;
    assert_eq!((origin, at), (computer.id.to_string(), 1), "{cause}");
    assert!(cause.contains("user_name says “alice”, its record “al\\x0aice”"), "{cause}");
}

async fn a_deleted_row_is_found_and_named(site: Site) {
    let computer = some_events(&site).await;
    run(&site, "delete from events where chain <> 'server' and number = 2").await;
    let (origin, at, cause) = found(&site).await;
    assert_eq!((origin, at), (computer.id.to_string(), 2), "{cause}");
    assert!(cause.contains("missing"), "{cause}");
}

/// Whoever cuts the tail moves the end of the chain as well; the checkpoint stays.
async fn a_cut_tail_is_found(site: Site) {
    let computer = some_events(&site).await;
    run(&site, "delete from events where chain <> 'server' and number = 3").await;
    let (origin, at, cause) = found(&site).await;
    assert_eq!((origin, at), (computer.id.to_string(), 3), "{cause}");
    drop(computer);

    let site = on_the_same_engine(&site).await;
    let mut computer = some_events(&site).await;
    checkpoints::now(&site.app).await.unwrap();
    let kept = computer.head;
    computer.report(&site, What::DocumentRefused { cause: Text::new("late") }).await;
    assert_eq!(holds(&site).await.checkpoints, 1);
    set_back(&site, &computer.id.to_string(), kept).await;
    // What came after the last checkpoint is out of its reach: the promise is a minute.
    holds(&site).await;
    let before = before(&site, &computer.id.to_string(), kept.number).await;
    set_back(&site, &computer.id.to_string(), before).await;
    let (origin, at, cause) = found(&site).await;
    assert_eq!((origin, at), (computer.id.to_string(), 3), "{cause}");
    assert!(cause.contains("tail was cut"), "{cause}");
}

/// Every row behind the changed one is made to fit again: only what was signed before says otherwise.
async fn a_recomputed_chain_is_found(site: Site) {
    let _computer = some_events(&site).await;
    checkpoints::now(&site.app).await.unwrap();
    holds(&site).await;
    recompute(&site, "Fleet", "Fleed").await;
    let (origin, at, cause) = found(&site).await;
    assert_eq!((origin.as_str(), at), ("server", 1), "{cause}");
    assert!(cause.contains("written anew") && cause.contains("checkpoint 1"), "{cause}");

    // Without the checkpoints in the database, the file outside it still knows.
    run(&site, "delete from checkpoints").await;
    let (_, _, cause) = found(&site).await;
    assert!(cause.contains("checkpoints") && cause.contains("written anew"), "{cause}");

    // Without both, a computer that was told is a witness.
    let mut computer = Endpoint::enroll(&site, "web2").await;
    std::fs::remove_file(checkpoints::path(&site.state_dir())).unwrap();
    checkpoints::now(&site.app).await.unwrap();
    let sheet = computer.sheet(&site).await;
    assert!(sheet.checkpoint.is_some());
    let delivered = What::SheetDelivered {
        version: sheet.version,
        bundle: sheet.bundle,
        grants: Vec::new(),
        checkpoint: sheet.checkpoint,
    };
    computer.report(&site, delivered).await;
    assert_eq!(holds(&site).await.witnesses, 1);
    run(&site, "delete from checkpoints").await;
    std::fs::remove_file(checkpoints::path(&site.state_dir())).unwrap();
    recompute(&site, "Fleed", "Flood").await;
    let (origin, _, cause) = found(&site).await;
    assert_eq!(origin, "server");
    assert!(cause.contains(&format!("computer {}", computer.id)), "{cause}");
}

/// A computer says that its sheet told of this head of the server's chain.
async fn witnesses(site: &Site, computer: &mut Endpoint, checkpoint: ChainHead) {
    let sheet = computer.sheet(site).await;
    let (version, bundle) = (sheet.version, sheet.bundle);
    let delivered =
        What::SheetDelivered { version, bundle, grants: Vec::new(), checkpoint: Some(checkpoint) };
    computer.report(site, delivered).await;
}

async fn what_one_computer_alone_says_breaks_nothing(site: Site) {
    let mut computer = some_events(&site).await;
    let mut liar = Endpoint::enroll(&site, "web2").await;
    checkpoints::now(&site.app).await.unwrap();
    let told = computer.sheet(&site).await.checkpoint.unwrap();
    let invented = |number| ChainHead { number, digest: Sha256([3; 32]) };
    for number in [1, told.number, 1_000_000, u64::MAX] {
        witnesses(&site, &mut liar, invented(number)).await;
    }
    witnesses(&site, &mut computer, told).await;
    witnesses(&site, &mut liar, told).await;
    let contradicted =
        |known| What::ServerContradicted { chain: Witnessed::Server, known, told: ChainHead::START };
    liar.report(&site, contradicted(invented(2))).await;

    let verified = holds(&site).await;
    assert_eq!((verified.chains, verified.witnesses), (3, 2));
    let word = verified.alone.clone().unwrap();
    assert_eq!((word.computer, word.number, word.times), (liar.id, 1, 5));
    let sentence = verified.to_string();
    assert!(sentence.contains(&format!("computer {} (web2)", liar.id)), "{sentence}");
    assert!(sentence.contains("it alone says so"), "{sentence}");

    // What was really done is found as before.
    recompute(&site, "Fleet", "Fleed").await;
    let (origin, at, cause) = found(&site).await;
    assert_eq!((origin.as_str(), at), ("server", 1), "{cause}");
    assert!(cause.contains("checkpoint 1"), "{cause}");
}

/// Whoever has the server's key can make its checkpoints anew as well.
async fn what_several_computers_say_is_found(site: Site) {
    let mut one = some_events(&site).await;
    let mut two = Endpoint::enroll(&site, "web2").await;
    checkpoints::now(&site.app).await.unwrap();
    let told = one.sheet(&site).await.checkpoint.unwrap();
    witnesses(&site, &mut one, told).await;
    witnesses(&site, &mut two, told).await;
    assert_eq!(holds(&site).await.alone, None);
    recompute(&site, "Fleet", "Fleed").await;
    run(&site, "delete from checkpoints").await;
    std::fs::remove_file(checkpoints::path(&site.state_dir())).unwrap();
    site.group("Late", &[]).await;
    checkpoints::now(&site.app).await.unwrap();
    let (origin, at, cause) = found(&site).await;
    assert_eq!((origin.as_str(), at), ("server", told.number), "{cause}");
    for computer in [&one, &two] {
        assert!(cause.contains(&format!("computer {}", computer.id)), "{cause}");
    }
}

/// An older database with everything in it as it was then, in place of the present one.
async fn an_old_backup_in_its_place_is_found(site: Site) {
    let mut computer = some_events(&site).await;
    checkpoints::now(&site.app).await.unwrap();
    let head = computer.head;
    let server = before(&site, "server", u64::MAX).await;
    computer.report(&site, What::DocumentRefused { cause: Text::new("late") }).await;
    site.group("Late", &[]).await;
    site.later(Span::from_mins(1));
    checkpoints::now(&site.app).await.unwrap();
    assert_eq!(checkpoints::contradiction(&site.app).await.unwrap(), None);
    let verified = holds(&site).await;
    assert_eq!((verified.checkpoints, verified.outside), (2, 2));

    set_back(&site, &computer.id.to_string(), head).await;
    set_back(&site, "server", server).await;
    run(&site, "delete from checkpoints where number > 1").await;
    let (_, _, cause) = found(&site).await;
    assert!(cause.contains("older database was put in its place"), "{cause}");
    let told = checkpoints::contradiction(&site.app).await.unwrap().unwrap();
    assert!(told.contains("audit verify"), "{told}");

    // It goes on from there: what the file knows stays known.
    for round in 0..3 {
        site.group(&format!("Later {round}"), &[]).await;
        site.later(Span::from_mins(1));
        checkpoints::now(&site.app).await.unwrap();
    }
    let (_, _, cause) = found(&site).await;
    assert!(cause.contains("contradict") || cause.contains("older database"), "{cause}");
}

async fn a_foreign_signature_is_found(site: Site) {
    let computer = some_events(&site).await;
    let other = Endpoint::enroll(&site, "web2").await;
    let mut forger = Endpoint { id: computer.id, head: ChainHead::START, ..other };
    let mut forged = Vec::new();
    for _ in 0..3 {
        forged.push(forger.record(&site, What::DocumentRefused { cause: Text::new("nothing happened") }));
    }
    // A whole chain that fits together, by another hand.
    for (number, signed) in (1..).zip(&forged) {
        let body = serde_json::to_string(signed).unwrap();
        let sql = format!(
            "update events set kind = 'document.refused', at = {}, body = '{body}', user_name = null,
                 application = null, policy_id = null, request_id = null where chain = '{}' and number = {number}",
            site.now().millis(),
            computer.id
        );
        run(&site, &sql).await;
    }
    run(&site, &format!("update chains set digest = '{}' where id = '{}'", forger.head.digest, computer.id))
        .await;
    let (origin, at, cause) = found(&site).await;
    assert_eq!((origin, at), (computer.id.to_string(), 3));
    assert!(cause.contains("key"), "{cause}");
    let tampered = verify(&site.app, Depth::EachSignature).await.unwrap().unwrap_err();
    assert_eq!(tampered.number, 1);
}

async fn a_line_cut_off_in_the_file_does_no_harm(site: Site) {
    let _computer = some_events(&site).await;
    checkpoints::now(&site.app).await.unwrap();
    let path = checkpoints::path(&site.state_dir());
    let whole = std::fs::read(&path).unwrap();
    site.group("More", &[]).await;
    site.later(Span::from_mins(1));
    checkpoints::now(&site.app).await.unwrap();
    // Power was lost while the second line was written.
    let second = std::fs::read(&path).unwrap();
    std::fs::write(&path, &second[..whole.len() + 40]).unwrap();
    assert_eq!(holds(&site).await.outside, 1);
    site.group("And more", &[]).await;
    site.later(Span::from_mins(1));
    checkpoints::now(&site.app).await.unwrap();
    let verified = holds(&site).await;
    assert_eq!((verified.checkpoints, verified.outside), (3, 3));
}

// ---- what whoever owns the database can do ----

async fn run(site: &Site, sql: &str) {
    let mut tx = site.app.db.begin().await.unwrap();
    let unguard = match site.app.db.engine() {
        Engine::Sqlite => "drop trigger if exists events_kept; drop trigger if exists events_stay",
        Engine::Postgres => "drop trigger if exists events_kept on events",
    };
    sqlx::raw_sql(unguard).execute(&mut *tx).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

/// Makes this event the last one of its chain, as if none had come after.
async fn set_back(site: &Site, chain: &str, head: ChainHead) {
    run(site, &format!("delete from events where chain = '{chain}' and number > {}", head.number)).await;
    run(
        site,
        &format!(
            "update chains set number = {}, digest = '{}', checkpointed = 0 where id = '{chain}'",
            head.number, head.digest
        ),
    )
    .await;
}

/// The head that a chain had before this event.
async fn before(site: &Site, chain: &str, number: u64) -> ChainHead {
    let mut db = site.app.db.read().await.unwrap();
    let origin = chain.parse().unwrap();
    let kept = elevon_server::audit::sql::kept(&mut db, origin, 0, 1000).await.unwrap();
    let last = kept.iter().rfind(|kept| kept.number < number).unwrap();
    ChainHead { number: last.number, digest: last.digest(origin).unwrap() }
}

/// Changes the server's own events and makes every one behind fit again.
async fn recompute(site: &Site, from: &str, to: &str) {
    let kept = {
        let mut db = site.app.db.read().await.unwrap();
        elevon_server::audit::sql::kept(&mut db, Origin::Server, 0, 1000).await.unwrap()
    };
    let mut at = ChainHead::START;
    for kept in kept {
        let record: Record = serde_json::from_str(&kept.body.replace(from, to)).unwrap();
        let body = Record::encode(at, &record.event);
        at = chain::head(at, &body);
        let body = String::from_utf8(body).unwrap().replace('\'', "''");
        run(
            site,
            &format!("update events set body = '{body}' where chain = 'server' and number = {}", kept.number),
        )
        .await;
    }
    run(site, &format!("update chains set digest = '{}' where id = 'server'", at.digest)).await;
}

async fn on_the_same_engine(site: &Site) -> Site {
    match site.app.db.engine() {
        Engine::Sqlite => Site::on_sqlite().await,
        Engine::Postgres => Site::on_postgres().await,
    }
}

async fn the_report_goes_on_where_it_stopped(site: Site) {
    let mut computer = Endpoint::enroll(&site, "web1").await;
    for round in 0..12 {
        // Many events at the same millisecond, of two chains.
        let records: Vec<_> = (0..10)
            .map(|_| computer.record(&site, What::DocumentRefused { cause: Text::new("x") }))
            .collect();
        computer.send(&site, &records).await.ok();
        if round % 3 == 0 {
            site.later(Span::from_millis(1));
        }
    }
    let token = site.token(Role::Auditor).await;
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = String::new();
    let mut parts = 0;
    loop {
        let part = site.get(&token, &format!("events?cursor={cursor}")).await.ok();
        for row in part["items"].as_array().unwrap() {
            let key = (row["origin"].to_string(), row["number"].as_u64().unwrap());
            assert!(seen.insert(key), "{row} twice");
        }
        parts += 1;
        match part["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert!(parts >= 3);
    assert_eq!(seen.iter().filter(|(origin, _)| !origin.contains("server")).count(), 120);
    site.get(&token, "events?cursor=nonsense").await.refused(422, "cursor");
}

async fn filters_narrow_the_report(site: Site) {
    let computer = some_events(&site).await;
    let token = site.token(Role::Auditor).await;
    let count = async |query: String| {
        site.get(&token, &format!("events?{query}")).await.ok()["items"].as_array().unwrap().len()
    };
    assert_eq!(count("kind=request.made".into()).await, 3);
    assert_eq!(count("kind=request.made&user=bob".into()).await, 1);
    assert_eq!(count(format!("kind=request.made&computer={}", computer.id)).await, 3);
    assert_eq!(count("application=SBIN/to".into()).await, 3);
    assert_eq!(count("application=%25".into()).await, 0, "a percent sign is itself");
    assert_eq!(count("user=x'%20or%20'1'='1".into()).await, 0);
    assert_eq!(count(format!("until={}", site.now().millis())).await, 0);
    assert!(count(format!("since={}", site.now().millis())).await > 3);
}

/// The filter by user looks for the names of accounts as well.
async fn the_report_of_one_user_reads_only_their_events(site: Site) {
    let explained = match site.app.db.engine() {
        Engine::Sqlite => "explain query plan",
        // A table this small would be read as a whole.
        Engine::Postgres => "set local enable_seqscan = off; set local enable_indexscan = off; explain",
    };
    let (set, explain) = explained.rsplit_once("; ").unwrap_or(("select 1", explained));
    let sql = format!(
        "{explain} select e.number, c.host_name from events e left join computers c on c.id = e.computer_id
         where (e.at, e.chain, e.number) < (9, 'x', 1) and (e.user_name = 'olga' or e.account = 'olga')
         order by e.at desc, e.chain desc, e.number desc limit 50"
    );
    let mut tx = site.app.db.begin().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut *tx).await.unwrap();
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *tx).await.unwrap();
    let column = if site.app.db.engine() == Engine::Sqlite { 3 } else { 0 };
    let plan: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, column)).collect();
    let plan = plan.join("\n");
    for index in ["events_by_user", "events_by_account"] {
        assert!(plan.contains(index), "{plan}");
    }
}

async fn the_csv_is_harmless_to_a_spreadsheet(site: Site) {
    let mut computer = Endpoint::enroll(&site, "=cmd|' /C calc'!A0").await;
    computer.report(&site, What::DocumentRefused { cause: Text::new("a,\"b\"\r\n=1+1") }).await;
    let token = site.token(Role::Auditor).await;
    let csv = site.get(&token, "events.csv?kind=document.refused").await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let text = csv.text();
    let lines: Vec<_> = text.split("\r\n").collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1].contains(",'=cmd|"), "{text}");
    assert!(!lines[1].contains(",=") && !lines[1].contains(",\"="), "{text}");
}
