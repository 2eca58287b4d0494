//! What someone who decides should know of an application, in words beside the decision.

use elevon_policy::application::{Distrust, Lane};
use elevon_policy::request::ElevationRequest;
use elevon_policy::risk::{self, Risk};
use elevon_policy::text::Text;

use super::moment::words;

/// A risk in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// In two words.
    pub title: &'static str,
    /// What it means here.
    pub sentence: String,
}

/// In a few words each, for a row.
pub fn tags(asked: &ElevationRequest) -> Vec<&'static str> {
    let mut tags = risks(asked);
    if asked.bounds.is_contained() {
        tags.push("contained");
    }
    tags
}

/// The same, of what makes it more than it looks.
pub fn risks(asked: &ElevationRequest) -> Vec<&'static str> {
    risk::of_application(&asked.application, asked.runs_as, &asked.bounds)
        .iter()
        .map(|risk| match risk {
            Risk::EqualsRoot { .. } => "equals root",
            Risk::UserWritable { lane } if by_others(lane) => "user-writable, bound to hash",
            Risk::UserWritable { .. } => "not trusted, bound to hash",
        })
        .collect()
}

/// In a sentence each, for the page where it is decided.
pub fn notes(asked: &ElevationRequest, host_name: &Text) -> Vec<Note> {
    let span = asked.duration;
    risk::of_application(&asked.application, asked.runs_as, &asked.bounds)
        .into_iter()
        .map(|risk| match risk {
            Risk::EqualsRoot { kind } => Note {
                title: "Equals root.",
                sentence: format!(
                    "{} Whoever may run it can do anything on {} for {}, and leave things behind.",
                    kind.sentence(),
                    host_name.visible(),
                    words(span)
                ),
            },
            Risk::UserWritable { lane } => {
                let title = if by_others(&lane) {
                    "User-writable, bound to hash."
                } else {
                    "Not trusted, bound to hash."
                };
                Note { title, sentence: user_writable(&lane) }
            }
        })
        .collect()
}

/// Whether it is people who could change the file, and not where it lies that proves nothing.
fn by_others(lane: &Lane) -> bool {
    matches!(
        lane,
        Lane::Untrusted { because: Distrust::Owner | Distrust::Writable | Distrust::AccessList, .. }
    )
}

fn user_writable(lane: &Lane) -> String {
    let because = match lane {
        Lane::Trusted => String::new(),
        Lane::Untrusted { component, because } => format!("{} {}. ", component.visible(), because.sentence()),
    };
    format!(
        "{because}The name says nothing about the file; an approval covers these very bytes, and a changed file is \
         refused. Make sure that the SHA-256 is one you know."
    )
}
