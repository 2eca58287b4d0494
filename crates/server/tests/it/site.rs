//! A whole server in a temporary folder, with a clock that the test moves.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};
use elevon_server::app::{App, chance};
use elevon_server::auth::{Actor, Administrator, Approver, Owner, Reader, Role};
use elevon_server::clock::Clock;
use elevon_server::config::{AGENT_CERTIFICATE_LIFE, Config};
use elevon_server::db::Db;
use elevon_server::keys::Keys;
use elevon_server::{accounts, audit, router};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::endpoint::Endpoint;

pub(crate) struct Site {
    pub(crate) app: App,
    pub(crate) people: Router,
    pub(crate) agents: Router,
    _folder: TempDir,
    _database: Option<Database>,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    #[track_caller]
    pub(crate) fn refused(self, status: u16, sentence: &str) {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        assert!(body.contains(sentence), "{body}");
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) const PASSWORD: &str = "correct horse battery";

impl Site {
    pub(crate) async fn on_sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = Db::sqlite_url(folder.path());
        Self::new(folder, url, None).await
    }

    pub(crate) async fn on_postgres() -> Self {
        let database = Database::new().await;
        let url = database.url();
        Self::new(TempDir::new().unwrap(), url, Some(database)).await
    }

    pub(crate) async fn new(folder: TempDir, database_url: String, database: Option<Database>) -> Self {
        let config = Config {
            state_dir: folder.path().to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            agents_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            public_url: "https://localhost:8443".to_owned(),
            agents_address: "localhost:8444".to_owned(),
            database_url,
            agent_certificate_life: AGENT_CERTIFICATE_LIFE,
            windows_authorities: None,
            measurer: PathBuf::from(env!("CARGO_BIN_EXE_elevon-server")),
        };
        // Certificates are checked against the real clock.
        let clock = Clock::moved(Clock::System.now());
        let keys = Keys::open(&config.state_dir, &config.host_names(), clock.now()).unwrap();
        let db = Db::open(&config.database_url).await.unwrap();
        let app = App::new(db, clock, keys, config);
        audit::open(&app).await.unwrap();
        let (people, agents) = (router::people(app.clone()), router::agents(app.clone()));
        Self { app, people, agents, _folder: folder, _database: database }
    }

    /// Another server on the same database, with a copy of the keys.
    pub(crate) async fn replica(&self) -> App {
        let config = &self.app.config;
        self.with_keys(Keys::open(&config.state_dir, &config.host_names(), self.now()).unwrap()).await
    }

    /// Another server on the same database, with these keys.
    pub(crate) async fn with_keys(&self, keys: Keys) -> App {
        let config = self.app.config.clone();
        let db = Db::open(&config.database_url).await.unwrap();
        App::new(db, self.app.clock.clone(), keys, config)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.app.config.state_dir.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.app.now()
    }

    pub(crate) fn later(&self, span: Span) {
        self.app.clock.advance(span);
    }

    // ---- rights ----

    pub(crate) fn owner(&self) -> Owner {
        Owner::of(Actor::command_line()).unwrap()
    }

    pub(crate) fn administrator(&self) -> Administrator {
        Administrator::of(Actor::command_line()).unwrap()
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::of(Actor::command_line()).unwrap()
    }

    /// An approver who is tied to the operating-system user of the same name.
    pub(crate) fn approver(&self, name: &str) -> Approver {
        let mut actor = Actor::command_line();
        actor.decider.name = Text::new(name);
        Approver::of(actor).unwrap()
    }

    pub(crate) async fn token(&self, role: Role) -> String {
        let name = Text::new(format!("{role} token"));
        accounts::create_api_token(&self.app, &self.owner(), name, role).await.unwrap().secret
    }

    // ---- HTTP ----

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        answer(self.people.clone(), request).await
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(Method::GET, token, path, None).await
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(Method::POST, token, path, Some(body)).await
    }

    pub(crate) async fn put(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, token, path, Some(body)).await
    }

    async fn call(&self, method: Method, token: &str, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    /// Sends a file to be measured.
    pub(crate) async fn upload(&self, token: &str, name: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/api/v1/uploads?name={name}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn form(&self, cookie: Option<&str>, path: &str, fields: &str) -> Answer {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, format!("__Host-elevon={cookie}"));
        }
        self.send(request.body(Body::from(fields.to_owned())).unwrap()).await
    }

    // ---- what most tests start from ----

    /// A custom group of these computers.
    pub(crate) async fn group(&self, name: &str, computers: &[&Endpoint]) -> String {
        let computers: Vec<_> = computers.iter().map(|computer| computer.id.to_string()).collect();
        let token = self.token(Role::Administrator).await;
        let body = json!({ "name": name, "members": { "kind": "computers", "computers": computers } });
        let saved = self.post(&token, "groups", body).await.ok();
        saved["id"].as_str().unwrap().to_owned()
    }

    /// A list that lets users ask for everything in /usr/sbin, deployed to these computers.
    pub(crate) async fn policy(&self, computers: &[&Endpoint]) -> String {
        self.policy_with(computers, json!({})).await
    }

    /// The same, with other terms.
    pub(crate) async fn policy_with(&self, computers: &[&Endpoint], terms: Value) -> String {
        let group = self.group("Fleet", computers).await;
        let token = self.token(Role::Administrator).await;
        let document = sbin("System tools", terms);
        let saved = self.post(&token, "privileged-application-lists", document).await.ok();
        let id = saved["id"].as_str().unwrap().to_owned();
        let deploy = json!({ "version": 1, "groups": [group] });
        self.post(&token, &format!("privileged-application-lists/{id}/deploy"), deploy).await.ok();
        id
    }
}

/// The document of a list that lets users ask for everything in /usr/sbin.
pub(crate) fn sbin(name: &str, more: Value) -> Value {
    let mut terms = json!({
        "durations": { "choices": ["15m", "30m"], "default": "30m", "maximum": "1h" },
        "pending_lifetime": "24h",
    });
    for (key, value) in more.as_object().unwrap() {
        terms[key] = value.clone();
    }
    json!({
        "name": name,
        "enabled": true,
        "elevate": "approval",
        "applies_to": "specific_applications",
        "rules": [{ "recognises": { "type": "folder_path", "path": "/usr/sbin" } }],
        "terms": terms,
    })
}

pub(crate) async fn answer(router: Router, mut request: Request<Body>) -> Answer {
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 40_000))));
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// A PostgreSQL database of its own, removed when the test is over.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let server =
            std::env::var("ELEVON_TEST_POSTGRES_URL").expect("ELEVON_TEST_POSTGRES_URL names a server");
        let name = format!("elevon_test_{:016x}", u64::from_be_bytes(chance()));
        let database = Self { server, name };
        database.on_server(&format!("create database {}", database.name)).await;
        database
    }

    pub(crate) fn url(&self) -> String {
        let (before, query) =
            self.server.split_once('?').map_or((self.server.as_str(), None), |(a, b)| (a, Some(b)));
        let start = before.find("://").map_or(0, |at| at + 3);
        let end = before[start..].find('/').map_or(before.len(), |at| start + at);
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}/{}{query}", &before[..end], self.name)
    }

    async fn on_server(&self, sql: &str) {
        use sqlx::{AssertSqlSafe, Connection, PgConnection};
        let mut connection = PgConnection::connect(&self.server).await.expect("PostgreSQL can be reached");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("drop database if exists {} with (force)", self.name);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(self.on_server(&sql));
            });
        });
    }
}
