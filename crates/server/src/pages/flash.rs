//! What was just done, said once on the next page: it travels in a cookie of its own, so that every replica can say it.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

const COOKIE: &str = "__Host-elevon-said";

/// A sentence about what was just done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flash {
    /// How it went.
    pub tone: Tone,
    /// The sentence.
    pub told: String,
    /// Where to go on: a word and an address on this server.
    pub link: Option<(String, String)>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tone {
    /// Done.
    Done,
    /// Not done; the sentence says why.
    Refused,
}

impl Tone {
    /// The stylesheet's word.
    pub fn class(self) -> &'static str {
        match self {
            Self::Done => "green",
            Self::Refused => "red",
        }
    }
}

impl Flash {
    /// It was done.
    pub fn done(told: impl Into<String>) -> Self {
        Self { tone: Tone::Done, told: told.into(), link: None }
    }

    /// It was not done.
    pub fn refused(told: impl Into<String>) -> Self {
        Self { tone: Tone::Refused, told: told.into(), link: None }
    }

    /// And here it goes on.
    #[must_use]
    pub fn with(self, name: &str, address: String) -> Self {
        Self { link: Some((name.to_owned(), address)), ..self }
    }

    /// What these headers carry, where it can be read.
    pub fn carried(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|all| all.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, encoded) = pairs.find(|(name, _)| *name == COOKIE)?;
        let flash: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
        // A link leads nowhere but to a page of this server, whoever wrote the cookie.
        let stays = |(_, address): &(String, String)| address.starts_with('/') && !address.starts_with("//");
        Some(Self { link: flash.link.filter(stays), ..flash })
    }

    /// Carries it to the next page.
    pub fn cookie(&self) -> HeaderValue {
        let json = serde_json::to_vec(self).unwrap_or_default();
        Self::set(&URL_SAFE_NO_PAD.encode(json), 60)
    }

    /// Takes it off again, once it was said.
    pub fn forget() -> HeaderValue {
        Self::set("", 0)
    }

    fn set(value: &str, life: u32) -> HeaderValue {
        let cookie = format!("{COOKIE}={value}; Max-Age={life}; Path=/; Secure; HttpOnly; SameSite=Strict");
        HeaderValue::from_str(&cookie).expect("base64url is letters, digits, - and _")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(cookie: &HeaderValue) -> Option<Flash> {
        let pair = cookie.to_str().expect("ASCII").split(';').next().expect("a pair").to_owned();
        Flash::carried(&HeaderMap::from_iter([(
            header::COOKIE,
            HeaderValue::from_str(&pair).expect("ASCII"),
        )]))
    }

    #[test]
    fn it_travels_whole_and_leads_nowhere_else() {
        let flash = Flash::done("bob may run “apt-get”.").with("The grant", "/grants/1".into());
        assert_eq!(carried(&flash.cookie()), Some(flash.clone()));
        let foreign = flash.with("The grant", "//evil.example/".into());
        assert_eq!(carried(&foreign.cookie()).expect("carried").link, None);
        assert_eq!(carried(&Flash::forget()), None);
    }
}
