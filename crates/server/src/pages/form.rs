//! A form as it was typed, with what is wrong beside the field: a refused form comes back as it was sent.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use askama::Template;
use askama::filters::HtmlSafeOutput;
use elevon_policy::time::Timestamp;
use serde::{Deserialize, Deserializer};

use super::failure::sentence;

/// The fields of a form in the order they came, and why some of them were refused. A long list has tens of thousands of them,
/// each looked for by its name.
#[derive(Debug, Clone, Default)]
pub struct Form {
    names: Vec<String>,
    typed: HashMap<String, Vec<String>>,
    refused: HashMap<String, String>,
}

impl Form {
    /// What was typed there; empty where nothing was.
    pub fn text(&self, name: impl Display) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// Whether it was sent at all, as a ticked box is.
    pub fn has(&self, name: impl Display) -> bool {
        self.all(name).next().is_some()
    }

    /// Whether this was chosen there.
    pub fn is(&self, name: impl Display, value: impl Display) -> bool {
        let value = value.to_string();
        self.all(name).any(|typed| typed == value)
    }

    /// Everything that was sent under that name.
    pub fn all(&self, name: impl Display) -> impl Iterator<Item = &str> {
        self.typed.get(&name.to_string()).into_iter().flatten().map(String::as_str)
    }

    /// Every field's name once, in the order they first came.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Puts this there, in place of what was typed.
    pub fn set(&mut self, name: impl Display, value: impl Display) {
        let values = self.values(name.to_string());
        values.clear();
        values.push(value.to_string());
    }

    /// Adds another value under that name.
    pub fn add(&mut self, name: impl Display, value: impl Display) {
        self.values(name.to_string()).push(value.to_string());
    }

    fn values(&mut self, name: String) -> &mut Vec<String> {
        let names = &mut self.names;
        self.typed.entry(name).or_insert_with_key(|name| {
            names.push(name.clone());
            Vec::new()
        })
    }

    /// Forgets every field whose name starts so.
    pub fn forget(&mut self, start: &str) {
        self.names.retain(|typed| !typed.starts_with(start));
        self.typed.retain(|typed, _| !typed.starts_with(start));
    }

    /// Says what is wrong with a field; the first word stands.
    pub fn refuse(&mut self, name: impl Display, why: impl Display) {
        self.refused.entry(name.to_string()).or_insert_with(|| why.to_string());
    }

    /// What is wrong with that field.
    pub fn refused(&self, name: impl Display) -> Option<&str> {
        self.refused.get(&name.to_string()).map(String::as_str)
    }

    /// The attributes of a field that was refused.
    pub fn marks(&self, name: impl Display) -> HtmlSafeOutput<Marks> {
        HtmlSafeOutput(Marks { name: self.refused(&name).map(|_| name.to_string()) })
    }

    /// The paragraph beside a field that was refused.
    pub fn wrong(&self, name: impl Display) -> HtmlSafeOutput<Wrong> {
        HtmlSafeOutput(Wrong { name: name.to_string(), why: self.refused(&name).map(str::to_owned) })
    }

    /// Whether anything is wrong.
    pub fn is_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Reads a field, or says beside it what was expected.
    pub fn read<T: FromStr>(&mut self, name: impl Display) -> Option<T>
    where
        T::Err: Display,
    {
        let name = name.to_string();
        match self.text(&name).trim().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(&name, sentence(&error.to_string()));
                None
            }
        }
    }

    /// Reads a date with a time as browsers send them, in UTC like every time here, or says beside it what was expected.
    pub fn moment(&mut self, name: impl Display) -> Option<Timestamp> {
        let name = name.to_string();
        let civil = self.text(&name).trim().trim_end_matches('Z').parse::<jiff::civil::DateTime>();
        let moment = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC));
        match moment {
            Ok(moment) => Some(Timestamp::from_millis(moment.timestamp().as_millisecond())),
            Err(_) => {
                self.refuse(&name, "Expected a date and a time in UTC, such as 2026-11-25T15:24.");
                None
            }
        }
    }
}

/// The attributes of a field: nothing, or that it is wrong and where that is said.
#[derive(Template)]
#[template(
    source = r#"{% if let Some(name) = name %} aria-invalid="true" aria-describedby="{{ name }}-wrong"{% endif %}"#,
    ext = "html"
)]
pub struct Marks {
    name: Option<String>,
}

/// What is wrong with a field: nothing, or a paragraph.
#[derive(Template)]
#[template(
    source = r#"{% if let Some(why) = why %}<p class="wrong" id="{{ name }}-wrong">{{ why }}</p>{% endif %}"#,
    ext = "html"
)]
pub struct Wrong {
    name: String,
    why: Option<String>,
}

impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<(String, String)>::deserialize(deserializer).map(Self::from_iter)
    }
}

impl FromIterator<(String, String)> for Form {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(fields: I) -> Self {
        let mut form = Self::default();
        fields.into_iter().for_each(|(name, value)| form.add(name, value));
        form
    }
}

#[cfg(test)]
mod tests {
    use elevon_policy::time::Span;

    use super::*;

    #[test]
    fn a_refused_form_keeps_what_was_typed() {
        let mut form: Form = [("duration", "soon"), ("groups", "a"), ("groups", "b")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .into_iter()
            .collect();
        assert_eq!(form.read::<Span>("duration"), None);
        assert_eq!(form.text("duration"), "soon");
        assert_eq!(form.refused("duration"), Some("Expected a duration such as 30m, 8h or 1h30m."));
        assert!(form.is("groups", "b") && !form.is("groups", "c") && !form.has("enabled"));
        form.set("groups", "c");
        assert_eq!(form.all("groups").collect::<Vec<_>>(), ["c"]);
        assert_eq!(form.names().collect::<Vec<_>>(), ["duration", "groups"]);
        form.forget("gro");
        assert!(!form.has("groups") && form.names().eq(["duration"]));
    }
}
