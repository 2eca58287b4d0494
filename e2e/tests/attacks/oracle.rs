//! Asking the elevator, which sees everything, what one may not see oneself: whether a file is there. Neither what it says, nor how
//! long it takes, nor what it records tells.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use elevon_e2e::person::Person;
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_wire::conversation::FromClient;

use crate::ground::{Ground, asked, full, message};

crate::cases! {
    Shared nothing_is_told_of_what_the_caller_may_not_see,
    Shared nothing_is_told_of_hidden_interpreters,
    Shared no_answer_takes_longer_for_what_is_hidden,
}

/// What is there and what is not, told apart by nothing but these names, which are of one length.
const THERE: &str = "present";
const NOWHERE: &str = "nowhere";

/// Places that alice cannot look into, each with a program.
fn hidden(ground: &Ground) -> Result<Vec<PathBuf>> {
    let good = ground.path("free/good");
    let make = |folder: PathBuf, mode, owner: Option<&Person>| -> Result<PathBuf> {
        let uid = owner.map(|person| person.uid);
        fs::create_dir_all(folder.join("sub"))?;
        for below in [THERE, "sub/there"] {
            fs::copy(&good, folder.join(below))?;
            chown(folder.join(below), uid, uid)?;
        }
        chown(&folder, uid, uid)?;
        fs::set_permissions(&folder, PermissionsExt::from_mode(mode))?;
        Ok(folder)
    };
    let tree = &ground.site.tree;
    Ok(vec![
        // Root's alone; one that may be listed, but not entered; the home of somebody else.
        make(tree.join("closed"), 0o700, None)?,
        make(tree.join("listed"), 0o744, None)?,
        make(ground.site.bob.home.join("own"), 0o700, Some(&ground.site.bob))?,
    ])
}

fn explain(command: &Path) -> Vec<u8> {
    let command = command.to_string_lossy().as_ref().into();
    message(&FromClient::Explain { command, arguments: Vec::new(), component: false })
}

fn run(command: &Path) -> Vec<u8> {
    let mut run = asked(command.to_string_lossy().as_bytes(), &[]);
    (run.duration, run.justification) = (Some(Span::from_secs(60)), Some(Text::new("let me")));
    message(&FromClient::Run(Box::new(run)))
}

/// What is said to either question, without the names.
fn told(ground: &Ground, command: &Path) -> Result<String> {
    let mut told = String::new();
    for question in [explain(command), run(command)] {
        told += &ground.says(&ground.site.alice, &[], &question)?.text();
    }
    Ok(told.replace(NOWHERE, "X").replace(THERE, "X"))
}

fn nothing_is_told_of_what_the_caller_may_not_see(ground: &mut Ground) -> Result<String> {
    let mut pairs = 0;
    let status = |ground: &Ground| ground.site.alice_runs(&["status"]).map(|ran| ran.text());
    let before = status(ground)?.lines().count();
    for place in hidden(ground)? {
        for below in ["", "sub/"] {
            for behind in ["", "/", "/x", "/../present"] {
                let command = |name: &str| place.join(format!("{below}{name}{behind}"));
                let (there, nowhere) = (told(ground, &command(THERE))?, told(ground, &command(NOWHERE))?);
                ensure!(there == nowhere, "{}\n{there}\n{nowhere}", place.display());
                ensure!(there.matches("no such program").count() == 2, "{}: {there}", place.display());
                pairs += 1;
            }
        }
        // Links of hers to there and to nowhere.
        for name in [THERE, NOWHERE] {
            symlink(place.join(name), ground.home(name))?;
        }
        let (there, nowhere) = (told(ground, &ground.home(THERE))?, told(ground, &ground.home(NOWHERE))?);
        ensure!(there == nowhere && there.contains("no such program"), "{there}\n{nowhere}");
        // The client passes on the same words and the same status.
        let mut told = Vec::new();
        for name in [THERE, NOWHERE] {
            let command = place.join(name).to_string_lossy().into_owned();
            for verb in ["explain", "run"] {
                let ran = ground.site.alice_runs(&[verb, "--", &command])?.expect(127);
                told.push(ran.err.replace(name, "X"));
            }
            fs::remove_file(ground.home(name))?;
        }
        ensure!(told.get(..2) == told.get(2..), "{told:?}");
        pairs += 1;
    }
    let after = status(ground)?;
    let says = after.lines().count() != before || after.contains(THERE) || after.contains(NOWHERE);
    ensure!(!says, "her status says something of it: {after}");
    ground.nothing_recorded()?;
    Ok(format!("{pairs} pairs, each with one answer"))
}

/// A script of hers is refused for its interpreter, in the same words and with the same record, whether it is there or not.
fn nothing_is_told_of_hidden_interpreters(ground: &mut Ground) -> Result<String> {
    for place in hidden(ground)? {
        let mut answers = Vec::new();
        for name in [THERE, NOWHERE] {
            let script = format!("#!{}\n", place.join(name).display());
            let script = ground.hers("script", script.as_bytes())?;
            answers.push(told(ground, Path::new(&script))?);
        }
        let [there, nowhere] = &answers[..] else { unreachable!("two names") };
        ensure!(
            there == nowhere && there.contains("is no absolute path of a program that you may run"),
            "{there}\n{nowhere}"
        );
        let records = ground.fresh()?;
        let record = |event: &elevon_e2e::journal::Event| (event.kind.clone(), event.data.to_string());
        let records: Vec<_> = records.iter().map(record).collect();
        ensure!(records.len() == 2 && records[0] == records[1], "the records differ: {records:?}");
        ground.recorded(&[("launch.refused", "not_executable"); 2])?;
    }
    fs::remove_file(ground.home("script"))?;
    Ok("the same refusal, the same record".into())
}

/// The answers' times for a hidden file and for none beside it, thousands of times by turns. What counts is the median of the
/// differences between the two of a round: noise falls on both alike, and what is left of it shrinks with the number of rounds.
fn no_answer_takes_longer_for_what_is_hidden(ground: &mut Ground) -> Result<String> {
    let rounds = if full() { 10_000 } else { 1_000 };
    let mut seen = Vec::new();
    for (place, question) in hidden(ground)?.iter().zip([explain as fn(&Path) -> Vec<u8>, run, explain]) {
        let names = [place.join(THERE), place.join(NOWHERE)];
        let apart = Apart::of(ground, rounds, &names.map(|name| question(&name)))?;
        ensure!(!apart.tells(), "{} is told apart by time: {apart:?}", place.display());
        seen.push(format!("{:+.1} of {:.0} µs", apart.difference, apart.whole));
    }
    // A link of hers into a hidden place, and one into nothing.
    let links = [THERE, NOWHERE].map(|name| ground.home(name));
    for link in &links {
        let name = link.file_name().unwrap_or_default();
        symlink(ground.site.tree.join("closed").join(name), link)?;
    }
    let apart = Apart::of(ground, rounds, &links.clone().map(|link| explain(&link)))?;
    ensure!(!apart.tells(), "links are told apart by time: {apart:?}");
    seen.push(format!("{:+.1} of {:.0} µs", apart.difference, apart.whole));
    for link in links {
        fs::remove_file(link)?;
    }
    // What can be seen is told apart, or this would prove nothing.
    let open = ["good", NOWHERE].map(|name| PathBuf::from(ground.path(&format!("free/{name}"))));
    let apart = Apart::of(ground, rounds / 4, &open.map(|path| explain(&path)))?;
    ensure!(apart.tells(), "even what is there for all to see is not told apart: {apart:?}");
    ground.nothing_recorded()?;
    Ok(format!("apart by {}; what all may see by {:+.1} µs", seen.join(", "), apart.difference))
}

/// How far two answers' times are apart, in microseconds.
#[derive(Debug)]
struct Apart {
    /// The median of the differences of each round.
    difference: f64,
    /// How far that median may be off by chance: three standard errors, from the median of how far the differences are from it.
    chance: f64,
    /// What an answer takes, as a median.
    whole: f64,
}

impl Apart {
    fn of(ground: &Ground, rounds: u32, questions: &[Vec<u8>; 2]) -> Result<Self> {
        let files = ["one", "other"].map(|name| ground.site.tree.join(format!("question-{name}")));
        for (file, question) in files.iter().zip(questions) {
            fs::write(file, question)?;
            fs::set_permissions(file, PermissionsExt::from_mode(0o644))?;
        }
        let mut command = ground.site.as_user(&ground.site.alice, &ground.attacker)?;
        command.arg("time").arg(rounds.to_string()).args(&files);
        let ran = elevon_e2e::program::run(&mut command, b"")?.expect(0);
        let text = ran.text();
        let times: Vec<(f64, f64)> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(one, other)| {
                Some((one.parse::<f64>().ok()? / 1e3, other.parse::<f64>().ok()? / 1e3))
            })
            .collect();
        ensure!(times.len() == rounds as usize, "expected {rounds} rounds: {text}");
        let difference = median(times.iter().map(|(one, other)| one - other));
        let deviation = 1.4826 * median(times.iter().map(|(one, other)| (one - other - difference).abs()));
        // The standard error of a median is a quarter more than that of a mean.
        let chance = 3.0 * 1.2533 * deviation / f64::from(rounds).sqrt();
        Ok(Self { difference, chance, whole: median(times.iter().map(|(_, other)| *other)) })
    }

    /// Whether one could tell: by more than chance, and by more than a fiftieth, which the noise of one answer drowns.
    fn tells(&self) -> bool {
        self.difference.abs() > self.chance + self.whole / 50.0
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
