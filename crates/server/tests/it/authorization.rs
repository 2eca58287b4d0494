//! Every route with every role: the table is what happens.

use axum::body::Body;
use axum::http::{Request, header};
use elevon_policy::text::Text;
use elevon_server::accounts;
use elevon_server::auth::{Needs, Role};
use elevon_server::router::TABLE;

use crate::site::{Answer, PASSWORD, Site};

crate::on_both_engines!(every_route_asks_for_its_right);

const NOWHERE: &str = "0193b3e2-7c5a-7d10-9c1e-3f2a5b6c7d8e";

async fn ask(site: &Site, method: &str, path: &str, cookie: Option<&str>) -> Answer {
    let path = path.replace("{id}", NOWHERE).replace("{secret}", "x").replace("{file}", "x");
    let path = if path == "/access/pending" { "/access/pending?shown=x".to_owned() } else { path };
    let kind =
        if path.starts_with("/api/") { "application/json" } else { "application/x-www-form-urlencoded" };
    let mut request = Request::builder().method(method).uri(&path).header(header::CONTENT_TYPE, kind);
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, format!("__Host-elevon={cookie}"));
    }
    let body = if kind == "application/json" { "{}" } else { "" };
    site.send(request.body(Body::from(body)).unwrap()).await
}

async fn every_route_asks_for_its_right(site: Site) {
    let secret = accounts::prepare_setup(&site.app).await.unwrap().unwrap();
    accounts::create_first_owner(&site.app, &secret, Text::new("owner"), PASSWORD).await.unwrap();
    let owner = site.owner();
    let sign_in = async |role: Role| {
        if role != Role::Owner {
            let name = Text::new(role.word());
            accounts::create(&site.app, &owner, name, role, Vec::new(), PASSWORD).await.unwrap();
        }
        accounts::sign_in(&site.app, &Text::new(role.word()), PASSWORD, None).await.unwrap().secret
    };
    let mut cookies = Vec::new();
    for role in Role::ALL {
        cookies.push((role, sign_in(role).await));
    }
    for (method, path, needs) in TABLE.iter().filter(|(_, path, _)| !path.starts_with("/channel/")) {
        if *path == "/sign-out" {
            continue;
        }
        let nobody = ask(&site, method, path, None).await;
        let shut = nobody.status == 401
            || (nobody.status == 303 && nobody.headers["location"].to_str().unwrap().starts_with("/sign-in"));
        assert_eq!(shut, *needs != Needs::Anyone, "{method} {path} without a session: {}", nobody.status);
        for (role, cookie) in &cookies {
            let answer = ask(&site, method, path, Some(cookie)).await;
            let forbidden = answer.status == 403 && answer.text().contains("his needs the role");
            assert_eq!(forbidden, !role.may(*needs), "{method} {path} as {role}: {}", answer.status);
            assert_ne!(answer.status, 405, "{method} {path} is not mounted");
            assert_ne!(answer.status, 500, "{method} {path} as {role}: {}", answer.text());
            let nowhere =
                answer.text().contains("no such address") || answer.text().contains("Nothing is at this");
            assert!(!nowhere || path.contains("{file}"), "{method} {path} is not mounted");
        }
    }
}
