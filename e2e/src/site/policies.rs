//! Policies of a site: saved and deployed through the API, and waited for until the computer has them.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use elevon_policy::lists::{ApplicationList, PrivilegedApplicationList};
use serde_json::{Value, json};

use super::Site;
use crate::clock::{SOON, until};

impl Site {
    /// Deploys a privileged application list to the site's users, and waits until the computer has it.
    pub fn deploy(&self, list: &PrivilegedApplicationList) -> Result<String> {
        self.deploy_to("privileged-application-lists", serde_json::to_value(list)?, &self.users_group()?)
    }

    /// Deploys an allowlist (`allowlists`) or a blocklist (`blocklists`) likewise.
    pub fn deploy_list(&self, kind: &str, list: &ApplicationList) -> Result<String> {
        self.deploy_to(kind, serde_json::to_value(list)?, &self.users_group()?)
    }

    /// The same for a list of any kind and another custom group.
    pub fn deploy_to(&self, kind: &str, document: Value, group: &str) -> Result<String> {
        let before = self.delivered()?;
        let saved = self.api.post(kind, &document)?;
        let id = saved
            .get("id")
            .and_then(Value::as_str)
            .with_context(|| format!("a saved list has an id: {saved}"))?;
        let version = saved.get("version").cloned().unwrap_or(json!(1));
        self.api.post(&format!("{kind}/{id}/deploy"), &json!({ "version": version, "groups": [group] }))?;
        if self.agent.is_some() && self.elevator.is_some() {
            let what = format!("{kind}/{id} to be on the computer");
            until(&what, SOON, || Ok((self.delivered()? > before).then_some(())))
                .with_context(|| self.log())?;
        }
        Ok(id.into())
    }

    /// How many bundles the computer has said it has.
    fn delivered(&self) -> Result<usize> {
        let events = self.api.events()?;
        let bundles =
            events.iter().filter(|event| event.kind == "sheet.delivered").map(|event| event.text("/bundle"));
        Ok(bundles.collect::<BTreeSet<_>>().len())
    }

    /// The custom group of alice and bob, made when it is first asked for.
    fn users_group(&self) -> Result<String> {
        let id = |group: &Value| group.get("id").and_then(Value::as_str).map(str::to_owned);
        let of_site = |group: &Value| group.get("name").and_then(Value::as_str) == Some("Users of the site");
        if let Some(found) = self.api.list("groups")?.iter().find(|group| of_site(group)) {
            return id(found).context("a group has an id");
        }
        let users = [&self.alice, &self.bob].map(|person| json!({ "name": person.name }));
        let group = json!({ "name": "Users of the site", "members": { "kind": "users", "users": users } });
        let saved = self.api.post("groups", &group)?;
        id(&saved).with_context(|| format!("a saved group has an id: {saved}"))
    }
}
