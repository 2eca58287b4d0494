//! How the demo speaks: steps, and what was observed; and the audit trail in words.

use std::io::IsTerminal;

use elevon_policy::text::Text;
use serde_json::Value;

use crate::api::Seen;

/// A numbered step.
pub(super) fn step(number: usize, text: &str) {
    println!("\n{}", strong(&format!("{number:>2}  {text}")));
}

/// What someone typed.
pub(super) fn typed(who: &str, command: &str) {
    println!("      {} {command}", faint(&format!("{who}$")));
}

/// A command line as one would type it.
pub(super) fn line(words: &[&str]) -> String {
    let quoted =
        words.iter().map(|word| if word.contains(' ') { format!("\"{word}\"") } else { (*word).to_owned() });
    quoted.collect::<Vec<_>>().join(" ")
}

/// What was observed.
pub(super) fn observed(text: &str) {
    for line in text.trim_end().lines() {
        println!("      {line}");
    }
}

/// Stands out on a terminal.
pub(super) fn strong(text: &str) -> String {
    styled("1", text)
}

/// Stays back on a terminal.
pub(super) fn faint(text: &str) -> String {
    styled("2", text)
}

fn styled(code: &str, text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || !std::io::stdout().is_terminal();
    if plain { text.to_owned() } else { format!("\x1b[{code}m{text}\x1b[0m") }
}

/// One event in one line: when (UTC), what, and about whom and what.
pub(super) fn event(event: &Seen) -> String {
    let millis = event.at.rem_euclid(86_400_000);
    let (hours, minutes, seconds) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1_000 % 60);
    let time = format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", millis % 1_000);
    let line = format!("{time}  {:<27} {}", event.kind, facts(event));
    line.trim_end().to_owned()
}

/// Where in an event's data the facts are that a person looks for first.
const FACTS: [&str; 17] = [
    "/host_name",
    "/request/user/name",
    "/grant/user/name",
    "/user/name",
    "/request/application/path",
    "/grant/application/path",
    "/path",
    "/request/duration",
    "/request/justification",
    "/account",
    "/name",
    "/role",
    "/comment",
    "/reason",
    "/exit",
    "/policy_name",
    "/cause",
];

fn facts(event: &Seen) -> String {
    let account = event.row.get("account").and_then(word);
    let data = FACTS.iter().filter_map(|pointer| event.data.pointer(pointer).and_then(word));
    let mut facts: Vec<String> = Vec::new();
    for fact in account.into_iter().chain(data) {
        if !facts.contains(&fact) && !fact.is_empty() {
            facts.push(fact);
        }
    }
    facts.join(" · ")
}

fn word(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Object(map) => {
            let parts = map.iter().filter_map(|(name, value)| Some(format!("{name} {}", word(value)?)));
            parts.collect::<Vec<_>>().join(" ")
        }
        _ => return None,
    };
    // Ids say nothing to a person.
    let is_id = text.len() == 36 && text.bytes().filter(|byte| *byte == b'-').count() == 4;
    (!is_id).then(|| Text::new(text).visible().to_string())
}
