//! A list as a form: from the document to fields and back, with what is wrong beside the field. The form is the draft:
//! adding or removing a rule sends all of it, and it comes back with that rule more or less.

use elevon_policy::application::Sha256;
use elevon_policy::id::{PolicyId, RuleId, Version};
use elevon_policy::lists::{
    ApplicationList, AppliesTo, AtExpiry, Covers, Durations, JustificationNeeded, Launches,
    PrivilegedApplicationList, RunsAs, Starts, Terms, Way,
};
use elevon_policy::risk;
use elevon_policy::rule::{ArgumentPattern, Listed, Needs, Outcome, Recognises, Rule};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};

use crate::app::chance;
use crate::pages::form::Form;

/// A kind of rule, as the form offers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The machine's word.
    pub word: &'static str,
    /// What people call it.
    pub name: &'static str,
    /// What it matches, in one line.
    pub told: &'static str,
    /// What is typed in.
    pub fields: &'static [Field],
    /// What can be ticked: the field's name, and what it means.
    pub tick: Option<(&'static str, &'static str)>,
    /// Why it matches nothing in this version.
    pub needs: Option<Needs>,
    /// Whether a minimum version makes sense.
    pub versioned: bool,
}

/// A field of a kind of rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Behind `rules.N.`.
    pub name: &'static str,
    /// What people call it.
    pub label: &'static str,
    /// What it could be.
    pub example: &'static str,
    /// Whether it is read letter by letter.
    pub mono: bool,
}

const fn field(name: &'static str, label: &'static str, example: &'static str, mono: bool) -> Field {
    Field { name, label, example, mono }
}

const VENDOR: Field = field("vendor", "Vendor", "Debian", false);
const PRODUCT: Field = field("product", "Product", "tcpdump", false);

/// The six kinds, the narrowest first, as they win.
pub const KINDS: [Kind; 6] = [
    Kind {
        word: "file_hash",
        name: "File hash",
        told: "These very bytes, wherever they lie. The narrowest: a changed file is another file.",
        fields: &[
            field("sha256", "SHA-256", "64 digits, as sha256sum prints them", true),
            field("display_name", "Display name", "tcpdump; decides nothing", false),
        ],
        tick: None,
        needs: None,
        versioned: false,
    },
    Kind {
        word: "verified_executable",
        name: "Verified executable",
        told: "One file of a product by a vendor, unmodified since its package.",
        fields: &[PRODUCT, VENDOR, field("file_name", "File name", "tcpdump", true)],
        tick: None,
        needs: Some(Needs::PackageFacts),
        versioned: true,
    },
    Kind {
        word: "product",
        name: "Product",
        told: "Every program of a product by a vendor.",
        fields: &[PRODUCT, VENDOR],
        tick: None,
        needs: Some(Needs::PackageFacts),
        versioned: true,
    },
    Kind {
        word: "vendor",
        name: "Vendor",
        told: "Every program by a vendor.",
        fields: &[VENDOR],
        tick: Some(("verified", "Only where a signature stands behind the vendor’s name")),
        needs: Some(Needs::PackageFacts),
        versioned: true,
    },
    Kind {
        word: "clsid",
        name: "Component",
        told: "A component identifier: on Linux, a polkit action.",
        fields: &[field(
            "component",
            "Component identifier",
            "org.freedesktop.packagekit.package-install",
            true,
        )],
        tick: None,
        needs: Some(Needs::Components),
        versioned: false,
    },
    Kind {
        word: "folder_path",
        name: "Folder path",
        told: "Every program in a folder where nobody but root can write. What others can change there never matches.",
        fields: &[field("path", "Folder", "/opt/acme/tools", true)],
        tick: Some(("with_subfolders", "With sub-folders")),
        needs: None,
        versioned: false,
    },
];

/// A rule that this version cannot read; it is kept as it came.
const UNREADABLE: Kind = Kind {
    word: "unreadable",
    name: "Unknown rule",
    told: "This version does not know this kind of rule.",
    fields: &[],
    tick: None,
    needs: Some(Needs::NewerVersion),
    versioned: false,
};

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
    equals_root: Option<risk::Kind>,
    folder: Option<String>,
}

impl RuleDraft {
    /// In a few words each.
    pub fn tags(&self) -> Vec<&'static str> {
        let equals_root = self.equals_root.map(|_| "equals root");
        let nothing = self.needs.map(|_| "matches nothing yet");
        equals_root.into_iter().chain(nothing).collect()
    }

    /// What a person should know who lets this through, in a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let equals_root = self.equals_root.map(|kind| {
            format!("{} Whoever may run it as root can do anything on the computer.", kind.sentence())
        });
        let folder = self.folder.as_deref().filter(|path| others_write(path)).map(|path| {
            format!("Users can write below {path}, so this rule will match little or nothing there: bind such files by their hash.")
        });
        let everything = self.folder.as_deref().filter(|path| shells_live(path)).map(|path| {
            format!("{path} has shells and interpreters in it: whoever may run those as root can do anything on the computer.")
        });
        equals_root.into_iter().chain(everything).chain(folder).collect()
    }

    /// Whether someone has to say that they know what they do.
    pub fn is_grave(&self) -> bool {
        self.equals_root.is_some() || self.folder.as_deref().is_some_and(shells_live)
    }
}

fn others_write(path: &str) -> bool {
    ["/home", "/tmp", "/var/tmp", "/dev/shm", "/run/user"].iter().any(|open| below(path, open))
}

fn shells_live(path: &str) -> bool {
    matches!(
        path.trim_end_matches('/'),
        "" | "/bin" | "/sbin" | "/usr" | "/usr/bin" | "/usr/sbin" | "/usr/local/bin"
    )
}

fn below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The rules of the draft, in order.
pub fn rules(form: &Form) -> Vec<RuleDraft> {
    let mut numbers: Vec<usize> = form
        .names()
        .filter_map(|name| name.strip_prefix("rules.")?.strip_suffix(".type")?.parse().ok())
        .filter(|number| *number < MOST_RULES)
        .collect();
    numbers.dedup();
    numbers.into_iter().map(|number| rule(form, number)).collect()
}

/// More rules than this in one list are made through the API.
const MOST_RULES: usize = 1_000;

fn rule(form: &Form, number: usize) -> RuleDraft {
    let at = format!("rules.{number}");
    let word = form.text(format!("{at}.type"));
    let kind = KINDS.into_iter().find(|kind| kind.word == word).unwrap_or(UNREADABLE);
    let named = |name: &str| OsText::from(form.text(format!("{at}.{name}")).trim());
    let equals_root = match kind.word {
        "file_hash" => risk::equals_root(&named("display_name").file_name()),
        "verified_executable" => risk::equals_root(&named("file_name")),
        "product" => risk::equals_root(&named("product")),
        _ => None,
    };
    let needs = match form.text(format!("{at}.minimum_version")).trim() {
        "" => kind.needs,
        _ => kind.needs.or(Some(Needs::PackageFacts)),
    };
    let denies = form.is(format!("{at}.elevate"), "deny");
    let folder = (kind.word == "folder_path").then(|| form.text(format!("{at}.path")).trim().to_owned());
    RuleDraft {
        needs: needs.map(Needs::sentence),
        equals_root: equals_root.filter(|_| !denies),
        folder: folder.filter(|path| !denies && !path.is_empty()),
        number,
        at,
        kind,
    }
}

/// Adds an empty rule of this kind.
pub fn add_rule(form: &mut Form, word: &str) {
    let Some(kind) = KINDS.into_iter().find(|kind| kind.word == word) else { return };
    let number = rules(form).iter().map(|rule| rule.number + 1).max().unwrap_or(0);
    form.set(format!("rules.{number}.type"), kind.word);
    form.set(format!("rules.{number}.arguments"), "any");
    write_terms(form, &format!("rules.{number}.terms."), &Terms::default());
}

/// Takes this rule out.
pub fn remove_rule(form: &mut Form, number: &str) {
    form.forget(&format!("rules.{number}."));
}

/// A new list, as it begins.
pub fn blank() -> Form {
    let mut form = Form::default();
    form.set("enabled", "yes");
    form.set("elevate", Way::Approval);
    form.set("applies_to", "specific_applications");
    write_terms(&mut form, "terms.", &Terms::default());
    form
}

/// A privileged application list as a form.
pub fn of_privileged(list: &PrivilegedApplicationList) -> Form {
    let mut form = heading(&list.name, &list.description, list.enabled);
    form.set("elevate", list.elevate);
    form.set(
        "applies_to",
        match list.applies_to {
            AppliesTo::AllAllowedApplications => "all_allowed_applications",
            AppliesTo::SpecificApplications => "specific_applications",
        },
    );
    write_terms(&mut form, "terms.", &list.terms);
    write_rules(&mut form, &list.rules);
    form
}

/// An allowlist or blocklist as a form.
pub fn of_list(list: &ApplicationList) -> Form {
    let mut form = heading(&list.name, &list.description, list.enabled);
    write_rules(&mut form, &list.rules);
    form
}

fn heading(name: &Text, description: &Text, enabled: bool) -> Form {
    let mut form = Form::default();
    form.set("name", name.as_untrusted());
    form.set("description", description.as_untrusted());
    if enabled {
        form.set("enabled", "yes");
    }
    form
}

fn write_rules(form: &mut Form, rules: &[Listed]) {
    for (number, listed) in rules.iter().enumerate() {
        let at = format!("rules.{number}");
        match listed {
            Listed::Rule(rule) => write_rule(form, &at, rule),
            Listed::Unreadable(document) => {
                form.set(format!("{at}.type"), UNREADABLE.word);
                form.set(format!("{at}.document"), document);
            }
        }
    }
}

fn write_rule(form: &mut Form, at: &str, rule: &Rule) {
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
    let (pattern, arguments) = match &rule.arguments {
        ArgumentPattern::Any => ("any", &[] as &[OsText]),
        ArgumentPattern::Exact { arguments } => ("exact", arguments.as_slice()),
        ArgumentPattern::Prefix { arguments } => ("prefix", arguments.as_slice()),
    };
    set("arguments", pattern);
    set("argument_list", &arguments.iter().map(OsText::escaped).collect::<Vec<_>>().join("\n"));
    set("minimum_version", rule.minimum_version.as_ref().map_or("", Text::as_untrusted));
    match (rule.outcome, rule.elevate) {
        (Outcome::Deny, _) => set("elevate", "deny"),
        (Outcome::Allow, Some(way)) => set("elevate", &way.to_string()),
        (Outcome::Allow, None) => set("elevate", ""),
    }
    if rule.terms.is_some() {
        set("own_terms", "yes");
    }
    write_terms(form, &format!("{at}.terms."), &rule.terms.clone().unwrap_or_default());
}

fn write_terms(form: &mut Form, at: &str, terms: &Terms) {
    let choices: Vec<_> = terms.durations.choices.iter().map(Span::to_string).collect();
    let mut set = |name: &str, value: &str| form.set(format!("{at}{name}"), value);
    set("choices", &choices.join(", "));
    set("default", &terms.durations.default.to_string());
    set("maximum", &terms.durations.maximum.to_string());
    match terms.starts {
        Starts::AtApproval => set("starts", "at_approval"),
        Starts::AtFirstLaunch { within } => {
            set("starts", "at_first_launch");
            set("within", &within.to_string());
        }
    }
    set("pending_lifetime", &terms.pending_lifetime.to_string());
    set(
        "arguments",
        match terms.arguments {
            Covers::ExactArguments => "exact_arguments",
            Covers::AnyArguments => "any_arguments",
        },
    );
    let (expiry, warning, grace) = match terms.at_expiry {
        AtExpiry::Terminate { warning, grace } => ("terminate", warning, grace),
        AtExpiry::Finish => ("finish", Span::from_mins(1), Span::from_secs(5)),
    };
    set("at_expiry", expiry);
    set("warning", &warning.to_string());
    set("grace", &grace.to_string());
    set(
        "launches",
        match terms.launches {
            Launches::Any => "any",
            Launches::Once => "once",
        },
    );
    set("justification_minimum", &terms.justification.minimum.to_string());
    set("justification_maximum", &terms.justification.maximum.to_string());
    if terms.self_approval {
        set("self_approval", "yes");
    }
}

/// The list this form makes; none where something is wrong, which then stands beside its field.
pub fn privileged(form: &mut Form, id: PolicyId, now: Timestamp) -> Option<PrivilegedApplicationList> {
    let name = name(form);
    let terms = read_terms(form, "terms.");
    let rules = read_rules(form, now);
    let elevate = way(form.text("elevate"));
    if elevate.is_none() {
        form.refuse("form", "Choose what users elevate applications with.");
    }
    let list = PrivilegedApplicationList {
        id,
        version: Version::FIRST,
        name: name?,
        description: Text::new(form.text("description").trim()),
        enabled: form.has("enabled"),
        elevate: elevate?,
        applies_to: match form.text("applies_to") {
            "all_allowed_applications" => AppliesTo::AllAllowedApplications,
            _ => AppliesTo::SpecificApplications,
        },
        rules,
        terms: terms?,
    };
    (!form.is_refused()).then_some(list)
}

/// The allowlist or blocklist this form makes; none where something is wrong, which then stands beside its field.
pub fn list(form: &mut Form, id: PolicyId, now: Timestamp) -> Option<ApplicationList> {
    let name = name(form);
    let rules = read_rules(form, now);
    let list = ApplicationList {
        id,
        version: Version::FIRST,
        name: name?,
        description: Text::new(form.text("description").trim()),
        enabled: form.has("enabled"),
        rules,
    };
    (!form.is_refused()).then_some(list)
}

fn name(form: &mut Form) -> Option<Text> {
    let name = form.text("name").trim().to_owned();
    if name.is_empty() {
        form.refuse("name", "A list needs a name: people see it when it decides about their application.");
        return None;
    }
    Some(Text::new(name))
}

fn way(word: &str) -> Option<Way> {
    [Way::Approval, Way::Justification, Way::Automatic, Way::Off]
        .into_iter()
        .find(|way| way.to_string() == word)
}

fn read_rules(form: &mut Form, now: Timestamp) -> Vec<Listed> {
    rules(form).iter().filter_map(|rule| read_rule(form, rule, now)).collect()
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
        true => Some(read_terms(form, &format!("{at}.terms."))?),
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
        Err(error) => {
            let error: elevon_policy::application::InvalidDigest = error;
            form.refuse(name, format!("This does not do: {error}."));
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

fn read_terms(form: &mut Form, at: &str) -> Option<Terms> {
    let durations = read_durations(form, at);
    let starts = match form.text(format!("{at}starts")) {
        "at_first_launch" => {
            span(form, &format!("{at}within")).map(|within| Starts::AtFirstLaunch { within })
        }
        _ => Some(Starts::AtApproval),
    };
    let at_expiry = match form.text(format!("{at}at_expiry")) {
        "finish" => Some(AtExpiry::Finish),
        _ => span(form, &format!("{at}warning"))
            .zip(read_span(form, &format!("{at}grace")))
            .map(|(warning, grace)| AtExpiry::Terminate { warning, grace }),
    };
    let pending_lifetime = span(form, &format!("{at}pending_lifetime"));
    let justification = read_justification(form, at);
    Some(Terms {
        durations: durations?,
        starts: starts?,
        pending_lifetime: pending_lifetime?,
        arguments: match form.text(format!("{at}arguments")) {
            "any_arguments" => Covers::AnyArguments,
            _ => Covers::ExactArguments,
        },
        at_expiry: at_expiry?,
        launches: if form.is(format!("{at}launches"), "once") { Launches::Once } else { Launches::Any },
        runs_as: RunsAs::Root,
        justification: justification?,
        self_approval: form.has(format!("{at}self_approval")),
    })
}

fn read_durations(form: &mut Form, at: &str) -> Option<Durations> {
    let name = format!("{at}choices");
    let choices: Result<Vec<Span>, _> = form
        .text(&name)
        .split(',')
        .map(str::trim)
        .filter(|choice| !choice.is_empty())
        .map(str::parse)
        .collect();
    let choices = match choices {
        Ok(choices) => Some(choices),
        Err(_) => {
            form.refuse(&name, "Expected durations with commas between them, such as 15m, 30m, 1h.");
            None
        }
    };
    let default = span(form, &format!("{at}default"));
    let maximum = span(form, &format!("{at}maximum"));
    let (choices, default, maximum) = (choices?, default?, maximum?);
    if default > maximum {
        form.refuse(format!("{at}default"), format!("Longer than the longest, {maximum}."));
        return None;
    }
    if let Some(longer) = choices.iter().find(|choice| **choice > maximum || **choice == Span::ZERO) {
        form.refuse(&name, format!("{longer} is not between nothing and the longest, {maximum}."));
        return None;
    }
    Some(Durations { choices, default, maximum })
}

fn read_justification(form: &mut Form, at: &str) -> Option<JustificationNeeded> {
    let count = |form: &mut Form, name: String| {
        let count = form.text(&name).trim().parse::<usize>();
        if count.is_err() {
            form.refuse(&name, "Expected a number of characters.");
        }
        count.ok()
    };
    let minimum = count(form, format!("{at}justification_minimum"));
    let maximum = count(form, format!("{at}justification_maximum"));
    let (minimum, maximum) = (minimum?, maximum?);
    if minimum > maximum {
        form.refuse(
            format!("{at}justification_minimum"),
            format!("More than at most {maximum}: nothing would do."),
        );
        return None;
    }
    Some(JustificationNeeded { minimum, maximum })
}

/// Some time, not none.
fn span(form: &mut Form, name: &str) -> Option<Span> {
    let span = read_span(form, name)?;
    if span == Span::ZERO {
        form.refuse(name, "Expected some time, such as 30m.");
        return None;
    }
    Some(span)
}

fn read_span(form: &mut Form, name: &str) -> Option<Span> {
    let span = form.text(name).trim().parse();
    if span.is_err() {
        form.refuse(name, "Expected a duration such as 30m, 8h or 1h30m.");
    }
    span.ok()
}
