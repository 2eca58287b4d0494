//! The rules of a list as fields of its form, and back.

use elevon_policy::application::{InvalidDigest, Sha256};
use elevon_policy::id::RuleId;
use elevon_policy::lint::{self, Warning};
use elevon_policy::lists::Terms;
use elevon_policy::pattern::Pattern;
use elevon_policy::rule::{ArgumentPattern, Listed, Needs, Outcome, Recognises, Rule};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Timestamp;

use super::kinds::{KINDS, Kind, UNREADABLE};
use super::{terms, way};
use crate::app::chance;
use crate::pages::form::Form;

/// A rule of the draft.
#[derive(Debug, Clone)]
pub struct RuleDraft {
    /// Its place in the form.
    pub number: usize,
    /// The start of its fields' names.
    pub at: String,
    /// Which kind.
    pub kind: Kind,
    /// Why it matches nothing.
    pub needs: Option<&'static str>,
    warnings: Vec<Warning>,
}

impl RuleDraft {
    /// In a few words each.
    pub fn tags(&self) -> Vec<&'static str> {
        let equals_root = self.is_grave().then_some("equals root");
        let nothing = self.needs.map(|_| "matches nothing yet");
        equals_root.into_iter().chain(nothing).collect()
    }

    /// What a person should know who lets this through, in a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.iter().map(Warning::to_string).collect()
    }

    /// Whether someone has to say that they know what they do.
    pub fn is_grave(&self) -> bool {
        self.warnings.iter().any(|warning| warning.code.is_grave())
    }

    /// The same in a list that lets nothing through.
    pub fn without_warnings(self) -> Self {
        Self { warnings: Vec::new(), ..self }
    }
}

/// The rules of the draft, in order.
pub fn all(form: &Form) -> Vec<RuleDraft> {
    // Half-written rules refuse fields; nobody is to see that before they save.
    let mut scratch = form.clone();
    let terms = terms_of_list(form);
    numbers(form).map(|number| one(&mut scratch, number, &terms)).collect()
}

/// The places of the rules.
fn numbers(form: &Form) -> impl Iterator<Item = usize> {
    form.names().filter_map(|name| name.strip_prefix("rules.")?.strip_suffix(".type")?.parse().ok())
}

/// So many rules a list may have to be edited in a browser: the page of one with more is too large to work with, and what it
/// sends is more than this server takes. Longer ones are changed over the API.
pub const MOST: usize = 500;

/// How many rules there are.
pub fn count(form: &Form) -> usize {
    numbers(form).count()
}

/// What the list says, as far as it is written: limits of a rule's own begin as these.
fn terms_of_list(form: &Form) -> Terms {
    terms::read(&mut form.clone(), "terms.").unwrap_or_default()
}

fn one(form: &mut Form, number: usize, terms: &Terms) -> RuleDraft {
    let at = format!("rules.{number}");
    let word = form.text(format!("{at}.type"));
    let kind = KINDS.into_iter().find(|kind| kind.word == word).unwrap_or(UNREADABLE);
    let mut draft =
        RuleDraft { needs: kind.needs.map(Needs::sentence), warnings: Vec::new(), number, at, kind };
    if let Some(Listed::Rule(rule)) = read_rule(form, &draft, Timestamp::from_millis(0)) {
        draft.warnings = lint::of_rule(&rule, rule.terms.as_ref().unwrap_or(terms));
    }
    draft
}

/// Adds an empty rule of this kind.
pub fn add(form: &mut Form, word: &str) {
    let Some(kind) = KINDS.into_iter().find(|kind| kind.word == word) else { return };
    let number = next(form);
    form.set(format!("rules.{number}.type"), kind.word);
    form.set(format!("rules.{number}.arguments"), "any");
    let terms = terms_of_list(form);
    terms::write(form, &format!("rules.{number}.terms."), &terms);
}

/// Adds a rule that recognises this.
pub fn add_recognising(form: &mut Form, recognises: Recognises, now: Timestamp) {
    let number = next(form);
    let rule = Rule::of(RuleId::new(now, chance()), recognises);
    let terms = terms_of_list(form);
    write_rule(form, &format!("rules.{number}"), &rule, &terms);
}

/// The place of a rule that is added.
fn next(form: &Form) -> usize {
    numbers(form).map(|number| number.saturating_add(1)).max().unwrap_or(0)
}

/// Takes this rule out.
pub fn remove(form: &mut Form, number: &str) {
    form.forget(&format!("rules.{number}."));
}

pub(super) fn write(form: &mut Form, rules: &[Listed]) {
    let terms = terms_of_list(form);
    for (number, listed) in rules.iter().enumerate() {
        let at = format!("rules.{number}");
        match listed {
            Listed::Rule(rule) => write_rule(form, &at, rule, &terms),
            Listed::Unreadable(document) => {
                form.set(format!("{at}.type"), UNREADABLE.word);
                form.set(format!("{at}.document"), document);
            }
        }
    }
}

fn write_rule(form: &mut Form, at: &str, rule: &Rule, of_list: &Terms) {
    let mut set = |name: &str, value: &str| form.set(format!("{at}.{name}"), value);
    set("id", &rule.id.to_string());
    match &rule.recognises {
        Recognises::Vendor { vendor, verified } => {
            set("type", "vendor");
            set("vendor", vendor.as_untrusted());
            if *verified {
                set("verified", "yes");
            }
        }
        Recognises::Product { product, vendor } => {
            set("type", "product");
            set("product", product.as_untrusted());
            set("vendor", vendor.as_untrusted());
        }
        Recognises::VerifiedExecutable { product, vendor, file_name } => {
            set("type", "verified_executable");
            set("product", product.as_untrusted());
            set("vendor", vendor.as_untrusted());
            set("file_name", &file_name.escaped());
        }
        Recognises::FileHash { sha256, display_name } => {
            set("type", "file_hash");
            set("sha256", &sha256.to_string());
            set("display_name", display_name.as_untrusted());
        }
        Recognises::Clsid { component } => {
            set("type", "clsid");
            set("component", component.as_untrusted());
        }
        Recognises::FolderPath { path, with_subfolders } => {
            set("type", "folder_path");
            set("path", &path.escaped());
            if *with_subfolders {
                set("with_subfolders", "yes");
            }
        }
    }
    let (pattern, arguments): (_, Vec<&OsText>) = match &rule.arguments {
        ArgumentPattern::Any => ("any", Vec::new()),
        ArgumentPattern::Exact { arguments } => ("exact", arguments.iter().collect()),
        ArgumentPattern::Prefix { arguments } => ("prefix", arguments.iter().collect()),
        ArgumentPattern::Patterns { arguments } => {
            ("patterns", arguments.iter().map(Pattern::written).collect())
        }
    };
    set("arguments", pattern);
    set("argument_list", &arguments.iter().map(|argument| argument.escaped()).collect::<Vec<_>>().join("\n"));
    set("minimum_version", rule.minimum_version.as_ref().map_or("", Text::as_untrusted));
    match (rule.outcome, rule.elevate) {
        (Outcome::Deny, _) => set("elevate", "deny"),
        (Outcome::Allow, Some(way)) => set("elevate", &way.to_string()),
        (Outcome::Allow, None) => set("elevate", ""),
    }
    if rule.terms.is_some() {
        set("own_terms", "yes");
    }
    terms::write(form, &format!("{at}.terms."), rule.terms.as_ref().unwrap_or(of_list));
}

pub(super) fn read(form: &mut Form, now: Timestamp) -> Vec<Listed> {
    all(form).iter().filter_map(|rule| read_rule(form, rule, now)).collect()
}

fn read_rule(form: &mut Form, draft: &RuleDraft, now: Timestamp) -> Option<Listed> {
    let at = &draft.at;
    if draft.kind == UNREADABLE {
        let document = form.text(format!("{at}.document"));
        return serde_json::from_str(document).ok().map(Listed::Unreadable);
    }
    let recognises = recognises(form, draft);
    let arguments = argument_pattern(form, at);
    let elevate = form.text(format!("{at}.elevate")).to_owned();
    let terms = match form.has(format!("{at}.own_terms")) {
        true => Some(terms::read(form, &format!("{at}.terms."))?),
        false => None,
    };
    let minimum_version =
        Some(form.text(format!("{at}.minimum_version")).trim()).filter(|text| !text.is_empty());
    Some(Listed::Rule(Rule {
        id: form.text(format!("{at}.id")).parse().unwrap_or_else(|_| RuleId::new(now, chance())),
        recognises: recognises?,
        arguments: arguments?,
        minimum_version: minimum_version.map(Text::new),
        outcome: if elevate == "deny" { Outcome::Deny } else { Outcome::Allow },
        elevate: way(&elevate),
        terms,
    }))
}

fn recognises(form: &mut Form, draft: &RuleDraft) -> Option<Recognises> {
    let at = &draft.at;
    let mut complete = true;
    for field in draft.kind.fields.iter().filter(|field| field.name != "display_name") {
        let name = format!("{at}.{}", field.name);
        if form.text(&name).trim().is_empty() {
            form.refuse(&name, format!("Expected {}, such as {}.", lower(field.label), field.example));
            complete = false;
        }
    }
    if !complete {
        return None;
    }
    let text = |form: &Form, name: &str| Text::new(form.text(format!("{at}.{name}")).trim());
    Some(match draft.kind.word {
        "file_hash" => Recognises::FileHash {
            sha256: digest(form, &format!("{at}.sha256"))?,
            display_name: text(form, "display_name"),
        },
        "verified_executable" => Recognises::VerifiedExecutable {
            product: text(form, "product"),
            vendor: text(form, "vendor"),
            file_name: file_name(form, &format!("{at}.file_name"))?,
        },
        "product" => Recognises::Product { product: text(form, "product"), vendor: text(form, "vendor") },
        "vendor" => {
            Recognises::Vendor { vendor: text(form, "vendor"), verified: form.has(format!("{at}.verified")) }
        }
        "clsid" => Recognises::Clsid { component: text(form, "component") },
        _ => Recognises::FolderPath {
            path: folder(form, &format!("{at}.path"))?,
            with_subfolders: form.has(format!("{at}.with_subfolders")),
        },
    })
}

fn lower(label: &str) -> String {
    let article = if label.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    if label.starts_with("SHA") {
        format!("a {label}")
    } else {
        format!("{article} {}", label.to_lowercase())
    }
}

/// A whole line of `sha256sum` does as well.
fn digest(form: &mut Form, name: &str) -> Option<Sha256> {
    let typed = form.text(name).split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    match typed.parse() {
        Ok(sha256) => Some(sha256),
        Err(InvalidDigest) => {
            form.refuse(name, format!("This does not do: {InvalidDigest}."));
            None
        }
    }
}

fn folder(form: &mut Form, name: &str) -> Option<OsText> {
    match OsText::parse(form.text(name).trim()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Some(path),
        Ok(_) => {
            form.refuse(name, "Expected an absolute path, such as /opt/acme/tools.");
            None
        }
        Err(error) => {
            form.refuse(name, format!("This does not do: {error}."));
            None
        }
    }
}

fn file_name(form: &mut Form, name: &str) -> Option<OsText> {
    match OsText::parse(form.text(name).trim()) {
        Ok(file) if !file.as_bytes().contains(&b'/') => Some(file),
        Ok(_) => {
            form.refuse(name, "Expected a file name without folders, such as tcpdump.");
            None
        }
        Err(error) => {
            form.refuse(name, format!("This does not do: {error}."));
            None
        }
    }
}

fn argument_pattern(form: &mut Form, at: &str) -> Option<ArgumentPattern> {
    let name = format!("{at}.argument_list");
    let typed = form.text(&name).replace("\r\n", "\n");
    let lines = typed.strip_suffix('\n').unwrap_or(&typed);
    let arguments: Result<Vec<OsText>, _> = match lines {
        "" => Ok(Vec::new()),
        lines => lines.split('\n').map(OsText::parse).collect(),
    };
    match (form.text(format!("{at}.arguments")), arguments) {
        ("exact", Ok(arguments)) => Some(ArgumentPattern::Exact { arguments }),
        ("prefix", Ok(arguments)) if arguments.is_empty() => {
            form.refuse(&name, "Expected the first arguments, one a line; or choose Any.");
            None
        }
        ("prefix", Ok(arguments)) => Some(ArgumentPattern::Prefix { arguments }),
        ("patterns", Ok(arguments)) => {
            let arguments = arguments.into_iter().map(Pattern::new).collect();
            Some(ArgumentPattern::Patterns { arguments })
        }
        (_, Ok(arguments)) if !arguments.is_empty() => {
            form.refuse(&name, "Any arguments are chosen, and some are written here; choose one.");
            None
        }
        (_, Ok(_)) => Some(ArgumentPattern::Any),
        (_, Err(error)) => {
            form.refuse(&name, format!("This does not do: {error}."));
            None
        }
    }
}
