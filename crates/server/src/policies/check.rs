//! What a list must be like to be saved. An administrator learns here what a computer would otherwise pass over.

use std::collections::HashSet;

use elevon_policy::lists::{PrivilegedApplicationList, Terms};
use elevon_policy::rule::{Listed, Outcome, Recognises, Rule};
use elevon_policy::text::Text;
use elevon_policy::time::Span;

use super::Document;
use crate::error::Error;

const NAME: usize = 200;
const DESCRIPTION: usize = 2000;
const RULES: usize = 10_000;
const LONGEST: Span = Span::from_days(30);

/// Whether it may be saved.
pub fn check(document: &Document) -> Result<(), Error> {
    name(document.name())?;
    let description = match document {
        Document::Privileged(list) => &list.description,
        Document::List(list) => &list.description,
    };
    if description.as_untrusted().chars().count() > DESCRIPTION {
        return Err(Error::field("description", format!("expected at most {DESCRIPTION} characters")));
    }
    if let Document::Privileged(list) = document {
        terms(&list.terms)?;
        components(list)?;
    }
    rules(document.rules())
}

/// Of a component nothing runs that could be kept to less than root may do: such a rule would only ever refuse.
fn components(list: &PrivilegedApplicationList) -> Result<(), Error> {
    let kept = |rule: &Rule| {
        let terms = rule.terms.as_ref().unwrap_or(&list.terms);
        let component = matches!(rule.recognises, Recognises::Clsid { .. }) && rule.outcome == Outcome::Allow;
        component && (!terms.runs_as.is_root() || !terms.bounds.is_none())
    };
    match (1..).zip(list.rules.iter()).find(|(_, listed)| matches!(listed, Listed::Rule(rule) if kept(rule)))
    {
        None => Ok(()),
        Some((number, _)) => Err(Error::field(
            "rules",
            format!(
                "rule {number} is about a component, of which nothing runs that could be contained or have a display; expected terms of its own, as root, in full and without a display"
            ),
        )),
    }
}

/// Whether a list or group may be called so.
pub fn name(name: &Text) -> Result<(), Error> {
    let text = name.as_untrusted();
    if text.trim().is_empty() || text.trim() != text || text.chars().count() > NAME {
        let expected = format!("expected a name of 1 to {NAME} characters without spaces at its ends");
        return Err(Error::field("name", expected));
    }
    Ok(())
}

fn rules(rules: &[Listed]) -> Result<(), Error> {
    if rules.len() > RULES {
        return Err(Error::field("rules", format!("expected at most {RULES} rules")));
    }
    let mut ids = HashSet::new();
    for (number, listed) in (1..).zip(rules) {
        let Listed::Rule(listed) = listed else {
            return Err(Error::field(
                "rules",
                format!("rule {number} is of no kind that this version knows"),
            ));
        };
        if !ids.insert(listed.id) {
            return Err(Error::field("rules", format!("rule {number} has the identity of another rule")));
        }
        rule(listed).map_err(|sentence| Error::field("rules", format!("rule {number}: {sentence}")))?;
        if let Some(own) = &listed.terms {
            terms(own)?;
        }
    }
    Ok(())
}

fn rule(rule: &Rule) -> Result<(), String> {
    let given = |text: &Text, what| {
        if text.as_untrusted().trim().is_empty() { Err(format!("expected {what}")) } else { Ok(()) }
    };
    match &rule.recognises {
        Recognises::FolderPath { path, .. } => {
            let bytes = path.as_bytes();
            let strange = |part: &[u8]| part == b"." || part == b"..";
            if !bytes.starts_with(b"/")
                || bytes.contains(&0)
                || bytes.split(|byte| *byte == b'/').any(strange)
            {
                return Err(
                    "expected a folder as an absolute path such as /usr/sbin, without . and ..".to_owned()
                );
            }
            Ok(())
        }
        Recognises::Vendor { vendor, .. } => given(vendor, "a vendor"),
        Recognises::Product { product, vendor } => {
            given(product, "a product").and_then(|()| given(vendor, "a vendor"))
        }
        Recognises::VerifiedExecutable { product, vendor, file_name } => {
            given(product, "a product").and_then(|()| given(vendor, "a vendor"))?;
            if file_name.as_bytes().is_empty() || file_name.as_bytes().contains(&b'/') {
                return Err("expected a file name without folders".to_owned());
            }
            Ok(())
        }
        Recognises::Clsid { component } => given(component, "a component"),
        Recognises::FileHash { .. } => Ok(()),
    }
}

fn terms(terms: &Terms) -> Result<(), Error> {
    let durations = &terms.durations;
    if durations.maximum < Span::from_secs(1) || durations.maximum > LONGEST {
        return Err(Error::field("maximum", "expected a longest duration from 1s to 30d"));
    }
    if durations.default < Span::from_secs(1) || durations.default > durations.maximum {
        return Err(Error::field("default", "expected a default duration from 1s to the longest one"));
    }
    let fits = |choice: &Span| *choice >= Span::from_secs(1) && *choice <= durations.maximum;
    if durations.choices.len() > 20 || !durations.choices.iter().all(fits) {
        return Err(Error::field(
            "choices",
            "expected at most 20 durations, each from 1s to the longest one",
        ));
    }
    if terms.pending_lifetime < Span::from_secs(1) || terms.pending_lifetime > LONGEST {
        return Err(Error::field("pending_lifetime", "expected a pending lifetime from 1s to 30d"));
    }
    if let elevon_policy::lists::Starts::AtFirstLaunch { within } = terms.starts
        && (within < Span::from_secs(1) || within > LONGEST)
    {
        return Err(Error::field("within", "expected a time for the first launch from 1s to 30d"));
    }
    if let Some(contradiction) = terms.bounds.contradiction(terms.runs_as) {
        return Err(Error::field("bounds", contradiction.to_string()));
    }
    let justification = &terms.justification;
    if justification.minimum > justification.maximum || justification.maximum > 10_000 {
        return Err(Error::field(
            "justification",
            "expected lengths of a justification up to 10000, the least first",
        ));
    }
    Ok(())
}
