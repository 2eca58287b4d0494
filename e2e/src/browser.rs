//! A real Chromium, driven through ChromeDriver over the W3C WebDriver protocol on the loopback interface.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::Agent;

use crate::clock::{SOON, until};
use crate::program::Program;

/// The key under which WebDriver hands over an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser window.
#[derive(Debug)]
pub struct Browser {
    driver: Program,
    agent: Agent,
    session: String,
}

/// Something on a page.
#[derive(Debug, Clone)]
pub struct Element(String);

impl Browser {
    /// Starts ChromeDriver and a window of this size without a screen; what they write goes below `directory`.
    pub fn start(directory: &Path, width: u32, height: u32) -> Result<Self> {
        let profile = directory.join("chromium");
        fs::create_dir_all(&profile)?;
        let mut command = Command::new("chromedriver");
        command.args(["--port=0", "--allowed-ips=127.0.0.1"]).env("HOME", &profile).env("TMPDIR", &profile);
        let mut driver = Program::start("chromedriver", &mut command, directory)
            .context("ChromeDriver and Chromium are needed: apt-get install chromium chromium-driver")?;
        let port = driver.line("saying its port", |line| {
            line.split_once("started successfully on port ")
                .map(|(_, port)| port.trim_end_matches('.').to_owned())
        })?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let mut browser = Self { driver, agent, session: format!("http://127.0.0.1:{port}/session") };
        let arguments = [
            // The site's own CA is not in any store; the rig's other clients check it.
            "--headless=new".into(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--no-first-run".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--no-proxy-server".into(),
            "--force-device-scale-factor=1".into(),
            "--hide-scrollbars".into(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "acceptInsecureCerts": true, "goog:chromeOptions": { "args": arguments },
        }}});
        let made = browser.call("POST", "", &wanted).with_context(|| browser.driver.log())?;
        let id = made.get("sessionId").and_then(Value::as_str).context("a session has an id")?;
        browser.session = format!("{}/{id}", browser.session);
        Ok(browser)
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&self, address: &str) -> Result<()> {
        self.call("POST", "/url", &json!({ "url": address })).map(drop)
    }

    /// Where it is.
    pub fn address(&self) -> Result<String> {
        Ok(self.call("GET", "/url", &Value::Null)?.as_str().unwrap_or_default().into())
    }

    /// The window's title.
    pub fn title(&self) -> Result<String> {
        Ok(self.call("GET", "/title", &Value::Null)?.as_str().unwrap_or_default().into())
    }

    /// Waits for an element by its CSS selector.
    pub fn find(&self, selector: &str) -> Result<Element> {
        self.find_by("css selector", selector)
    }

    /// Waits for an element by its XPath.
    pub fn find_path(&self, path: &str) -> Result<Element> {
        self.find_by("xpath", path)
    }

    fn find_by(&self, using: &str, value: &str) -> Result<Element> {
        let question = json!({ "using": using, "value": value });
        let found = until(&format!("{value} on the page"), SOON, || {
            let found = self.call("POST", "/elements", &question)?;
            let first = found.get(0).and_then(|element| element.get(ELEMENT)).and_then(Value::as_str);
            Ok(first.map(|id| Element(id.into())))
        });
        found.with_context(|| {
            format!(
                "at {}, which says\n{}",
                self.address().unwrap_or_default(),
                self.text().unwrap_or_default()
            )
        })
    }

    /// What the page says.
    pub fn text(&self) -> Result<String> {
        let script = json!({ "script": "return document.body.innerText", "args": [] });
        Ok(self.call("POST", "/execute/sync", &script)?.as_str().unwrap_or_default().into())
    }

    /// Waits until the page says this.
    pub fn says(&self, text: &str) -> Result<()> {
        let mut shown = String::new();
        let found = until(&format!("the page to say “{text}”"), SOON, || {
            shown = self.text()?;
            Ok(shown.contains(text).then_some(()))
        });
        found.with_context(|| format!("it says\n{shown}"))
    }

    /// Clicks.
    pub fn click(&self, element: &Element) -> Result<()> {
        self.call("POST", &format!("/element/{}/click", element.0), &json!({})).map(drop)
    }

    /// Types into a field.
    pub fn fill(&self, element: &Element, text: &str) -> Result<()> {
        self.call("POST", &format!("/element/{}/value", element.0), &json!({ "text": text })).map(drop)
    }

    /// What stands in a field.
    pub fn value(&self, element: &Element) -> Result<String> {
        let value = self.call("GET", &format!("/element/{}/property/value", element.0), &Value::Null)?;
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    /// Empties a field.
    pub fn clear(&self, element: &Element) -> Result<()> {
        self.call("POST", &format!("/element/{}/clear", element.0), &json!({})).map(drop)
    }

    /// Shows pages for people who like them dark, or light.
    pub fn prefer(&self, scheme: &str) -> Result<()> {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        let command = json!({ "cmd": "Emulation.setEmulatedMedia", "params": features });
        self.call("POST", "/goog/cdp/execute", &command)?;
        let script = json!({ "script": "return document.getAnimations().length === 0", "args": [] });
        until("the colours to have changed", SOON, || {
            Ok(self.call("POST", "/execute/sync", &script)?.as_bool().filter(|still| *still).map(drop))
        })
    }

    /// Saves a picture of the window.
    pub fn picture(&self, file: &Path) -> Result<()> {
        let encoded = self.call("GET", "/screenshot", &Value::Null)?;
        let bytes = STANDARD.decode(encoded.as_str().context("a picture in base64")?)?;
        fs::write(file, bytes).with_context(|| format!("write {}", file.display()))
    }

    /// Every warning and error that the page's scripts and policies caused.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let log = self.call("POST", "/se/log", &json!({ "type": "browser" }))?;
        let lines = log.as_array().cloned().unwrap_or_default();
        Ok(lines.iter().filter_map(|line| line.get("message")?.as_str()).map(str::to_owned).collect())
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let address = format!("{}{path}", self.session);
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(&address)
            .header("Content-Type", "application/json");
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut answer =
            self.agent.run(request.body(text)?).with_context(|| format!("{method} {address}"))?;
        let status = answer.status().as_u16();
        let value: Value =
            serde_json::from_str(&answer.body_mut().with_config().limit(64 << 20).read_to_string()?)?;
        let value = value.get("value").cloned().unwrap_or_default();
        if status != 200 {
            bail!("the browser refused {method} {path}: {value}");
        }
        Ok(value)
    }

    /// Closes the window and ends ChromeDriver.
    fn close(&mut self) -> Result<()> {
        self.call("DELETE", "", &Value::Null)?;
        let ran = self.driver.stop()?;
        ensure!(ran.status.success() || ran.code() == 143, "chromedriver ended with {}", ran.status);
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            eprintln!("the browser did not close well: {error:#}");
        }
    }
}
