//! A list as a form: from the document to fields and back, with what is wrong beside the field. The form is the draft:
//! adding or removing a rule sends all of it, and it comes back with that rule more or less.

pub mod kinds;
pub mod rules;
mod terms;

use elevon_policy::id::{PolicyId, Version};
use elevon_policy::lists::{ApplicationList, AppliesTo, PrivilegedApplicationList, Terms, Way};
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;

use crate::pages::form::Form;

/// A new list, as it begins.
pub fn blank() -> Form {
    let mut form = Form::default();
    form.set("enabled", "yes");
    form.set("elevate", Way::Approval);
    form.set("applies_to", "specific_applications");
    terms::write(&mut form, "terms.", &Terms::default());
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
    terms::write(&mut form, "terms.", &list.terms);
    rules::write(&mut form, &list.rules);
    form
}

/// An allowlist or blocklist as a form.
pub fn of_list(list: &ApplicationList) -> Form {
    let mut form = heading(&list.name, &list.description, list.enabled);
    rules::write(&mut form, &list.rules);
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

/// The list this form makes; none where something is wrong, which then stands beside its field.
pub fn privileged(form: &mut Form, id: PolicyId, now: Timestamp) -> Option<PrivilegedApplicationList> {
    let name = name(form);
    let terms = terms::read(form, "terms.");
    let rules = rules::read(form, now);
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
        rules: rules.into(),
        terms: terms?,
    };
    (!form.is_refused()).then_some(list)
}

/// The allowlist or blocklist this form makes; none where something is wrong, which then stands beside its field.
pub fn list(form: &mut Form, id: PolicyId, now: Timestamp) -> Option<ApplicationList> {
    let name = name(form);
    let rules = rules::read(form, now);
    let list = ApplicationList {
        id,
        version: Version::FIRST,
        name: name?,
        description: Text::new(form.text("description").trim()),
        enabled: form.has("enabled"),
        rules: rules.into(),
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

#[cfg(test)]
mod tests {
    use elevon_policy::application::Sha256;
    use elevon_policy::bounds::{Bounds, Children, Containment, Display, Limits};
    use elevon_policy::id::RuleId;
    use elevon_policy::lists::{AtExpiry, Covers, Launches, Nesting, RunsAs, Starts};
    use elevon_policy::rule::{ArgumentPattern, Listed, Outcome, Recognises, Rule};
    use elevon_policy::text::OsText;
    use elevon_policy::time::Span;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_620_287_000);

    fn rule(number: u8, recognises: Recognises) -> Rule {
        Rule::of(RuleId::new(NOW, [number; 10]), recognises)
    }

    /// One of each kind, and every setting another than its default.
    fn list() -> PrivilegedApplicationList {
        let text = Text::new;
        let terms = Terms {
            nesting: Nesting::Allowed,
            starts: Starts::AtFirstLaunch { within: Span::from_hours(8) },
            arguments: Covers::AnyArguments,
            launches: Launches::Once,
            at_expiry: AtExpiry::Finish,
            self_approval: true,
            runs_as: RunsAs::SameUser,
            bounds: Bounds {
                capabilities: "net_raw, chown".parse().expect("both are known"),
                containment: Containment::Contained {
                    writable: vec!["/srv/a b".into(), OsText::new(b"/srv/\xff".to_vec())],
                },
                children: Children::Denied,
                limits: Limits { processes: Some(12), memory: Some(64 << 20) },
                display: Display::None,
            },
            ..Terms::default()
        };
        let arguments = ["install", "a b", "\u{202e}", "c\\d"].map(OsText::from).to_vec();
        let rules = vec![
            Listed::Rule(Rule {
                arguments: ArgumentPattern::Prefix { arguments: arguments.clone() },
                elevate: Some(Way::Automatic),
                terms: Some(terms.clone()),
                ..rule(1, Recognises::FileHash { sha256: Sha256([0xab; 32]), display_name: text("it") })
            }),
            Listed::Rule(Rule {
                arguments: ArgumentPattern::Exact { arguments },
                outcome: Outcome::Deny,
                ..rule(
                    2,
                    Recognises::FolderPath {
                        path: OsText::new(b"/opt/\xff".to_vec()),
                        with_subfolders: true,
                    },
                )
            }),
            Listed::Rule(Rule {
                minimum_version: Some(text("4.99")),
                ..rule(3, Recognises::Vendor { vendor: text("Debian"), verified: true })
            }),
            Listed::Rule(rule(4, Recognises::Product { product: text("apt"), vendor: text("Debian") })),
            Listed::Rule(rule(5, Recognises::Clsid { component: text("org.example.act") })),
            Listed::Rule(rule(
                6,
                Recognises::VerifiedExecutable {
                    product: text("apt"),
                    vendor: text("Debian"),
                    file_name: "apt-get".into(),
                },
            )),
            Listed::Unreadable(serde_json::json!({"recognises": {"type": "phase_of_the_moon"}})),
        ];
        PrivilegedApplicationList {
            id: PolicyId::new(NOW, [9; 10]),
            version: Version::FIRST,
            name: text("Developer tools"),
            description: text("<b>"),
            enabled: false,
            elevate: Way::Justification,
            applies_to: AppliesTo::AllAllowedApplications,
            rules: rules.into(),
            terms,
        }
    }

    #[test]
    fn a_list_survives_its_form() {
        let mut form = of_privileged(&list());
        assert_eq!(privileged(&mut form, list().id, NOW), Some(list()), "{form:?}");
    }

    #[test]
    fn limits_of_its_own_begin_as_those_of_the_list() {
        let mut form = of_privileged(&list());
        rules::add(&mut form, "vendor");
        form.set("rules.7.vendor", "Debian");
        for number in [2, 7] {
            form.set(format!("rules.{number}.own_terms"), "yes");
        }
        let list = privileged(&mut form, list().id, NOW).expect("nothing is wrong");
        for listed in [list.rules.get(2), list.rules.get(7)] {
            assert!(
                matches!(listed, Some(Listed::Rule(rule)) if rule.terms.as_ref() == Some(&list.terms)),
                "{listed:?}"
            );
        }
    }

    #[test]
    fn a_display_survives_its_form_and_is_none_when_contained() {
        let shown = Bounds { display: Display::OfTheUser, ..Bounds::default() };
        let terms = Terms { bounds: shown, ..Terms::default() };
        let list = PrivilegedApplicationList { terms, ..list() };
        let mut form = of_privileged(&list);
        assert_eq!(privileged(&mut form, list.id, NOW), Some(list.clone()), "{form:?}");
        form.set("terms.containment", "contained");
        assert_eq!(privileged(&mut form, list.id, NOW), None);
        assert!(form.refused("terms.display").is_some());
        let mut unknown = of_privileged(&list);
        unknown.set("terms.display", "of_everybody");
        let read = privileged(&mut unknown, list.id, NOW).expect("it is read");
        assert_eq!(read.terms.bounds.display, Display::None);
    }

    #[test]
    fn a_rule_is_added_and_taken_out_without_touching_the_others() {
        let mut form = of_privileged(&list());
        rules::add(&mut form, "folder_path");
        assert_eq!(rules::all(&form).len(), 8);
        assert_eq!(privileged(&mut form, list().id, NOW), None);
        assert!(form.refused("rules.7.path").is_some());
        let mut form = of_privileged(&list());
        rules::add(&mut form, "folder_path");
        rules::remove(&mut form, "7");
        rules::add(&mut form, "phase_of_the_moon");
        assert_eq!(privileged(&mut form, list().id, NOW), Some(list()));
    }

    #[test]
    fn what_is_wrong_stands_beside_its_field() {
        for (name, typed) in [
            ("name", " "),
            ("elevate", "loudly"),
            ("rules.0.sha256", "abc"),
            ("rules.0.argument_list", "\\q"),
            ("rules.1.path", "opt/acme"),
            ("rules.5.file_name", "a/b"),
            ("terms.choices", "15m, soon"),
            ("terms.choices", "2h"),
            ("terms.default", "2h"),
            ("terms.maximum", "0s"),
            ("terms.within", ""),
            ("terms.justification_minimum", "2000"),
            ("rules.0.terms.pending_lifetime", "0s"),
        ] {
            let mut form = of_privileged(&list());
            form.set(name, typed);
            assert_eq!(privileged(&mut form, list().id, NOW), None, "{name}");
            let beside = if name == "elevate" { "form" } else { name };
            assert!(form.refused(beside).is_some(), "{name}: {form:?}");
            assert_eq!(form.text(name), typed);
        }
    }

    #[test]
    fn grave_rules_are_named_unless_they_deny() {
        let grave = |name: &str, value: &str, elevate: &str| {
            let mut form = blank();
            rules::add(&mut form, if name == "path" { "folder_path" } else { "file_hash" });
            form.set("rules.0.sha256", "1".repeat(64));
            form.set(format!("rules.0.{name}"), value);
            form.set("rules.0.elevate", elevate);
            rules::all(&form)[0].is_grave()
        };
        assert!(grave("display_name", "bash", "") && grave("path", "/usr/bin/", ""));
        assert!(!grave("display_name", "bash", "deny") && !grave("path", "/opt/acme", ""));
    }
}
