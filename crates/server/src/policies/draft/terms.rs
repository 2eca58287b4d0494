//! What a grant is worth, as fields of a form, and back.

use elevon_policy::bounds::{Bounds, Children, Containment, Contradiction, Display, Limits};
use elevon_policy::capability::Capabilities;
use elevon_policy::lists::{
    AtExpiry, Confirm, Covers, Durations, JustificationNeeded, Launches, Nesting, RunsAs, Starts, Terms,
};
use elevon_policy::text::OsText;
use elevon_policy::time::Span;

use crate::pages::form::Form;

const MEBIBYTE: u64 = 1 << 20;

/// Writes the fields; their names begin with `at`.
pub(super) fn write(form: &mut Form, at: &str, terms: &Terms) {
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
    set("runs_as", if terms.runs_as.is_root() { "root" } else { "same_user" });
    write_bounds(&mut set, &terms.bounds);
    set("justification_minimum", &terms.justification.minimum.to_string());
    set("justification_maximum", &terms.justification.maximum.to_string());
    set(
        "confirm",
        match terms.confirm {
            Confirm::None => "none",
            Confirm::OncePerGrant => "once_per_grant",
            Confirm::EachLaunch => "each_launch",
        },
    );
    set("nesting", if terms.nesting.is_refused() { "refused" } else { "allowed" });
    if terms.self_approval {
        set("self_approval", "yes");
    }
}

fn write_bounds(set: &mut impl FnMut(&str, &str), bounds: &Bounds) {
    set("capabilities", &bounds.capabilities.to_string());
    set("containment", if bounds.is_contained() { "contained" } else { "full" });
    let folders: Vec<_> = bounds.writable().iter().map(OsText::escaped).collect();
    set("writable", &folders.join("\n"));
    set("children", if bounds.children == Children::Denied { "denied" } else { "allowed" });
    set("display", if bounds.display == Display::OfTheUser { "of_the_user" } else { "none" });
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    set("processes", &number(bounds.limits.processes.map(u64::from)));
    set("memory", &number(bounds.limits.memory.map(|memory| memory / MEBIBYTE)));
}

/// Reads them; none where something is wrong, which then stands beside its field.
pub(super) fn read(form: &mut Form, at: &str) -> Option<Terms> {
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
    let runs_as = if form.is(format!("{at}runs_as"), "same_user") { RunsAs::SameUser } else { RunsAs::Root };
    let bounds = read_bounds(form, at, runs_as);
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
        runs_as,
        bounds: bounds?,
        justification: justification?,
        self_approval: form.has(format!("{at}self_approval")),
        confirm: match form.text(format!("{at}confirm")) {
            "once_per_grant" => Confirm::OncePerGrant,
            "each_launch" => Confirm::EachLaunch,
            _ => Confirm::None,
        },
        nesting: match form.text(format!("{at}nesting")) {
            "allowed" => Nesting::Allowed,
            _ => Nesting::Refused,
        },
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

fn read_bounds(form: &mut Form, at: &str, runs_as: RunsAs) -> Option<Bounds> {
    let capabilities = match form.text(format!("{at}capabilities")).parse::<Capabilities>() {
        Ok(capabilities) => Some(capabilities),
        Err(unknown) => {
            form.refuse(format!("{at}capabilities"), format!("{unknown}."));
            None
        }
    };
    let contained = form.is(format!("{at}containment"), "contained");
    let lines = form.text(format!("{at}writable")).lines().map(str::trim).filter(|line| !line.is_empty());
    let folders: Result<Vec<OsText>, _> = lines.map(OsText::parse).collect();
    let (processes, memory) = (number(form, &format!("{at}processes")), number(form, &format!("{at}memory")));
    let Ok(writable) = folders else {
        form.refuse(format!("{at}writable"), "Expected a folder a line, such as /var/lib/tool.");
        return None;
    };
    let limits = Limits {
        processes: processes?.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
        memory: memory?.map(|most| most.saturating_mul(MEBIBYTE)),
    };
    let bounds = Bounds {
        capabilities: capabilities?,
        containment: if contained { Containment::Contained { writable } } else { Containment::Full },
        children: match form.text(format!("{at}children")) {
            "denied" => Children::Denied,
            _ => Children::Allowed,
        },
        limits,
        display: match form.text(format!("{at}display")) {
            "of_the_user" => Display::OfTheUser,
            _ => Display::None,
        },
    };
    let Some(contradiction) = bounds.contradiction(runs_as) else { return Some(bounds) };
    form.refuse(format!("{at}{}", beside(&contradiction)), format!("{contradiction}."));
    None
}

/// The field that a contradiction stands beside.
fn beside(contradiction: &Contradiction) -> &'static str {
    match contradiction {
        Contradiction::NoCapabilities | Contradiction::FullRoot | Contradiction::NeverContained(_) => {
            "capabilities"
        }
        Contradiction::ContainedDisplay => "display",
        Contradiction::TooLittle => "memory",
        Contradiction::TooManyFolders | Contradiction::NoFolder(_) | Contradiction::OwnOfContained { .. } => {
            "writable"
        }
    }
}

/// A number, or nothing.
fn number(form: &mut Form, name: &str) -> Option<Option<u64>> {
    match form.text(name).trim() {
        "" => Some(None),
        text => match text.parse() {
            Ok(number) => Some(Some(number)),
            Err(_) => {
                form.refuse(name, "Expected a whole number, or nothing.");
                None
            }
        },
    }
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
