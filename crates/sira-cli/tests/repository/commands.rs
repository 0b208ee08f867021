//! Commands that the documents show can be run: scripts, targets of make, verbs and flags of sira.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::files::{below, none, read, root};

/// A command of a document: where it stands, and its words.
struct Shown {
    place: String,
    words: Vec<String>,
}

/// Commands of the fenced blocks of shells, and of code spans that begin like a command.
fn shown() -> Vec<Shown> {
    let mut found = Vec::new();
    for path in below("", &[".md"]) {
        let mut fence: Option<String> = None;
        for (number, line) in read(&path).lines().enumerate() {
            let place = || format!("{path}:{}", number + 1);
            if let Some(info) = line.trim_start().strip_prefix("```") {
                fence = if fence.is_none() { Some(info.to_owned()) } else { None };
                continue;
            }
            match fence.as_deref() {
                // A transcript: commands stand behind a prompt, the rest is what they print.
                Some("console") => {
                    if let Some(command) = line.trim_start().strip_prefix("$ ") {
                        split(&place(), command, &mut found);
                    }
                }
                Some("sh" | "bash") => split(&place(), line, &mut found),
                Some(_) => {}
                None => {
                    for span in line.split('`').skip(1).step_by(2) {
                        if ["sira ", "scripts/", "make ", ".ci/"]
                            .iter()
                            .any(|p| span.starts_with(p))
                        {
                            split(&place(), span, &mut found);
                        }
                    }
                }
            }
        }
    }
    found
}

/// The commands of a line: pipes and lists are taken apart, variables before a command left out.
fn split(place: &str, line: &str, into: &mut Vec<Shown>) {
    let line = line.split(" #").next().unwrap_or_default();
    for command in line.split(['|', ';', '&']) {
        let words: Vec<String> = command
            .split_whitespace()
            .skip_while(|word| {
                word.split_once('=').is_some_and(|(name, _)| {
                    name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
                })
            })
            .map(|word| word.trim_matches(['\'', '"', '(', ')', '[', ']']).to_owned())
            .collect();
        if !words.is_empty() {
            into.push(Shown { place: place.to_owned(), words });
        }
    }
}

#[test]
fn scripts_are_there_and_can_be_run() {
    let mut wrong = Vec::new();
    for Shown { place, words } in shown() {
        let name = words[0].trim_start_matches("./");
        if !name.starts_with("scripts/") && !name.starts_with(".ci/") {
            continue;
        }
        match std::fs::metadata(root().join(name)) {
            Ok(file) if file.permissions().mode() & 0o111 != 0 || name.ends_with(".sh") => {}
            Ok(_) => wrong.push(format!("{place}: {name} cannot be run")),
            Err(_) => wrong.push(format!("{place}: {name} is not there")),
        }
    }
    none(&wrong);
}

#[test]
fn targets_of_make_are_there() {
    let makefile = read("Makefile");
    let mut wrong = Vec::new();
    for Shown { place, words } in shown().into_iter().filter(|shown| shown.words[0] == "make") {
        for target in words.iter().skip(1) {
            if !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))) {
                wrong.push(format!("{place}: the Makefile has no target {target}"));
            }
        }
    }
    none(&wrong);
}

fn help(verbs: &[&str]) -> Option<String> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sira")).args(verbs).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Whether the help lists a command of this name.
fn lists(help: &str, verb: &str) -> bool {
    let commands = help.split("Commands:").nth(1).unwrap_or_default();
    let commands = commands.split("\n\n").next().unwrap_or_default();
    commands.lines().any(|line| line.split_whitespace().next() == Some(verb))
}

#[test]
fn verbs_and_flags_of_sira_are_there() {
    let mut helps: BTreeMap<Vec<String>, Option<String>> = BTreeMap::new();
    let mut ask = |verbs: &[String]| {
        let names: Vec<&str> = verbs.iter().map(String::as_str).collect();
        helps.entry(verbs.to_vec()).or_insert_with(|| help(&names)).clone()
    };
    let top = ask(&[]).unwrap();
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for Shown { place, words } in shown() {
        if words[0] != "sira" && !words[0].ends_with("/sira") {
            continue;
        }
        looked_at += 1;
        let mut verbs: Vec<String> = Vec::new();
        let mut text = top.clone();
        for word in words.iter().skip(1) {
            // `verify|repair` was taken apart as a pipe; what stands for a name is in capitals.
            let is_name = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            if is_name && !word.starts_with('-') && lists(&text, word) {
                verbs.push(word.clone());
                text = ask(&verbs).unwrap_or_default();
            } else if verbs.is_empty() && is_name && !word.starts_with('-') {
                wrong.push(format!("{place}: sira has no verb {word}"));
                break;
            } else if let Some(flag) = word.strip_prefix("--") {
                let flag = flag.split('=').next().unwrap_or_default();
                let known = |end: char| text.contains(&format!("--{flag}{end}"));
                if !flag.is_empty() && ![' ', '\n', ',', '='].into_iter().any(known) {
                    wrong.push(format!("{place}: sira {} has no flag --{flag}", verbs.join(" ")));
                }
            }
        }
    }
    none(&wrong);
    assert!(looked_at > 5, "only {looked_at} commands were found: is the test blind?");
}
