//! `elevon explain`: the verdict first, then why, then what to do.

use elevon_policy::advice::{self, Standing, ToDo};
use elevon_policy::decide::{Decision, Offer, Reason, Verdict};
use elevon_policy::lists::{Confirm, Nesting, Terms, Way};
use elevon_policy::time::Timestamp;
use elevon_wire::conversation::Explained;

use crate::prompt::facts;
use crate::report::{Style, rounded, shell_words};

/// The whole answer.
pub(crate) fn answer(explained: &Explained, style: Style, now: Timestamp) -> String {
    let Style { bold, plain, .. } = style;
    let mut text = format!("{bold}{}{plain}\n\n", verdict(explained, now));
    for (label, value) in facts(&explained.application, &explained.argv) {
        text.push_str(&format!("  {label:<12}{value}\n"));
    }
    if let (Verdict::Launch { offer, .. } | Verdict::Offered { offer }, None) =
        (&explained.decision.verdict, &explained.application.component)
    {
        let Terms { runs_as, bounds, .. } = &offer.terms;
        text.push_str(&format!("\n{bold}Runs as {}{plain}\n", bounds.in_words(*runs_as)));
        for sentence in bounds.sentences(*runs_as) {
            text.push_str(&format!("  - {sentence}\n"));
        }
    }
    text.push_str(&format!("\n{bold}Why{plain}\n"));
    for reason in &explained.decision.reasons {
        text.push_str(&format!("  - {}\n", reasoned(&explained.decision, reason)));
    }
    if explained.decision.reasons.is_empty() {
        text.push_str("  - none of the lists for you on this computer has a rule about it\n");
    }
    text.push_str(&format!("\n{bold}What to do{plain}\n"));
    for line in to_do(explained) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

fn verdict(explained: &Explained, now: Timestamp) -> String {
    let name = explained.application.name();
    let name = name.visible();
    match &explained.decision.verdict {
        Verdict::Launch { end, .. } if explained.application.component.is_some() => {
            format!("Yes: polkit lets you do {name}, under a grant that ends in {}.", rounded(end.since(now)))
        }
        Verdict::Launch { end, offer, .. } => {
            let left = rounded(end.since(now));
            format!(
                "Yes: {name} runs at once, under a grant that ends in {left}.{}{}",
                confirmed(offer),
                nested(offer)
            )
        }
        Verdict::Offered { offer } => {
            let offered = offered(&name.to_string(), explained.application.component.is_some(), offer);
            format!("{offered}{}{}", confirmed(offer), nested(offer))
        }
        Verdict::Refused { refusal } => format!("No: {name} is refused; {refusal}."),
    }
}

fn offered(name: &str, component: bool, offer: &Offer) -> String {
    let (list, how, most) = (offer.name.visible(), offer.specificity.how(), offer.terms.durations.maximum);
    match offer.way {
        Way::Automatic if component => {
            format!("Yes, for the asking: “{list}” has {name} {how}, and it is recorded.")
        }
        Way::Automatic => format!("Yes: {name} runs at once; “{list}” has it {how}, and it is recorded."),
        Way::Justification => {
            format!("Yes, once you say why: “{list}” has {name} {how}, for up to {most}; it is recorded.")
        }
        Way::Approval => {
            format!("It can be asked for: “{list}” has {name} {how}; someone has to agree, for up to {most}.")
        }
        Way::Off => format!("No: “{list}” has {name} {how}, with elevation turned off."),
    }
}

fn confirmed(offer: &Offer) -> &'static str {
    match offer.terms.confirm {
        Confirm::None => "",
        Confirm::OncePerGrant => " Your password is asked for once, before the first launch.",
        Confirm::EachLaunch => " Your password is asked for at each launch.",
    }
}

fn nested(offer: &Offer) -> &'static str {
    match offer.terms.nesting {
        Nesting::Refused => "",
        Nesting::Allowed => " Programs that run elevated for you may start it, too.",
    }
}

fn to_do(explained: &Explained) -> Vec<String> {
    match advice::to_do(&explained.decision, &explained.application) {
        ToDo::Run => {
            let separator = if explained.application.component.is_some() { "--component" } else { "--" };
            vec![format!("elevon run {separator} {}", shell_words(&explained.argv))]
        }
        ToDo::Told { sentence, pass_on } => {
            std::iter::once(sentence).chain(pass_on.map(|name| format!("  {name}"))).collect()
        }
    }
}

/// What a policy had to say, and what became of it.
fn reasoned(decision: &Decision, reason: &Reason) -> String {
    match decision.standing(reason) {
        Standing::Decides => format!("{reason}: this decides"),
        Standing::Overruled { by } => format!("{reason}, but {}", by.sentence()),
        Standing::Allows | Standing::Short => reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use elevon_policy::application::{Application, Distrust, Lane, Sha256, User};
    use elevon_policy::bundle::{Bundle, Deployed, DeployedTo};
    use elevon_policy::decide::{Attempt, Holdings, decide};
    use elevon_policy::id::{ComputerId, PolicyId, RuleId, Version};
    use elevon_policy::lists::{ApplicationList, AppliesTo, PrivilegedApplicationList, Terms};
    use elevon_policy::rule::{ArgumentPattern, Listed, Outcome, Recognises, Rule};
    use elevon_policy::text::{OsText, Text};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn rule(recognises: Recognises) -> Listed {
        let (arguments, outcome) = (ArgumentPattern::Any, Outcome::Allow);
        let id = RuleId::new(NOW, [1; 10]);
        Listed::Rule(Rule {
            id,
            recognises,
            arguments,
            minimum_version: None,
            outcome,
            elevate: None,
            terms: None,
        })
    }

    fn list(recognises: Recognises) -> Deployed<PrivilegedApplicationList> {
        let policy = PrivilegedApplicationList {
            id: PolicyId::new(NOW, [2; 10]),
            version: Version::FIRST,
            name: Text::new("Tools"),
            description: Text::default(),
            enabled: true,
            elevate: Way::Approval,
            applies_to: AppliesTo::SpecificApplications,
            rules: vec![rule(recognises)].into(),
            terms: Terms::default(),
        };
        Deployed { policy, users: DeployedTo::Everyone }
    }

    fn blocklist(recognises: Recognises) -> Deployed<ApplicationList> {
        let policy = ApplicationList {
            id: PolicyId::new(NOW, [3; 10]),
            version: Version::FIRST,
            name: Text::new("Never"),
            description: Text::default(),
            enabled: true,
            rules: vec![rule(recognises)].into(),
        };
        Deployed { policy, users: DeployedTo::Everyone }
    }

    fn explained(bundle: &Bundle, path: &str, lane: Lane) -> String {
        let application = Application {
            path: path.into(),
            sha256: Sha256([7; 32]),
            size: 1,
            owner: 0,
            mode: 0o755,
            lane,
            interpreter: None,
            package: None,
            package_database: true,
            component: None,
        };
        let argv = vec![OsText::from("tool"), OsText::from("a b")];
        let user = User { uid: 1000, name: Text::new("alice") };
        let attempt = Attempt {
            user: &user,
            computer: ComputerId::new(NOW, [4; 10]),
            application: &application,
            argv: &argv,
            nested: false,
        };
        let decision = decide(&Holdings { bundle, locks: &[], grants: &[] }, &attempt, NOW);
        answer(&Explained { application, argv: argv.clone(), decision }, Style::NONE, NOW)
    }

    #[test]
    fn four_answers_are_clearly_different() {
        let hash = Recognises::FileHash { sha256: Sha256([7; 32]), display_name: Text::default() };
        let folder = Recognises::FolderPath { path: "/opt/tools".into(), with_subfolders: true };
        let by_hash = Bundle { privileged_application_lists: vec![list(hash.clone())], ..Bundle::default() };
        let by_folder = Bundle { privileged_application_lists: vec![list(folder)], ..Bundle::default() };
        let blocked = Bundle { blocklists: vec![blocklist(hash)], ..by_hash.clone() };
        let open = Lane::Untrusted { component: "/opt/tools".into(), because: Distrust::Writable };

        let nowhere = explained(&Bundle::default(), "/opt/tools/tool", Lane::Trusted);
        assert!(
            nowhere.starts_with(
                "No: tool is refused; no privileged application list for you on this computer has it.\n"
            ),
            "{nowhere}"
        );
        assert!(
            nowhere.contains("  - none of the lists for you on this computer has a rule about it\n"),
            "{nowhere}"
        );
        assert!(
            nowhere.contains("Ask an administrator to add it to a privileged application list"),
            "{nowhere}"
        );
        assert!(nowhere.ends_with(&format!("    {}\n", "07".repeat(32))), "{nowhere}");

        let listed = explained(&by_hash, "/opt/tools/tool", Lane::Trusted);
        assert!(
            listed.starts_with(
                "It can be asked for: “Tools” has tool by its SHA-256; someone has to agree, for up to 1h.\n"
            ),
            "{listed}"
        );
        assert!(listed.ends_with("  elevon run -- tool 'a b'\n"), "{listed}");

        let refused = explained(&blocked, "/opt/tools/tool", Lane::Trusted);
        assert!(refused.starts_with("No: tool is refused; the blocklist “Never” blocks it.\n"), "{refused}");
        assert!(
            refused.contains(
                "  - blocklist “Never” has a rule by SHA-256 that matches (refused): this decides\n"
            ),
            "{refused}"
        );
        assert!(refused.contains("No other list can allow it"), "{refused}");

        let writable = explained(&by_folder, "/opt/tools/tool", open);
        assert!(writable.starts_with("No: tool is refused; no privileged"), "{writable}");
        assert!(writable.contains("nearly matches: /opt/tools can be written to by others"), "{writable}");
        assert!(
            writable.contains(
                "A rule on folders or packages holds only where nobody but root can change anything"
            ),
            "{writable}"
        );
    }
}
